package session

import (
	"sync"
	"sync/atomic"
)

// Line is calls that wait for a stream. A session has its own, unless it shares one with others of the same peer: those of a protocol that
// carries one call at a time on a connection.
type Line struct {
	// Free returns one of the sessions that may take a call now; nil: none. It is set where the line is shared.
	Free func() *Session

	n     atomic.Int32 // len(calls), for a look without the lock
	mu    sync.Mutex
	calls []*Call
}

// Waits tells whether somebody does.
func (l *Line) Waits() bool { return l.n.Load() > 0 }

func (l *Line) add(c *Call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls = append(l.calls, c)
	l.n.Store(int32(len(l.calls)))
}

// first takes the call that has waited longest; nil: nobody waits.
func (l *Line) first() *Call {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.calls) == 0 {
		return nil
	}
	c := l.calls[0]
	l.calls[0] = nil
	l.calls = l.calls[1:]
	l.n.Store(int32(len(l.calls)))
	return c
}

// all takes everybody.
func (l *Line) all() []*Call {
	l.mu.Lock()
	defer l.mu.Unlock()
	calls := l.calls
	l.calls = nil
	l.n.Store(0)
	return calls
}

// CallWaiting lets calls that wait for a stream have those that are free here.
func (s *Session) CallWaiting() {
	if s.line.Waits() {
		b := Batch{Now: s.opts.Clock.Now(), freed: []*Session{s}}
		b.Flush()
	}
}
