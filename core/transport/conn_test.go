package transport

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// queue is an Output that holds bytes.
type queue struct{ b []byte }

func (q *queue) Take(spare []byte) []byte {
	out := q.b
	q.b = spare[:0]
	return out
}

func (q *queue) Queued() int { return len(q.b) }

// pair returns two ends of a Unix socket.
func pair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan net.Conn, 1)
	go func() {
		nc, err := l.Accept()
		if err != nil {
			t.Error(err)
		}
		got <- nc
	}()
	if a, err = net.Dial("unix", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	return a, <-got
}

func TestFlushFromManyWritersKeepsEveryByteInOrder(t *testing.T) {
	a, b := pair(t)
	q := &queue{}
	c := New(a, q)
	const writers, each = 8, 2000
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				c.Lock()
				q.b = append(q.b, byte(w), byte(i>>8), byte(i))
				c.FlushUnlock()
			}
		})
	}
	next := make([]int, writers)
	in := New(b, &queue{})
	done := make(chan error, 1)
	seen := 0
	go func() {
		done <- in.Read(func(b []byte) (int, error) {
			n := len(b) / 3 * 3
			for i := 0; i < n; i += 3 {
				if got := int(b[i+1])<<8 | int(b[i+2]); got != next[b[i]] {
					return 0, errors.New("out of order")
				}
				next[b[i]]++
				seen++
			}
			return n, nil
		})
	}()
	wg.Wait()
	c.CloseAfterFlush(WriteStall)
	if err := <-done; err != io.EOF {
		t.Fatalf("Read ended with %v", err)
	}
	if seen != writers*each {
		t.Fatalf("saw %d of %d", seen, writers*each)
	}
	c.Close()
	c.Wait()
}

// The output of a long transfer is kept for what follows, and given back once it is not needed any more: at
// once by a connection that falls silent, soon by one that goes on with little.
func TestTrimKeepsWhatOutputOfLateNeeded(t *testing.T) {
	a, b := pair(t)
	go func() { _, _ = io.Copy(io.Discard, b) }()
	defer b.Close()
	q := &queue{}
	c := New(a, q)
	defer c.Close()
	write := func(n int) {
		t.Helper()
		c.Lock()
		q.b = append(q.b, make([]byte, n)...)
		c.FlushUnlock()
		for written := false; !written; runtime.Gosched() { // what the socket did not take at once
			c.Lock()
			written = !c.flushing
			c.Unlock()
		}
	}
	trim := func() (kept int) {
		c.Lock()
		defer c.Unlock()
		if c.Trim() {
			q.b = nil // as the state machine does
		}
		return cap(c.spare) + cap(q.b)
	}
	const large = 1 << 20
	write(large)
	write(large)
	if kept := trim(); kept < large {
		t.Fatalf("%d bytes are kept while more are used", kept)
	}
	write(100)
	if kept := trim(); kept > 2*smallSpare {
		t.Fatalf("%d bytes are kept for little output", kept)
	}
	write(100)
	if kept := trim(); kept == 0 {
		t.Fatal("small memory is given back while it is used")
	}
	if kept := trim(); kept != 0 {
		t.Fatalf("a silent connection keeps %d bytes", kept)
	}
}

func TestFlushDoesNotWaitForAPeerThatDoesNotRead(t *testing.T) {
	a, b := pair(t)
	q := &queue{b: bytes.Repeat([]byte("x"), 4<<20)}
	c := New(a, q)
	c.Flush() // returns although nobody reads
	c.Lock()
	q.b = append(q.b, "end"...)
	c.FlushUnlock()
	got := make(chan []byte, 1)
	go func() {
		all := make([]byte, 4<<20+3)
		_, _ = io.ReadFull(b, all)
		got <- all
	}()
	if all := <-got; !bytes.HasSuffix(all, []byte("xend")) {
		t.Fatal("the rest did not follow in order")
	}
	c.Close()
	c.Wait()
}

// A peer that reads nothing leaves output behind, and a timer, a list or a call may know the connection for long.
func TestConnectionThatHasEndedHoldsNoOutput(t *testing.T) {
	a, b := pair(t)
	defer b.Close()
	q := &queue{}
	c := New(a, q)
	q.b = make([]byte, 8<<20)
	c.Flush()
	c.Lock()
	q.b = append(q.b, make([]byte, 1<<20)...)
	c.FlushUnlock()
	c.Close()
	c.Wait()
	c.Lock()
	defer c.Unlock()
	if len(q.b) == 0 {
		t.Fatal("nothing was left behind")
	}
	if c.Forget(); cap(q.b)+cap(c.spare) > 0 {
		t.Errorf("%d bytes are held", cap(q.b)+cap(c.spare))
	}
}

func TestCloseFromWithinFeedEndsRead(t *testing.T) {
	for _, kind := range []string{"unix", "pipe"} {
		t.Run(kind, func(t *testing.T) {
			a, b := net.Pipe()
			if kind == "unix" {
				a, b = pair(t)
			}
			c := New(a, &queue{})
			go func() { _, _ = b.Write([]byte("x")) }()
			err := c.Read(func(b []byte) (int, error) {
				c.Close()
				return len(b), nil
			})
			if err == nil {
				t.Fatal("Read ended without an error")
			}
			if _, err := b.Read(make([]byte, 1)); err == nil {
				t.Fatal("the peer did not see the end")
			}
		})
	}
}

// Run it with the race detector: a flush that begins a goroutine while Wait looks is what it is about.
func TestWaitMayMeetAFlush(t *testing.T) {
	for range 200 {
		a, b := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, b) }()
		q := &queue{}
		c := New(a, q)
		var wg sync.WaitGroup
		wg.Go(func() {
			for range 4 {
				c.Lock()
				q.b = append(q.b, "x"...)
				c.FlushUnlock()
			}
		})
		c.Close()
		c.Wait()
		wg.Wait()
		_ = b.Close()
	}
}

func TestReadGivesTheUnusedRestAgain(t *testing.T) {
	a, b := pair(t)
	c := New(a, &queue{})
	go func() {
		for _, s := range []string{"ab", "cde", "f"} {
			_, _ = b.Write([]byte(s))
		}
		_ = b.Close()
	}()
	var got []string
	err := c.Read(func(b []byte) (int, error) {
		n := len(b) / 3 * 3
		for i := 0; i < n; i += 3 {
			got = append(got, string(b[i:i+3]))
		}
		return n, nil
	})
	if err != io.EOF || strings.Join(got, " ") != "abc def" {
		t.Fatalf("got %q, %v", got, err)
	}
	if !c.closed.Load() {
		t.Fatal("Read left the socket open")
	}
}

func TestReadGrowsForAFrameLargerThanABuffer(t *testing.T) {
	a, b := pair(t)
	c := New(a, &queue{})
	const size = 3 * BufferSize
	go func() {
		_, _ = b.Write(make([]byte, size))
		_ = b.Close()
	}()
	got := 0
	err := c.Read(func(b []byte) (int, error) {
		if len(b) < size {
			return 0, nil
		}
		got = len(b)
		return len(b), nil
	})
	if err != io.EOF || got != size {
		t.Fatalf("got %d bytes, %v", got, err)
	}
}

func TestProbeFindsAnEndThatCameWithTheLastBytes(t *testing.T) {
	a, b := pair(t)
	c := New(a, &queue{})
	c.Probe() // before anything is read: from now on short reads are trusted
	if _, err := b.Write([]byte("last")); err != nil {
		t.Fatal(err)
	}
	_ = b.Close() // both are there before the first read
	fed := make(chan string, 1)
	done := make(chan error, 1)
	go func() {
		done <- c.Read(func(b []byte) (int, error) {
			fed <- string(b)
			return len(b), nil
		})
	}()
	if got := <-fed; got != "last" {
		t.Fatalf("got %q", got)
	}
	for {
		select {
		case err := <-done:
			if err == nil {
				t.Fatal("Read ended without an error")
			}
			return
		default:
			c.Probe()
		}
	}
}

func TestReadFindsAnEndInsideAFrameByItself(t *testing.T) {
	a, b := pair(t)
	c := New(a, &queue{})
	c.Probe() // from now on short reads are trusted
	if _, err := b.Write([]byte("a part")); err != nil {
		t.Fatal(err)
	}
	_ = b.Close() // both are there before the first read
	done := make(chan error, 1)
	go func() { done <- c.Read(func([]byte) (int, error) { return 0, nil }) }()
	select {
	case err := <-done:
		if !errors.Is(err, io.EOF) {
			t.Fatalf("Read ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Read waits for the rest of a frame that cannot come")
	}
}

// The end of a Close must not be missed where it comes together with bytes: nobody probes a connection that
// is closed already.
func TestCloseEndsReadAlsoWhenBytesComeWithIt(t *testing.T) {
	for range 20 {
		a, b := pair(t)
		c := New(a, &queue{})
		c.Probe()
		if _, err := b.Write([]byte("first")); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			fed := 0
			done <- c.Read(func(p []byte) (int, error) {
				if fed++; fed == 1 {
					_, _ = b.Write([]byte("second"))
					c.Close()
					busyPoller(t) // has seen bytes and end as one event before Read waits
				}
				return len(p), nil
			})
		}()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatal("Read did not end")
		}
		_ = b.Close()
	}
}

// busyPoller makes the runtime look for events of all sockets.
func busyPoller(t *testing.T) {
	near, far := pair(t)
	defer near.Close()
	defer far.Close()
	go func() { _, _ = io.Copy(far, far) }()
	one := make([]byte, 1)
	for range 20 {
		_, _ = near.Write(one)
		_, _ = io.ReadFull(near, one)
	}
}

// deadlines notes the write deadline that a socket was left with.
type deadlines struct {
	*net.UnixConn
	mu   sync.Mutex
	last time.Time
}

func (d *deadlines) SetWriteDeadline(at time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = at
	return d.UnixConn.SetWriteDeadline(at)
}

// A write deadline that stays ends the next write, however much later, of a connection that was slow once.
func TestSlowWriteLeavesNoDeadlineBehind(t *testing.T) {
	a, b := pair(t)
	d := &deadlines{UnixConn: a.(*net.UnixConn)}
	const size = 4 << 20
	c := New(d, &queue{b: make([]byte, size)})
	c.Flush()
	if _, err := io.CopyN(io.Discard, b, size); err != nil {
		t.Fatal(err)
	}
	c.Close()
	c.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.last.IsZero() {
		t.Fatal("the socket keeps a write deadline")
	}
}

// Silence must not be held against a peer whose bytes lie in the socket.
func TestDrainedLooksAtTheSocket(t *testing.T) {
	a, b := pair(t)
	defer a.Close()
	defer b.Close()
	c := New(a, &queue{})
	c.waiting.Store(true) // as a reader that sleeps
	if !c.Drained() {
		t.Fatal("nothing has arrived")
	}
	if _, err := b.Write([]byte("pong")); err != nil {
		t.Fatal(err)
	}
	if c.Drained() {
		t.Fatal("the reader has not been woken yet")
	}
}

// Nor against one that reads what is before the question.
func TestDrainedLooksAtWhatAFullSocketTook(t *testing.T) {
	a, b := pair(t)
	defer b.Close()
	const size = 8 << 20
	q := &queue{b: make([]byte, size)}
	c := New(a, q)
	c.waiting.Store(true)
	c.Flush()
	if !c.Drained() {
		t.Fatal("the peer has read nothing")
	}
	if _, err := io.CopyN(io.Discard, b, size/2); err != nil {
		t.Fatal(err)
	}
	if c.Drained() {
		t.Fatal("the peer has read half of it")
	}
	if _, err := io.CopyN(io.Discard, b, size/2); err != nil {
		t.Fatal(err)
	}
	c.flushers.Wait()
	c.Drained()
	if !c.Drained() {
		t.Fatal("the peer has read nothing since")
	}
	c.Close()
	c.Wait()
}

func TestWhatAnEndedConnectionTookNothingOfIsUnwritten(t *testing.T) {
	a, b := pair(t)
	q := &queue{b: []byte("taken")}
	c := New(a, q)
	c.Flush()
	b.Close()
	unwritten := func() bool {
		c.Settle()
		c.Lock()
		defer c.Unlock()
		return c.Unwritten()
	}
	if unwritten() {
		t.Fatal("the socket took it")
	}
	c.Lock()
	q.b = []byte("not taken")
	c.FlushUnlock()
	if !unwritten() {
		t.Fatal("nobody was there to take it")
	}
	c.Close()
	c.Wait()
}

// A peer that took a part of it may have understood that.
func TestWhatAnEndedConnectionTookAPartOfIsWritten(t *testing.T) {
	a, b := pair(t)
	c := New(a, &queue{b: make([]byte, 8<<20)})
	c.Flush()
	b.Close()
	c.Settle()
	c.Lock()
	if c.Unwritten() {
		t.Error("the socket took a part of it")
	}
	c.Unlock()
	c.Close()
	c.Wait()
}

func TestExpectedEndNeedsNoProbe(t *testing.T) {
	a, b := pair(t)
	c := New(a, &queue{})
	c.Probe()
	if _, err := b.Write([]byte("last")); err != nil {
		t.Fatal(err)
	}
	_ = b.Close()
	err := c.Read(func(b []byte) (int, error) {
		c.ExpectEnd()
		return len(b), nil
	})
	if err != io.EOF {
		t.Fatal(err)
	}
}

// Only the race detector can fail this one.
func TestWhatHappenedBeforeAFlushHappenedBeforeItsRead(t *testing.T) {
	a, b := pair(t)
	defer a.Close()
	said := ""
	q := &queue{}
	go func() {
		c := New(a, q)
		c.Lock()
		said = "x"
		q.b = append(q.b, said...)
		c.FlushUnlock()
	}()
	in := New(b, &queue{})
	_ = in.Read(func(b []byte) (int, error) {
		if said != string(b) {
			t.Errorf("said %q, read %q", said, b)
		}
		return len(b), io.EOF
	})
}

func TestSocketPathLimit(t *testing.T) {
	if err := CheckSocketPath(strings.Repeat("p", MaxSocketPath)); err != nil {
		t.Fatal(err)
	}
	if err := CheckSocketPath(strings.Repeat("p", MaxSocketPath+1)); err == nil {
		t.Fatal("a path of 108 bytes passed")
	}
}

func TestFlushAllocatesNothingOnceWarm(t *testing.T) {
	a, b := pair(t)
	go func() { _, _ = io.Copy(io.Discard, b) }()
	q := &queue{}
	c := New(a, q)
	defer c.Close()
	frame := make([]byte, 1100)
	send := func() {
		c.Lock()
		q.b = append(q.b, frame...)
		c.FlushUnlock()
	}
	send()
	send()
	if n := testing.AllocsPerRun(200, send); n > 0 {
		t.Fatalf("%v allocations a flush", n)
	}
}

func TestPeerCredentials(t *testing.T) {
	a, b := pair(t)
	defer a.Close()
	defer b.Close()
	cred, err := PeerCredentials(b)
	if err != nil || cred.Pid == 0 {
		t.Fatalf("got %+v, %v", cred, err)
	}
	p, _ := net.Pipe()
	if _, err := PeerCredentials(p); err == nil {
		t.Fatal("a pipe has no credentials")
	}
}

func TestListenUnixReplacesADeadSocketOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir", "s")
	l, err := ListenUnix(path, 0o660)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Fatalf("%v %v", info, err)
	}
	if _, err := ListenUnix(path, 0o660); err == nil {
		t.Fatal("took the socket of a living process")
	}
	_ = l.Close()
	if l, err = ListenUnix(path, 0o600); err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}

// slow is a connection whose writes take a while.
type slow struct {
	net.Conn
	writing chan struct{} // each write says that it has begun
}

func (s slow) Write(b []byte) (int, error) {
	s.writing <- struct{}{}
	time.Sleep(lastWordsTime / 10)
	return s.Conn.Write(b)
}

// Why Read ends is told to the peer also where somebody else is writing at that moment.
func TestLastWordsAreWrittenByWhoeverWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		q, nc := &queue{}, slow{near, make(chan struct{}, 10)}
		c := New(nc, q)
		refused := errors.New("refused")
		ended := make(chan error, 1)
		go func() {
			ended <- c.Read(func([]byte) (int, error) {
				c.Lock()
				q.b = append(q.b, "and last words"...)
				c.FlushUnlock()
				return 0, refused
			})
		}()
		go func() {
			<-nc.writing
			_, _ = far.Write([]byte("nonsense"))
		}()
		c.Lock()
		q.b = append(q.b, "words "...)
		c.FlushUnlock()
		got, err := io.ReadAll(far)
		if string(got) != "words and last words" {
			t.Errorf("the peer got %q, %v", got, err)
		}
		if err := <-ended; err != refused {
			t.Error(err)
		}
		c.Wait()
	})
}

// A peer that reads nothing is not waited for longer than a while.
func TestLastWordsNeedNotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		q := &queue{b: []byte("words")}
		c := New(near, q)
		c.Flush()
		go func() { _, _ = far.Write([]byte("nonsense")) }()
		refused, begin := errors.New("refused"), time.Now()
		if err := c.Read(func([]byte) (int, error) { return 0, refused }); err != refused || time.Since(begin) != lastWordsTime {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		c.Wait()
	})
}
