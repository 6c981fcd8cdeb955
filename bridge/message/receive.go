package message

import (
	"errors"
	"math"

	"github.com/octomesh/octomesh/bridge"
	"github.com/octomesh/octomesh/core/wire"
)

var (
	errAhead  = errors.New("a second call before the first one was answered, and the protocol has one at a time")
	errRole   = errors.New("a frame that the other side sends")
	errUnread = errors.New("the client sends requests and does not read their answers")
)

// Feed reads what has arrived and says in ev what it means for calls.
func (c *Conn) Feed(b []byte, ev *wire.Event) (n int, err error) {
	ev.Kind, ev.Stream, ev.Call = wire.EventNone, nil, nil
	if c.side == wire.Acceptor && !c.began {
		c.began = true
		ev.Kind = wire.EventHello
		ev.Hello = wire.Hello{
			LowestVersion: wire.Version, HighestVersion: wire.Version, Role: wire.RoleCall, Kind: wire.PeerSDK, SDK: c.info.Name,
			Environment: c.cfg.Environment, Application: c.cfg.Application,
		}
		return 0, nil
	}
	if c.closed {
		return len(b), nil
	}
	c.quiet = 0
	f := &c.frame
	f.Reset()
	if n, err = c.codec.Decode(b, f); err != nil {
		return 0, c.bad(err)
	}
	switch {
	case n > c.info.Limit() || n == 0 && len(b) > c.info.Limit():
		return 0, c.bad(bridge.ErrTooLong)
	case n == 0:
		return 0, nil
	case n < 0 || n > len(b):
		return 0, c.bad(bridge.ErrMalformed)
	}
	if c.side == wire.Acceptor {
		err = c.fromClient(b[:n], ev)
	} else {
		err = c.fromServer(b[:n], ev)
	}
	if err != nil {
		return 0, c.bad(err)
	}
	c.read += uint64(n)
	return n, nil
}

// fromClient takes a frame of a client's.
func (c *Conn) fromClient(b []byte, ev *wire.Event) error {
	f := &c.frame
	if len(c.out) > c.maxHeld {
		return errUnread
	}
	switch f.Kind {
	case bridge.Request, bridge.OneWay:
	case bridge.Heartbeat:
		out, err := c.codec.Local(c.out, f, &wire.Status{})
		if err == nil {
			c.out = out
		}
		return err
	case bridge.Ignored:
		return nil
	default:
		return errRole
	}
	if !c.info.Multiplexed && len(c.streams) > 0 {
		return errAhead
	}
	if len(c.streams) >= c.maxCalls || c.held+len(b) > c.maxHeld {
		return c.refuse(f, wire.ReasonQueueFull, "the connection has too many calls open")
	}
	target := c.cfg.target(f)
	if target == "" {
		return c.refuse(f, wire.ReasonUnknownService, "the request names no service, and the proxy's configuration has none for it")
	}
	at := len(c.lent)
	c.appendHead(f, target)
	head := c.lent[at:len(c.lent):len(c.lent)]
	if len(head) > wire.MaxSDKHead {
		c.lent = c.lent[:at]
		return c.refuse(f, wire.ReasonHeadTooLarge, "the request's names and entries are over 60 KiB")
	}
	s := c.open()
	s.kind, s.id, s.note = f.Kind, f.ID, f.Note
	s.key = append(s.key, f.Key...)
	s.names = append(append(s.names, f.Service...), f.Method...)
	s.method = len(f.Service)
	s.held = len(b)
	c.held += len(b)
	ev.Kind, ev.Stream = wire.EventRequest, &s.Stream
	ev.Frame = wire.Frame{Header: wire.Header{
		Type: wire.TypeRequest, Flags: wire.FlagMessage | wire.FlagEnd, Stream: s.ID, HeadLen: uint16(len(head)), BodyLen: uint32(len(b)),
	}, Head: head, Body: b}
	return nil
}

// refuse answers a request that becomes no call.
func (c *Conn) refuse(f *bridge.Frame, r wire.Reason, why string) error {
	if f.Kind == bridge.OneWay {
		return nil
	}
	st := wire.Refuse(r, wire.OriginBridge, why)
	st.Message = said(&st)
	out, err := c.codec.Local(c.out, f, &st)
	if err == nil {
		c.out = out
	}
	return err
}

// appendHead appends the head of a call to what is lent.
func (c *Conn) appendHead(f *bridge.Frame, target string) {
	h := c.lent
	if f.Timeout > 0 {
		h = wire.AppendTimeout(h, wire.TimeoutUS(int64(f.Timeout)))
	}
	h = wire.AppendMethod(h, []byte(target), f.Service, f.Method, wire.KindUnary)
	var parent, state []byte
	for i := range f.Meta {
		switch m := &f.Meta[i]; {
		case string(m.Key) == "traceparent":
			parent = m.Value
		case string(m.Key) == "tracestate":
			state = m.Value
		case isEntry(m):
			h = wire.AppendMetadata(h, m.Key, m.Value)
		}
	}
	if len(parent) > 0 {
		h = wire.AppendTrace(h, parent, state)
	}
	c.lent = wire.AppendForeign(h, c.info.ContentType, "", "")
}

// reserved is how the names begin that the mesh keeps for itself: nobody outside can speak in its name.
const reserved = "octo-"

// isEntry tells whether an entry may be metadata (W-HEAD-8).
func isEntry(e *wire.Entry) bool {
	if n := len(e.Key); n == 0 || n > math.MaxUint8 || n >= len(reserved) && string(e.Key[:len(reserved)]) == reserved ||
		n > 4 && string(e.Key[n-4:]) == "-bin" {
		return false
	}
	for _, b := range e.Key {
		if (b < 'a' || b > 'z') && (b < '0' || b > '9') && b != '-' && b != '_' && b != '.' {
			return false
		}
	}
	for _, b := range e.Value {
		if b < ' ' || b > '~' {
			return false
		}
	}
	return true
}

// fromServer takes a frame of a server's.
func (c *Conn) fromServer(b []byte, ev *wire.Event) error {
	f := &c.frame
	switch f.Kind {
	case bridge.Response:
	case bridge.Heartbeat:
		out, err := c.codec.Local(c.out, f, &wire.Status{})
		if err == nil {
			c.out = out
		}
		return err
	case bridge.Ignored:
		return nil
	default:
		return errRole
	}
	s := c.call(f.ID)
	c.moves = c.moves || f.Moves
	if s == nil || !s.sent || s.tells() {
		return nil // it was given up, or is not waited for
	}
	at := len(c.lent)
	h := c.lent
	if f.Status.Code != wire.OK {
		if f.Status.Origin == wire.OriginUnspecified {
			f.Status.Origin = wire.OriginApplication
		}
		if f.Status.Origin == wire.OriginApplication {
			f.Status.Disposition = wire.DispositionProcessed
		}
		f.Status.Message = f.Status.Message[:min(len(f.Status.Message), maxMessage)]
		h = wire.AppendStatus(h, &f.Status)
	}
	h = wire.AppendAnswer(h, "", nil, c.info.ContentType)
	c.lent = h
	ev.Kind, ev.Stream, ev.Call = wire.EventResponse, &s.Stream, s.Call
	ev.Frame = wire.Frame{Header: wire.Header{
		Type: wire.TypeResponse, Flags: wire.FlagMessage | wire.FlagEnd, Stream: s.ID, HeadLen: uint16(len(h) - at), BodyLen: uint32(len(b)),
	}, Head: h[at:len(h):len(h)], Body: b}
	c.end(s)
	return nil
}

// call returns the one that an answer is for; nil: none that is open. Where one call is open at a time the id says nothing more, and some
// protocols have none.
func (c *Conn) call(id uint64) *stream {
	if !c.info.Multiplexed && !c.moves {
		for _, s := range c.streams {
			return s
		}
	}
	if id > maxID {
		return nil
	}
	return c.streams[uint32(id)]
}

// maxMessage bounds what a status repeats of an answer's text, which goes on whole in the frame.
const maxMessage = 1 << 10

// Plain marks the protocol as one without words for a connection.
func (c *Conn) Plain() {}

// Late tells what no byte has brought; nil: nothing.
func (c *Conn) Late() *wire.Event {
	if !c.began && c.side == wire.Dialer {
		c.began = true
		return &wire.Event{Kind: wire.EventWelcome, Welcome: wire.Welcome{Version: wire.Version, Kind: wire.PeerSDK}}
	}
	for len(c.late) > 0 {
		s := c.late[0]
		c.late = c.late[1:]
		if s.Call == nil {
			continue // it has ended since
		}
		ev := &wire.Event{Stream: &s.Stream, Call: s.Call}
		ev.Frame = wire.Frame{Header: wire.Header{Type: wire.TypeResponse, Flags: wire.FlagEnd, Stream: s.ID}}
		if ev.Kind = wire.EventResponse; s.failed.Code != wire.OK {
			ev.Kind, ev.Status = wire.EventFailed, s.failed
		}
		c.end(s)
		return ev
	}
	c.late = nil
	return nil
}
