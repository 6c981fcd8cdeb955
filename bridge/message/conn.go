package message

import (
	"fmt"

	"github.com/octomesh/octomesh/bridge"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/wire"
)

// Conn is one connection of a foreign protocol.
type Conn struct {
	cfg    *Config
	codec  bridge.FrameCodec
	info   bridge.Info
	side   wire.Side
	origin wire.Origin

	maxCalls, maxHeld int

	frame bridge.Frame // scratch
	out   []byte       // whole frames
	lent  []byte       // heads of events, until Begin
	join  []byte       // a head that came in pieces

	streams map[uint32]*stream
	free    []*stream
	next    uint32
	held    int // bytes of bodies

	late  []*stream // that have something to tell which no byte has brought
	began bool      // the session knows that the connection is there
	read  uint64    // bytes

	leaving bool // this side asks the client to move
	quiet   int  // ticks since a byte came
	moves   bool // the server asks this side to move, or an answer may come that nobody waits for
	drained bool // this side opens no more calls
	closed  bool
	lost    bool // the connection has ended

	req  wire.RequestHead
	resp wire.ResponseHead
	rst  wire.ResetHead
}

// stream is one call on a Conn.
type stream struct {
	wire.Stream

	// What an answer has to know of its request.
	kind   bridge.Kind
	id     uint64
	key    []byte
	names  []byte // service, then method
	method int    // where it begins
	note   uint32

	body   []byte // of a message that comes in pieces
	held   int    // bytes that are booked for the call
	whole  bool   // the message has come
	sent   bool   // the request was queued
	failed wire.Status
}

// NewConn returns the machine of a connection.
func NewConn(cfg *Config, side wire.Side, origin wire.Origin) *Conn {
	c := &Conn{cfg: cfg, codec: cfg.Codec, side: side, origin: origin, maxCalls: cfg.MaxCalls, maxHeld: cfg.MaxHeld}
	if s, ok := c.codec.(bridge.Stateful); ok {
		c.codec = s.NewConn()
	}
	if c.maxCalls == 0 {
		c.maxCalls = wire.DefaultMaxStreams
	}
	if c.maxHeld == 0 {
		c.maxHeld = 64 << 20
	}
	c.info = c.codec.Info()
	if !c.info.Multiplexed {
		c.maxCalls = 1
	}
	c.streams = make(map[uint32]*stream)
	return c
}

var _ session.Plain = (*Conn)(nil)

// Hello has nothing to say: nobody introduces himself.
func (c *Conn) Hello(wire.Hello) {}

// Welcome has nothing to say.
func (c *Conn) Welcome(wire.Welcome) {}

// Refuse turns a client away: it is told by the end of the connection.
func (c *Conn) Refuse(wire.GoAway) { c.closed = true }

// SetOrigin names this side anew.
func (c *Conn) SetOrigin(o wire.Origin) { c.origin = o }

// Begin says that what events lent is not used any more.
func (c *Conn) Begin() { c.lent = c.lent[:0] }

// Queued is the number of bytes that wait for Take.
func (c *Conn) Queued() int { return len(c.out) }

// Take returns the bytes to write.
func (c *Conn) Take(spare []byte) []byte {
	out := c.out
	c.out = spare[:0]
	return out
}

// Trim gives back memory that an idle connection does not need.
func (c *Conn) Trim() {
	if len(c.streams) > 0 || len(c.out) > 0 {
		return
	}
	c.out, c.lent, c.join, c.free, c.frame = nil, nil, nil, nil, bridge.Frame{}
	c.req, c.resp = wire.RequestHead{}, wire.ResponseHead{}
}

// Tick tells that half a second has passed.
func (c *Conn) Tick() { c.quiet++ }

// Ping asks nothing: clients of message protocols are not asked.
func (c *Conn) Ping(uint64) bool { return false }

// Release is for protocols whose resets leave a handler behind.
func (c *Conn) Release() {}

// Started needs no note.
func (c *Conn) Started(*wire.Stream) {}

// OpenStreams is the number of calls that are open.
func (c *Conn) OpenStreams() int { return len(c.streams) }

// Limits returns what the two sides accept, in the terms of frames.
func (c *Conn) Limits() (local, peer wire.Limits) {
	local, peer = wire.DefaultLimits(), wire.DefaultLimits()
	local.MaxStreams, peer.MaxStreams = uint32(c.maxCalls), uint32(c.maxCalls)
	return local, peer
}

// CanOpen tells whether Open would succeed.
func (c *Conn) CanOpen() error {
	switch {
	case c.side != wire.Dialer || c.closed || c.drained || c.moves:
		return wire.ErrNotOpen
	case len(c.streams) >= c.maxCalls:
		return wire.ErrStreamLimit
	}
	return nil
}

// Takes tells whether messages are frames of the protocol.
func (c *Conn) Takes(contentType []byte) bool { return string(contentType) == c.info.ContentType }

// Open opens a stream for a call. A Send of its REQUEST must follow.
func (c *Conn) Open(call any) (*wire.Stream, error) {
	if err := c.CanOpen(); err != nil {
		return nil, err
	}
	s := c.open()
	s.Call = call
	return &s.Stream, nil
}

// maxID bounds ids: protocols have 32 bits for them, some with a sign.
const maxID = 1<<31 - 1

func (c *Conn) open() *stream {
	for taken := true; taken; _, taken = c.streams[c.next] {
		if c.next++; c.next > maxID {
			c.next = 1
		}
	}
	var s *stream
	if n := len(c.free); n > 0 {
		s, c.free = c.free[n-1], c.free[:n-1]
		*s = stream{key: s.key[:0], names: s.names[:0]}
	} else {
		s = new(stream)
	}
	s.ID = c.next
	c.streams[s.ID] = s
	return s
}

// maxFree bounds the streams that are kept to be used again.
const maxFree = 128

// end ends what is known of a call.
func (c *Conn) end(s *stream) {
	delete(c.streams, s.ID)
	c.held -= s.held
	s.Call, s.body, s.held = nil, nil, 0
	if len(c.free) < maxFree && !s.tells() {
		c.free = append(c.free, s)
	}
}

// tells: the stream stands in late.
func (s *stream) tells() bool { return s.failed.Code != wire.OK || s.kind == bridge.OneWay }

// find returns the open stream of a call.
func (c *Conn) find(ws *wire.Stream) *stream {
	if s := c.streams[ws.ID]; s != nil && &s.Stream == ws && s.Call != nil {
		return s
	}
	return nil
}

// Each calls f with the Call of every open stream.
func (c *Conn) Each(f func(call any)) {
	for _, s := range c.streams {
		if s.Call != nil {
			f(s.Call)
		}
	}
}

// Consume has no credit to give: what a client may make a connection hold is bounded by MaxHeld.
func (c *Conn) Consume(*wire.Stream, int64) {}

// Turn has nobody to name: Send always finds room.
func (c *Conn) Turn() *wire.Stream { return nil }

// Leave asks a client to move: by its answers, and, once it is quiet, by the end of the connection.
func (c *Conn) Leave(wire.GoAwayCode, string) {
	c.leaving, c.quiet = true, 0
}

// PeerLeaves tells whether the server has asked this side to move.
func (c *Conn) PeerLeaves() bool { return c.moves }

// Drained says that this side opens no more calls.
func (c *Conn) Drained() {
	if c.side == wire.Dialer {
		c.drained = true
	}
}

// quietFor is how many ticks a client that was asked to move must have said nothing until its connection is closed: what it had
// sent when it was asked is answered first.
const quietFor = 2

// Done tells whether nothing can happen any more that matters: this side closes then.
func (c *Conn) Done() bool {
	switch {
	case c.lost:
		return len(c.streams) == 0
	case c.closed:
		return true
	case len(c.streams) > 0 || len(c.out) > 0:
		return false
	case c.side == wire.Dialer:
		return c.drained || c.moves
	}
	return c.leaving && c.quiet >= quietFor
}

// Finish is the drain deadline: every open call ends.
func (c *Conn) Finish(_ wire.GoAwayCode, message string, ended func(call any, st wire.Status)) {
	if c.closed && !c.lost {
		return
	}
	lost := wire.Refuse(wire.ReasonDrainDeadline, c.origin, message)
	c.each(func(s *stream, call any) {
		c.Reset(&s.Stream, &wire.ResetHead{Status: lost})
		if ended != nil {
			ended(call, lost)
		}
	})
	c.closed = true
}

// each calls f with every open stream; f may end it.
func (c *Conn) each(f func(s *stream, call any)) {
	all := make([]*stream, 0, len(c.streams))
	for _, s := range c.streams {
		all = append(all, s)
	}
	for _, s := range all {
		if s.Call != nil {
			f(s, s.Call)
		}
	}
}

// End closes the connection for a reason of the owner's.
func (c *Conn) End(wire.GoAwayCode, string) { c.closed = true }

// Lost closes every open stream because the connection ended, but for a client's one-way calls: it takes a second time to end these.
func (c *Conn) Lost(unwritten bool, ended func(call any, st wire.Status)) {
	again := c.lost
	c.closed, c.lost = true, true
	c.out = nil
	c.each(func(s *stream, call any) {
		if c.side == wire.Acceptor && s.kind == bridge.OneWay && !again {
			return
		}
		st := wire.Refuse(wire.ReasonConnectionLost, c.origin, "the connection was lost")
		switch {
		case c.side == wire.Acceptor:
		case s.failed.Code != wire.OK:
			st = s.failed
		case !s.sent || unwritten && !c.info.Multiplexed:
			st = wire.Refuse(wire.ReasonProxyUnready, c.origin, "the connection was lost before it took the call")
		}
		c.end(s)
		if ended != nil {
			ended(call, st)
		}
	})
}

// bad says what of a connection's bytes breaks the protocol.
func (c *Conn) bad(why error) error {
	c.closed = true
	return &wire.ConnError{Code: wire.GoAwayProtocolError, Message: fmt.Sprintf("bridge: %s: %v", c.info.Name, why), Offset: c.read}
}
