package octomesh

import (
	"context"
	"errors"
	"net"
)

// NewInProcess returns a channel to a server of the same process, for tests: no socket, no proxy, no
// environment variable, and yet the real protocol between the two. The server need not Serve. Close the
// channel, then [Server.Shutdown] the server.
func NewInProcess(s *Server, opts ...DialOption) (*Channel, error) {
	cfg := newConfig()
	cfg.mode, cfg.socket = modeOff, ""
	for _, o := range opts {
		o.applyDial(cfg)
	}
	cfg.environment = s.cfg.environment
	if err := errors.Join(s.err, cfg.finish()); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.serving = true
	s.mu.Unlock()
	connect := func(context.Context) (net.Conn, error) {
		if s.stopping.Load() {
			return nil, errors.New("octomesh: the server has stopped")
		}
		near, far := net.Pipe()
		s.take(newSession(s, far, false))
		return near, nil
	}
	ch := newChannel(s.target, cfg)
	ch.path = inProcessPool(cfg, connect)
	return ch, nil
}
