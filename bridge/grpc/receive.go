package grpc

import (
	"encoding/binary"
	"math"

	"golang.org/x/net/http2"

	"github.com/octomesh/octomesh/bridge/grpc/h2"
	"github.com/octomesh/octomesh/core/wire"
)

// Feed reads what has arrived and says in ev what it means for calls.
func (c *Conn) Feed(b []byte, ev *wire.Event) (n int, err error) {
	ev.Kind, ev.Stream, ev.Call = wire.EventNone, nil, nil
	n, err = c.h.Feed(b, &c.hev)
	if err != nil {
		return n, broken(err)
	}
	if c.hev.Kind == h2.EventNone {
		return n, nil
	}
	s, _ := c.hev.User.(*stream)
	if s != nil {
		ev.Stream, ev.Call = &s.Stream, s.Call
	}
	switch c.hev.Kind {
	case h2.EventHeaders:
		switch {
		case s == nil:
			var more int
			more, err = c.request(b[n:], ev)
			return n + more, err
		case c.side == wire.Acceptor:
			c.halfClosed(s, ev)
		default:
			c.answerHeaders(s, ev)
		}
	case h2.EventData:
		if s != nil {
			c.data(s, ev)
		}
	case h2.EventReset, h2.EventFailed:
		c.streamEnded(s, ev)
	default:
		c.onConnection(ev)
	}
	return n, nil
}

// onConnection tells what concerns no call.
func (c *Conn) onConnection(ev *wire.Event) {
	switch c.hev.Kind {
	case h2.EventPreface:
		ev.Kind = wire.EventHello
		ev.Hello = wire.Hello{
			LowestVersion: wire.Version, HighestVersion: wire.Version, Role: wire.RoleCall, Kind: wire.PeerSDK, SDK: "grpc",
			Environment: c.cfg.Environment, Application: c.cfg.Application,
		}
	case h2.EventReady:
		ev.Kind, ev.Welcome = wire.EventWelcome, wire.Welcome{Version: wire.Version, Kind: wire.PeerSDK}
	case h2.EventPong:
		ev.Kind, ev.Pong = wire.EventPong, c.hev.Pong
	case h2.EventGoAway:
		ev.Kind = wire.EventGoAway
		ev.GoAway = wire.GoAway{Code: wire.GoAwayDraining, Last: wire.LastGraceful, Message: c.hev.Message}
		if c.side == wire.Acceptor {
			ev.Kind = wire.EventNone // a client pushes nothing, so it has nothing to ask for
		}
	case h2.EventDrained:
		c.drained = true
		ev.Kind = wire.EventDrained
	}
}

// streamEnded tells of a stream that has ended before its time: it is closed already, on HTTP/2's side.
func (c *Conn) streamEnded(s *stream, ev *wire.Event) {
	if s == nil {
		return
	}
	ev.Kind, ev.Status = wire.EventReset, c.verdict()
	if c.hev.Kind == h2.EventReset {
		ev.HTTP2Code = uint32(c.hev.Code)
	}
	at := len(c.lent)
	c.rst = wire.ResetHead{Status: ev.Status, HTTP2Code: ev.HTTP2Code}
	c.lent = c.rst.Append(c.lent)
	ev.Frame = wire.Frame{Header: wire.Header{Type: wire.TypeReset, Stream: s.ID}, Head: c.lent[at:len(c.lent):len(c.lent)]}
	c.closed(s)
}

// verdict is the status of a stream that the peer has reset, or that broke a rule.
func (c *Conn) verdict() wire.Status {
	e := &c.hev
	switch {
	case e.Kind == h2.EventReset && c.side == wire.Acceptor:
		return wire.Refuse(wire.ReasonCancelled, c.origin, "the caller reset the stream: "+e.Code.String())
	case e.Kind == h2.EventReset:
		st := wire.Status{Code: codeOf(e.Code), Origin: wire.OriginBridge, Message: []byte("bridge: the server reset the stream: " + e.Code.String())}
		if e.Code == http2.ErrCodeRefusedStream {
			st.Disposition = wire.DispositionNotProcessed
		}
		return st
	case e.Unprocessed:
		return wire.Refuse(wire.ReasonProxyDraining, wire.OriginBridge, "bridge: "+e.Message)
	}
	st := wire.Refuse(wire.ReasonStreamProtocol, wire.OriginBridge, "bridge: "+e.Message)
	st.Disposition = wire.DispositionUnknown
	return st
}

// codeOf is what gRPC takes an HTTP/2 error for.
func codeOf(code http2.ErrCode) wire.Code {
	switch code {
	case http2.ErrCodeRefusedStream:
		return wire.Unavailable
	case http2.ErrCodeCancel:
		return wire.Cancelled
	case http2.ErrCodeEnhanceYourCalm, http2.ErrCodeFlowControl:
		return wire.ResourceExhausted
	case http2.ErrCodeInadequateSecurity:
		return wire.PermissionDenied
	}
	return wire.Internal
}

// request tells of a new call. Where the first message's bytes follow at once, they ride on the REQUEST: a unary call is one
// frame then. It returns how many bytes that took.
func (c *Conn) request(rest []byte, ev *wire.Event) (n int, err error) {
	h := c.hev.Stream
	s := c.newStream()
	s.h, s.ID = h, h.ID
	h.Want = len(s.prefix)
	at := len(c.lent)
	if refusal := c.requestHead(s, c.hev.Fields); refusal != nil {
		c.lent = c.lent[:at]
		c.refuse(s, h, refusal)
		return 0, nil
	}
	head := len(c.lent)
	ev.Frame = wire.Frame{}
	h.User = s
	if c.hev.End {
		ev.Frame.Flags = wire.FlagEnd
	} else if n, err = c.absorb(s, rest, ev); err != nil {
		return n, broken(err)
	}
	if c.h.Stream(s.ID) != h { // what followed was at fault
		ev.Kind = wire.EventNone
		c.h.Release()
		if s.h != nil {
			c.closed(s)
		}
		return n, nil
	}
	if len(ev.Frame.Head) > 0 { // total_length: it stands behind
		head = len(c.lent)
	}
	f := &ev.Frame
	f.Head = c.lent[at:head:head]
	f.Type, f.Stream, f.HeadLen, f.BodyLen = wire.TypeRequest, s.ID, uint16(min(len(f.Head), math.MaxUint16)), uint32(len(f.Body))
	ev.Kind, ev.Stream, ev.Call = wire.EventRequest, &s.Stream, nil
	return n, nil
}

// absorb takes the bytes of a DATA frame that follows its HEADERS at once.
func (c *Conn) absorb(s *stream, b []byte, ev *wire.Event) (n int, err error) {
	const header = 9
	if len(b) < header+len(s.prefix) || http2.FrameType(b[3]) != http2.FrameData || b[4]&byte(http2.FlagDataPadded) != 0 ||
		binary.BigEndian.Uint32(b[5:])&(1<<31-1) != s.ID {
		return 0, nil
	}
	size := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
	if size < len(s.prefix) {
		return 0, nil
	}
	b = b[:min(len(b), header+size)] // behind the frame stands what may be another call's
	for range 2 {                    // the prefix, then bytes of the message
		k, err := c.h.Feed(b[n:], &c.hev)
		if n += k; err != nil || c.hev.Kind != h2.EventData {
			return n, err
		}
		c.data(s, ev)
		if ev.Kind != wire.EventNone || n == len(b) || c.hev.End {
			break
		}
	}
	return n, nil
}

// halfClosed tells that a client says nothing more.
func (c *Conn) halfClosed(s *stream, ev *wire.Event) {
	if s.body || s.prefixN > 0 {
		c.breakStream(s, ev, "the stream ends within a message")
		return
	}
	ev.Kind = wire.EventMessage
	ev.Frame = wire.Frame{Header: wire.Header{Type: wire.TypeMessage, Flags: wire.FlagEnd, Stream: s.ID}}
}

// data tells of bytes of a message. At most one event comes of it, since Want cuts them where prefixes and messages end.
func (c *Conn) data(s *stream, ev *wire.Event) {
	d := c.hev.Data
	s.owed += int64(c.hev.Flow)
	if c.hev.End && c.side == wire.Dialer {
		c.breakStream(s, ev, "the server ends the stream without a status")
		return
	}
	if !s.body {
		s.prefixN += copy(s.prefix[s.prefixN:], d)
		if s.prefixN < len(s.prefix) {
			s.h.Want = len(s.prefix) - s.prefixN
			if c.hev.End {
				c.halfClosed(s, ev)
			}
			return
		}
		if !c.begin(s, ev) {
			return
		}
		d = nil
		if s.left > 0 {
			if c.hev.End {
				c.halfClosed(s, ev)
			}
			return
		}
	} else if len(d) == 0 && !c.hev.End {
		return
	}
	c.fragment(s, d, ev)
}

// begin takes a message's prefix; false: it is none.
func (c *Conn) begin(s *stream, ev *wire.Event) bool {
	size := binary.BigEndian.Uint32(s.prefix[1:])
	if s.prefix[0] > 1 {
		c.breakStream(s, ev, "a message with flags that gRPC does not have")
		return false
	}
	s.prefixN, s.body, s.first, s.left = 0, true, true, int(size)
	if size >= long {
		c.h.Widen(s.h, wide)
	}
	s.h.Want = min(s.left, wire.MinFrameBody)
	return true
}

// fragment tells of the next bytes of a message, which may be its last.
func (c *Conn) fragment(s *stream, d []byte, ev *wire.Event) {
	f := wire.Frame{Header: wire.Header{Type: wire.TypeMessage, Flags: wire.FlagMessage, Stream: s.ID, BodyLen: uint32(len(d))}, Body: d}
	total := s.left
	if s.left -= len(d); s.left > 0 {
		f.Flags |= wire.FlagMore
	}
	if s.first {
		if s.prefix[0] == 1 {
			f.Flags |= wire.FlagCompressed
		}
		if s.left > 0 {
			at := len(c.lent)
			c.lent = wire.AppendTotalLength(c.lent, uint64(total))
			f.Head = c.lent[at:len(c.lent):len(c.lent)]
			f.HeadLen = uint16(len(f.Head))
		}
		s.first = false
	}
	if c.hev.End {
		if s.left > 0 {
			c.halfClosed(s, ev)
			return
		}
		f.Flags |= wire.FlagEnd
	}
	s.h.Want = min(s.left, wire.MinFrameBody)
	if s.left == 0 {
		s.body = false
		s.h.Want = len(s.prefix)
	}
	s.owedCost += f.Cost()
	ev.Kind, ev.Frame = wire.EventMessage, f
}

// breakStream ends a call whose peer broke a rule of gRPC's.
func (c *Conn) breakStream(s *stream, ev *wire.Event, why string) {
	ev.Kind = wire.EventFailed
	ev.Status = wire.Refuse(wire.ReasonStreamProtocol, wire.OriginBridge, "bridge: "+why)
	ev.Status.Disposition = wire.DispositionUnknown
	c.Reset(&s.Stream, &wire.ResetHead{Status: ev.Status})
}
