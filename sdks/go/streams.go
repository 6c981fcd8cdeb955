package octomesh

import (
	"context"
	"iter"
)

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
