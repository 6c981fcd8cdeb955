package transport

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Output is what a Conn writes. Take is called with the Conn locked: it returns all that waits, and uses
// spare's memory for what comes. It matches wire.Conn.
type Output interface {
	Take(spare []byte) []byte
	// Queued is the number of bytes that wait for Take.
	Queued() int
}

// WriteStall is how long a full socket may take no byte before the connection is given up.
const WriteStall = 10 * time.Second

// keepSpare bounds the memory that a connection keeps for its next output: the windows of many calls, since
// output that is allocated anew for each flush is copied again and again as it grows. Trim gives back what a
// connection has not needed of late.
const keepSpare = 4 << 20

// smallSpare is not worth giving back while a connection is used.
const smallSpare = 64 << 10

// ErrStalled ends a connection whose peer stopped reading.
var ErrStalled = errors.New("octo: the peer took no byte for 10 s")

// Conn is a socket with the lock of the state machine behind it. Lock it to use the state machine, unlock
// it, then Flush.
type Conn struct {
	sync.Mutex

	nc  net.Conn
	raw syscall.RawConn // nil where there is no descriptor to try: TLS, pipes
	out Output

	// Guarded by the lock.
	flushing bool
	idle     chan struct{} // closed, if there is one, once nobody flushes
	closing  bool          // close once the output is flushed
	err      error
	spare    []byte
	largest  int  // of what was written at once since the last Trim, in bytes
	written  int  // the memory that this took, which the state machine has now
	late     int  // the length of what somebody waits to write; 0: nobody waits
	counted  int  // in the account
	nothing  bool // the socket took nothing of what was to be written last, and the connection ended

	account *atomic.Int64 // nil: nobody adds up

	received atomic.Uint64
	moved    atomic.Bool // a full socket took bytes since somebody asked
	waiting  atomic.Bool // the reader has taken all there was
	reading  atomic.Bool // Read runs: it closes the socket when it returns
	closed   atomic.Bool
	probed   atomic.Bool // the owner looks for missed ends of the stream
	flushers sync.WaitGroup

	// Owned by whoever flushes.
	attempt    []byte
	attempted  int
	attemptErr error
	tryFn      func(fd uintptr) bool
}

// New joins a socket and a state machine.
func New(nc net.Conn, out Output) *Conn {
	c := &Conn{nc: nc, out: out}
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			c.raw = raw
		}
	}
	c.tryFn = c.try
	return c
}

// Account has the connection add to an account what waits because the socket is full, from its first flush on. Call it first.
func (c *Conn) Account(a *atomic.Int64) { c.account = a }

// Late is the number of bytes that wait because the socket is full, as of the last flush. The lock must be held.
func (c *Conn) Late() int { return c.counted }

// count brings the account up to date. The lock must be held.
func (c *Conn) count() {
	n := 0
	if c.late > 0 {
		n = c.late + c.out.Queued()
	}
	if n != c.counted && c.account != nil {
		c.account.Add(int64(n - c.counted))
		c.counted = n
	}
}

// NetConn returns the socket, for its addresses and options.
func (c *Conn) NetConn() net.Conn { return c.nc }

// Received is the number of bytes read so far.
func (c *Conn) Received() uint64 { return c.received.Load() }

// Drained tells whether the reader has taken all that had arrived and waits for more: only then does
// silence say something about the peer. A reader that has not been woken yet for what has arrived, as on a
// busy machine, has not. Nor does silence say anything of a peer that has read since the last call, so that
// the socket, which was full, took more: what it is asked may wait behind the rest.
func (c *Conn) Drained() bool {
	if c.moved.Swap(false) || !c.waiting.Load() {
		return false
	}
	n, _ := c.peek()
	return n == 0
}

// Flush writes what the state machine has to say, unless somebody else is about to. It never waits for
// the peer. The lock must not be held.
func (c *Conn) Flush() {
	c.Lock()
	c.FlushUnlock()
}

// FlushUnlock is Flush for a caller that holds the lock, and releases it.
func (c *Conn) FlushUnlock() {
	if c.flushing || c.err != nil {
		if c.late > 0 {
			c.count()
		}
		c.Unlock()
		return
	}
	c.flushing = true
	for {
		buf := c.out.Take(c.spare)
		c.spare = nil
		if len(buf) == 0 {
			c.spare = buf
			c.flushEnded()
			closing := c.closing
			c.Unlock()
			if closing {
				c.closeWrite()
			}
			return
		}
		c.Unlock()
		n, err := c.tryWrite(buf)
		if err != nil && n == 0 {
			c.Lock()
			c.nothing = true
			c.Unlock()
		}
		if n < len(buf) && err == nil {
			c.finishLater(buf, n)
			return
		}
		if !c.flushed(buf, err) {
			return
		}
	}
}

// flushed takes the lock and books a buffer that was written. If it could not be, the connection is
// closed, the lock not held, and the answer false.
func (c *Conn) flushed(buf []byte, err error) bool {
	c.Lock()
	if c.late > 0 {
		c.late = 0
		c.count()
	}
	if err != nil {
		c.err = err
		c.flushEnded()
		c.Unlock()
		c.Close()
		return false
	}
	if cap(buf) <= keepSpare {
		c.spare = buf[:0]
	}
	c.largest, c.written = max(c.largest, len(buf)), cap(buf)
	return true
}

// finishLater leaves the rest of a buffer to a goroutine, unless the connection has ended: Wait counts on
// none beginning then.
func (c *Conn) finishLater(buf []byte, n int) {
	c.Lock()
	defer c.Unlock()
	if c.err != nil {
		c.flushEnded()
		return
	}
	c.late = len(buf)
	c.count()
	c.flushers.Add(1)
	go c.finish(buf, n)
}

// finish writes what the socket did not take at once, then goes on flushing.
func (c *Conn) finish(buf []byte, n int) {
	defer c.flushers.Done()
	if !c.flushed(buf, c.write(buf[n:])) {
		return
	}
	if c.err != nil { // ended meanwhile
		c.flushEnded()
		c.Unlock()
		return
	}
	c.flushing = false
	c.FlushUnlock()
}

// flushEnded notes that nobody flushes any more. The lock must be held.
func (c *Conn) flushEnded() {
	c.flushing = false
	if c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
}

// lastWordsTime is how long a peer that broke the protocol may leave unread what was written before it is told so.
const lastWordsTime = time.Second

// lastWords waits for whoever flushes at the moment: it takes what waits, too, such as why Read ends, which would be lost with the
// socket.
func (c *Conn) lastWords() {
	c.Lock()
	if !c.flushing || c.err != nil {
		c.Unlock()
		return
	}
	idle := make(chan struct{})
	c.idle = idle
	c.Unlock()
	late := time.NewTimer(lastWordsTime)
	defer late.Stop()
	select {
	case <-idle:
	case <-late.C:
	}
}

// write blocks until the peer has taken all, or takes nothing for WriteStall.
func (c *Conn) write(b []byte) error {
	for full := c.raw != nil; len(b) > 0; full = true { // without a descriptor nobody has tried before
		if err := c.nc.SetWriteDeadline(time.Now().Add(WriteStall)); err != nil {
			return err
		}
		n, err := c.nc.Write(b[:min(len(b), 64<<10)])
		b = b[n:]
		if n > 0 && full {
			c.moved.Store(true)
		}
		if err != nil && n == 0 {
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				return ErrStalled
			}
			return err
		}
	}
	// A deadline that stays would end the next write after it has passed, also one that need not wait.
	return c.nc.SetWriteDeadline(time.Time{})
}

// tryWrite writes as much as the socket takes at once.
func (c *Conn) tryWrite(b []byte) (int, error) {
	if c.raw == nil {
		return 0, nil
	}
	c.attempt, c.attempted, c.attemptErr = b, 0, nil
	if err := c.raw.Write(c.tryFn); err != nil && c.attemptErr == nil {
		c.attemptErr = err
	}
	c.attempt = nil
	return c.attempted, c.attemptErr
}

func (c *Conn) try(fd uintptr) bool {
	for c.attempted < len(c.attempt) {
		n, errno := rawWrite(fd, c.attempt[c.attempted:])
		switch {
		case errno == syscall.EINTR:
		case errno == syscall.EAGAIN:
			return true
		case errno != 0:
			c.attemptErr = errno
			return true
		default:
			c.attempted += n
		}
	}
	return true
}

// Trim gives back memory that the output of late has not needed, if there is any, and tells whether the state
// machine should give back its own. Owners call it now and then, with the lock held.
func (c *Conn) Trim() (more bool) {
	if c.flushing {
		return false
	}
	more = c.largest == 0 || max(cap(c.spare), c.written) > max(smallSpare, 4*c.largest)
	if more {
		c.spare, c.written = nil, 0
	}
	c.largest = 0
	return more
}

// Forget gives back the memory of output that nobody will write any more: who still knows the connection would hold on to it. Call it
// behind Wait, with the lock held.
func (c *Conn) Forget() {
	c.out.Take(nil)
	c.spare, c.late = nil, 0
	c.count()
}

// Err returns why nothing can be written any more, or nil. The lock must be held.
func (c *Conn) Err() error { return c.err }

// Close ends the connection at once. It may be called more than once, and from within Read's feed.
func (c *Conn) Close() {
	if c.closed.Swap(true) {
		return
	}
	c.Lock()
	if c.err == nil {
		c.err = net.ErrClosed
	}
	c.Unlock()
	if c.reading.Load() && c.raw != nil {
		// Read holds the descriptor: it is told by the end of the stream and closes the socket itself.
		_ = c.raw.Control(func(fd uintptr) { _ = syscall.Shutdown(int(fd), syscall.SHUT_RDWR) })
		return
	}
	_ = c.nc.Close()
}

// CloseAfterFlush closes our direction once all output is written: the peer reads our last words and
// closes, which ends Read. linger bounds how long its bytes are read and discarded meanwhile; a hard
// close with unread bytes would destroy the last words.
func (c *Conn) CloseAfterFlush(linger time.Duration) {
	time.AfterFunc(linger, c.Close)
	c.Lock()
	c.closing = true
	c.FlushUnlock()
}

func (c *Conn) closeWrite() {
	if w, ok := c.nc.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite()
		return
	}
	c.Close()
}

// Settle waits, at an ended connection, for who writes at the moment. What Unwritten says holds from then on.
func (c *Conn) Settle() {
	c.Lock()
	if !c.flushing {
		c.Unlock()
		return
	}
	idle := make(chan struct{})
	c.idle = idle
	c.Unlock()
	<-idle
}

// Unwritten tells that the socket took nothing of what Take returned last, since the connection had ended. The lock must be held.
func (c *Conn) Unwritten() bool { return c.nothing }

// Wait returns when no goroutine of the connection writes any more. Call it once the connection has ended:
// after Close, or when Read has returned.
func (c *Conn) Wait() {
	c.Lock()
	ended := c.err != nil
	c.Unlock() // a flush that goes on sees the end from here on
	if ended {
		c.flushers.Wait()
	}
}
