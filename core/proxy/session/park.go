package session

import (
	"sync/atomic"
	"time"

	"github.com/octomesh/octomesh/core/proxy/policy"
	"github.com/octomesh/octomesh/core/wire"
)

// Park keeps the call until Resume, at most for limit: then it is refused for the reason, which says what
// it waited for. Whoever arranges for the Resume arranges for exactly one.
func (c *Call) Park(limit time.Duration, late wire.Reason) {
	c.hold() // Resume's
	c.keep()
	c.late = late
	c.parkEnd.Store(c.down.opts.Clock.Now() + int64(limit))
	c.down.opts.Clock.wakeSweep()
}

// ParkIn parks the call in a target's lot; false if the lot is full.
func (c *Call) ParkIn(lot *policy.Bounded) bool {
	c.Park(lot.For, lot.Expired.Reason)
	c.lot = lot
	if lot.Add(c) {
		return true
	}
	c.lot = nil
	c.unpark()
	c.drop()
	return false
}

// keep copies the REQUEST, if it is still where it arrived.
func (c *Call) keep() {
	c.parked = true
	if c.frame != nil && c.upQueue.len() == 0 {
		out := wire.Out{Type: c.frame.Type, Flags: c.frame.Flags, Head: c.frame.Head, Body: c.frame.Body}
		c.upQueue.push(&out, c.frame.Cost())
	}
}

func (c *Call) unpark() {
	c.parked, c.lot = false, nil
	c.parkEnd.Store(0)
}

// StreamWait is how long a call waits for a stream of a peer that has max_streams open.
const StreamWait = 5 * time.Second

// waitFor parks the call until a stream of up ends. up is locked on entry and not on return.
func (c *Call) waitFor(up *Session) {
	c.Park(StreamWait, wire.ReasonQueueFull)
	up.line.add(c)
	up.tc.Unlock()
	if up.line.Free != nil {
		if other := up.line.Free(); other != nil { // it has been freed since the caller looked
			c.batch.freed = append(c.batch.freed, other)
		}
	}
}

// Resume decides anew about a parked call.
func (c *Call) Resume() {
	b := Batch{Now: c.down.opts.Clock.Now()}
	c.resume(&b)
	b.Flush()
}

// resume gives back the reference that Park took.
func (c *Call) resume(b *Batch) {
	c.mu.Lock()
	c.lot = nil
	if !c.gone && c.parked && c.upQueue.len() > 0 {
		c.reserve(b)
	}
	c.mu.Unlock()
	c.drop()
}

// Sweep ends the calls that came in here and have run out of time, or were parked for too long; those that
// were parked in a lot for a time go on when it has passed. It returns how many calls that have a limit go on.
func (s *Session) Sweep(b *Batch) (limited int) {
	now := b.Now
	var expired []*Call
	s.tc.Lock()
	s.wc.Each(func(call any) {
		c, ok := call.(*Call)
		if !ok || c.down != s {
			return
		}
		switch {
		case passed(&c.deadline, now), passed(&c.parkEnd, now), passed(&c.tryEnd, now):
			c.hold()
			expired = append(expired, c)
		case c.deadline.Load() != 0 || c.parkEnd.Load() != 0 || c.tryEnd.Load() != 0:
			limited++
		}
	})
	s.tc.Unlock()
	for _, c := range expired {
		c.expire(b)
	}
	return limited
}

func (c *Call) expire(b *Batch) {
	c.mu.Lock()
	if lot := c.lot; lot != nil && lot.Resumes && c.inTime(b.Now) {
		c.mu.Unlock()
		if lot.Remove(c) {
			c.resume(b)
		}
		c.drop()
		return
	}
	// What was found may have changed before the call was locked.
	switch now := b.Now; {
	case c.gone:
	case !c.inTime(now):
		st := wire.Refuse(wire.ReasonDeadline, c.down.opts.Origin, "the time ran out in the proxy")
		if c.parked {
			st.Disposition = wire.DispositionNotProcessed
		}
		c.end(&st, b)
	case c.paused && passed(&c.parkEnd, now):
		c.unpause()
		c.reserve(b)
	case passed(&c.parkEnd, now):
		st := wire.Refuse(c.late, c.down.opts.Origin, "the call was parked for too long")
		c.end(&st, b)
	case passed(&c.tryEnd, now) && !c.parked:
		c.attemptExpired(b)
	}
	c.mu.Unlock()
	c.drop()
}

// passed tells whether a time that is set has come.
func passed(at *atomic.Int64, now int64) bool {
	end := at.Load()
	return end != 0 && end <= now
}

// inTime tells whether the call goes on and has time left.
func (c *Call) inTime(now int64) bool {
	d := c.deadline.Load()
	return !c.gone && (d == 0 || d > now)
}

// Tick tells the session that half a second has passed: it pings a silent peer, and gives up one that
// stays silent, though not by a tick that did not come in time.
func (s *Session) Tick(inTime bool) {
	seen := s.tc.Received()
	verdict := wire.Alive
	if !s.patient() {
		verdict = s.live.Tick(seen != s.lastSeen, inTime && s.tc.Drained(), s.waitsForUnary())
	}
	if silent := s.live.Missed(); silent != s.silent.Load() {
		s.silent.Store(silent)
	}
	if seen == s.lastSeen {
		s.tc.Probe()
	}
	s.lastSeen = seen
	s.tc.Lock()
	s.wc.Tick()
	s.writer = nil
	if s.tc.Trim() {
		s.wc.Trim()
	}
	switch verdict {
	case wire.SendPing:
		s.wc.Ping(seen)
	case wire.Gone:
		if s.why == nil {
			s.why = errGone
		}
		s.tc.Unlock()
		s.tc.Close()
		return
	}
	s.tc.FlushUnlock()
	s.CallWaiting() // RESETs that had to wait have freed streams
}

// waitsForUnary tells whether a unary call that this side opened is open: then the peer's silence is
// noticed sooner.
func (s *Session) waitsForUnary() (waits bool) {
	if s.open.Load() == 0 {
		return false
	}
	s.tc.Lock()
	s.wc.Each(func(call any) {
		if c, ok := call.(*Call); ok && c.unary {
			waits = true
		}
	})
	s.tc.Unlock()
	return waits
}

// DrainDeadline ends what is still open here because the proxy's drain deadline has passed: parked calls
// are refused, so that they may go again; of the others the end is not known.
func (s *Session) DrainDeadline(message string) {
	var parked []*Call
	s.tc.Lock()
	s.wc.Each(func(call any) {
		if c, ok := call.(*Call); ok && c.down == s && c.parkEnd.Load() != 0 {
			c.hold()
			parked = append(parked, c)
		}
	})
	s.tc.Unlock()
	b := Batch{Now: s.opts.Clock.Now()}
	refused := wire.Refuse(wire.ReasonProxyDraining, s.opts.Origin, message)
	for _, c := range parked {
		c.mu.Lock()
		if c.parked {
			c.end(&refused, &b)
		}
		c.mu.Unlock()
		c.drop()
	}
	type lost struct {
		c  *Call
		st wire.Status
	}
	var open []lost
	s.tc.Lock()
	s.wc.Finish(wire.GoAwayDraining, message, func(call any, st wire.Status) {
		if c, ok := call.(*Call); ok {
			open = append(open, lost{c, st})
		}
	})
	s.tc.Unlock()
	for _, l := range open {
		l.c.linkLost(s, &l.st, &b)
	}
	b.Flush()
	s.tc.Lock()
	s.tellOver()
	s.tc.Unlock()
	s.Close()
}
