package listener_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/octomesh/octomesh/core/lifecycle"
	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/proxy/listener"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host welcomes everybody.
type host struct{ closed chan struct{} }

func (h *host) Hello(s *session.Session, _ *wire.Hello) *wire.GoAway {
	s.Welcome(wire.Welcome{})
	return nil
}
func (h *host) Open(*session.Session)                  {}
func (h *host) Serve(*session.Call, *wire.RequestHead) {}
func (h *host) GoAway(*session.Session, *wire.GoAway)  {}
func (h *host) Drained(*session.Session)               {}
func (h *host) Closed(*session.Session, error)         { h.closed <- struct{}{} }

func listen(t *testing.T, cfg listener.Config) (at string, h *host) {
	t.Helper()
	l, h := accepting(t, cfg)
	return l.Addr().String(), h
}

func accepting(t *testing.T, cfg listener.Config) (_ *listener.Listener, h *host) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h = &host{closed: make(chan struct{}, 16)}
	cfg.Group = lifecycle.New(context.Background())
	cfg.Session = session.Options{Handler: h, Clock: session.NewClock()}
	cfg.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	t.Cleanup(cfg.Group.Stop)
	return listener.New(l, cfg), h
}

func dial(at string) (*meshtest.Raw, error) {
	return meshtest.Dial("tcp", at, wire.Hello{Role: wire.RoleCall}, wire.Limits{}, nil)
}

func TestConnectionsAreCapped(t *testing.T) {
	capped(t, listener.Config{MaxConnections: 2, MaxPerPeer: 3})
}

func TestConnectionsOfAPeerAreCapped(t *testing.T) {
	capped(t, listener.Config{MaxConnections: 100, MaxPerPeer: 2})
}

// capped demands that of one host's connections two are let in at a time.
func capped(t *testing.T, cfg listener.Config) {
	t.Helper()
	at, h := listen(t, cfg)
	var open []*meshtest.Raw
	for range 2 {
		r, err := dial(at)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, r)
	}
	if _, err := dial(at); err == nil {
		t.Fatal("a third connection was let in")
	}
	open[0].Close()
	<-open[0].Done()
	<-h.closed
	for end := time.Now().Add(20 * time.Second); ; { // the place is free just behind Closed
		r, err := dial(at)
		if err == nil {
			open = append(open, r)
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the place of one that left stays taken: %v", err)
		}
	}
	for _, r := range open {
		r.Close()
		<-r.Done()
	}
}

func TestSocketsThatAreNotAdmittedAreClosedUnread(t *testing.T) {
	at, _ := listen(t, listener.Config{Admit: func(net.Conn) error { return errors.New("not you") }})
	if _, err := dial(at); err == nil {
		t.Fatal("it was let in")
	}
}

func TestGroupEndsListenerAndSessions(t *testing.T) {
	group := lifecycle.New(context.Background())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := &host{closed: make(chan struct{}, 16)}
	listener.New(l, listener.Config{Group: group, Session: session.Options{Handler: h, Clock: session.NewClock()}, Log: slog.New(slog.DiscardHandler)})
	r, err := dial(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	group.Stop()
	<-r.Done()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("the listener is open: %v", err)
	}
}

// exhausted is a listener without descriptors.
type exhausted struct {
	net.Listener
	accepts atomic.Int64
	closed  chan struct{}
}

func (e *exhausted) Accept() (net.Conn, error) {
	select {
	case <-e.closed:
		return nil, net.ErrClosed
	default:
	}
	e.accepts.Add(1)
	return nil, errors.New("too many open files")
}

func (e *exhausted) Close() error {
	close(e.closed)
	return nil
}

func (e *exhausted) Addr() net.Addr { return &net.TCPAddr{} }

func TestAcceptErrorsDoNotSpin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		group := lifecycle.New(context.Background())
		e := &exhausted{closed: make(chan struct{})}
		listener.New(e, listener.Config{Group: group, Log: slog.New(slog.DiscardHandler)})
		time.Sleep(time.Minute) // of the bubble's clock: it costs none
		if n := e.accepts.Load(); n < 60 || n > 70 {
			t.Errorf("%d accepts failed in a minute, want one a second after a short beginning", n)
		}
		group.Stop()
	})
}
