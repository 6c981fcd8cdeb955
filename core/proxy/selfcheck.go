package proxy

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"

	"github.com/octomesh/octomesh/core/proxy/route"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/transport"
	"github.com/octomesh/octomesh/core/wire"
)

// selfTarget is whom the proxy calls to see whether it works. Nobody else can call it: the proxy does not listen yet.
const selfTarget = "octo.self-check"

// SelfCheck makes one call through the proxy's own data path, from a peer proxy's connection to that of an instance, both over
// real sockets. It is for a proxy that does not listen yet.
func (p *Proxy) SelfCheck(ctx context.Context) error {
	h := &selfHandler{localHandler{p}}
	instance, err := p.selfSession(route.Outbound, wire.OriginClientProxy, h)
	if err != nil {
		return err
	}
	defer instance.close()
	caller, err := p.selfSession(route.Inbound, wire.OriginServerProxy, h)
	if err != nil {
		return err
	}
	defer caller.close()
	defer p.inbound.Delete(selfTarget)

	want := make([]byte, 64)
	if _, err := rand.Read(want); err != nil {
		return err
	}
	answered := make(chan error, 1)
	instance.start(wire.RoleServe, func(wc *wire.Conn, ev *wire.Event) {
		if ev.Kind == wire.EventRequest {
			wc.Send(ev.Stream, &wire.Out{Type: wire.TypeResponse, Flags: wire.FlagMessage | wire.FlagEnd, Body: ev.Frame.Body})
		}
	})
	select {
	case <-instance.welcomed:
	case <-ctx.Done():
		return fmt.Errorf("self-check: the proxy does not welcome an instance: %w", context.Cause(ctx))
	}
	caller.start(wire.RoleCall, func(wc *wire.Conn, ev *wire.Event) {
		switch ev.Kind {
		case wire.EventWelcome:
			s, err := wc.Open(answered)
			if err != nil {
				answered <- err
				return
			}
			head := wire.RequestHead{Target: []byte(selfTarget), Service: []byte("octo.Self"), Method: []byte("Check"), Kind: wire.KindUnary}
			wc.Send(s, &wire.Out{Type: wire.TypeRequest, Flags: wire.FlagMessage | wire.FlagEnd, Head: head.Append(nil), Body: want})
		case wire.EventResponse:
			answered <- sameAnswer(&ev.Frame, want)
		case wire.EventReset, wire.EventFailed:
			answered <- fmt.Errorf("self-check: the call ended %v: %s", ev.Status.Reason, ev.Status.Message)
		}
	})
	select {
	case err := <-answered:
		return err
	case <-ctx.Done():
		return fmt.Errorf("self-check: the proxy's own call is not answered: %w", context.Cause(ctx))
	}
}

func sameAnswer(f *wire.Frame, want []byte) error {
	if st := wire.ScanStatus(f.Head); st.Code != wire.OK {
		return fmt.Errorf("self-check: the call ended with code %d: %s", st.Code, st.Message)
	}
	if !bytes.Equal(f.Body, want) {
		return errors.New("self-check: the call came back with other bytes than were sent")
	}
	return nil
}

// selfHandler lets the two ends of a self-check in, which are nobody's application.
type selfHandler struct{ localHandler }

func (h *selfHandler) Hello(s *session.Session, _ *wire.Hello) *wire.GoAway {
	h.welcome(s)
	return nil
}

func (h *selfHandler) Open(s *session.Session) {
	if s.Peer().Role == wire.RoleServe {
		h.attached.add(member{session: s}, s.Peer().Targets)
	}
}

func (h *selfHandler) Serve(c *session.Call, head *wire.RequestHead) {
	h.Proxy.Serve(c, head, route.Inbound)
}

func (h *selfHandler) GoAway(*session.Session, *wire.GoAway) {}

func (h *selfHandler) Closed(s *session.Session, _ error) {
	if s.Peer().Role == wire.RoleServe {
		h.attached.remove(s)
	}
}

// selfEnd is the far end of a connection to the proxy.
type selfEnd struct {
	tc       *transport.Conn
	wc       *wire.Conn
	welcomed chan struct{}
	running  sync.WaitGroup
}

// selfSession makes a connection, and the proxy's session at its near end.
func (p *Proxy) selfSession(d route.Direction, origin wire.Origin, h session.Handler) (*selfEnd, error) {
	near, far, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("self-check: %w", err)
	}
	opts := p.options(d, origin)
	opts.Handler = h
	s := session.New(near, wire.Acceptor, opts)
	e := &selfEnd{wc: wire.NewConn(wire.Config{Side: wire.Dialer, Origin: wire.OriginClientSDK}), welcomed: make(chan struct{})}
	e.tc = transport.New(far, e.wc)
	e.running.Go(func() { _ = s.Run() })
	return e, nil
}

// start says HELLO, and hears what is said.
func (e *selfEnd) start(role wire.Role, on func(*wire.Conn, *wire.Event)) {
	var ev wire.Event
	e.tc.Lock()
	e.wc.Hello(wire.Hello{Role: role, Application: selfTarget, Targets: []string{selfTarget}})
	e.tc.FlushUnlock()
	e.running.Go(func() {
		_ = e.tc.Read(func(b []byte) (used int, err error) {
			e.tc.Lock()
			defer e.tc.FlushUnlock()
			for used < len(b) {
				n, err := e.wc.Feed(b[used:], &ev)
				if n == 0 || err != nil {
					return used, err
				}
				used += n
				if ev.Kind == wire.EventWelcome {
					close(e.welcomed)
				}
				on(e.wc, &ev)
			}
			return used, nil
		})
	})
}

// close ends the connection and waits for both of its ends.
func (e *selfEnd) close() {
	e.tc.Close()
	e.running.Wait()
	e.tc.Wait()
}

// socketPair returns the two ends of a Unix socket.
func socketPair() (near, far net.Conn, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	var ends [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "self-check")
		nc, ferr := net.FileConn(f)
		_ = f.Close()
		ends[i], err = nc, errors.Join(err, ferr)
	}
	if err != nil {
		for _, nc := range ends {
			if nc != nil {
				_ = nc.Close()
			}
		}
		return nil, nil, err
	}
	return ends[0], ends[1], nil
}
