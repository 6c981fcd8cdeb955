package octomesh

import (
	"context"
	"io"
	"iter"

	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/wire"
)

// serverStream is a streaming call in its handler. One goroutine may receive while another sends.
type serverStream struct {
	c       *serverCall
	hooks   []hooks
	last    arrived // the last message, whose memory goes back with the next receive
	sendBuf []byte
}

// send sends one response message, and the initial metadata with the first.
func (s *serverStream) send(m proto.Message) error {
	if err := onSend(s.hooks, m); err != nil {
		return err
	}
	c := s.c
	encoding := c.answers()
	b, err := encode(s.sendBuf[:0], m, encoding)
	if err != nil {
		return &Error{Code: Internal, Reason: ReasonBadMessage, Origin: OriginServerSDK,
			Disposition: DispositionProcessed, Message: "the response does not serialize: " + err.Error()}
	}
	if cap(b) <= keepSpare {
		s.sendBuf = b
	} else {
		defer giveBack(b) // when it has gone
	}
	out := wire.Out{Type: wire.TypeMessage, Flags: wire.FlagMessage, Body: b}
	if encoding != "" {
		out.Flags |= wire.FlagCompressed
	}
	if !c.headerSent {
		out.Type, out.Head = wire.TypeResponse, c.firstHead()
	}
	return c.send(&out)
}

// receive takes the next request message. It returns io.EOF after the last.
func (s *serverStream) receive(into proto.Message) error {
	c, ses := s.c, s.c.ses
	for {
		ses.tc.Lock()
		c.in.recycle(&s.last)
		switch {
		case c.stream == nil:
			cause := c.cause
			ses.tc.Unlock()
			return c.endedError(cause)
		case c.in.len() > 0:
			m, cost := c.in.take()
			s.last = m
			ses.wc.Consume(c.stream, cost)
			limit := c.in.limit
			ses.release()
			return s.decode(limit, into)
		case c.remoteEnd:
			ses.tc.Unlock()
			return io.EOF
		}
		ses.tc.Unlock()
		select {
		case <-c.wake:
		case <-c.ctx.Done():
			return c.endedError(nil)
		}
	}
}

// decode decodes the message that was received last. If it cannot, the call ends: the SDK's word, not the
// handler's, reaches the caller.
func (s *serverStream) decode(limit int, into proto.Message) error {
	c, ses := s.c, s.c.ses
	reason, err := decode(&s.last, c.encoding, limit, into)
	if err == nil {
		return onReceive(s.hooks, into)
	}
	st := wire.Refuse(reason, wire.OriginServerSDK, "a request does not decode: "+err.Error())
	ses.tc.Lock()
	if c.stream != nil {
		c.breakOff(&st)
	}
	cause := c.cause
	ses.release()
	c.ctx.end(context.Canceled)
	return c.endedError(cause)
}

// ServerSender sends the responses of a call. Its methods are for one goroutine at a time.
type ServerSender[Res any] struct{ s *serverStream }

// Send sends one response. It waits while the caller does not read, and returns an [*Error] once the call
// is over.
func (s *ServerSender[Res]) Send(m *Res) error { return s.s.send(message(m)) }

// ServerReceiver receives the requests of a call. Its methods are for one goroutine at a time.
type ServerReceiver[Req any] struct{ s *serverStream }

// Receive returns the next request, io.EOF after the last, or an [*Error] once the call is over.
func (r *ServerReceiver[Req]) Receive() (*Req, error) {
	m := new(Req)
	if err := r.s.receive(message(m)); err != nil {
		return nil, err
	}
	return m, nil
}

// All ranges over the requests until the last. An error ends it.
func (r *ServerReceiver[Req]) All() iter.Seq2[*Req, error] { return all(r.Receive) }

// ServerStream sends and receives: one goroutine may send while another receives.
type ServerStream[Req, Res any] struct {
	ServerSender[Res]
	ServerReceiver[Req]
}

// all ranges over what receive returns until io.EOF or an error.
func all[M any](receive func() (*M, error)) iter.Seq2[*M, error] {
	return func(yield func(*M, error) bool) {
		for {
			m, err := receive()
			if err == io.EOF || !yield(m, err) || err != nil {
				return
			}
		}
	}
}
