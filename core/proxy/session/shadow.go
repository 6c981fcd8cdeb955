package session

import (
	"sync"

	"github.com/octomesh/octomesh/core/proxy/cluster"
	"github.com/octomesh/octomesh/core/proxy/policy"
	"github.com/octomesh/octomesh/core/wire"
)

// Shadow is a copy of a call: a stream on an upstream session without a downstream side. What comes for it is
// consumed where it arrives. Its session's lock guards it.
type Shadow struct {
	stream   *wire.Stream
	deadline int64
	endpoint *cluster.Endpoint
	copies   *policy.Copies
}

var shadows = sync.Pool{New: func() any { return new(Shadow) }}

// CopyTo is where a copy goes.
type CopyTo struct {
	Session  *Session
	Endpoint *cluster.Endpoint
	Copies   *policy.Copies
	Target   string
	// Timeout is how long the copy may take, in nanoseconds.
	Timeout int64
}

// Copy sends a copy of the call's request to another session as well, if that would cost calls nothing there:
// nobody waits for a stream, half of the streams and most of the queue are free. It is for Serve, before
// Forward, and tells whether the copy has left.
func (c *Call) Copy(head *wire.RequestHead, to CopyTo) bool {
	out := wire.Out{Type: wire.TypeRequest}
	if c.frame != nil {
		out.Flags, out.Head, out.Body = c.frame.Flags, c.frame.Head, c.frame.Body
	} else {
		first := &c.upQueue.frames[0].out
		out.Flags, out.Head, out.Body = first.Flags, first.Head, first.Body
	}
	c.behind = append(append(c.behind[:0], c.down.hop...), c.Hop...)
	c.behind = wire.AppendHop(c.behind, wire.HopTarget, to.Target)
	c.behind = wire.AppendHopNumber(c.behind, wire.HopShadow, 1)
	out.Pre, out.Post = head.PatchTimeout(out.Head, wire.TimeoutUS(to.Timeout), c.before[:0], c.behind)
	sent := c.copyTo(&to, head, &out)
	if len(out.Pre) == 0 && len(out.Post) == len(c.behind) { // patched in place: the call has its own time
		head.PatchTimeout(out.Head, head.TimeoutUS, nil, nil)
	}
	return sent
}

func (c *Call) copyTo(to *CopyTo, head *wire.RequestHead, out *wire.Out) bool {
	up := to.Session
	up.tc.Lock()
	defer up.tc.Unlock()
	_, peer := up.wc.Limits()
	if !up.ready || up.line.Waits() || up.wc.OpenStreams() >= int(peer.MaxStreams)/2 || up.wc.Queued() > up.opts.MaxQueue/4 {
		return false
	}
	if up.foreign != nil && !up.foreign.Takes(head.ContentType) {
		return false
	}
	sh := shadows.Get().(*Shadow)
	st, err := up.wc.Open(sh)
	if err != nil {
		shadows.Put(sh)
		return false
	}
	*sh = Shadow{st, c.batch.Now + to.Timeout, to.Endpoint, to.Copies}
	up.shadows.Add(1)
	to.Endpoint.Open.Add(1)
	rest := *out
	up.send(st, &rest) // a new stream has credit for a whole frame
	up.touch(c.batch)
	up.opts.Clock.wakeSweep()
	return true
}

// WholeRequest tells whether all of the call's request is its first frame.
func (c *Call) WholeRequest() bool {
	if c.frame != nil {
		return c.frame.Has(wire.FlagEnd)
	}
	return c.upQueue.frames[0].out.Flags&wire.FlagEnd != 0
}

// onShadow takes what came for a copy. The session is locked.
func (s *Session) onShadow(sh *Shadow) {
	ev := &s.ev
	switch {
	case ev.Kind == wire.EventCredit:
	case ev.Stream.Call == sh:
		s.wc.Consume(ev.Stream, ev.Frame.Cost())
	default:
		s.shadowEnded(sh, policy.CopyOutcome(wire.ScanStatus(ev.Frame.Head).Code))
	}
}

// shadowEnded books the end of a copy, whose stream is closed.
func (s *Session) shadowEnded(sh *Shadow, how policy.Copied) {
	s.shadows.Add(-1)
	sh.endpoint.Open.Add(-1)
	sh.copies.End(how)
	*sh = Shadow{}
	shadows.Put(sh)
}

// SweepShadows cancels the copies whose time is over, and returns how many go on.
func (s *Session) SweepShadows(b *Batch) (open int) {
	if s.shadows.Load() == 0 {
		return 0
	}
	var expired []*Shadow
	s.tc.Lock()
	defer s.tc.Unlock()
	s.wc.Each(func(call any) {
		if sh, ok := call.(*Shadow); ok {
			if sh.deadline <= b.Now {
				expired = append(expired, sh)
			} else {
				open++
			}
		}
	})
	for _, sh := range expired {
		st := wire.Refuse(wire.ReasonDeadline, s.opts.Origin, "the time of the copy ran out")
		s.reset(sh.stream, &wire.ResetHead{Status: st})
		s.touch(b)
		s.shadowEnded(sh, policy.CopyExpired)
	}
	return open
}
