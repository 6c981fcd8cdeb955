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

	n    atomic.Int32 // calls that wait, for a look without the lock
	mu   sync.Mutex
	head *Call
	tail *Call
}

// place is a call's in the line in which it waits. in is the call's own; the rest is guarded by the line.
type place struct {
	in            *Line
	taken         bool
	before, after *Call
}

// Waits tells whether somebody does.
func (l *Line) Waits() bool { return l.n.Load() > 0 }

func (l *Line) add(c *Call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.place = place{in: l, taken: true, before: l.tail}
	if l.tail != nil {
		l.tail.place.after = c
	} else {
		l.head = c
	}
	l.tail = c
	l.n.Add(1)
}

// first takes the call that has waited longest; nil: nobody waits.
func (l *Line) first() *Call {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.head
	if c != nil {
		l.leave(c)
	}
	return c
}

// remove takes out a call that has ended, so that calls that nobody waits for keep no place; false: somebody has taken it.
func (l *Line) remove(c *Call) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !c.place.taken {
		return false
	}
	l.leave(c)
	return true
}

func (l *Line) leave(c *Call) {
	p := &c.place
	if p.before != nil {
		p.before.place.after = p.after
	} else {
		l.head = p.after
	}
	if p.after != nil {
		p.after.place.before = p.before
	} else {
		l.tail = p.before
	}
	p.taken, p.before, p.after = false, nil, nil
	l.n.Add(-1)
}

// all takes everybody.
func (l *Line) all() (calls []*Call) {
	for c := l.first(); c != nil; c = l.first() {
		calls = append(calls, c)
	}
	return calls
}

// CallWaiting lets calls that wait for a stream have those that are free here.
func (s *Session) CallWaiting() {
	if s.line.Waits() {
		b := Batch{Now: s.opts.Clock.Now(), freed: []*Session{s}}
		b.Flush()
	}
}
