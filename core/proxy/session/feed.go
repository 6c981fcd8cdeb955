package session

import (
	"github.com/octomesh/octomesh/core/proxy/policy"
	"github.com/octomesh/octomesh/core/wire"
)

// run is how many frames of calls are fed under one hold of the lock.
const run = 32

// item is what a frame of a call asks for. Items of ended calls' streams hold the stream's reference.
type item struct {
	kind  wire.EventKind
	call  *Call
	frame wire.Frame
}

// feed handles all that has arrived, then flushes whatever it touched.
func (s *Session) feed(b []byte) (used int, err error) {
	s.batch.Now = s.opts.Clock.Now()
	for more := true; more && err == nil; {
		var n int
		s.tc.Lock()
		used, n, more, err = s.feedRun(b, used)
		s.tc.Unlock()
		for i := range n {
			s.handle(&s.items[i])
			s.items[i] = item{}
		}
		if err == nil {
			err = s.handleRare()
		}
	}
	if s.foreign != nil && err == nil {
		s.giveTurns(&s.batch)
	}
	s.batch.Flush()
	s.flush(&s.batch) // what the state machine had to say for itself
	if len(s.batch.sessions) > 0 || len(s.batch.freed) > 0 {
		s.batch.Flush()
	}
	return used, err
}

// feedRun feeds frames until the bytes or the items are used up, or something rare comes: that is left
// in s.ev, and is handled behind the items. The session is locked.
func (s *Session) feedRun(b []byte, from int) (used, n int, more bool, err error) {
	s.ev.Kind = wire.EventNone
	if s.choosing && !s.choose(b) {
		return from, 0, false, nil
	}
	if s.foreign != nil {
		s.foreign.Begin()
	}
	for used = from; used < len(b) && n < run; {
		size, err := s.wc.Feed(b[used:], &s.ev)
		if err != nil || size == 0 && s.ev.Kind == wire.EventNone {
			return used, n, false, err
		}
		used += size
		var c *Call
		switch s.ev.Kind {
		case wire.EventNone:
			continue
		case wire.EventRequest:
			c = s.newCall()
		case wire.EventResponse, wire.EventMessage, wire.EventCredit:
			c, _ = s.ev.Call.(*Call)
			if c == nil {
				if sh, ok := s.ev.Call.(*Shadow); ok {
					s.onShadow(sh)
				}
				continue
			}
			if s.ev.Stream.Call != nil { // else the frame closed the stream
				c.hold()
			}
		default:
			return used, n, true, nil
		}
		s.items[n] = item{s.ev.Kind, c, s.ev.Frame}
		s.ev.Kind = wire.EventNone
		n++
	}
	return used, n, used < len(b), nil
}

// handle acts on a frame of a call.
func (s *Session) handle(i *item) {
	c := i.call
	c.mu.Lock()
	switch {
	case i.kind == wire.EventRequest:
		s.onRequest(c, &i.frame)
	case s == c.down:
		c.fromDown(i.kind, &i.frame, &s.batch)
	case s == c.up && i.frame.Stream == c.usID: // else it is of an attempt that was given up
		c.fromUp(i.kind, &i.frame, &s.batch)
	}
	c.mu.Unlock()
	c.drop()
}

// handleRare acts on what is left in s.ev: a call's sudden end, or a frame of stream 0.
func (s *Session) handleRare() error {
	ev := &s.ev
	switch ev.Kind {
	case wire.EventNone:
	case wire.EventReset, wire.EventFailed:
		switch c := ev.Call.(type) {
		case *Call:
			c.mu.Lock()
			c.streamEnded(s, ev, &s.batch)
			c.mu.Unlock()
			c.drop() // the stream's
		case *Shadow:
			s.shadowEnded(c, policy.CopyOutcome(ev.Status.Code))
		}
	default:
		s.onConnection()
		if ev.Kind == wire.EventGoAway && !ev.GoAway.Code.Graceful() {
			return &PeerError{ev.GoAway}
		}
	}
	return nil
}
