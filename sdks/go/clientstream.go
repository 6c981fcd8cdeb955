package octomesh

import (
	"context"
	"errors"
	"io"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/wire"
)

// clientStream is a streaming call at its caller. One goroutine may receive while another sends.
type clientStream struct {
	c     *clientCall
	link  *link
	peer  *peer
	hooks []hooks

	last    arrived // the last message, whose memory goes back with the next receive
	sendBuf []byte
	sendEnd bool
	unsent  atomic.Int64

	once  sync.Once
	stops []func() bool // what watches over the context and the deadline
}

// openStream opens the stream of a generated client's method. first is the request of a method that has
// only one.
func (ch *Channel) openStream(ctx context.Context, m *Method, first proto.Message, opts []CallOption) (*clientStream, error) {
	if len(ch.cfg.interceptors) > 0 {
		return ch.interceptStream(ctx, m, first, opts)
	}
	return ch.stream(ctx, m, first, opts, nil)
}

func (ch *Channel) stream(ctx context.Context, m *Method, first proto.Message, opts []CallOption, hooks []hooks) (*clientStream, error) {
	c := newClientCall(ch)
	c.streaming, c.headerCame = true, make(chan struct{})
	s := &clientStream{c: c, hooks: hooks}
	err := c.prepare(ctx, m, opts)
	if err == nil && first != nil {
		err = c.encode(first)
	}
	for err == nil {
		if s.link, s.peer, err = ch.path.pick(c); err != nil {
			break
		}
		if err = s.open(first != nil); err != errMoved {
			break
		}
		err = nil
	}
	if c.expiry != nil {
		c.timer.Stop()
	}
	if err != nil {
		return nil, err
	}
	s.watch()
	return s, nil
}

// open sends the REQUEST: with the only message, or without one.
func (s *clientStream) open(whole bool) *Error {
	c, l := s.c, s.link
	c.out.Type, c.out.Flags, c.out.Body = wire.TypeRequest, 0, nil
	if whole {
		c.out.Flags, c.out.Body = wire.FlagMessage|wire.FlagEnd, c.body
	}
	if err := c.open(l); err != nil {
		return err
	}
	s.peer.inFlight.Add(1)
	c.onEnd = func() { s.peer.inFlight.Add(-1) }
	sent := l.wc.Send(c.stream, &c.out)
	l.release()
	s.sendEnd = whole
	if sent {
		return nil
	}
	return s.sendRest(&c.out)
}

// watch ends the call with its context, or at its own deadline. The goroutine that receives need not run
// for that.
func (s *clientStream) watch() {
	c := s.c
	if c.ctx.Done() != nil {
		s.stops = append(s.stops, context.AfterFunc(c.ctx, func() { s.end(contextError(c.ctx.Err(), true)) }))
	}
	if c.expiry != nil {
		t := time.AfterFunc(time.Until(c.deadline), func() { s.end(contextError(context.DeadlineExceeded, true)) })
		s.stops = append(s.stops, t.Stop)
	}
}

// end ends the call from this side, unless it has ended.
func (s *clientStream) end(why *Error) {
	c, l := s.c, s.link
	l.tc.Lock()
	if !c.done {
		c.reset(l, why)
		c.ended()
	}
	l.release()
}

// settled runs once when the application has learned of the end.
func (s *clientStream) settled(err *Error) {
	s.once.Do(func() {
		for _, stop := range s.stops {
			stop()
		}
		if err != nil {
			onEnd(s.hooks, err)
			return
		}
		onEnd(s.hooks, nil)
	})
}

// send sends one message. After the server has ended the call it returns io.EOF, and receive tells how.
func (s *clientStream) send(m proto.Message) error {
	if s.sendEnd {
		return badCall("Send after CloseSend")
	}
	if err := onSend(s.hooks, m); err != nil {
		return asError(err)
	}
	c := s.c
	b, err := encode(s.sendBuf[:0], m, c.opt.encoding)
	if err != nil {
		return &Error{Code: Internal, Reason: ReasonBadMessage, Origin: OriginClientSDK,
			Message: "the request does not serialize: " + err.Error()}
	}
	if cap(b) <= keepSpare {
		s.sendBuf = b
	}
	out := wire.Out{Type: wire.TypeMessage, Flags: wire.FlagMessage, Body: b}
	if c.opt.encoding != "" {
		out.Flags |= wire.FlagCompressed
	}
	if err := s.put(&out); err != nil {
		s.unsent.Add(1)
		return err
	}
	return nil
}

// put queues a frame, as credit allows.
func (s *clientStream) put(out *wire.Out) error {
	c, l := s.c, s.link
	l.tc.Lock()
	if c.done {
		l.tc.Unlock()
		return s.sendError()
	}
	sent := l.wc.Send(c.stream, out)
	l.release()
	if sent {
		return nil
	}
	if err := s.sendRest(out); err != nil {
		return err
	}
	if out.Body != nil && s.overBeforeSent(out) {
		return s.sendError()
	}
	return nil
}

// sendRest sends what credit did not cover.
func (s *clientStream) sendRest(out *wire.Out) *Error {
	c, l := s.c, s.link
	for {
		select {
		case <-c.credit:
		case <-c.ctx.Done():
			s.end(contextError(c.ctx.Err(), true))
		}
		l.tc.Lock()
		if c.done {
			l.tc.Unlock()
			return nil // receive tells how it ended
		}
		sent := l.wc.Send(c.stream, out)
		if sent {
			out.Body = nil
		}
		l.release()
		if sent {
			return nil
		}
	}
}

// overBeforeSent tells whether the call ended before all of a message was queued.
func (s *clientStream) overBeforeSent(out *wire.Out) bool { return len(out.Body) > 0 }

// sendError is what a sender gets after the end: io.EOF where the server ended the call.
func (s *clientStream) sendError() error {
	c := s.c
	if c.err != nil && c.err.Origin == OriginClientSDK {
		return c.err
	}
	return io.EOF
}

// closeSend says that no more messages come.
func (s *clientStream) closeSend() error {
	if s.sendEnd {
		return nil
	}
	s.sendEnd = true
	c, l := s.c, s.link
	l.tc.Lock()
	if !c.done {
		l.wc.Send(c.stream, &wire.Out{Type: wire.TypeMessage, Flags: wire.FlagEnd})
	}
	l.release()
	return nil
}

// receive takes the next response message. It returns io.EOF after the last, if the call went well.
func (s *clientStream) receive(into proto.Message) error {
	c, l := s.c, s.link
	for {
		l.tc.Lock()
		c.in.recycle(&s.last)
		if c.done && c.err != nil && c.err.Origin == OriginClientSDK {
			c.in.drop() // cancelled, expired or broken: what waits is not wanted any more
		}
		switch {
		case c.in.len() > 0:
			m, cost := c.in.take()
			s.last = m
			if c.stream != nil {
				l.wc.Consume(c.stream, cost)
			}
			limit := c.in.limit
			l.release()
			return s.decode(limit, into)
		case c.done:
			err := c.err
			l.tc.Unlock()
			s.settled(err)
			if err != nil {
				return err
			}
			s.peer.succeeded()
			return io.EOF
		}
		l.tc.Unlock()
		<-c.wake
	}
}

func (s *clientStream) decode(limit int, into proto.Message) error {
	c := s.c
	reason, err := decode(&s.last, c.encoding, limit, into)
	if err == nil {
		if err = onReceive(s.hooks, into); err != nil {
			return asError(err)
		}
		return nil
	}
	e := c.undecodable(reason, err)
	s.end(e)
	s.settled(e)
	return e
}

// awaitHeader waits for the initial metadata.
func (s *clientStream) awaitHeader() Metadata {
	<-s.c.headerCame
	s.link.tc.Lock()
	defer s.link.tc.Unlock()
	return s.c.header
}

func (s *clientStream) endTrailer() Metadata {
	s.link.tc.Lock()
	defer s.link.tc.Unlock()
	return s.c.trailer
}

// close ends the call if it has not ended.
func (s *clientStream) close() {
	err := refused(wire.ReasonCancelled, "the caller closed the stream")
	s.end(err)
	s.settled(s.c.err)
}

// single receives the only response of a method that streams requests.
func (s *clientStream) single(into, extra proto.Message) error {
	err := s.receive(into)
	if errors.Is(err, io.EOF) {
		return refused(wire.ReasonBadMessage, "the call ended without a response")
	}
	if err != nil {
		return err
	}
	switch err := s.receive(extra); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	}
	e := refused(wire.ReasonBadMessage, "more than one response")
	s.end(e)
	s.settled(e)
	return e
}

// metadataOf is what all client streams offer.
type metadataOf struct{ s *clientStream }

// Header returns the response's initial metadata. It waits until that has come, or cannot come any more.
func (m metadataOf) Header() Metadata { return m.s.awaitHeader() }

// Trailer returns the metadata that ended the call; nil before its end.
func (m metadataOf) Trailer() Metadata { return m.s.endTrailer() }

// Close ends the call as CANCELLED if it has not ended. A stream must be received to its end, or be closed,
// or its context be cancelled.
func (m metadataOf) Close() { m.s.close() }

// CallUnary performs a unary call; generated code uses it.
func CallUnary[Req, Res any](ctx context.Context, caller Caller, m *Method, req *Req, opts []CallOption) (*Res, error) {
	res := new(Res)
	if err := caller.callUnary(ctx, m, message(req), message(res), opts); err != nil {
		return nil, err
	}
	return res, nil
}

// ReceiveStream is the stream of responses of a server streaming call. Its methods are for one goroutine
// at a time, but for Close.
type ReceiveStream[Res any] struct{ metadataOf }

// CallServerStream opens a server streaming call; generated code uses it.
func CallServerStream[Req, Res any](ctx context.Context, caller Caller, m *Method, req *Req, opts []CallOption) (*ReceiveStream[Res], error) {
	s, err := caller.openStream(ctx, m, message(req), opts)
	if err != nil {
		return nil, err
	}
	return &ReceiveStream[Res]{metadataOf{s}}, nil
}

// Receive returns the next response, io.EOF after the last, or the [*Error] with which the call ended.
func (r *ReceiveStream[Res]) Receive() (*Res, error) { return receive[Res](r.s) }

// All ranges over the responses until the last. An error ends it. Leaving the loop early closes the stream.
func (r *ReceiveStream[Res]) All() iter.Seq2[*Res, error] { return closing(r.s, r.Receive) }

// SendStream is the stream of requests of a client streaming call. Its methods are for one goroutine at a
// time, but for Close.
type SendStream[Req, Res any] struct{ metadataOf }

// CallClientStream opens a client streaming call; generated code uses it.
func CallClientStream[Req, Res any](ctx context.Context, caller Caller, m *Method, opts []CallOption) (*SendStream[Req, Res], error) {
	s, err := caller.openStream(ctx, m, nil, opts)
	if err != nil {
		return nil, err
	}
	return &SendStream[Req, Res]{metadataOf{s}}, nil
}

// Send sends one request. It waits while the server does not read. After the server has ended the call it
// returns io.EOF, and CloseAndReceive tells how it ended.
func (s *SendStream[Req, Res]) Send(m *Req) error { return s.s.send(message(m)) }

// Unsent is how many messages were given to Send after the call had ended.
func (s *SendStream[Req, Res]) Unsent() int { return int(s.s.unsent.Load()) }

// CloseAndReceive says that no more requests come, and waits for the response.
func (s *SendStream[Req, Res]) CloseAndReceive() (*Res, error) {
	if err := s.s.closeSend(); err != nil {
		return nil, err
	}
	res := new(Res)
	if err := s.s.single(message(res), newMessage[Res]()); err != nil {
		return nil, err
	}
	return res, nil
}

// BidiStream is a call with a stream in each direction. One goroutine may send while another receives.
type BidiStream[Req, Res any] struct{ metadataOf }

// CallBidiStream opens a bidi streaming call; generated code uses it.
func CallBidiStream[Req, Res any](ctx context.Context, caller Caller, m *Method, opts []CallOption) (*BidiStream[Req, Res], error) {
	s, err := caller.openStream(ctx, m, nil, opts)
	if err != nil {
		return nil, err
	}
	return &BidiStream[Req, Res]{metadataOf{s}}, nil
}

// Send sends one request. It waits while the server does not read. After the server has ended the call it
// returns io.EOF, and Receive tells how it ended.
func (b *BidiStream[Req, Res]) Send(m *Req) error { return b.s.send(message(m)) }

// Unsent is how many messages were given to Send after the call had ended.
func (b *BidiStream[Req, Res]) Unsent() int { return int(b.s.unsent.Load()) }

// CloseSend says that no more requests come. Receiving goes on.
func (b *BidiStream[Req, Res]) CloseSend() error { return b.s.closeSend() }

// Receive returns the next response, io.EOF after the last, or the [*Error] with which the call ended.
func (b *BidiStream[Req, Res]) Receive() (*Res, error) { return receive[Res](b.s) }

// All ranges over the responses until the last. An error ends it. Leaving the loop early closes the stream.
func (b *BidiStream[Req, Res]) All() iter.Seq2[*Res, error] { return closing(b.s, b.Receive) }

func receive[Res any](s *clientStream) (*Res, error) {
	m := new(Res)
	if err := s.receive(message(m)); err != nil {
		return nil, err
	}
	return m, nil
}

// closing is all, and closes the stream when the loop is left.
func closing[M any](s *clientStream, receive func() (*M, error)) iter.Seq2[*M, error] {
	return func(yield func(*M, error) bool) {
		defer s.close()
		all(receive)(yield)
	}
}
