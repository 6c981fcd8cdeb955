package grpc

import (
	"encoding/binary"
	"math"

	"golang.org/x/net/http2"

	"github.com/octomesh/octomesh/core/wire"
)

// Send says what a frame says in gRPC's terms, as much of it as the peer's windows allow; false: the rest waits in o for
// Turn.
func (c *Conn) Send(ws *wire.Stream, o *wire.Out) (done bool) {
	s := c.find(ws)
	if s == nil || s.unsent {
		return true
	}
	end := o.Flags&wire.FlagEnd != 0
	switch o.Type {
	case wire.TypeRequest:
		if !c.requestHeaders(s, o, end && o.Flags&wire.FlagMessage == 0) || o.Flags&wire.FlagMessage == 0 {
			return true
		}
	case wire.TypeResponse:
		return c.sendResponse(s, o, end)
	}
	if c.side == wire.Acceptor && !s.sent { // an answer without initial metadata
		c.resp.Reset()
		if !c.responseHeaders(s, &c.resp, o.Flags) {
			c.refuseAnswer(s, end)
			return true
		}
	}
	return c.sendMessage(s, o, end)
}

// sendResponse sends the beginning of an answer, or the end, or both.
func (c *Conn) sendResponse(s *stream, o *wire.Out, end bool) bool {
	h := &c.resp
	if h.Parse(o.Head) != nil {
		*h = wire.ResponseHead{Status: wire.Refuse(wire.ReasonBadHead, wire.OriginBridge, "bridge: the response's head does not parse")}
	}
	message := o.Flags&wire.FlagMessage != 0
	if !s.sent && (h.HeadersPresent || message || !end) {
		if !c.responseHeaders(s, h, o.Flags) {
			c.refuseAnswer(s, end)
			return true
		}
	}
	if !end {
		// The head is said; the rest is a message like any other, but for the length that the head holds.
		return !message || c.sendMessage(s, o, false)
	}
	if message && !c.sendMessage(s, o, false) {
		return false
	}
	c.finish(s, &h.Status, h.Trailers)
	return true
}

// sendMessage sends a frame's part of a message.
func (c *Conn) sendMessage(s *stream, o *wire.Out, end bool) bool {
	if o.Flags&wire.FlagMessage == 0 {
		if end {
			c.h.Data(s.h, nil, nil, true)
		}
		return true
	}
	if !s.outMessage {
		s.outMessage, s.outLeft = true, len(s.outPrefix)
		s.outPrefix[0] = 0
		if o.Flags&wire.FlagCompressed != 0 {
			s.outPrefix[0] = 1
		}
		binary.BigEndian.PutUint32(s.outPrefix[1:], messageSize(o))
	}
	n := c.h.Data(s.h, s.outPrefix[len(s.outPrefix)-s.outLeft:], o.Body, end)
	if all := s.outLeft + len(o.Body); n < all {
		k := min(n, s.outLeft)
		s.outLeft -= k
		o.Body = o.Body[n-k:]
		if o.Type == wire.TypeRequest || o.Type == wire.TypeResponse && o.Flags&wire.FlagEnd == 0 {
			o.Type, o.Pre, o.Head, o.Post = wire.TypeMessage, nil, nil, nil // they are said
		}
		return false
	}
	s.outLeft = 0
	s.outMessage = o.Flags&wire.FlagMore != 0
	return true
}

// messageSize is the length of the message that a frame begins.
func messageSize(o *wire.Out) uint32 {
	if o.Flags&wire.FlagMore == 0 {
		return uint32(len(o.Body))
	}
	var h wire.ResponseHead // total_length has the same number in every head
	if o.Type == wire.TypeRequest {
		var r wire.RequestHead
		if r.Parse(o.Head) == nil {
			h.TotalLength = r.TotalLength
		}
	} else if h.Parse(o.Head) != nil {
		h.TotalLength = 0
	}
	// gRPC has no way to say more; the receiver finds the message longer than announced, and ends the call.
	return uint32(min(h.TotalLength, math.MaxUint32))
}

// responseHeaders sends the initial metadata of an answer, behind which the message of a frame with the flags follows; false: the client does not
// take so much, and nothing was sent.
func (c *Conn) responseHeaders(s *stream, h *wire.ResponseHead, flags wire.Flags) bool {
	e := &c.enc
	e.begin()
	c.beginResponse(s, h.ContentType)
	if len(h.MessageEncoding) > 0 {
		e.addIf("grpc-encoding", h.MessageEncoding)
	} else if flags&wire.FlagCompressed != 0 && s.encoding != "" {
		e.add("grpc-encoding", s.encoding) // a hop of before W-MSG-13 keeps the name for the end
	}
	e.list("grpc-accept-encoding", h.AcceptedEncodings)
	e.entries(h.Metadata)
	if !c.fits() {
		return false
	}
	s.sent = true
	c.h.Headers(s.h, e.block, false)
	return true
}

func (c *Conn) beginResponse(s *stream, contentType []byte) {
	c.enc.add(":status", "200")
	switch {
	case len(contentType) > 0 && printable(contentType):
		c.enc.addBytes("content-type", contentType)
	case s.contentType != "":
		c.enc.add("content-type", s.contentType)
	default:
		c.enc.add("content-type", "application/grpc")
	}
}

// finish ends an answer: by trailers, or, where nothing was said before, by trailers alone.
func (c *Conn) finish(s *stream, st *wire.Status, trailers []wire.Entry) {
	e := &c.enc
	e.begin()
	if !s.sent {
		c.beginResponse(s, c.resp.ContentType)
	}
	e.status(st)
	e.entries(trailers)
	fits := c.fits() || c.finishShort(s, st)
	h := s.h
	c.closed(s)
	if !fits {
		c.h.Reset(h, http2.ErrCodeEnhanceYourCalm)
		c.h.Release()
		return
	}
	c.h.Headers(h, e.block, true)
}

// list adds a list of names.
func (e *encoder) list(name string, all [][]byte) {
	if len(all) == 0 {
		return
	}
	e.scratch = e.scratch[:0]
	for i, one := range all {
		if i > 0 {
			e.scratch = append(e.scratch, ',')
		}
		e.scratch = append(e.scratch, one...)
	}
	e.addIf(name, e.scratch)
}

// Reset ends a call at once. A client's call ends by a status, unless a server has said by which code of HTTP/2 it ends: gRPC's
// clients go by that themselves.
func (c *Conn) Reset(ws *wire.Stream, r *wire.ResetHead) {
	s := c.find(ws)
	switch {
	case s == nil:
	case c.side == wire.Dialer:
		c.forget(s, http2.ErrCodeCancel)
	case r.HTTP2Code != 0:
		c.forget(s, http2.ErrCode(r.HTTP2Code))
	default:
		c.resp.Reset()
		c.finish(s, &r.Status, nil)
		c.h.Hold()
	}
}

// ForwardReset is Reset with a head that came from the other side of a hop.
func (c *Conn) ForwardReset(ws *wire.Stream, head []byte) {
	if c.rst.Parse(head) != nil {
		c.rst = wire.ResetHead{Status: wire.Refuse(wire.ReasonStreamProtocol, c.origin, "a RESET whose head does not parse")}
	}
	c.Reset(ws, &c.rst)
}

// requestHeaders opens a call at a server; false: the server does not take headers as long as the call's, and nothing was sent.
func (c *Conn) requestHeaders(s *stream, o *wire.Out, end bool) bool {
	h, e := &c.req, &c.enc
	head := o.Head
	if len(o.Pre) > 0 || len(o.Post) > 0 {
		e.head = append(append(append(e.head[:0], o.Pre...), o.Head...), o.Post...)
		head = e.head
	}
	_ = h.Parse(head) // hops have parsed it before
	e.begin()
	e.add(":method", "POST")
	if c.cfg.Secure {
		e.add(":scheme", "https")
	} else {
		e.add(":scheme", "http")
	}
	e.path(h)
	switch {
	case len(h.Authority) > 0 && printable(h.Authority):
		e.addBytes(":authority", h.Authority)
	default:
		e.addIf(":authority", h.Target)
	}
	if len(h.ContentType) > 0 && printable(h.ContentType) {
		e.addBytes("content-type", h.ContentType)
	} else {
		e.add("content-type", "application/grpc")
	}
	e.add("te", "trailers")
	if h.TimeoutUS > 0 {
		var digits [16]byte
		e.addBytes("grpc-timeout", appendTimeout(digits[:0], h.TimeoutUS))
	}
	e.addIf("grpc-encoding", h.MessageEncoding)
	e.list("grpc-accept-encoding", h.AcceptedEncodings)
	e.addIf("traceparent", h.Traceparent)
	if len(h.Traceparent) > 0 {
		e.addIf("tracestate", h.Tracestate)
	}
	e.baggage(h.Baggage)
	e.entries(h.Metadata)
	if !c.fits() {
		c.refuseRequest(s)
		return false
	}
	c.h.Headers(s.h, e.block, end)
	return true
}

func (e *encoder) path(h *wire.RequestHead) {
	path := h.Path
	if len(path) == 0 || path[0] != '/' || !printable(path) {
		path = append(append(append(append(e.scratch[:0], '/'), h.Service...), '/'), h.Method...)
		e.scratch = path
	}
	e.addBytes(":path", path)
}

// baggage adds the entries of baggage as W3C has them.
func (e *encoder) baggage(all []wire.Entry) {
	if len(all) == 0 {
		return
	}
	out := e.scratch[:0]
	for i := range all {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(out, all[i].Key...), '=')
		for _, b := range all[i].Value {
			if b <= ' ' || b > '~' || b == '%' || b == ',' || b == ';' || b == '\\' || b == '"' {
				out = append(out, '%', hexDigits[b>>4], hexDigits[b&15])
			} else {
				out = append(out, b)
			}
		}
	}
	e.scratch = out
	e.addIf("baggage", out)
}
