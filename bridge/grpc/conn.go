package grpc

import (
	"errors"

	"golang.org/x/net/http2"

	"github.com/octomesh/octomesh/bridge/grpc/h2"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/wire"
)

// Config is what a proxy's gRPC connections have in common.
type Config struct {
	// Environment and Application are whom clients that dial the proxy count as: gRPC has no word for it.
	Environment, Application string
	// Target names the target of a call, from the authority as the client says it and the service's full name, as [Targets.Of] does.
	// nil: the service is the target.
	Target func(authority, service string) string
	// Secure: servers are dialed by TLS, which requests to them say.
	Secure bool
	// MaxStreams is how many calls one connection may have open. 0: 1024.
	MaxStreams uint32
	// PingEvery is how many ticks of half a second must lie between two PINGs of a client that gets nothing meanwhile. 0: 20.
	PingEvery int
}

// Windows of a stream: it begins with the first, and gets the second when it sends messages that need it. Short ones take
// more memory than their bytes while they wait, so a stream of them gets no more.
const (
	narrow = 64 << 10
	wide   = 256 << 10
	// long is a message's length for which a stream is widened.
	long = 16 << 10
)

// Conn is one gRPC connection of a proxy.
type Conn struct {
	cfg    *Config
	side   wire.Side
	origin wire.Origin
	h      *h2.Conn
	hev    h2.Event
	lent   []byte // heads of events, until Begin
	free   []*stream

	late    []unsent
	drained bool // no more calls will be opened
	enc     encoder
	req     wire.RequestHead
	resp    wire.ResponseHead
	rst     wire.ResetHead
}

// stream is one call on a Conn.
type stream struct {
	wire.Stream
	h *h2.Stream

	// What arrives: the message's prefix, and how many of its bytes are still to come.
	prefix   [5]byte
	prefixN  int
	left     int
	body     bool // the prefix has come whole, and the bytes have not
	first    bool // no byte of the message was told
	headers  bool // a client has told the initial metadata
	owed     int64
	owedCost int64

	// What leaves.
	outPrefix  [5]byte
	outLeft    int  // bytes of outPrefix that are still to be sent
	outMessage bool // a message has begun to leave
	sent       bool // a server has sent its HEADERS

	contentType string // of the request
	encoding    string // that a compressed answer has if nobody says

	unsent bool // the server takes no headers as long as the request's: nothing was said of it, and Late tells
}

// NewConn returns the machine of a connection.
func NewConn(cfg *Config, side wire.Side, origin wire.Origin) *Conn {
	c := &Conn{cfg: cfg, side: side, origin: origin}
	role := h2.Server
	if side == wire.Dialer {
		role = h2.Client
	}
	c.h = h2.NewConn(h2.Config{Side: role, MaxStreams: cfg.MaxStreams, Window: narrow, PingEvery: cfg.PingEvery})
	return c
}

var _ session.Foreign = (*Conn)(nil)

// Hello has nothing to say: a client's first words are queued, and name nobody.
func (c *Conn) Hello(wire.Hello) {}

// Welcome answers a client.
func (c *Conn) Welcome(wire.Welcome) { c.h.Start() }

// Refuse turns a client away.
func (c *Conn) Refuse(g wire.GoAway) {
	code := http2.ErrCodeNo
	if !g.Code.Graceful() {
		code = http2.ErrCodeRefusedStream
	}
	c.h.End(code, g.Message)
}

// SetOrigin names this side anew.
func (c *Conn) SetOrigin(o wire.Origin) { c.origin = o }

// Begin says that what events lent is not used any more.
func (c *Conn) Begin() { c.lent = c.lent[:0] }

// Queued is the number of bytes that wait for Take.
func (c *Conn) Queued() int { return c.h.Queued() }

// Take returns the bytes to write.
func (c *Conn) Take(spare []byte) []byte { return c.h.Take(spare) }

// Trim gives back memory that an idle connection does not need.
func (c *Conn) Trim() {
	c.h.Trim()
	if c.h.OpenStreams() == 0 {
		c.lent, c.free, c.enc = nil, nil, encoder{}
	}
}

// Tick tells that half a second has passed.
func (c *Conn) Tick() { c.h.Tick() }

// Ping asks for a sign of life.
func (c *Conn) Ping(payload uint64) bool { return c.h.Ping(payload) }

// Release says that the handler of a stream that ended by a reset has returned.
func (c *Conn) Release() { c.h.Release() }

// Started needs no note: a stream that a client opened is taken for processed unless it is said not to be.
func (c *Conn) Started(*wire.Stream) {}

// OpenStreams is the number of calls that are open.
func (c *Conn) OpenStreams() int { return c.h.OpenStreams() }

// Limits returns what the two sides accept, in the terms of frames.
func (c *Conn) Limits() (local, peer wire.Limits) {
	own, others := c.h.MaxStreams()
	local, peer = wire.DefaultLimits(), wire.DefaultLimits()
	local.MaxStreams, peer.MaxStreams = own, others
	return local, peer
}

// CanOpen tells whether Open would succeed.
func (c *Conn) CanOpen() error { return openError(c.h.CanOpen()) }

func openError(err error) error {
	switch {
	case errors.Is(err, h2.ErrStreamLimit):
		return wire.ErrStreamLimit
	case err != nil:
		return wire.ErrNotOpen
	}
	return nil
}

// Takes tells whether messages are gRPC's: those of SDKs, which name no content type, are.
func (c *Conn) Takes(contentType []byte) bool {
	return len(contentType) == 0 || string(contentType) == "application/grpc" || isGRPC(string(contentType))
}

// Open opens a stream for a call. A Send of its REQUEST must follow.
func (c *Conn) Open(call any) (*wire.Stream, error) {
	if c.drained {
		return nil, wire.ErrNotOpen
	}
	s := c.newStream()
	h, err := c.h.Open(s)
	if err != nil {
		c.free = append(c.free, s)
		return nil, openError(err)
	}
	s.h, s.ID, s.Call = h, h.ID, call
	h.Want = len(s.prefix)
	return &s.Stream, nil
}

// maxFree bounds the streams that are kept to be used again.
const maxFree = 128

func (c *Conn) newStream() *stream {
	if n := len(c.free); n > 0 {
		s := c.free[n-1]
		c.free = c.free[:n-1]
		*s = stream{}
		return s
	}
	return new(stream)
}

// find returns the open stream of a call.
func (c *Conn) find(ws *wire.Stream) *stream {
	if h := c.h.Stream(ws.ID); h != nil {
		s, _ := h.User.(*stream)
		return s
	}
	return nil
}

// forget ends what is known of a stream, and resets it if its HTTP/2 side is open still.
func (c *Conn) forget(s *stream, code http2.ErrCode) {
	if h := c.h.Stream(s.ID); h != nil && h.User == s {
		if s.unsent {
			c.h.Abandon(h)
		} else {
			c.h.Reset(h, code)
		}
	}
	c.closed(s)
}

// closed ends what is known of a stream whose HTTP/2 side is closed.
func (c *Conn) closed(s *stream) {
	s.Call, s.h = nil, nil
	if len(c.free) < maxFree {
		c.free = append(c.free, s)
	}
}

// Each calls f with the Call of every open stream.
func (c *Conn) Each(f func(call any)) {
	c.h.Each(func(h *h2.Stream) {
		if s, ok := h.User.(*stream); ok && s.Call != nil {
			f(s.Call)
		}
	})
}

// all lists the open streams, since closing them changes the table.
func (c *Conn) all() (all []*stream) {
	c.h.Each(func(h *h2.Stream) {
		if s, ok := h.User.(*stream); ok && s.Call != nil {
			all = append(all, s)
		}
	})
	return all
}

// Consume gives credit back for frames that have left this proxy: of the bytes that they came in as many as their share is
// of the frames' cost.
func (c *Conn) Consume(ws *wire.Stream, cost int64) {
	s := c.find(ws)
	if s == nil || s.owedCost <= 0 {
		return
	}
	n := s.owed
	if cost < s.owedCost {
		n = s.owed * cost / s.owedCost
	}
	s.owed -= n
	s.owedCost = max(0, s.owedCost-cost)
	c.h.Consume(s.h, int(n))
}

// Turn returns the stream of a call whose Send found no room and may go on.
func (c *Conn) Turn() *wire.Stream {
	for h := c.h.Turn(); h != nil; h = c.h.Turn() {
		if s, _ := h.User.(*stream); s != nil && s.Call != nil {
			return &s.Stream
		}
	}
	return nil
}

// Leave asks a client to move.
func (c *Conn) Leave(_ wire.GoAwayCode, message string) { c.h.Leave(message) }

// PeerLeaves tells whether the peer has asked this side to move.
func (c *Conn) PeerLeaves() bool { return c.h.PeerLeaves() }

// Drained says that this side opens no more calls.
func (c *Conn) Drained() {
	if c.side == wire.Dialer {
		c.drained = true
	}
}

// Done tells whether nothing can happen any more that matters.
func (c *Conn) Done() bool { return c.h.Closed() || c.drained && c.h.OpenStreams() == 0 }

// Finish is the drain deadline: every open call ends, and the client is told which were never seen.
func (c *Conn) Finish(_ wire.GoAwayCode, message string, ended func(call any, st wire.Status)) {
	if c.h.Closed() {
		return
	}
	lost := wire.Refuse(wire.ReasonDrainDeadline, c.origin, message)
	for _, s := range c.all() {
		call := s.Call
		c.Reset(&s.Stream, &wire.ResetHead{Status: lost})
		if c.side == wire.Acceptor {
			c.h.Release()
		}
		if ended != nil {
			ended(call, lost)
		}
	}
	if c.side == wire.Acceptor {
		c.h.Finish(message)
	}
	c.h.Close()
}

// End closes the connection for a reason of the owner's.
func (c *Conn) End(code wire.GoAwayCode, why string) {
	switch code {
	case wire.GoAwayEnhanceYourCalm:
		c.h.End(http2.ErrCodeEnhanceYourCalm, why)
	case wire.GoAwayProtocolError:
		c.h.End(http2.ErrCodeProtocol, why)
	default:
		c.h.End(http2.ErrCodeNo, why)
	}
}

// Lost closes every open stream because the connection ended. Of which of them nothing was written it does not say, other than by
// the server's GOAWAY.
func (c *Conn) Lost(_ bool, ended func(call any, st wire.Status)) {
	c.h.Close()
	for _, s := range c.all() {
		call, st := s.Call, wire.Refuse(wire.ReasonConnectionLost, c.origin, "the connection was lost")
		if c.side == wire.Dialer && c.h.Unprocessed(s.ID) {
			st = wire.Refuse(wire.ReasonProxyDraining, wire.OriginBridge, "the server left before it saw the call")
		}
		c.forget(s, http2.ErrCodeCancel)
		if ended != nil {
			ended(call, st)
		}
	}
}

// broken tells a session why the connection ended, in its terms.
func broken(err error) error {
	var e *h2.ConnError
	if !errors.As(err, &e) {
		return err
	}
	code := wire.GoAwayProtocolError
	if e.Code == http2.ErrCodeEnhanceYourCalm {
		code = wire.GoAwayEnhanceYourCalm
	}
	return &wire.ConnError{Code: code, Message: e.Error(), Offset: e.Offset}
}
