package session

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/octomesh/octomesh/core/proxy/cluster"
	"github.com/octomesh/octomesh/core/proxy/policy"
	"github.com/octomesh/octomesh/core/proxy/route"
	"github.com/octomesh/octomesh/core/telemetry/record"
	"github.com/octomesh/octomesh/core/wire"
)

// Observer is told how calls end.
type Observer interface {
	// CallEnded gets the status with which a call ended, with no text, and how long the proxy had it.
	CallEnded(c *Call, st wire.Status, took time.Duration)
	// Again is asked when an attempt of a call failed of which nothing has been passed on and for which
	// Keep was called: whether the call goes again, and after how long, in nanoseconds; 0: at once. If it does,
	// CallEnded speaks of its later attempts only. Now is the proxy's clock.
	Again(c *Call, st *wire.Status, now int64) (wait int64, again bool)
}

// Call is one call on its way through the proxy. The downstream session is where it came from, the
// upstream session where it went.
type Call struct {
	mu sync.Mutex

	// The handler's, set in Serve and kept while the call is parked.

	Observer Observer
	Decision route.Decision    // pinned: one call sees one generation
	Request  policy.Request    // what policies see, and how many have let the call pass
	Endpoint *cluster.Endpoint // that it was handed to
	Direct   bool              // it was handed to the instance itself, not to its proxy
	Avoid    *cluster.Endpoint // that failed the attempt before
	// Idempotent: the call may run twice.
	Idempotent bool
	Mirrored   bool        // it was decided whether a copy of it is made
	Try        int         // how many attempts were made before this one
	Waits      int         // how often it waited for a connection, in this attempt
	Full       bool        // a session refused it because too much waits for its peer
	Note       record.Note // what telemetry keeps of it
	Hop        []byte      // hop fields that it gets beside those of its session

	down *Session
	up   *Session
	ds   *wire.Stream // valid while ds.Call is this call, under down's lock
	us   *wire.Stream // likewise under up's lock

	frame   *wire.Frame // the REQUEST, while Serve decides on it where it arrived
	batch   *Batch      // whose end flushes what Serve writes
	upQueue queue       // what waits to go up: for credit, or for the call to be unparked
	doQueue queue       // what waits to go down
	upOpen  bool        // a stream was opened upstream
	unary   bool
	parked  bool
	paused  bool            // parked until a time at which it goes again
	lot     *policy.Bounded // where it is parked, if in a target's lot
	place   place           // where it waits for a stream
	late    wire.Reason     // why it is refused if it is parked for too long

	local   *Local // nil: the call is not answered by the proxy itself
	usID    uint32 // us.ID, also when us is closed
	replied bool   // something of an answer was passed on
	unsent  int    // frames that had not left when the attempt before ended
	kept    kept
	past    *attempt // nil: none
	last    wire.Status
	tryFor  int64 // how long an attempt may take; 0: as long as the call

	before [16]byte // scratch for what is put before the head
	behind []byte   // likewise behind it

	name    [96]byte // service and method, for people; cut if longer
	nameLen int

	arrived  int64        // on the proxy's clock
	sent     int64        // when it was last handed to a session; 0: never
	answered int64        // when the final RESPONSE arrived, where the caller wants timings
	timings  bool         // the caller wants to know where the time went
	deadline atomic.Int64 // likewise; 0: none
	parkEnd  atomic.Int64 // when parking ends; 0: not parked
	tryEnd   atomic.Int64 // when the attempt's time is over; 0: it has none of its own
	refs     atomic.Int32
	gone     bool // the downstream side has ended
}

var calls = sync.Pool{New: func() any { return new(Call) }}

func (c *Call) hold() { c.refs.Add(1) }

// drop gives a reference back. Nobody touches the call after the last one.
func (c *Call) drop() {
	if c.refs.Add(-1) > 0 {
		return
	}
	c.reset()
	calls.Put(c)
}

// reset empties the call but for its lock and the memory of its queues.
func (c *Call) reset() {
	c.upQueue.clear()
	c.doQueue.clear()
	c.Observer, c.Decision, c.Request, c.Endpoint, c.Direct, c.Waits = nil, route.Decision{}, policy.Request{}, nil, false, 0
	c.Avoid, c.Try, c.Idempotent, c.Mirrored = nil, 0, false, false
	c.forget()
	c.kept.missing = false
	c.replied, c.paused, c.past, c.tryFor, c.unsent, c.usID = false, false, nil, 0, 0, 0
	c.tryEnd.Store(0)
	c.last = wire.Status{}
	c.down, c.up, c.ds, c.us, c.frame, c.batch, c.local = nil, nil, nil, nil, nil, nil, nil
	c.upOpen, c.unary, c.parked, c.gone, c.lot, c.Full = false, false, false, false, nil, false
	c.place = place{}
	c.arrived, c.sent, c.timings = 0, 0, false
	c.Note.Reset()
	c.Hop = c.Hop[:0]
	c.deadline.Store(0)
	c.parkEnd.Store(0)
}

// Down returns the session that the call came from.
func (c *Call) Down() *Session { return c.down }

// Up returns the session that the call was last handed to, or nil.
func (c *Call) Up() *Session { return c.up }

// Arrived is when the call arrived, on the proxy's clock.
func (c *Call) Arrived() int64 { return c.arrived }

// Sent is when the call was last handed to a session, on the proxy's clock; 0: never.
func (c *Call) Sent() int64 { return c.sent }

// Name is "service/method", cut off where it is very long. It is valid until the call has ended.
func (c *Call) Name() []byte { return c.name[:c.nameLen] }

// Now is the time on the proxy's clock of what makes Serve decide: it is read once a batch.
func (c *Call) Now() int64 { return c.batch.Now }

// newCall makes a call of the REQUEST in s.ev. The session is locked.
func (s *Session) newCall() *Call {
	c := calls.Get().(*Call)
	c.down, c.ds, c.arrived = s, s.ev.Stream, s.batch.Now
	c.upQueue.waiting, c.doQueue.waiting = s.opts.Waiting, s.opts.Waiting
	c.refs.Store(2) // the downstream stream's and the item's
	c.ds.Call = c
	// From here on the call counts as started: it is forwarded before anybody could leave, and a parked
	// one is refused by itself.
	s.wc.Started(c.ds)
	return c
}

// onRequest decides about a new call. The call is locked.
func (s *Session) onRequest(c *Call, f *wire.Frame) {
	if st, ok := s.checkHead(f); !ok {
		c.end(&st, &s.batch)
		return
	}
	if us := s.head.TimeoutUS; us > 0 {
		c.deadline.Store(c.arrived + wire.TimeoutNanos(us))
		s.opts.Clock.wakeSweep()
	}
	c.unary, c.timings = s.head.Kind == wire.KindUnary, s.head.WantTimings
	n := copy(c.name[:], s.head.Service)
	n += copy(c.name[n:], "/")
	c.nameLen = n + copy(c.name[n:], s.head.Method)
	c.serve(f, &s.head, &s.batch)
}

// checkHead parses a request's head and refuses what may not pass.
func (s *Session) checkHead(f *wire.Frame) (wire.Status, bool) {
	switch {
	case s.head.Parse(f.Head) != nil:
		return wire.Refuse(wire.ReasonBadHead, s.opts.Origin, "the request's head does not parse"), false
	case s.opts.FromSDK && !s.head.FromSDK:
		return wire.Refuse(wire.ReasonBadHead, s.opts.Origin, "the request's head holds a hop field, or a field twice"), false
	case s.opts.FromSDK && len(f.Head) > wire.MaxSDKHead:
		return wire.Refuse(wire.ReasonHeadTooLarge, s.opts.Origin, "the request's head is over 60 KiB"), false
	case len(f.Head)+len(s.hop)+headReserve > wire.MaxHead:
		return wire.Refuse(wire.ReasonHeadTooLarge, s.opts.Origin, "the request's head leaves a hop no room"), false
	}
	return wire.Status{}, true
}

// headReserve is what a hop may have to put in beside its session's hop fields: a timeout, a total length and
// a traceparent.
const headReserve = 96

// serve lets the handler decide. The call is locked.
func (c *Call) serve(f *wire.Frame, head *wire.RequestHead, b *Batch) {
	c.frame, c.batch = f, b
	c.down.opts.Handler.Serve(c, head)
	c.frame, c.batch = nil, nil
}

// Limit shortens the call's budget: budget nanoseconds from its arrival, if that is sooner. It is for
// Serve, before Forward.
func (c *Call) Limit(budget int64) {
	if d := c.deadline.Load(); budget > 0 && (d == 0 || c.arrived+budget < d) {
		c.deadline.Store(c.arrived + budget)
		c.down.opts.Clock.wakeSweep()
	}
}

// Left is what is left of the call's time at its arrival, in nanoseconds; 0: no deadline.
func (c *Call) Left() int64 {
	if d := c.deadline.Load(); d != 0 {
		return max(d-c.arrived, 1)
	}
	return 0
}

// HasDeadline tells whether the call's time is limited.
func (c *Call) HasDeadline() bool { return c.deadline.Load() != 0 }

// Refuse ends the call without forwarding it.
func (c *Call) Refuse(st wire.Status) { c.end(&st, c.batch) }

// Forward opens the call on session up and sends what has come of it. It reports false if up takes no
// call now: the handler chooses another session, parks the call or refuses it. Nothing was written then.
func (c *Call) Forward(up *Session, head *wire.RequestHead) bool {
	at := c.arrived
	if c.frame == nil { // it was parked: time has passed
		at = max(c.batch.Now, at)
	}
	if d := c.deadline.Load(); d != 0 && d <= at {
		st := wire.Refuse(wire.ReasonDeadline, c.down.opts.Origin, "no time was left to forward the call")
		st.Disposition = wire.DispositionNotProcessed
		c.end(&st, c.batch)
		return true
	}
	c.Full = false
	up.tc.Lock()
	if up.ready && up.wc.Queued() > up.opts.MaxQueue {
		c.Full = true
	}
	if !up.ready || c.Full {
		up.tc.Unlock()
		return false
	}
	if up.foreign != nil && !up.foreign.Takes(head.ContentType) {
		st := up.misfit(head.ContentType)
		up.tc.Unlock()
		c.end(&st, c.batch)
		return true
	}
	us, err := up.wc.Open(c)
	if err == wire.ErrStreamLimit && int(up.line.n.Load()) < up.opts.MaxWaiting {
		c.waitFor(up) // unlocks
		return true
	}
	if err != nil {
		c.Full = err == wire.ErrStreamLimit
		up.tc.Unlock()
		return false
	}
	c.up, c.us, c.usID, c.upOpen = up, us, us.ID, true
	c.hold() // the upstream stream's
	cost := c.sendRequest(head, at)
	up.touch(c.batch)
	up.tc.Unlock()
	up.opened(c)
	c.unpark()
	c.credit(c.down, c.ds, cost, c.batch)
	return true
}

// opened counts a call that was opened on s.
func (s *Session) opened(c *Call) {
	s.open.Add(1)
	if c.Endpoint != nil {
		c.Endpoint.Open.Add(1)
	}
}

// sendRequest queues the REQUEST on the stream that was just opened, then whatever waited behind it, and
// returns what of the sender's credit is free again. Call and upstream session are locked.
func (c *Call) sendRequest(head *wire.RequestHead, at int64) (cost int64) {
	c.keepRequest()
	out := wire.Out{Type: wire.TypeRequest, Post: c.down.hop}
	if len(c.Hop) > 0 || c.Try > 0 {
		c.behind = append(append(c.behind[:0], out.Post...), c.Hop...)
		if c.Try > 0 {
			c.behind = wire.AppendHopNumber(c.behind, wire.HopAttempt, uint64(head.Attempt)+uint64(c.Try))
		}
		out.Post = c.behind
	}
	c.sent = c.enqueueTime(at)
	if c.frame != nil {
		out.Flags, out.Head, out.Body = c.frame.Flags, c.frame.Head, c.frame.Body
	} else {
		first := &c.upQueue.frames[0].out
		out.Flags, out.Head, out.Body = first.Flags, first.Head, first.Body
	}
	if d := c.limit(at); d != 0 {
		if us := wire.TimeoutUS(d - at); us != head.TimeoutUS {
			out.Pre, out.Post = head.PatchTimeout(out.Head, us, c.before[:0], c.keepBehind(out.Post))
		}
	}
	if c.frame == nil {
		c.upQueue.replace(&out)
		_, cost = c.pump(&c.upQueue, c.up, c.us)
		return cost
	}
	if !c.up.send(c.us, &out) {
		c.upQueue.push(&out, c.frame.Cost())
		return 0
	}
	if c.frame.Has(wire.FlagEnd) {
		return 0
	}
	return c.frame.Cost()
}

// keepBehind makes what is put behind the head one that more can be appended to.
func (c *Call) keepBehind(post []byte) []byte {
	if len(c.Hop) > 0 || c.Try > 0 { // it is already
		return post
	}
	c.behind = append(c.behind[:0], post...)
	return c.behind
}

// limit returns until when the attempt that begins may take; 0: no limit.
func (c *Call) limit(at int64) int64 {
	d := c.deadline.Load()
	if c.tryFor > 0 && (d == 0 || at+c.tryFor < d) {
		d = at + c.tryFor
		c.tryEnd.Store(d)
		c.down.opts.Clock.wakeSweep()
	}
	return d
}

// end ends the call at the downstream side by a RESET with st, if it has not ended yet, and resets what
// is open upstream. The call is locked.
func (c *Call) end(st *wire.Status, b *Batch) {
	if c.endDown(st, nil, b) {
		c.endUp(st, b)
	}
}

// endDown resets the downstream stream: with st, or with raw, a RESET's head as it came.
func (c *Call) endDown(st *wire.Status, raw []byte, b *Batch) bool {
	d := c.down
	d.tc.Lock()
	if c.gone || c.ds.Call != c {
		d.tc.Unlock()
		return false
	}
	st, before := c.concludes(st, raw == nil)
	if len(raw) > smallFrame && c.doQueue.full(d) { // what it says beside the code would wait
		short := *st
		short.Message, short.Details = nil, nil
		st, raw = &short, nil
	}
	switch {
	case before != nil && before.head != nil && before.typ == wire.TypeResponse:
		d.send(c.ds, &wire.Out{Type: wire.TypeResponse, Flags: wire.FlagEnd, Head: before.head})
	case before != nil && before.head != nil:
		d.wc.ForwardReset(c.ds, before.head)
		d.wc.Release()
	case before == nil && raw != nil:
		d.wc.ForwardReset(c.ds, raw)
		d.wc.Release()
	default:
		d.reset(c.ds, &wire.ResetHead{Status: *st})
		d.wc.Release()
	}
	d.touch(b)
	d.tc.Unlock()
	c.finished(st, b)
	c.drop() // the stream's
	return true
}

// endUp resets what is open upstream.
func (c *Call) endUp(st *wire.Status, b *Batch) {
	if !c.upOpen {
		c.upQueue.clear()
		if c.local != nil {
			c.local.cut()
		}
		return
	}
	u := c.up
	u.tc.Lock()
	if c.us.Call != c {
		u.tc.Unlock()
		return
	}
	u.reset(c.us, &wire.ResetHead{Status: *st})
	u.touch(b)
	u.tc.Unlock()
	c.closedUp(b)
	c.drop() // the stream's
}

// finished books the end of the downstream side; whoever closed the stream has its reference to drop. The
// call is locked.
func (c *Call) finished(st *wire.Status, b *Batch) {
	c.gone = true
	c.doQueue.clear()
	if c.lot != nil && c.lot.Remove(c) {
		c.drop() // nobody will resume it
	}
	if c.place.in != nil && c.place.in.remove(c) {
		c.drop() // likewise
	}
	c.unpause()
	if c.Observer != nil {
		c.Observer.CallEnded(c, *st, time.Duration(max(b.Now-c.arrived, 0)))
	}
}

// closedUp books the end of the upstream stream; whoever closed it has its reference to drop. The call is
// locked.
func (c *Call) closedUp(b *Batch) {
	c.upOpen = false
	c.unsent = c.upQueue.len()
	c.upQueue.clear()
	c.up.open.Add(-1)
	if c.Endpoint != nil {
		c.Endpoint.Open.Add(-1)
	}
	if c.up.line.Waits() {
		b.freed = append(b.freed, c.up)
	}
}
