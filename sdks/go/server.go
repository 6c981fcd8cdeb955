package octomesh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/octomesh/octomesh/core/wire"
)

// Server answers the calls of one target: those that the local proxy brings, on a connection that the
// server dials, and those that come direct to the addresses that it listens on.
type Server struct {
	target   string
	cfg      *config
	services map[string]map[string]*serverMethod
	workers  workers
	calls    sync.Pool // of *serverCall

	stopping atomic.Bool
	attached atomic.Bool

	mu        sync.Mutex
	err       error // of the options
	serving   bool
	listeners []net.Listener
	sessions  map[*session]struct{}
	registrar *registrar    // nil: the server does not register
	changed   chan struct{} // closed and made anew when what Ready or Shutdown waits for changes
	ctx       context.Context
	cancel    context.CancelFunc
	wg        sync.WaitGroup // of all goroutines but the workers
}

type serverMethod struct {
	Method
	Handler     Handler
	intercepted bool
}

// NewServer returns a server of target, the registry's service name. It does nothing before [Server.Serve].
// It attaches to the local proxy whose socket OCTO_SOCKET or [WithSocket] names, unless OCTO_MODE is off,
// and takes direct calls where [WithListen] says. It registers its instance with the proxy, or without one with the
// Directory that OCTO_DIRECTORY or [WithDirectory] names, if there is one: see [Server.Registration].
func NewServer(target string, opts ...ServerOption) *Server {
	s := &Server{target: target, cfg: newConfig(), services: make(map[string]map[string]*serverMethod),
		sessions: make(map[*session]struct{}), changed: make(chan struct{})}
	for _, o := range opts {
		o.applyServer(s.cfg)
	}
	s.err = s.cfg.finish()
	if s.err == nil && target == "" {
		s.err = errors.New("octomesh: the target has no name")
	}
	s.calls.New = func() any { return newServerCall() }
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// RegisterService makes the server answer the calls of a service; generated code calls it. Like a service
// that is registered twice, registering after Serve is a programming error: it panics.
func (s *Server) RegisterService(d ServiceDesc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.serving {
		panic("octomesh: RegisterService after Serve: " + d.Name)
	}
	if s.services[d.Name] != nil {
		panic("octomesh: service registered twice: " + d.Name)
	}
	methods := make(map[string]*serverMethod, len(d.Methods))
	for _, m := range d.Methods {
		methods[m.Method.Name] = &serverMethod{m.Method, m.Handler, len(s.cfg.interceptors) > 0}
	}
	s.services[d.Name] = methods
}

// Serve serves until ctx ends, then stops gracefully within the drain timeout ([WithDrainTimeout]); or until
// [Server.Shutdown]. It returns nil if no call was cut off. A proxy that cannot be reached is not an error:
// the server attaches when it comes.
func (s *Server) Serve(ctx context.Context) error {
	if err := s.start(); err != nil {
		return err
	}
	select {
	case <-s.ctx.Done():
		return nil
	case <-ctx.Done():
	}
	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.drain)
	defer cancel()
	return s.Shutdown(deadline)
}

func (s *Server) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return s.err
	case s.serving && len(s.listeners) > 0, s.stopping.Load():
		return errors.New("octomesh: Serve was called already")
	case s.cfg.socket == "" && len(s.cfg.listen) == 0 && len(s.cfg.listeners) == 0:
		return errors.New("octomesh: the server has neither a proxy's socket (OCTO_SOCKET, WithSocket) nor an address (WithListen)")
	}
	s.listeners = append(s.listeners, s.cfg.listeners...)
	for _, a := range s.cfg.listen {
		l, err := listen(a)
		if err != nil {
			for _, l := range s.listeners {
				_ = l.Close()
			}
			s.listeners = nil
			return err
		}
		s.listeners = append(s.listeners, l)
	}
	s.serving = true
	for _, l := range s.listeners {
		s.wg.Go(func() { s.accept(l) })
	}
	if s.cfg.socket != "" {
		s.wg.Go(s.attach)
	}
	s.register()
	s.notify()
	return nil
}

// listen takes over a Unix socket that a dead process has left behind.
func listen(address string) (net.Listener, error) {
	network, at, err := splitAddress(address)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen(network, at)
	if err == nil || network != "unix" {
		return l, err
	}
	if nc, dialErr := net.Dial(network, at); dialErr == nil {
		_ = nc.Close()
		return nil, err // somebody lives there
	}
	if os.Remove(at) != nil {
		return nil, err
	}
	return net.Listen(network, at)
}

// notify tells Ready and Shutdown to look again. The lock must be held.
func (s *Server) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// until waits until ok, called with the lock held, or ctx ends.
func (s *Server) until(ctx context.Context, ok func() bool) error {
	for {
		s.mu.Lock()
		done, changed := ok(), s.changed
		s.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Ready waits until the server listens and, where it has a proxy, is attached to it; or ctx ends.
func (s *Server) Ready(ctx context.Context) error {
	return s.until(ctx, func() bool { return s.serving && (s.cfg.socket == "" || s.attached.Load()) })
}

// Addresses returns the addresses that the server listens on, in the order of the options: those of
// [WithListener] first. It is empty before Serve listens, see [Server.Ready].
func (s *Server) Addresses() []net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []net.Addr
	for _, l := range s.listeners {
		all = append(all, l.Addr())
	}
	return all
}

func (s *Server) accept(l net.Listener) {
	for {
		nc, err := l.Accept()
		switch {
		case err == nil && s.cfg.secure != nil:
			s.wg.Go(func() { s.takeSecure(nc) })
		case err == nil:
			s.take(newSession(s, nc, false))
		case errors.Is(err, net.ErrClosed):
			return
		default: // out of descriptors, or a connection that was gone before it was taken
			s.cfg.log.Warn("octomesh: accept", "error", err)
			select {
			case <-time.After(10 * time.Millisecond):
			case <-s.ctx.Done():
				return
			}
		}
	}
}

// take runs a session.
func (s *Server) take(ses *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		ses.tc.Close()
		return
	}
	s.sessions[ses] = struct{}{}
	s.wg.Go(ses.run)
}

func (s *Server) forget(ses *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, ses)
	s.notify()
}

// Shutdown stops the server: it deregisters, takes no new connection, asks the peers to move, serves what still arrives
// until they have, and returns nil once no call is open. When ctx ends before, what is left is cut off, its
// handlers' contexts are cancelled, and the error says so.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	r := s.registrar
	s.mu.Unlock()
	if r != nil {
		r.leave(ctx)
	}
	s.stopping.Store(true)
	s.mu.Lock()
	for _, l := range s.listeners {
		_ = l.Close()
	}
	all := s.open()
	s.mu.Unlock()
	for _, ses := range all {
		ses.leave()
	}
	err := s.until(ctx, func() bool { return len(s.sessions) == 0 })
	if err != nil {
		err = s.cutOff()
	}
	s.cancel()
	s.wg.Wait()
	s.workers.close()
	return errors.Join(err, s.awaitHandlers(ctx))
}

// awaitHandlers waits for handlers whose calls have ended, until ctx has, or a moment longer: they have
// been told by their contexts.
func (s *Server) awaitHandlers(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		s.workers.all.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	select {
	case <-done:
		return nil
	case <-time.After(linger):
		return errors.New("octomesh: handlers still run although their contexts have ended")
	}
}

// open lists the sessions. The lock must be held.
func (s *Server) open() []*session {
	all := make([]*session, 0, len(s.sessions))
	for ses := range s.sessions {
		all = append(all, ses)
	}
	return all
}

// cutOff ends what has not ended by the drain deadline.
func (s *Server) cutOff() error {
	s.mu.Lock()
	all := s.open()
	s.mu.Unlock()
	calls := 0
	for _, ses := range all {
		ses.tc.Lock()
		calls += ses.wc.OpenStreams()
		ses.tc.Unlock()
		ses.final()
	}
	if calls == 0 {
		return nil // peers that did not move, and had nothing to lose
	}
	return fmt.Errorf("octomesh: the drain deadline passed with %d calls open", calls)
}

// find returns the method that a head names, or why there is none.
func (s *Server) find(h *wire.RequestHead) (*serverMethod, wire.Status) {
	methods := s.services[string(h.Service)]
	if methods == nil {
		return nil, wire.Refuse(wire.ReasonUnknownService, wire.OriginServerSDK,
			fmt.Sprintf("%s has no service %q", s.target, h.Service))
	}
	m := methods[string(h.Method)]
	if m == nil {
		return nil, wire.Refuse(wire.ReasonUnknownMethod, wire.OriginServerSDK,
			fmt.Sprintf("service %s has no method %q", h.Service, h.Method))
	}
	if h.Kind != wire.KindUnspecified && Kind(h.Kind) != m.Kind {
		return nil, wire.Refuse(wire.ReasonUnknownMethod, wire.OriginServerSDK,
			fmt.Sprintf("method %s is %v, the call is %v", m.FullName(), m.Kind, Kind(h.Kind)))
	}
	return m, wire.Status{}
}

func (s *Server) newCall(m *serverMethod) *serverCall {
	var c *serverCall
	if m.Kind == Unary {
		c = s.calls.Get().(*serverCall)
	} else {
		c = newServerCall()
	}
	c.method, c.in.limit = m, s.cfg.limits.MaxReceive
	return c
}
