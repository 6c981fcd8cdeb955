package session

import (
	"time"

	"github.com/octomesh/octomesh/core/wire"
)

// attempt is how an earlier attempt of a call ended: what it is answered by if later ones do no better.
type attempt struct {
	status wire.Status
	typ    wire.Type
	head   []byte // of the frame that said so, as it came; nil: this proxy concluded it
}

// Kept tells whether all that the call has sent up was kept.
func (c *Call) Kept() bool { return c.kept.limit > 0 && len(c.kept.frames) > 0 }

// Missing tells whether something was not kept, for want of room.
func (c *Call) Missing() bool { return c.kept.missing }

// Deadline is when the call's time is over, on the proxy's clock; 0: never.
func (c *Call) Deadline() int64 { return c.deadline.Load() }

// again asks the observer whether the call goes again after an attempt that ended with st, in a frame with a head or
// by this proxy's word, and if so arranges for it. Its stream has been closed. The call is locked.
func (c *Call) again(st *wire.Status, typ wire.Type, head []byte, b *Batch) bool {
	if c.gone || c.replied || st.Code == wire.OK || c.kept.limit == 0 && !c.kept.missing || c.Observer == nil {
		return false
	}
	wait, again := c.Observer.Again(c, st, b.Now)
	if !again {
		return false
	}
	if c.past == nil || worse(st, &c.past.status) || st.Disposition == c.past.status.Disposition {
		c.past = &attempt{st.Clone(), typ, append([]byte(nil), head...)}
		if head == nil {
			c.past.head = nil
		}
	}
	c.Try++
	c.Waits, c.Endpoint, c.Full = 0, nil, false
	c.tryEnd.Store(0)
	c.replay()
	c.parked = true
	if wait > 0 {
		c.pause(b.Now + wait)
		return true
	}
	c.reserve(b)
	return true
}

// worse tells whether one status leaves less hope than another (E-DISP-4).
func worse(a, b *wire.Status) bool {
	return a.Disposition != b.Disposition && a.Disposition.Worse(b.Disposition) == a.Disposition
}

// replay queues all that was kept. Frames that had not left when the attempt ended have their sender's credit
// still to give back, the others have given it.
func (c *Call) replay() {
	rest := c.kept.bytes
	sent := len(c.kept.frames) - c.unsent
	for i, f := range c.kept.frames {
		out := wire.Out{Type: f.typ, Flags: f.flags, Head: rest[:f.head], Body: rest[f.head : f.head+f.body]}
		rest = rest[f.head+f.body:]
		if i < sent {
			f.cost = 0
		}
		c.upQueue.push(&out, f.cost)
	}
}

// pause lets the call wait until the sweep sends it on.
func (c *Call) pause(until int64) {
	c.hold() // the pause's
	c.paused = true
	c.late = wire.ReasonProxyUnready
	c.parkEnd.Store(until)
	c.down.opts.Clock.wakeSweep()
}

// unpause ends the pause, if there is one. The call is locked, and whoever calls holds a reference.
func (c *Call) unpause() bool {
	if !c.paused {
		return false
	}
	c.paused = false
	c.parkEnd.Store(0)
	c.drop()
	return true
}

// reserve lets the handler decide about a call that waits. The call is locked.
func (c *Call) reserve(b *Batch) {
	var head wire.RequestHead
	if head.Parse(c.upQueue.frames[0].out.Head) == nil { // it parsed before
		c.serve(nil, &head, b)
	}
}

// LimitAttempt bounds the next attempt, in nanoseconds from its Forward. It is for Serve.
func (c *Call) LimitAttempt(d time.Duration) { c.tryFor = int64(d) }

// attemptExpired ends an attempt that took too long. The call is locked, no session is.
func (c *Call) attemptExpired(b *Batch) {
	c.tryEnd.Store(0)
	if c.gone || !c.upOpen {
		return
	}
	st := wire.Refuse(wire.ReasonDeadline, c.down.opts.Origin, "an attempt of the call took too long")
	u := c.up
	u.tc.Lock()
	if c.us.Call != c { // its end is on its way
		u.tc.Unlock()
		return
	}
	u.reset(c.us, &wire.ResetHead{Status: st})
	u.touch(b)
	u.tc.Unlock()
	c.closedUp(b)
	if !c.again(&st, wire.TypeReset, nil, b) {
		c.endDown(&st, nil, b)
	}
	c.drop() // the stream's
}

// concludes tells how the call ends when its last attempt, or this proxy itself, says st: an earlier attempt's end
// goes before if that is worse (S-AGAIN-9). The result is st, or a changed copy of it, or an earlier attempt.
func (c *Call) concludes(st *wire.Status, own bool) (*wire.Status, *attempt) {
	if c.past == nil || st.Code == wire.OK {
		return st, nil
	}
	nowhere := own && st.Reason == wire.ReasonProxyUnreachable && st.Disposition == c.past.status.Disposition
	if !nowhere && !worse(&c.past.status, st) { // that there was no other endpoint says less than why one was looked for
		return st, nil
	}
	if own && (st.Reason == wire.ReasonDeadline || st.Reason == wire.ReasonCancelled) {
		own := *st
		own.Disposition = c.past.status.Disposition
		return &own, nil
	}
	return &c.past.status, c.past
}
