package octomesh

import (
	"context"
	"errors"
	"time"

	"github.com/octomesh/octomesh/core/wire"
)

// attach keeps one connection of role SERVE to the local proxy until the server stops. When the proxy
// leaves, the server dials anew at once: the socket has passed to the proxy's successor. The old session
// goes on by itself until its proxy says DRAINED and no call is open.
func (s *Server) attach() {
	dial := dialer("unix", s.cfg.socket)
	for failures, draining := 0, 0; s.attaching(); {
		ses, err := s.attachOnce(func(ctx context.Context) (*session, error) {
			nc, err := dial(ctx)
			if err != nil {
				return nil, err
			}
			return newSession(s, nc, true), nil
		})
		switch {
		case err == nil:
			failures, draining = 0, 0
			s.setAttached(true)
			select {
			case <-ses.moving:
			case <-ses.closed:
				s.setAttached(false)
			case <-s.ctx.Done():
			}
			continue
		case errors.Is(err, errDraining) && draining < drainingAnswers-1:
			draining++
			continue
		}
		s.setAttached(false)
		draining = 0
		if failures++; failures == 1 && s.attaching() {
			s.cfg.log.Warn("octomesh: cannot attach to the proxy; trying on", "socket", s.cfg.socket, "error", err)
		}
		select {
		case <-time.After(backoff(failures, firstBackoff, maxBackoff)):
		case <-s.ctx.Done():
		}
	}
}

// attaching tells whether a new connection to the proxy is wanted.
func (s *Server) attaching() bool { return !s.stopping.Load() && s.ctx.Err() == nil }

func (s *Server) setAttached(yes bool) {
	if s.attached.Swap(yes) != yes {
		s.mu.Lock()
		s.notify()
		s.mu.Unlock()
	}
}

// attachOnce dials and shakes hands.
func (s *Server) attachOnce(dial func(context.Context) (*session, error)) (*session, error) {
	ctx, cancel := context.WithTimeout(s.ctx, dialTimeout)
	defer cancel()
	ses, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	ses.wc.Hello(s.cfg.hello(wire.RoleServe, s.target))
	s.take(ses)
	ses.tc.Flush()
	select {
	case <-ses.shaken:
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	}
	if ses.refused != nil {
		return nil, ses.refused
	}
	if s.stopping.Load() {
		ses.leave() // Shutdown may have looked before this session was there
	}
	return ses, nil
}
