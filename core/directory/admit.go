package directory

import (
	"strings"
	"time"

	"github.com/octomesh/octomesh/core/wire"
)

// full is after what time somebody comes again who found a limit on open streams reached: nobody knows when one ends.
const full = 5 * time.Second

// identityOf tells whether a SPIFFE id is an application's: its last part is the application's name.
func identityOf(id, application string) bool { return strings.HasSuffix(id, "/"+application) }

// admit lets a stream begin, and returns what to call when it has ended.
func (s *Service) admit(c Caller, registers bool) (func(), *Error) {
	if wait := s.admission.Take(time.Now()); wait > 0 {
		return nil, s.turnAway(wait, "too many streams begin at once")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l, of := &s.cfg.Limits, s.byConnection[c.Connection]
	count, limit, open := &of.watches, l.WatchesPerConnection, &s.stats.watches
	if registers {
		count, limit, open = &of.registrations, l.RegistrationsPerConnection, &s.stats.registrations
	}
	switch {
	case s.streams >= l.Streams:
		return nil, s.turnAway(full, "as many streams are open as this Directory holds")
	case *count >= limit:
		return nil, s.turnAway(full, "as many streams of the kind are open as one connection may have")
	case c.Identity != "" && s.byIdentity[c.Identity] >= l.StreamsPerIdentity:
		return nil, s.turnAway(full, "as many streams are open as one identity may have")
	}
	s.streams++
	*count++
	s.byConnection[c.Connection] = of
	if c.Identity != "" {
		s.byIdentity[c.Identity]++
	}
	open.Add(1)
	return func() { s.leave(c, registers) }, nil
}

func (s *Service) turnAway(after time.Duration, why string) *Error {
	s.stats.turnedAway.Add(1)
	return &Error{Code: wire.ResourceExhausted, Message: why, RetryAfter: after}
}

// leave gives a stream's place back.
func (s *Service) leave(c Caller, registers bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams--
	of := s.byConnection[c.Connection]
	if registers {
		of.registrations--
		s.stats.registrations.Add(-1)
	} else {
		of.watches--
		s.stats.watches.Add(-1)
	}
	if s.byConnection[c.Connection] = of; of == (held{}) {
		delete(s.byConnection, c.Connection)
	}
	if c.Identity != "" {
		if s.byIdentity[c.Identity]--; s.byIdentity[c.Identity] == 0 {
			delete(s.byIdentity, c.Identity)
		}
	}
}
