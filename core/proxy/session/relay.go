package session

import "github.com/octomesh/octomesh/core/wire"

// fromDown handles what the caller's side said. The call is locked.
func (c *Call) fromDown(kind wire.EventKind, f *wire.Frame, b *Batch) {
	if kind == wire.EventCredit {
		c.pumpDown(b)
		return
	}
	c.sendUp(f, b)
}

// fromUp handles what the server's side said. The call is locked.
func (c *Call) fromUp(kind wire.EventKind, f *wire.Frame, b *Batch) {
	if kind == wire.EventCredit {
		c.pumpUp(b)
		return
	}
	c.sendDown(f, b)
}

// streamEnded handles the end of the call's stream on s by a RESET, the peer's or, because of a broken
// rule, this side's. The call is locked.
func (c *Call) streamEnded(s *Session, ev *wire.Event, b *Batch) {
	if s == c.down {
		s.tc.Lock()
		s.wc.Release()
		s.tc.Unlock()
		c.endUp(&ev.Status, b)
		c.finished(&ev.Status, b)
		return
	}
	c.closedUp(b)
	var raw []byte // the peer's word, or ours of a broken rule
	if ev.Kind == wire.EventReset {
		raw = ev.Frame.Head
	}
	if s.foreign != nil && ev.Status.Code == wire.Cancelled && !c.inTime(b.Now) {
		// Nobody here has cancelled it: a foreign server kept the deadline itself, and was a moment before the sweep.
		ev.Status, raw = wire.Refuse(wire.ReasonDeadline, s.opts.Origin, "the time ran out at the server"), nil
	}
	if !c.again(&ev.Status, wire.TypeReset, raw, b) {
		c.endDown(&ev.Status, raw, b)
	}
}

// saysNothing tells of a MESSAGE with neither MSG nor END: it costs its sender no credit, so a hop that
// kept it would keep any number (W-MSG-8).
func saysNothing(f *wire.Frame) bool {
	return f.Type == wire.TypeMessage && f.Flags&(wire.FlagMessage|wire.FlagEnd) == 0
}

// sendUp forwards a MESSAGE, or keeps it until there is a stream and credit for it.
func (c *Call) sendUp(f *wire.Frame, b *Batch) {
	if saysNothing(f) {
		return
	}
	if c.local != nil {
		c.local.take(f, b)
		return
	}
	out := wire.Out{Type: f.Type, Flags: f.Flags, Head: f.Head, Body: f.Body}
	if c.kept.limit > 0 && len(c.kept.frames) > 0 {
		c.kept.add(c.down.opts.Kept, &out, f.Cost())
	}
	if !c.upOpen {
		if c.parked && c.upQueue.waiting.full() {
			c.shed(b)
		} else if c.parked {
			c.upQueue.push(&out, f.Cost())
		}
		return
	}
	sent, full := false, false
	u := c.up
	u.tc.Lock()
	if c.us.Call == c {
		if full = c.upQueue.full(u); !full && c.upQueue.len() == 0 {
			sent = u.send(c.us, &out)
			u.touch(b)
			full = !sent && c.upQueue.waiting.full()
		}
		if !sent && !full {
			c.upQueue.push(&out, f.Cost())
		}
	}
	u.tc.Unlock()
	if full {
		c.shed(b)
		return
	}
	if sent && !f.Has(wire.FlagEnd) {
		c.credit(c.down, c.ds, f.Cost(), b)
	}
}

// sendDown forwards a RESPONSE or MESSAGE, or keeps it until there is credit for it.
func (c *Call) sendDown(f *wire.Frame, b *Batch) {
	if saysNothing(f) {
		return
	}
	end := f.Has(wire.FlagEnd) // only a RESPONSE has it here: the upstream stream is closed
	if end {
		c.closedUp(b)
	}
	if c.gone {
		return
	}
	var st wire.Status
	if end {
		if st = wire.ScanStatus(f.Head); st.Code != wire.OK && (c.kept.limit > 0 || c.kept.missing || c.past != nil) && c.failed(st, f, b) {
			return
		}
	}
	if c.replied = true; !end {
		c.forget()
	}
	out := wire.Out{Type: f.Type, Flags: f.Flags, Head: f.Head, Body: f.Body}
	if end && c.timings {
		c.answered = b.Now
		c.addTimings(&out)
	}
	sent, full := false, false
	d := c.down
	d.tc.Lock()
	if c.ds.Call == c {
		if full = c.doQueue.full(d); !full && c.doQueue.len() == 0 {
			sent = d.send(c.ds, &out)
			d.touch(b)
			full = !sent && c.doQueue.waiting.full()
		}
		if !sent && !full {
			c.doQueue.push(&out, f.Cost())
		}
	}
	d.tc.Unlock()
	switch {
	case full:
		c.shed(b)
	case sent && end:
		c.finished(&st, b)
		c.drop() // the stream's
	case sent:
		c.credit(c.up, c.us, f.Cost(), b)
	}
}

// failed sends a call again that an error answered, or answers it with an earlier attempt's that was worse.
func (c *Call) failed(st wire.Status, f *wire.Frame, b *Batch) bool {
	if c.replied {
		return false
	}
	c.last = st // in the call, since what an observer gets would else be allocated
	if c.again(&c.last, wire.TypeResponse, f.Head, b) {
		return true
	}
	if _, before := c.concludes(&c.last, false); before == nil {
		return false
	}
	return c.endDown(&c.last, f.Head, b)
}

// pumpUp goes on sending to the server's side: credit has come.
func (c *Call) pumpUp(b *Batch) {
	if !c.upOpen {
		return
	}
	u := c.up
	var cost int64
	u.tc.Lock()
	if c.us.Call == c {
		_, cost = c.pump(&c.upQueue, u, c.us)
		u.touch(b)
	}
	u.tc.Unlock()
	c.credit(c.down, c.ds, cost, b)
}

// pumpDown goes on sending to the caller's side: credit has come.
func (c *Call) pumpDown(b *Batch) {
	if c.gone {
		return
	}
	d := c.down
	var cost int64
	var st wire.Status
	end := false
	d.tc.Lock()
	if c.ds.Call == c {
		if n := c.doQueue.len(); n > 0 {
			last := &c.doQueue.frames[n-1]
			st = wire.ScanStatus(last.out.Head)
			if last.end && c.timings {
				c.addTimings(&last.out) // in place of those from its arrival: it has waited since
			}
		}
		end, cost = c.pump(&c.doQueue, d, c.ds)
		d.touch(b)
	}
	d.tc.Unlock()
	switch {
	case end:
		c.finished(&st, b)
		c.drop() // the stream's
	case c.upOpen:
		c.credit(c.up, c.us, cost, b)
	case c.local != nil && c.doQueue.len() == 0:
		signal(c.local.room)
	}
}

// credit gives a sender its credit back for frames that have left the proxy. The call is locked, no
// session is.
func (c *Call) credit(s *Session, st *wire.Stream, cost int64, b *Batch) {
	if cost == 0 {
		return
	}
	s.tc.Lock()
	if st.Call == c {
		s.wc.Consume(st, cost)
		if s.wc.Queued() > 0 {
			s.touch(b)
		}
	}
	s.tc.Unlock()
}

// linkLost ends the call because session s, on one of its sides, has ended with st.
func (c *Call) linkLost(s *Session, st *wire.Status, b *Batch) {
	c.mu.Lock()
	if s == c.down {
		cancelled := wire.Refuse(wire.ReasonCancelled, s.opts.Origin, "the caller's connection was lost")
		c.endUp(&cancelled, b)
		c.finished(&cancelled, b)
	} else {
		c.closedUp(b)
		if !c.again(st, wire.TypeReset, nil, b) {
			c.endDown(st, nil, b)
		}
	}
	c.mu.Unlock()
	c.drop() // the stream's
}
