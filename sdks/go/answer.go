package octomesh

import (
	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/wire"
)

// finish ends the call with a response or a status, and gives the call back.
func (c *serverCall) finish(k *worker, res proto.Message, st *wire.Status) {
	c.ctx.finish()
	out := wire.Out{Type: wire.TypeResponse, Flags: wire.FlagEnd}
	encoding := ""
	if res != nil && st == nil {
		encoding = c.answers()
		b, err := encode(k.body[:0], res, encoding)
		if err != nil {
			s := wire.Refuse(wire.ReasonBadMessage, wire.OriginServerSDK, "the response does not serialize: "+err.Error())
			s.Disposition = wire.DispositionProcessed
			st, encoding = &s, ""
		} else {
			out.Body = b
			out.Flags |= wire.FlagMessage
			if encoding != "" {
				out.Flags |= wire.FlagCompressed
			}
			if cap(b) <= keepSpare {
				k.body = b
			} else {
				defer giveBack(b) // when it has gone
			}
		}
	}
	c.answer(k, &out, encoding, st)
}

// answer sends the final RESPONSE.
func (c *serverCall) answer(k *worker, out *wire.Out, encoding string, st *wire.Status) {
	s := c.ses
	s.tc.Lock()
	if c.stream == nil {
		s.wc.Release()
		s.release()
		c.recycle()
		return
	}
	k.head = c.finalHead(k.head[:0], encoding, st)
	out.Head = k.head
	sent := s.wc.Send(c.stream, out)
	for !sent {
		s.release()
		<-c.credit
		s.tc.Lock()
		if c.stream == nil {
			s.wc.Release()
			break
		}
		sent = s.wc.Send(c.stream, out)
	}
	c.stream = nil
	if s.srv.workers.queued.Load() > 0 {
		s.tc.Unlock()
		if !s.srv.workers.leave(s) {
			s.flush()
		}
	} else {
		s.release()
	}
	c.recycle()
}

// finalHead builds the head that ends the call.
func (c *serverCall) finalHead(b []byte, encoding string, st *wire.Status) []byte {
	if st == nil && encoding == "" && len(c.header) == 0 && len(c.trailer) == 0 && !c.noHeader && !c.times.wanted {
		return append(b, plainHead...)
	}
	h := wire.ResponseHead{Trailers: toEntries(c.trailer)}
	h.HeadersPresent = (st == nil || c.headerSent || len(c.header) > 0) && !c.noHeader
	if !c.headerSent {
		h.Metadata = toEntries(c.header)
		h.MessageEncoding = []byte(encoding)
	}
	if st != nil {
		h.Status = *st
		if st.Reason == wire.ReasonUnknownEncoding {
			for _, e := range acceptedEncodings {
				h.AcceptedEncodings = append(h.AcceptedEncodings, []byte(e))
			}
		}
	}
	if c.times.wanted {
		h.Timings = c.appendTimings(nil)
	}
	b = h.Append(b)
	for _, shorten := range []func(){
		func() { h.Timings = nil },
		func() { h.Status.Details = nil },
		func() { h.Trailers = nil },
		func() { h.Status.Message = h.Status.Message[:min(len(h.Status.Message), 8<<10)] },
	} { // the code matters more than what explains it
		if len(b) <= wire.MaxSDKHead {
			break
		}
		shorten()
		b = h.Append(b[:0])
	}
	return b
}
