package grpc

import (
	"fmt"

	"github.com/octomesh/octomesh/core/wire"
)

// A peer says by SETTINGS_MAX_HEADER_LIST_SIZE how long a header list it takes. To what is longer it answers as it likes: by ending the connection
// with all its calls, or by dropping what it does not want. So no such list is sent, and the one call ends by HEAD_TOO_LARGE.

// unsent is a call that has ended since what was to be said of it is too long.
type unsent struct {
	stream *stream // a dialer's; nil: it is closed already
	id     uint32
	call   any
	status wire.Status
}

// fits tells whether the peer takes the header list that was built.
func (c *Conn) fits() bool { return uint64(c.enc.size) <= uint64(c.h.PeerHeaderList()) }

// tooLong is the status of a call whose header list, the one that was built, does not fit.
func (c *Conn) tooLong(what, peer string) wire.Status {
	return wire.Refuse(wire.ReasonHeadTooLarge, wire.OriginBridge, fmt.Sprintf("bridge: the %s are %d bytes as HTTP/2 counts header lists, and the %s takes %d: "+
		"send less metadata, or raise the limit there", what, c.enc.size, peer, c.h.PeerHeaderList()))
}

// refuseRequest ends a call that its server takes no headers of.
func (c *Conn) refuseRequest(s *stream) {
	s.unsent = true
	c.late = append(c.late, unsent{s, s.ID, s.Call, c.tooLong("request's headers", "server")})
}

// refuseAnswer ends a call whose client does not take the answer's headers. end: the session takes the call for ended by its frame.
func (c *Conn) refuseAnswer(s *stream, end bool) {
	st := c.tooLong("answer's headers", "client")
	st.Disposition = wire.DispositionProcessed
	id, call := s.ID, s.Call
	c.finish(s, &st, nil)
	if !end {
		c.h.Hold()
		c.late = append(c.late, unsent{nil, id, call, st})
	}
}

// finishShort builds trailers anew that were too long. An error says what it can: its code matters more than its details. A call that went well has
// not, for who gets no trailers; false: the client takes not even a code.
func (c *Conn) finishShort(s *stream, st *wire.Status) bool {
	short := *st
	if short.Details = nil; short.Code == wire.OK {
		short = c.tooLong("answer's trailers", "client")
		short.Disposition = wire.DispositionProcessed
	}
	for range 2 {
		c.enc.begin()
		if !s.sent {
			c.beginResponse(s, nil)
		}
		c.enc.status(&short)
		if c.fits() {
			return true
		}
		short.Message = nil
	}
	return false
}

// Late tells of the calls that have ended since what was to be said is too long; nil: of all it has.
func (c *Conn) Late() *wire.Event {
	for len(c.late) > 0 {
		u := c.late[0]
		if c.late = c.late[1:]; len(c.late) == 0 {
			c.late = nil
		}
		if u.stream != nil {
			if c.find(&wire.Stream{ID: u.id}) != u.stream {
				continue // it has ended since
			}
			c.forget(u.stream, 0)
		}
		ev := &wire.Event{Kind: wire.EventFailed, Call: u.call, Status: u.status}
		ev.Frame.Stream = u.id
		return ev
	}
	return nil
}
