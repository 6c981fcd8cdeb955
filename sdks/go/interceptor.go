package octomesh

import (
	"context"

	"google.golang.org/protobuf/proto"
)

// Interceptor stands around calls, at the client or at the server, unary and streaming alike. It calls next
// at most once and returns its error or another; without calling next it answers the call itself: a unary
// one by setting call.Response or returning an error, a stream by returning an error.
//
// At the server next returns when the handler has returned. At the client next returns when a unary call
// has ended, or when a stream is open: OnEnd tells of its end. ctx is what the calls beneath get.
type Interceptor func(ctx context.Context, call *Call, next Next) error

// Next performs the rest of a call.
type Next func(ctx context.Context, call *Call) error

// Call is a call as interceptors see it. It is valid until the call has ended.
type Call struct {
	// Method is what is called. It must not be changed.
	Method *Method
	// Target is the called target's name at the client, and "" at the server.
	Target string
	// Server tells whether this is the server's side.
	Server bool
	// Request is the request of a method that has exactly one. It may be changed or replaced before next.
	Request proto.Message
	// Response is the response of a unary method, after next. At the client it must be changed in place.
	Response proto.Message

	options []CallOption
	hooks   []hooks
}

// hooks are what one interceptor asked to be told.
type hooks struct {
	send, receive func(proto.Message) error
	end           func(error)
}

// With adds options to the call, at the client, before next.
func (c *Call) With(opts ...CallOption) { c.options = append(c.options, opts...) }

// OnSend calls f with each message that this side sends, before it is serialized. f may change the message;
// an error ends the Send with it. It is called before next.
func (c *Call) OnSend(f func(proto.Message) error) { c.hooks = append(c.hooks, hooks{send: f}) }

// OnReceive calls f with each message that this side has received. f may change it; an error ends the
// Receive with it. It is called before next.
func (c *Call) OnReceive(f func(proto.Message) error) { c.hooks = append(c.hooks, hooks{receive: f}) }

// OnEnd calls f once when the call has ended, with its error or nil. It is called before next.
func (c *Call) OnEnd(f func(error)) { c.hooks = append(c.hooks, hooks{end: f}) }

func onSend(all []hooks, m proto.Message) error {
	for _, h := range all {
		if h.send != nil {
			if err := h.send(m); err != nil {
				return err
			}
		}
	}
	return nil
}

// onReceive goes the other way round: what was sent last is seen first.
func onReceive(all []hooks, m proto.Message) error {
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].receive != nil {
			if err := all[i].receive(m); err != nil {
				return err
			}
		}
	}
	return nil
}

func onEnd(all []hooks, err error) {
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].end != nil {
			all[i].end(err)
		}
	}
}

// chain makes one Next of interceptors around last.
func chain(interceptors []Interceptor, last Next) Next {
	next := last
	for i := len(interceptors) - 1; i >= 0; i-- {
		around, inner := interceptors[i], next
		next = func(ctx context.Context, call *Call) error { return around(ctx, call, inner) }
	}
	return next
}

// interceptUnary performs a unary call at the client through the interceptors.
func (ch *Channel) interceptUnary(ctx context.Context, m *Method, req, res proto.Message, opts []CallOption) error {
	call := &Call{Method: m, Target: ch.target, Request: req, options: append(opts[:len(opts):len(opts)], inherit(ctx))}
	last := func(ctx context.Context, call *Call) error {
		if err := onSend(call.hooks, call.Request); err != nil {
			return err
		}
		if err := ch.unary(ctx, m, call.Request, res, call.options); err != nil {
			return err
		}
		call.Response = res
		return onReceive(call.hooks, res)
	}
	err := chain(ch.cfg.interceptors, last)(ctx, call)
	if err == nil && call.Response != nil && call.Response != res {
		proto.Reset(res)
		proto.Merge(res, call.Response)
	}
	if err == nil && call.Response == nil {
		err = &Error{Code: Internal, Origin: OriginClientSDK, Disposition: DispositionNotProcessed,
			Message: "an interceptor answered without a response and without an error"}
	}
	err = asError(err)
	onEnd(call.hooks, err)
	return err
}

// interceptStream opens a stream at the client through the interceptors.
// inherit keeps the trace that a call inherits from one that an interceptor begins for it.
func inherit(ctx context.Context) CallOption {
	trace := traceOf(ctx)
	return func(o *callOptions) { o.intercepted, o.inherited = true, trace }
}

func (ch *Channel) interceptStream(ctx context.Context, m *Method, first proto.Message, opts []CallOption) (*clientStream, error) {
	call := &Call{Method: m, Target: ch.target, Request: first, options: append(opts[:len(opts):len(opts)], inherit(ctx))}
	var stream *clientStream
	last := func(ctx context.Context, call *Call) error {
		if call.Request != nil {
			if err := onSend(call.hooks, call.Request); err != nil {
				return err
			}
		}
		s, err := ch.stream(ctx, m, call.Request, call.options, call.hooks)
		stream = s
		return err
	}
	err := chain(ch.cfg.interceptors, last)(ctx, call)
	if err == nil && stream == nil {
		err = &Error{Code: Internal, Origin: OriginClientSDK, Disposition: DispositionNotProcessed,
			Message: "an interceptor opened no stream and returned no error"}
	}
	if err != nil {
		err = asError(err)
		if stream != nil {
			stream.close()
			return nil, err
		}
		onEnd(call.hooks, err)
		return nil, err
	}
	return stream, nil
}

// asError keeps the promise that a client's errors are all of one type: an interceptor's own counts as
// the client's.
func asError(err error) error {
	if err == nil {
		return nil
	}
	if e, ok := err.(*Error); ok {
		return e
	}
	return wrapError(err)
}

// intercept calls the handler through the server's interceptors.
func (c *serverCall) intercept(req proto.Message) (proto.Message, error) {
	h := &c.method.Handler
	call := &Call{Method: &c.method.Method, Server: true, Request: req}
	last := func(ctx context.Context, call *Call) error {
		if call.Request != nil {
			if err := onReceive(call.hooks, call.Request); err != nil {
				return err
			}
		}
		var err error
		if h.unary != nil {
			call.Response, err = h.unary(ctx, call.Request)
		} else {
			call.Response, err = h.stream(ctx, call.Request, &serverStream{c: c, hooks: call.hooks})
		}
		if err == nil && call.Response != nil {
			err = onSend(call.hooks, call.Response)
		}
		return err
	}
	err := chain(c.ses.srv.cfg.interceptors, last)(c.ctx, call)
	onEnd(call.hooks, err)
	return call.Response, err
}
