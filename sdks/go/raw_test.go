package octomesh_test

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/transport"
	"github.com/octomesh/octomesh/core/wire"
)

// raw is the other end of an SDK's connection, played by a test: it sees every event and says what it
// wants, right or wrong.
type raw struct {
	tc     *transport.Conn
	wc     *wire.Conn
	hello  wire.Hello
	events chan rawEvent
	closed chan struct{}
	// directory: the test answers the SDK's calls to the Directory. Else they are refused, and no event.
	directory bool
}

// rawEvent is an event that owns its bytes.
type rawEvent struct {
	kind   wire.EventKind
	stream *wire.Stream
	id     uint32
	flags  wire.Flags
	head   []byte
	body   []byte
	status wire.Status
	goAway wire.GoAway
}

// play lets a test play the acceptor of nc. It answers HELLO by w, unless w is nil.
func play(nc net.Conn, w *wire.Welcome) *raw {
	r := &raw{events: make(chan rawEvent, 4096), closed: make(chan struct{})}
	r.wc = wire.NewConn(wire.Config{Side: wire.Acceptor, Origin: wire.OriginClientProxy})
	r.tc = transport.New(nc, r.wc)
	go r.read(w)
	return r
}

func (r *raw) read(w *wire.Welcome) {
	var ev wire.Event
	_ = r.tc.Read(func(b []byte) (int, error) {
		r.tc.Lock()
		defer r.tc.FlushUnlock()
		used := 0
		for {
			n, err := r.wc.Feed(b[used:], &ev)
			if err != nil || n == 0 {
				return used, err
			}
			used += n
			if ev.Kind == wire.EventHello && w != nil {
				r.hello = ev.Hello
				r.wc.Welcome(*w)
			}
			if ev.Kind == wire.EventNone {
				continue
			}
			f := &ev.Frame
			var h wire.RequestHead
			if ev.Kind == wire.EventRequest && h.Parse(f.Head) == nil && string(h.Target) == "octo.directory" && !r.directory {
				r.wc.Reset(ev.Stream, &wire.ResetHead{Status: wire.Refuse(wire.ReasonUnknownService, wire.OriginClientProxy, "")})
				continue
			}
			if ev.Kind != wire.EventReset && ev.Kind != wire.EventFailed {
				ev.Status = wire.Status{} // an older event's, whose bytes are gone
			}
			r.events <- rawEvent{ev.Kind, ev.Stream, f.Stream, f.Flags, append([]byte(nil), f.Head...),
				append([]byte(nil), f.Body...), ev.Status.Clone(), ev.GoAway}
		}
	})
	close(r.closed)
}

// next returns the next event of a kind, passing over others.
func (r *raw) next(t testing.TB, kind wire.EventKind) rawEvent {
	t.Helper()
	timeout := time.After(5 * time.Second)
	for {
		select {
		case ev := <-r.events:
			if ev.kind == kind {
				return ev
			}
		case <-timeout:
			t.Fatalf("no event %v", kind)
		}
	}
}

// do runs f with the connection locked, then flushes.
func (r *raw) do(f func(wc *wire.Conn)) {
	r.tc.Lock()
	f(r.wc)
	r.tc.FlushUnlock()
}

// write sends bytes past the state machine.
func (r *raw) write(b []byte) { _, _ = r.tc.NetConn().Write(b) }

// answer ends a call with a message.
func (r *raw) answer(ev rawEvent, m proto.Message) {
	b, _ := proto.Marshal(m)
	h := wire.ResponseHead{HeadersPresent: true}
	r.do(func(wc *wire.Conn) {
		wc.Send(ev.stream, &wire.Out{Type: wire.TypeResponse, Flags: wire.FlagMessage | wire.FlagEnd, Head: h.Append(nil), Body: b})
	})
}

// reset ends a call with a RESET.
func (r *raw) reset(ev rawEvent, st wire.Status) {
	r.do(func(wc *wire.Conn) { wc.Reset(ev.stream, &wire.ResetHead{Status: st}) })
}

// request opens a call on a SERVE connection and sends one message with it.
func (r *raw) request(h wire.RequestHead, m proto.Message) *wire.Stream {
	b, _ := proto.Marshal(m)
	var s *wire.Stream
	r.do(func(wc *wire.Conn) {
		var err error
		if s, err = wc.Open(r); err == nil {
			wc.Send(s, &wire.Out{Type: wire.TypeRequest, Flags: wire.FlagMessage | wire.FlagEnd, Head: h.Append(nil), Body: b})
		}
	})
	return s
}

// waitClosed waits until the SDK has closed the connection.
func (r *raw) waitClosed(t testing.TB) {
	t.Helper()
	select {
	case <-r.closed:
	case <-time.After(5 * time.Second):
		t.Fatal("the connection was not closed")
	}
}

// socket is a proxy's socket on which a test plays the proxy.
type socket struct {
	path  string
	conns chan net.Conn
}

func newSocket(t testing.TB) *socket {
	t.Helper()
	s := &socket{path: filepath.Join(t.TempDir(), "p"), conns: make(chan net.Conn, 16)}
	l, err := net.Listen("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			s.conns <- nc
		}
	}()
	return s
}

// accept plays the next connection.
func (s *socket) accept(t testing.TB) *raw {
	t.Helper()
	return s.acceptWith(t, &wire.Welcome{Instance: "proxy"})
}

func (s *socket) acceptWith(t testing.TB, w *wire.Welcome) *raw {
	t.Helper()
	select {
	case nc := <-s.conns:
		r := play(nc, w)
		t.Cleanup(r.tc.Close)
		return r
	case <-time.After(5 * time.Second):
		t.Fatal("nobody dialed")
		return nil
	}
}

// sayHead is a head for Echo.Say.
func sayHead() wire.RequestHead {
	return wire.RequestHead{Target: []byte("echo"), Service: []byte("octo.sdk.test.v1.Echo"), Method: []byte("Say"), Kind: wire.KindUnary}
}

// responseOf parses a response's head and message.
func responseOf(t testing.TB, ev rawEvent) (wire.ResponseHead, *message) {
	t.Helper()
	var h wire.ResponseHead
	m := &message{}
	if err := h.Parse(ev.head); err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(ev.body, m); err != nil {
		t.Fatal(err)
	}
	return h, m
}
