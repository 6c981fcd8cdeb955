package octomesh

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/wire"
	"github.com/octomesh/octomesh/sdks/go/internal/balancer"
)

// clientCall is one call at the caller. Those of unary calls are used again for later calls.
type clientCall struct {
	ch        *Channel
	ctx       context.Context
	method    *Method
	head      *methodHead
	opt       callOptions
	streaming bool
	resent    int  // how often it was sent again
	freeUsed  bool // it had the re-send that costs nothing
	route     callRoute
	begun     time.Time // of a call that is measured
	shard     uint32    // which counters it uses

	deadline    time.Time
	hasDeadline bool
	timer       *time.Timer      // made once per clientCall, for deadlines that are not the context's
	expiry      <-chan time.Time // nil unless timer runs

	body []byte // the request message in wire bytes
	post []byte // the head's part that differs from call to call
	out  wire.Out

	// wake gets a token when there is news: of a unary call exactly one, when it is done.
	wake chan struct{}
	// credit gets a token when a sender that ran out of credit may go on.
	credit chan struct{}

	// Guarded by the link's lock while the call is open.
	stream     *wire.Stream
	in         inbox
	done       bool
	err        *Error        // why it is done; nil: success
	replied    bool          // of streams: something of an answer has come
	headerDone bool          // the initial metadata has come, or will not
	headerCame chan struct{} // of streams: closed with headerDone
	header     Metadata
	trailer    Metadata
	encoding   string
	onEnd      func()
	times      clientTimes
}

func newClientCall(ch *Channel) *clientCall {
	return &clientCall{ch: ch, wake: make(chan struct{}, 1), credit: make(chan struct{}, 1),
		in: inbox{budget: &process.assembly}, shard: rand.Uint32()}
}

// recycle makes the call's memory serve a later one. Nothing may point to it any more.
func (c *clientCall) recycle() {
	if c.expiry != nil {
		c.timer.Stop()
	}
	c.in.drop()
	body, post, in := c.body, c.post, c.in
	if cap(body) > keepSpare {
		giveBack(body)
		body = nil
	}
	*c = clientCall{ch: c.ch, timer: c.timer, wake: c.wake, credit: c.credit, body: body[:0], post: post[:0],
		in: in.fresh(), shard: c.shard}
	c.ch.calls.Put(c)
}

// prepare applies options, deadline and what the context carries.
func (c *clientCall) prepare(ctx context.Context, m *Method, opts []CallOption) *Error {
	c.ctx, c.method, c.head = ctx, m, c.ch.head(m)
	for _, o := range opts {
		o(&c.opt)
	}
	if c.opt.err != nil {
		return c.opt.err
	}
	c.in.limit = c.opt.maxReceive
	if c.in.limit <= 0 {
		c.in.limit = c.ch.cfg.limits.MaxReceive
	}
	if err := c.setDeadline(); err != nil {
		return err
	}
	return c.buildHead()
}

// setDeadline takes the earlier of the context's deadline and the call's own.
func (c *clientCall) setDeadline() *Error {
	if err := c.ctx.Err(); err != nil {
		return contextError(err, false)
	}
	c.deadline, c.hasDeadline = c.ctx.Deadline()
	timeout, own := c.opt.timeout, c.opt.hasTimeout
	if !own && c.method.Timeout > 0 {
		timeout, own = c.method.Timeout, true
	}
	if !own {
		return nil
	}
	if timeout <= 0 {
		return unsent(wire.ReasonDeadline, "the timeout is %v", timeout)
	}
	if d := time.Now().Add(timeout); !c.hasDeadline || d.Before(c.deadline) {
		c.deadline, c.hasDeadline = d, true
		if c.timer == nil {
			c.timer = time.NewTimer(timeout)
		} else {
			c.timer.Reset(timeout)
		}
		c.expiry = c.timer.C
	}
	return nil
}

// buildHead encodes what this call adds to its method's head. Fields stand in the order of their numbers.
func (c *clientCall) buildHead() *Error {
	o, from := &c.opt, carriedBy(c.ctx)
	c.out = wire.Out{Head: c.head.plain}
	plain := len(o.metadata) == 0 && from == nil && len(o.baggage) == 0 && o.hashKey == "" && o.encoding == "" &&
		c.resent == 0 && !o.idempotent && o.timings == nil
	if plain {
		return nil
	}
	b := c.post[:0]
	for _, e := range o.metadata {
		b = wire.AppendMetadata(b, e.Key, e.Value)
	}
	baggage := o.baggage
	if from != nil {
		b = wire.AppendTrace(b, from.traceparent, from.tracestate)
		baggage = from.baggage
		for _, e := range o.baggage {
			baggage = baggage.replace(e)
		}
	}
	for _, e := range baggage {
		b = wire.AppendBaggage(b, e.Key, e.Value)
	}
	b = wire.AppendCall(b, o.hashKey, uint32(c.resent), "", c.idempotent())
	b = wire.AppendEncodings(b, o.encoding, acceptedEncodings[1:])
	if o.timings != nil {
		b = wire.AppendWantTimings(b)
	}
	c.post = b
	c.out = wire.Out{Head: c.head.prefix, Post: b}
	return c.checkHead(baggage)
}

func (c *clientCall) checkHead(baggage Metadata) *Error {
	limits := &c.ch.cfg.limits
	const timeout = 9
	switch {
	case c.opt.metadata.size(entryOverhead) > limits.MaxMetadata:
		return unsent(wire.ReasonHeadTooLarge, "metadata of %d bytes, the limit is %d",
			c.opt.metadata.size(entryOverhead), limits.MaxMetadata)
	case baggage.size(0) > limits.MaxBaggage:
		return unsent(wire.ReasonHeadTooLarge, "baggage of %d bytes, the limit is %d", baggage.size(0), limits.MaxBaggage)
	case c.out.HeadLen()+timeout > wire.MaxSDKHead:
		return unsent(wire.ReasonHeadTooLarge, "the head has %d bytes, the limit is %d", c.out.HeadLen()+timeout, wire.MaxSDKHead)
	}
	for _, e := range baggage {
		if !validKey(e.Key) || !validValue(e.Key, e.Value) {
			return badCall("baggage %q: key or value has a character that is not allowed", e.Key)
		}
	}
	return nil
}

// encode serializes the request message.
func (c *clientCall) encode(req proto.Message) *Error {
	b, err := encode(c.body[:0], req, c.opt.encoding)
	if err != nil {
		return &Error{Code: Internal, Reason: ReasonBadMessage, Origin: OriginClientSDK,
			Disposition: DispositionNotProcessed, Message: "the request does not serialize: " + err.Error()}
	}
	c.body = b
	return nil
}

// rewind prepares for being sent again.
func (c *clientCall) rewind() {
	c.in.drop()
	c.replied = false
	c.stream, c.done, c.err, c.headerDone, c.header, c.trailer, c.encoding = nil, false, nil, false, nil, nil, ""
	_ = c.buildHead() // it fitted before
}

// send opens a stream on the link and puts the request into it.
func (c *clientCall) send(l *link) *Error {
	c.out.Type, c.out.Flags, c.out.Body = wire.TypeRequest, wire.FlagMessage|wire.FlagEnd, c.body
	if err := c.open(l); err != nil {
		return err
	}
	c.markSent()
	l.unary++
	if l.wc.Send(c.stream, &c.out) {
		l.releaseLater()
		return nil
	}
	l.release()
	return c.sendRest(l)
}

// errMoved says that a link took no call although it was picked for one: nothing was sent, pick another.
var errMoved = unsent(wire.ReasonProxyDraining, "the connection takes no new calls")

// open opens a stream, after waiting for the peer's limit where that is reached, and leaves the link
// locked. c.out must be complete but for the timeout.
func (c *clientCall) open(l *link) *Error {
	if c.opt.encoding != "" {
		c.out.Flags |= wire.FlagCompressed
	}
	for {
		if err := c.stampTimeout(); err != nil {
			return err
		}
		l.tc.Lock()
		s, err := l.wc.Open(c)
		if err == nil {
			c.stream = s
			return nil
		}
		if err != wire.ErrStreamLimit {
			l.usable.Store(false)
			l.tc.Unlock()
			l.peer.replaceLater(l) // its ids ran out, or its peer has just left
			return errMoved
		}
		slot := l.waitSlot()
		l.tc.Unlock()
		if err := c.await(slot); err != nil {
			return err
		}
	}
}

// stampTimeout writes what is left of the call's time into its head.
func (c *clientCall) stampTimeout() *Error {
	if !c.hasDeadline {
		return nil
	}
	left := time.Until(c.deadline)
	if left <= 0 {
		return unsent(wire.ReasonDeadline, "the deadline passed before the call was sent")
	}
	c.out.Pre = wire.AppendTimeout(c.out.Pre[:0], wire.TimeoutUS(min(int64(left), maxTimeout)))
	return nil
}

// maxTimeout is the longest time that the wire carries, in nanoseconds: a hundred years.
const maxTimeout = 100 * 365 * 24 * int64(time.Hour)

// sendRest sends what credit did not cover, as credit comes. The call may be done before.
func (c *clientCall) sendRest(l *link) *Error {
	for {
		select {
		case <-c.credit:
		case <-c.wake:
			c.wake <- struct{}{} // done: whoever waits for the answer takes the token
			return nil
		case <-c.ctx.Done():
			return c.abandonSending(l, contextError(c.ctx.Err(), true))
		case <-c.expiry:
			return c.abandonSending(l, contextError(context.DeadlineExceeded, true))
		}
		l.tc.Lock()
		if c.done {
			l.release()
			return nil
		}
		sent := l.wc.Send(c.stream, &c.out)
		l.release()
		if sent {
			return nil
		}
	}
}

// abandonSending is abandon for a sender, who leaves the answer's token to whoever waits for the answer.
func (c *clientCall) abandonSending(l *link, why *Error) *Error {
	if err := c.abandon(l, why); err != nil {
		return err
	}
	c.wake <- struct{}{}
	return nil
}

// waits tells whether anything but the answer can end the call.
func (c *clientCall) waits() bool { return c.expiry != nil || c.ctx.Done() != nil }

// wait waits for the answer's token, or ends the call.
func (c *clientCall) wait(l *link) *Error {
	select {
	case <-c.wake:
		return nil
	case <-c.ctx.Done():
		return c.abandon(l, contextError(c.ctx.Err(), true))
	case <-c.expiry:
		return c.abandon(l, contextError(context.DeadlineExceeded, true))
	}
}

// abandon ends the call from this side. If the answer came first it returns nil, and the token was taken.
func (c *clientCall) abandon(l *link, why *Error) *Error {
	l.tc.Lock()
	if c.done {
		l.tc.Unlock()
		<-c.wake
		return nil
	}
	c.reset(l, why)
	l.unary--
	l.release()
	return why
}

// reset ends the stream from this side. The lock must be held, and the call not be done.
func (c *clientCall) reset(l *link, why *Error) {
	st := wire.Status{Code: wire.Code(why.Code), Reason: wire.Reason(why.Reason), Origin: wire.OriginClientSDK}
	l.wc.Reset(c.stream, &wire.ResetHead{Status: st})
	c.stream, c.done, c.err = nil, true, why
	l.freeSlot()
}

// lane is the lane that the call asks for; "": none.
func (c *clientCall) lane() string {
	for _, e := range slices.Backward(c.opt.baggage) {
		if e.Key == balancer.LaneTag {
			return e.Value
		}
	}
	if from := carriedBy(c.ctx); from != nil {
		for _, e := range from.baggage {
			if e.Key == balancer.LaneTag {
				return e.Value
			}
		}
	}
	return ""
}

// await implements waiter.
func (c *clientCall) await(ready <-chan struct{}) *Error {
	select {
	case <-ready:
		return nil
	case <-c.ctx.Done():
		return contextError(c.ctx.Err(), false)
	case <-c.expiry:
		return contextError(context.DeadlineExceeded, false)
	}
}

// ended wakes whoever waits on a stream, and runs what hangs on its end.
func (c *clientCall) ended() {
	c.setHeaderDone()
	signal(c.wake)
	signal(c.credit)
	if c.onEnd != nil {
		c.onEnd()
	}
}
