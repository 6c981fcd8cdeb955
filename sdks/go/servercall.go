package octomesh

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/wire"
)

// serverCall is one call at its server. Those of unary methods are used again for later calls: what a
// handler can keep, its context, is not part of it.
type serverCall struct {
	ses    *session
	ctx    *serverContext
	method *serverMethod
	over   atomic.Bool // reset, or its connection has ended

	// wake and credit get tokens when there is news for who receives or sends.
	wake, credit chan struct{}

	// Guarded by the session's lock.
	stream     *wire.Stream // nil once the stream is closed
	in         inbox
	dispatched bool
	remoteEnd  bool
	cause      *Error // why it is over, where the SDK concluded it

	// Of the handler, or of its context's lock.
	encoding    string // of the request's messages
	acceptsGzip bool
	header      Metadata
	trailer     Metadata
	headerSent  bool // a RESPONSE, with the initial metadata or without, has been sent
	noHeader    bool // and it was without
	times       serverTimes
}

func newServerCall() *serverCall {
	return &serverCall{wake: make(chan struct{}, 1), credit: make(chan struct{}, 1),
		in: inbox{budget: &process.assembly}}
}

// recycle makes the call's memory serve a later one.
func (c *serverCall) recycle() {
	c.in.drop()
	if c.method.Kind != Unary {
		return // its streams may be held by somebody
	}
	srv := c.ses.srv
	wake, credit, in := c.wake, c.credit, c.in
	drain(wake)
	drain(credit)
	*c = serverCall{wake: wake, credit: credit, in: in.fresh()}
	srv.calls.Put(c)
}

func drain(c chan struct{}) {
	select {
	case <-c:
	default:
	}
}

// message books a REQUEST's or MESSAGE's part. The session's lock is held.
func (c *serverCall) message(ev *wire.Event) {
	f, s := &ev.Frame, c.ses
	if f.Has(wire.FlagMessage) {
		complete, reason := c.in.add(s.wc, c.stream, f)
		if reason != 0 {
			c.refuse(reason, "")
			return
		}
		if complete && c.dispatched {
			signal(c.wake)
		}
	}
	if !c.method.Kind.streamsIn() && c.in.len() > 1 {
		c.refuse(wire.ReasonBadMessage, "more than one request message")
		return
	}
	if c.stream.RemoteEnded() && !c.remoteEnd {
		c.remoteEnd = true
		signal(c.wake)
		if !c.method.Kind.streamsIn() && c.in.len() == 0 {
			c.refuse(wire.ReasonBadMessage, "no request message")
			return
		}
	}
	if !c.dispatched && (c.remoteEnd || c.method.Kind.streamsIn()) {
		c.dispatched = true
		s.wc.Started(c.stream)
		s.ready = append(s.ready, c)
	}
}

// refuse ends a call that breaks a rule, on the reader.
func (c *serverCall) refuse(reason wire.Reason, text string) {
	st := wire.Refuse(reason, wire.OriginServerSDK, text)
	if !c.dispatched {
		c.ses.reject(c.stream, &st)
		c.recycle()
		return
	}
	c.breakOff(&st)
	c.ses.ended = append(c.ses.ended, endedCall{c.ctx, context.Canceled})
}

// breakOff ends the stream of a call whose handler runs, because of what its caller sent. The session's
// lock is held; the context is to be ended without it.
func (c *serverCall) breakOff(st *wire.Status) {
	st.Disposition = wire.DispositionProcessed
	c.ses.wc.Reset(c.stream, &wire.ResetHead{Status: *st})
	c.cause = fromWire(st)
	c.cut()
}

// reset books the caller's RESET, or a broken rule of the stream. The session's lock is held.
func (c *serverCall) reset(st *wire.Status) {
	if !c.dispatched {
		c.ses.wc.Release()
		c.recycle()
		return
	}
	err := context.Canceled
	if st.Code == wire.DeadlineExceeded {
		err = context.DeadlineExceeded
	}
	c.cut()
	c.ses.ended = append(c.ses.ended, endedCall{c.ctx, err})
}

// cut ends a call whose stream is closed; its handler may still run, and its context is to be ended. The
// session's lock is held.
func (c *serverCall) cut() {
	c.stream = nil
	c.over.Store(true)
	if !c.dispatched {
		c.in.drop()
	}
	signal(c.wake)
	signal(c.credit)
}

// run runs the handler and answers. It belongs to the worker k.
func (c *serverCall) run(k *worker) {
	if c.over.Load() {
		c.finish(k, nil, nil)
		return
	}
	if c.ctx.expired() {
		st := wire.Refuse(wire.ReasonDeadline, wire.OriginServerSDK, "the deadline passed before a handler was free")
		st.Disposition = wire.DispositionNotProcessed
		c.finish(k, nil, &st)
		return
	}
	var req proto.Message
	if !c.method.Kind.streamsIn() {
		req = c.method.Handler.newRequest()
		if st := c.decodeRequest(req); st != nil {
			c.finish(k, nil, st)
			return
		}
	}
	returned := false
	defer func() {
		if !returned { // runtime.Goexit: the goroutine ends, the call and the process must not hang on it
			c.times.ended = time.Now()
			st := c.crashed("the handler ended its goroutine")
			c.finish(k, nil, st)
		}
	}()
	if c.times.wanted {
		c.times.began = time.Now()
	}
	res, st := c.handle(req)
	if c.times.wanted {
		c.times.ended = time.Now()
	}
	returned = true
	c.finish(k, res, st)
}

// decodeRequest decodes the only request message.
func (c *serverCall) decodeRequest(req proto.Message) *wire.Status {
	limit := c.in.limit
	m, _ := c.in.take() // after END: no credit goes back
	reason, err := decode(&m, c.encoding, limit, req)
	c.in.recycle(&m)
	if err == nil {
		return nil
	}
	st := wire.Refuse(reason, wire.OriginServerSDK, "the request does not decode: "+err.Error())
	if reason == wire.ReasonUnknownEncoding {
		st.Message = fmt.Appendf(nil, "encoding %q: this server decodes %v", c.encoding, acceptedEncodings)
	}
	return &st
}

// handle calls the handler through the interceptors and keeps a panic to this call. The status is nil for
// success.
func (c *serverCall) handle(req proto.Message) (res proto.Message, st *wire.Status) {
	defer func() {
		if p := recover(); p != nil {
			res, st = nil, c.crashed(fmt.Sprintf("panic: %v", p))
		}
	}()
	var err error
	if c.method.intercepted {
		res, err = c.intercept(req)
	} else {
		res, err = c.call(c.ctx, req)
	}
	if err != nil {
		s := fromHandler(err)
		if c.ctx.expired() && errors.Is(err, context.DeadlineExceeded) {
			// Not the handler's word: this side's clock was merely faster than the caller's.
			s = wire.Refuse(wire.ReasonDeadline, wire.OriginServerSDK, "the deadline passed in the handler")
			s.Disposition = wire.DispositionProcessed
		}
		if s.Code == wire.OK { // an error that says OK is no error
			err = nil
		} else {
			return nil, &s
		}
	}
	if res == nil && !c.method.Kind.streamsOut() {
		s := wire.Refuse(wire.ReasonBadMessage, wire.OriginServerSDK, "the handler returned neither a response nor an error")
		s.Disposition = wire.DispositionProcessed
		return nil, &s
	}
	return res, nil
}

// call calls the handler itself.
func (c *serverCall) call(ctx context.Context, req proto.Message) (proto.Message, error) {
	h := &c.method.Handler
	if h.unary != nil {
		return h.unary(ctx, req)
	}
	return h.stream(ctx, req, &serverStream{c: c})
}

// crashed logs what only the server's people may read.
func (c *serverCall) crashed(what string) *wire.Status {
	c.ses.srv.cfg.log.Error("octomesh: handler crashed", "method", c.method.FullName(), "what", what,
		"stack", string(debug.Stack()))
	st := wire.Refuse(wire.ReasonHandlerCrashed, wire.OriginServerSDK, "the handler crashed; see the server's log")
	return &st
}

func (c *serverCall) setHeader(key, value string) error {
	if c.headerSent {
		return &Error{Code: FailedPrecondition, Origin: OriginServerSDK, Message: "the initial metadata was sent already"}
	}
	return c.add(&c.header, key, value)
}

func (c *serverCall) setTrailer(key, value string) error { return c.add(&c.trailer, key, value) }

func (c *serverCall) add(m *Metadata, key, value string) error {
	if err := checkEntry(key, value); err != nil {
		return err
	}
	if limit := c.ses.srv.cfg.limits.MaxMetadata; m.size(entryOverhead)+len(key)+len(value)+entryOverhead > limit {
		return refused(wire.ReasonHeadTooLarge, "metadata over %d bytes", limit)
	}
	*m = append(*m, Entry{key, value})
	return nil
}

// sendHeader sends the initial metadata alone.
func (c *serverCall) sendHeader() error {
	if c.headerSent {
		return nil
	}
	s := c.ses
	s.tc.Lock()
	if c.stream != nil { // else nobody would read it, and the handler's context says so
		s.wc.Send(c.stream, &wire.Out{Type: wire.TypeResponse, Head: c.firstHead()})
	}
	s.release()
	return nil
}

// firstHead builds the head of the first RESPONSE, where that does not end the call. It names the encoding also where no message
// is there yet: whoever translates the answer can say it at its beginning only.
func (c *serverCall) firstHead() []byte {
	c.headerSent = true
	h := wire.ResponseHead{HeadersPresent: true, Metadata: toEntries(c.header), MessageEncoding: []byte(c.answers())}
	return h.Append(nil)
}

// answers is the encoding of what the handler answers: the request's, if the client takes it.
func (c *serverCall) answers() string {
	if c.encoding == encodingGzip && c.acceptsGzip {
		return encodingGzip
	}
	return ""
}

// send sends a frame of the call, waiting for credit.
func (c *serverCall) send(out *wire.Out) error {
	s := c.ses
	for {
		s.tc.Lock()
		if c.stream == nil {
			cause := c.cause
			s.tc.Unlock()
			return c.endedError(cause)
		}
		sent := s.wc.Send(c.stream, out)
		s.release()
		if sent {
			return nil
		}
		select {
		case <-c.credit:
		case <-c.ctx.Done():
			return c.endedError(nil)
		}
	}
}

// endedError is what a handler gets that goes on with a call that is over.
func (c *serverCall) endedError(cause *Error) error {
	if cause != nil {
		return cause
	}
	// Whoever closed the stream under the lock ends the context next, without it. A handler that is told of
	// the end finds its context ended too.
	<-c.ctx.Done()
	return contextError(c.ctx.Err(), true)
}
