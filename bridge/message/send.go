package message

import (
	"bytes"
	"fmt"

	"github.com/octomesh/octomesh/bridge"
	"github.com/octomesh/octomesh/core/wire"
)

// Send takes a frame of a call, and writes the foreign one once it is whole. It never asks for credit.
func (c *Conn) Send(ws *wire.Stream, o *wire.Out) (done bool) {
	s := c.find(ws)
	if s == nil || s.failed.Code != wire.OK {
		return true
	}
	if c.side == wire.Dialer {
		c.request(s, o)
	} else {
		c.answer(s, o)
	}
	return true
}

// request takes a frame of a request.
func (c *Conn) request(s *stream, o *wire.Out) {
	if o.Type == wire.TypeRequest {
		head := c.whole(o)
		if c.req.Parse(head) != nil {
			c.fail(s, wire.ReasonBadHead, "the request's head does not parse")
			return
		}
	}
	body, whole, r := c.gather(s, o, c.req.TotalLength)
	switch {
	case r != wire.ReasonUnspecified:
		c.fail(s, r, fmt.Sprintf("a message of %d bytes and more is too long, or too much waits: a frame has at most %d, a connection holds %d",
			c.req.TotalLength, c.info.Limit(), c.maxHeld))
	case whole:
		c.write(s, o, body)
	case o.Flags&wire.FlagEnd != 0:
		c.fail(s, wire.ReasonBadMessage, "the call ends without a message")
	}
	if o.Type == wire.TypeRequest {
		c.req.Reset() // it borrows
	}
}

// whole returns a frame's head in one piece.
func (c *Conn) whole(o *wire.Out) []byte {
	if len(o.Pre) == 0 && len(o.Post) == 0 {
		return o.Head
	}
	c.join = append(append(append(c.join[:0], o.Pre...), o.Head...), o.Post...)
	return c.join
}

// gather takes a frame's part of the stream's only message, and returns the message once it is whole; or why it cannot be
// taken. A message that comes in one frame is not copied.
func (c *Conn) gather(s *stream, o *wire.Out, total uint64) (body []byte, whole bool, r wire.Reason) {
	if o.Flags&wire.FlagMessage == 0 {
		return nil, false, 0
	}
	if s.whole {
		return nil, false, wire.ReasonBadMessage
	}
	more := o.Flags&wire.FlagMore != 0
	switch n := len(s.body) + len(o.Body); {
	case n > c.info.Limit() || total > uint64(c.info.Limit()):
		return nil, false, wire.ReasonMessageTooLarge
	case (more || len(s.body) > 0) && c.held+len(o.Body) > c.maxHeld:
		return nil, false, wire.ReasonQueueFull
	}
	if s.whole = !more; s.whole && len(s.body) == 0 {
		return o.Body, true, 0
	}
	s.body = append(s.body, o.Body...)
	s.held += len(o.Body)
	c.held += len(o.Body)
	return s.body, s.whole, 0
}

// write sends a request to the server.
func (c *Conn) write(s *stream, o *wire.Out, body []byte) {
	f := &c.frame
	f.Reset()
	n, err := c.codec.Decode(body, f)
	if err != nil || n != len(body) || f.Kind != bridge.Request && f.Kind != bridge.OneWay {
		c.fail(s, wire.ReasonBadMessage, "the message is not one request of "+c.info.Name)
		return
	}
	if o.Type == wire.TypeRequest {
		c.setTrace(f)
	}
	f.ID, f.Key = uint64(s.ID), nil
	out, err := c.codec.Append(c.out, f)
	if err != nil {
		c.fail(s, wire.ReasonBadMessage, "the request cannot be written: "+err.Error())
		return
	}
	c.out = out
	s.kind, s.sent = f.Kind, true
	c.held -= s.held
	s.body, s.held = nil, 0
	if f.Kind == bridge.OneWay {
		c.late = append(c.late, s)
	}
}

// setTrace passes the trace context on that the mesh has given the call.
func (c *Conn) setTrace(f *bridge.Frame) {
	m, ok := c.codec.(bridge.MetaSetter)
	if !ok || len(c.req.Traceparent) == 0 {
		return
	}
	for i := range f.Meta {
		if string(f.Meta[i].Key) == "traceparent" && bytes.Equal(f.Meta[i].Value, c.req.Traceparent) {
			return
		}
	}
	head := f.Head
	if m.SetMeta(f, []byte("traceparent"), c.req.Traceparent) != nil {
		f.Head = head // the call goes on without
	}
}

// fail ends a call that cannot be sent. The session learns of it by Late.
func (c *Conn) fail(s *stream, r wire.Reason, why string) {
	s.failed = wire.Refuse(r, wire.OriginBridge, "bridge: "+why)
	s.failed.Disposition = wire.DispositionNotProcessed
	c.held -= s.held
	s.body, s.held = nil, 0
	c.late = append(c.late, s)
}

// answer takes a frame of an answer.
func (c *Conn) answer(s *stream, o *wire.Out) {
	h := &c.resp
	if o.Type == wire.TypeResponse {
		if h.Parse(c.whole(o)) != nil {
			h.Reset()
			h.Status = wire.Refuse(wire.ReasonBadHead, wire.OriginBridge, "the response's head does not parse")
		}
	} else {
		h.Reset()
	}
	body, whole, r := c.gather(s, o, h.TotalLength)
	if r != wire.ReasonUnspecified {
		c.local(s, refusal(r, fmt.Sprintf("the answer is too long, or too much waits: a frame has at most %d bytes, a connection holds %d", c.info.Limit(), c.maxHeld)))
		return
	}
	if o.Flags&wire.FlagEnd == 0 {
		if whole && len(s.body) == 0 { // the end comes apart from it
			s.body = append(s.body, body...)
		}
		return
	}
	if !whole && s.whole {
		body = s.body
	}
	c.finish(s, h, body)
}

func refusal(r wire.Reason, why string) *wire.Status {
	st := wire.Refuse(r, wire.OriginBridge, why)
	st.Disposition = wire.DispositionUnknown
	return &st
}

// finish writes an answer: the frame that a server has given, or, where the mesh answers, one of the codec's.
func (c *Conn) finish(s *stream, h *wire.ResponseHead, body []byte) {
	switch {
	case s.kind == bridge.OneWay:
		c.end(s)
		return
	case len(body) == 0 && h.Status.Code != wire.OK:
		c.local(s, &h.Status)
		return
	case string(h.ContentType) != c.info.ContentType:
		c.local(s, refusal(wire.ReasonUnknownContentType,
			fmt.Sprintf("the instance answers by messages of content type %q, the client reads %q alone", h.ContentType, c.info.ContentType)))
		return
	case len(c.out)+len(body) > c.maxHeld:
		c.local(s, refusal(wire.ReasonQueueFull, "the client does not read its answers"))
		return
	}
	f := &c.frame
	f.Reset()
	n, err := c.codec.Decode(body, f)
	if err != nil || n != len(body) || f.Kind != bridge.Response {
		c.local(s, refusal(wire.ReasonBadMessage, "the instance's answer is not one of "+c.info.Name))
		return
	}
	f.ID, f.Key = s.id, s.key
	c.askToMove(f)
	out, err := c.codec.Append(c.out, f)
	if err != nil {
		c.local(s, refusal(wire.ReasonBadMessage, "the answer cannot be written: "+err.Error()))
		return
	}
	c.out = out
	c.end(s)
}

// askToMove has an answer say that this side leaves.
func (c *Conn) askToMove(f *bridge.Frame) {
	m, ok := c.codec.(bridge.Mover)
	if !ok || !c.leaving {
		return
	}
	head := f.Head
	if m.Move(f) != nil {
		f.Head = head // the end of the connection will say it
	}
}

// local answers a call by a frame of the codec's own.
func (c *Conn) local(s *stream, st *wire.Status) {
	if s.kind != bridge.OneWay {
		f := &c.frame
		f.Reset()
		f.Kind, f.ID, f.Key, f.Service, f.Method, f.Note = s.kind, s.id, s.key, s.names[:s.method], s.names[s.method:], s.note
		told := *st
		told.Message = said(st)
		out, err := c.codec.Local(c.out, f, &told)
		if err != nil {
			c.closed = true // the client would wait for ever
		} else {
			c.out = out
		}
	}
	c.end(s)
}

// said is an error's text for a protocol whose errors have nothing else: who says what.
func said(st *wire.Status) []byte {
	return fmt.Appendf(nil, "octo: %s: %s: %s: %s", st.Origin, st.Code, st.Reason, st.Message)
}

// Reset ends a call at once. A client is answered by an error. A server cannot be told: where its answer would be taken for the
// next call's, the connection takes none.
func (c *Conn) Reset(ws *wire.Stream, r *wire.ResetHead) {
	s := c.find(ws)
	switch {
	case s == nil:
	case c.side == wire.Acceptor:
		c.local(s, &r.Status)
	default:
		if s.sent && s.kind == bridge.Request && !c.info.Multiplexed {
			c.moves = true
		}
		c.end(s)
	}
}

// ForwardReset is Reset with a head that came from the other side of a hop.
func (c *Conn) ForwardReset(ws *wire.Stream, head []byte) {
	if c.rst.Parse(head) != nil {
		c.rst = wire.ResetHead{Status: wire.Refuse(wire.ReasonStreamProtocol, c.origin, "a RESET whose head does not parse")}
	}
	c.Reset(ws, &c.rst)
}
