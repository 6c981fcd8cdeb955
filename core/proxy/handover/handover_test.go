package handover

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/lifecycle"
	"github.com/octomesh/octomesh/core/transport"
	handoverv1 "github.com/octomesh/octomesh/gen/control/octo/handover/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host is a running proxy that notes what is done to it.
type host struct {
	mu        sync.Mutex
	holds     int
	released  int
	left      bool
	gone      func(*handoverv1.Instance)
	instances []*handoverv1.Instance
	unsettled chan struct{} // nil: it is settled
	changed   chan struct{}
}

func (h *host) Settled(ctx context.Context) error {
	if h.unsettled == nil {
		return nil
	}
	select {
	case <-h.unsettled:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (h *host) Hold(gone func(*handoverv1.Instance)) []*handoverv1.Instance {
	defer h.change()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.holds++
	h.gone = gone
	return h.instances
}

func (h *host) Release() {
	defer h.change()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.released++
}

func (h *host) leave() {
	defer h.change()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.left = true
}

func (h *host) change() { h.changed <- struct{}{} }

// until waits for a state of the host.
func (h *host) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	late := time.After(10 * time.Second)
	for {
		h.mu.Lock()
		done := ok()
		h.mu.Unlock()
		if done {
			return
		}
		select {
		case <-h.changed:
		case <-late:
			t.Fatalf("%s did not come", what)
		}
	}
}

// world is a running proxy without a proxy.
type world struct {
	*host
	path   string
	config Config
	server *Server
	group  *lifecycle.Group
}

func running(t *testing.T, sockets int) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{host: &host{changed: make(chan struct{}, 100)}, path: filepath.Join(dir, "t"), group: lifecycle.New(context.Background())}
	t.Cleanup(w.group.Stop)
	takeover, err := transport.ListenUnix(w.path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "o")
	outbound, err := transport.ListenUnix(out, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = outbound.Close() })
	all := []Listener{{Outbound, outbound, out}, {Takeover, takeover, w.path}}
	for n := range sockets {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		all = append(all, Listener{fmt.Sprint("more-", n), l, "127.0.0.1:0"})
	}
	w.config = Config{
		Environment: "test", Instance: "one", SoftwareVersion: "1", Configured: func() bool { return true },
		Listeners: all, Host: w.host, Leave: w.leave, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	w.server = Serve(w.group, takeover, w.config)
	return w
}

func (w *world) intro() *handoverv1.Introduction {
	return &handoverv1.Introduction{Environment: "test", Instance: "one", Places: []*handoverv1.Place{{Name: Outbound, Address: w.config.Listeners[0].Configured}}}
}

// dial introduces a successor.
func (w *world) dial(t *testing.T) *Successor {
	t.Helper()
	s, err := Dial(t.Context(), w.path, w.intro())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// take takes the listeners, which the test closes.
func take(t *testing.T, s *Successor) []Listener {
	t.Helper()
	all, err := s.Take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, l := range all {
			_ = l.Close()
		}
	})
	return all
}

func TestListenersAndInstancesPassToTheSuccessor(t *testing.T) {
	w := running(t, 600) // more than fit one message, twice
	cart := &handoverv1.Instance{Application: "cart", Instance: "c1", Incarnation: 7, Targets: []string{"shop.cart"}}
	w.instances = []*handoverv1.Instance{cart}
	for n := range 40 { // more than fit one word
		w.instances = append(w.instances, &handoverv1.Instance{Instance: fmt.Sprint(n), Targets: []string{strings.Repeat("x", 60<<10)}})
	}
	s := w.dial(t)
	defer s.Close()
	if a := s.Admission; a.GetInstance() != "one" || !a.GetConfigured() || a.GetSoftwareVersion() != "1" {
		t.Fatalf("admitted %v", a)
	}
	all := take(t, s)
	if len(all) != 602 {
		t.Fatalf("%d listeners", len(all))
	}
	instances, complete, err := s.Ready(t.Context())
	if err != nil || !complete || len(instances) != 41 || !proto.Equal(instances[0], cart) {
		t.Fatalf("%d instances, complete %t: %v", len(instances), complete, err)
	}
	s.Serving()
	w.until(t, "leaving", func() bool { return w.left })
	for n, l := range all { // they are the same sockets, and live without their first owner
		old := w.config.Listeners[n]
		if l.Name != old.Name || l.Addr().String() != old.Addr().String() || l.Configured != old.address() {
			t.Fatalf("listener %d: %+v, was %+v", n, l, old)
		}
		_ = old.Close()
	}
	for _, l := range []Listener{all[0], all[601]} {
		at := l.Configured
		go func() {
			if nc, err := net.Dial(l.Addr().Network(), at); err == nil {
				_ = nc.Close()
			}
		}()
		nc, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = nc.Close()
	}
	w.host.gone(cart)
	gone := make(chan *handoverv1.Instance, 1)
	heard := Heard{Gone: func(i *handoverv1.Instance) {
		gone <- i
		w.server.Left(3)
	}}
	if cut, err := s.Follow(t.Context(), heard); cut != 3 || err != nil || !proto.Equal(<-gone, cart) {
		t.Fatalf("%d calls cut off: %v", cut, err)
	}
	if w.holds != 1 || w.released != 0 {
		t.Errorf("held %d times, released %d times", w.holds, w.released)
	}
}

func TestWhoDoesNotFitIsRefused(t *testing.T) {
	w := running(t, 0)
	for want, change := range map[string]func(*handoverv1.Introduction){
		`of environment "stage"`: func(i *handoverv1.Introduction) { i.Environment = "stage" },
		`it is called "two"`:     func(i *handoverv1.Introduction) { i.Instance = "two" },
		`outbound is `:           func(i *handoverv1.Introduction) { i.Places[0].Address = "/elsewhere" },
		`has inbound at "h:1"`: func(i *handoverv1.Introduction) {
			i.Places = append(i.Places, &handoverv1.Place{Name: Inbound, Address: "h:1"})
		},
	} {
		intro := w.intro()
		change(intro)
		_, err := Dial(t.Context(), w.path, intro)
		var refused *RefusedError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if err := admit(&handoverv1.Introduction{LowestVersion: 2, HighestVersion: 3}, "", "", nil); err == nil || !strings.Contains(err.Error(), "versions 2 to 3") {
		t.Errorf("another version: %v", err)
	}
	intro := w.intro()
	intro.Instance = "" // it takes the name
	s, err := Dial(t.Context(), w.path, intro)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := Dial(t.Context(), w.path, w.intro()); err == nil || !strings.Contains(err.Error(), "is about to take over") {
		t.Errorf("two at once: %v", err)
	}
	if _, err := Dial(t.Context(), w.path+"x", w.intro()); !errors.Is(err, ErrNobody) {
		t.Errorf("nobody: %v", err)
	}
}

// Whatever a successor does before it serves, the running one goes on, and the next successor finds it so.
func TestSuccessorThatFailsChangesNothing(t *testing.T) {
	for name, fail := range map[string]func(t *testing.T, s *Successor){
		"before it takes":    func(*testing.T, *Successor) {},
		"says why":           func(_ *testing.T, s *Successor) { s.Refuse(errors.New("a bad configuration")) },
		"with the listeners": func(t *testing.T, s *Successor) { take(t, s) },
		"before it asks": func(_ *testing.T, s *Successor) {
			_ = s.say(&handoverv1.Word{Word: &handoverv1.Word_Ready{Ready: &handoverv1.Ready{}}})
		},
		"by talking nonsense": func(_ *testing.T, s *Successor) { _, _ = s.c.Write(bytes.Repeat([]byte{1}, 100)) },
	} {
		t.Run(name, func(t *testing.T) {
			w := running(t, 1)
			s := w.dial(t)
			fail(t, s)
			s.Close()
			w.complete(t)
			if w.holds != 1 || w.released != 0 {
				t.Errorf("held %d times, released %d times", w.holds, w.released)
			}
		})
	}
}

// complete takes over; the one before may not have been noticed yet.
func (w *world) complete(t *testing.T) {
	t.Helper()
	var s *Successor
	for late := time.Now().Add(10 * time.Second); ; {
		var err error
		if s, err = Dial(t.Context(), w.path, w.intro()); err == nil {
			break
		}
		if time.Now().After(late) {
			t.Fatal(err)
		}
	}
	defer s.Close()
	take(t, s)
	if _, complete, err := s.Ready(t.Context()); err != nil || !complete {
		t.Fatal(complete, err)
	}
	s.Serving()
	w.until(t, "leaving", func() bool { return w.left })
}

func TestSuccessorThatDiesReadyIsUndone(t *testing.T) {
	w := running(t, 0)
	s := w.dial(t)
	take(t, s)
	if _, _, err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Close()
	w.until(t, "release", func() bool { return w.holds == 1 && w.released == 1 && !w.left })
	w.complete(t)
}

// A successor that is slow to serve finds the running one accepting again, and gets a second list with who has come meanwhile.
func TestSlowSuccessorTakesOverInTheEnd(t *testing.T) {
	w := running(t, 0)
	s := w.dial(t)
	defer s.Close()
	take(t, s)
	if _, _, err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.until(t, "release", func() bool { return w.released == 1 })
	w.mu.Lock()
	w.instances = []*handoverv1.Instance{{Instance: "late"}}
	w.mu.Unlock()
	s.Serving()
	w.until(t, "leaving", func() bool { return w.left && w.holds == 2 })
	heard := Heard{Attached: func(more []*handoverv1.Instance) {
		if len(more) != 1 || more[0].GetInstance() != "late" {
			t.Errorf("got %v", more)
		}
		w.server.Left(0)
	}}
	if _, err := s.Follow(t.Context(), heard); err != nil {
		t.Fatal(err)
	}
}

func TestRunningOneThatDiesLeavesItToTheSuccessor(t *testing.T) {
	w := running(t, 0)
	s := w.dial(t)
	defer s.Close()
	take(t, s)
	w.group.Stop() // with its control socket
	if instances, complete, err := s.Ready(t.Context()); err != nil || complete || len(instances) != 0 {
		t.Fatal(instances, complete, err)
	}
	w = running(t, 0)
	s = w.dial(t)
	defer s.Close()
	w.group.Stop()
	if _, err := s.Take(t.Context()); !errors.Is(err, ErrGone) {
		t.Fatal(err)
	}
}

func TestProxyThatAwaitsItsOwnInstancesLetsSuccessorsWait(t *testing.T) {
	w := running(t, 0)
	w.unsettled = make(chan struct{})
	admitted := make(chan error, 1)
	go func() {
		s, err := Dial(context.Background(), w.path, w.intro())
		if err == nil {
			s.Close()
		}
		admitted <- err
	}()
	select {
	case err := <-admitted:
		t.Fatalf("admitted too early: %v", err)
	case <-time.After(50 * time.Millisecond): // may only be too short to notice
	}
	close(w.unsettled)
	if err := <-admitted; err != nil {
		t.Fatal(err)
	}
}

// sockets returns the two ends of a control socket.
func sockets(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if a, err = net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr)); err != nil {
		t.Fatal(err)
	}
	if b, err = l.AcceptUnix(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a, b
}

func header(words ...uint32) []byte {
	b := make([]byte, headerSize)
	for n, w := range words {
		binary.BigEndian.PutUint32(b[4*n:], w)
	}
	return b
}

func TestWordsThatCannotBeAreRefused(t *testing.T) {
	for want, bytes := range map[string][]byte{
		"does not speak":      header(0x0C70484F, 1<<24, 0),
		"version 9":           header(magic, 9<<24, 0),
		"at most 1048576":     header(magic, 1<<24, maxWord+1),
		"descriptors came, 2": header(magic, 1<<24|2, 0), // completed below
		"later version":       header(magic, 1<<24, 0),
		"cannot parse":        append(header(magic, 1<<24, 2), 0xFF, 0xFF),
		"unexpected EOF":      append(header(magic, 1<<24, 20), 1),
	} {
		a, b := sockets(t)
		if _, err := a.Write(bytes); err != nil {
			t.Fatal(err)
		}
		_ = a.CloseWrite()
		if want == "descriptors came, 2" {
			want = "0 descriptors came, 2 were sent"
		}
		if w, _, err := receive(b); w != nil || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v %v", want, w, err)
		}
	}
}

func TestDescriptorsComeWithTheirWordByteByByte(t *testing.T) {
	a, b := sockets(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = r.Close(), w.Close() }()
	said := &handoverv1.Word{Word: &handoverv1.Word_Take{Take: &handoverv1.Take{}}}
	c := newConn(a)
	defer c.end()
	if err := c.send(said, []int{int(r.Fd()), int(w.Fd()), int(w.Fd())}); err != nil {
		t.Fatal(err)
	}
	got, descriptors, err := receive(b)
	if err != nil || !proto.Equal(got, said) || len(descriptors) != 3 {
		t.Fatal(got, descriptors, err)
	}
	closeAll(descriptors)
	if err := c.send(said, make([]int, maxDescriptors+1)); err == nil {
		t.Error("more descriptors than a message carries were sent")
	}
}
