package upstream

import (
	"slices"

	"github.com/octomesh/octomesh/core/proxy/session"
)

// maxCrowd bounds the connections to a peer each of which carries one call at a time. Further calls wait in line for one.
const maxCrowd = 256

// crowd is the connections to a peer whose protocol carries one call at a time on each. Calls take the first one that is free, in the order
// in which they were made, so that the last ones are idle when fewer are needed. Where none is free the next one is dialed, and whichever
// is there or free first takes the call that has waited longest.
type crowd struct {
	peer *Peer
	line session.Line

	// Guarded by the peer's lock.
	members []member
}

// member is a connection, and when it was last chosen, on the pool's clock.
type member struct {
	*session.Session
	used int64
}

func newCrowd(p *Peer) *crowd {
	c := &crowd{peer: p}
	c.line.Free = c.free
	return c
}

// session returns a connection that is free; if none is, one where the call waits for any; nil: none stands.
func (c *crowd) session() *session.Session {
	for {
		s, free := c.choose()
		if s == nil || !free || s.Usable() {
			return s
		}
		c.peer.Leaves(s) // it takes no more calls
	}
}

func (c *crowd) choose() (s *session.Session, free bool) {
	p := c.peer
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, false
	}
	for i := range c.members {
		m := &c.members[i]
		if p.sessions[m.Session] {
			continue // it leaves
		}
		if m.OpenCalls() == 0 {
			m.used = p.pool.now()
			return m.Session, true
		}
		s = m.Session
	}
	if s != nil {
		c.more()
	}
	return s, false
}

// more dials another connection, if there may be one. The peer's lock is held.
func (c *crowd) more() {
	if len(c.peer.sessions) < maxCrowd {
		c.peer.dialLocked()
	}
}

// free returns a connection without a call; nil: each has one.
func (c *crowd) free() *session.Session {
	p := c.peer
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range c.members {
		if m := &c.members[i]; !p.sessions[m.Session] && m.OpenCalls() == 0 {
			return m.Session
		}
	}
	return nil
}

// joined takes a new connection. The peer's lock is held.
func (c *crowd) joined(s *session.Session) {
	if c != nil {
		c.members = append(c.members, member{s, c.peer.pool.now()})
	}
}

// opened gives a new connection to who has waited longest.
func (c *crowd) opened(s *session.Session) {
	p := c.peer
	s.CallWaiting()
	if c.line.Waits() {
		p.mu.Lock()
		if !p.closed {
			c.more()
		}
		p.mu.Unlock()
	}
}

// left forgets a connection that has ended. The peer's lock is held.
func (c *crowd) left(s *session.Session) {
	if c != nil {
		c.members = slices.DeleteFunc(c.members, func(m member) bool { return m.Session == s })
	}
}

// Trim gives up the connections, but for one, that no call has needed for a while. It is for each tick of the proxy.
func (p *Peer) Trim() {
	if p.crowd == nil {
		return
	}
	var idle []*session.Session
	now := p.pool.now()
	p.mu.Lock()
	for i := 1; i < len(p.crowd.members); i++ {
		m := &p.crowd.members[i]
		switch {
		case p.sessions[m.Session]:
		case m.OpenCalls() > 0:
			m.used = now
		case now-m.used >= int64(p.pool.cfg.Idle):
			p.sessions[m.Session] = true
			p.current.CompareAndSwap(m.Session, p.crowd.members[0].Session)
			idle = append(idle, m.Session)
		}
	}
	p.mu.Unlock()
	for _, s := range idle {
		s.SendDrained()
	}
}
