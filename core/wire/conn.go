package wire

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Side says which end of a connection this is.
type Side uint8

// The two sides. The dialer's streams have odd ids, the acceptor's even ones.
const (
	Dialer Side = iota
	Acceptor
)

// Config is what a Conn is made of.
type Config struct {
	Side Side
	// Local is what this side accepts; zeros mean the defaults.
	Local Limits
	// Origin is the name under which this side reports broken streams and refusals.
	Origin Origin
}

// Conn is one side of a connection: a state machine between bytes and events. See the package's comment
// for who owns what. After an error from Feed, write what Take still gives, and close.
type Conn struct {
	side   Side
	origin Origin
	local  Limits
	peer   Limits

	phase  phase
	opens  bool   // this side opens the calls
	offset uint64 // of the next frame, from the connection's first byte

	streams table
	free    []*Stream
	// held counts, at the side that serves, open streams, and reset ones whose handler has not returned.
	held     int
	nextID   uint32 // the next id that this side opens
	highest  uint32 // the highest id that was opened, by whichever side opens
	startedN uint32 // the highest id that was started
	resets   int    // RESETs since the last tick: received, or, at the side that opens, sent
	taken    uint32 // what highest was when Take returned bytes last
	before   uint32 // and the time before

	unwritten uint32 // of the streams above nothing was written

	out      []byte
	refusals []refusal // RESETs for refused REQUESTs, encoded when flushed
	delayed  delayed

	pongQueued   bool
	pingOut      bool
	gotGoAway    bool
	sentGoAway   bool
	sentFinal    bool
	gotFinal     bool
	finalLast    uint32
	sentDrained  bool
	gotDrained   bool
	scratchReset ResetHead
	scratchHead  []byte
}

type phase uint8

const (
	phaseHandshake phase = iota // nothing heard
	phaseHello                  // the acceptor owes an answer to HELLO
	phaseOpen
	phaseClosed // whatever arrives is discarded
)

type refusal struct {
	id     uint32
	reason Reason
}

// NewConn returns a connection before its handshake. A dialer calls [Conn.Hello] next.
func NewConn(cfg Config) *Conn {
	return &Conn{side: cfg.Side, origin: cfg.Origin, local: cfg.Local.Normalize(), peer: DefaultLimits(), unwritten: math.MaxUint32}
}

// Hello queues the dialer's first word. Versions, and limits if they are zero, are filled in.
func (c *Conn) Hello(h Hello) {
	if h.LowestVersion == 0 {
		h.LowestVersion, h.HighestVersion = Version, Version
	}
	h.Limits = c.local
	c.opens = h.Role == RoleCall
	c.nextID = 1
	c.appendFrame(0, TypeHello, 0, h.Append(c.scratchHead[:0]))
}

// Welcome answers a HELLO that the owner accepts.
func (c *Conn) Welcome(w Welcome) {
	w.Version = Version
	w.Limits = c.local
	c.phase = phaseOpen
	c.nextID = 2
	c.appendFrame(0, TypeWelcome, 0, w.Append(c.scratchHead[:0]))
}

// Refuse answers a HELLO that the owner does not accept; the connection carries nothing any more.
func (c *Conn) Refuse(g GoAway) {
	c.phase = phaseClosed
	c.appendGoAway(g)
}

// Resume takes up an established connection between handshakes that happened elsewhere: tests, vectors
// and in-process links use it.
func (c *Conn) Resume(role Role, peer Limits) {
	c.phase = phaseOpen
	c.peer = peer.Normalize()
	c.opens = (role == RoleCall) == (c.side == Dialer)
	c.nextID = 1 + uint32(c.side)
}

// SetOrigin names this side anew, once the peer's role tells what it is to the peer.
func (c *Conn) SetOrigin(o Origin) { c.origin = o }

// Opens tells whether this side opens the calls of the connection.
func (c *Conn) Opens() bool { return c.opens }

// Ready tells whether the handshake is done and the connection not given up.
func (c *Conn) Ready() bool { return c.phase == phaseOpen }

// Closed tells whether the connection carries nothing any more.
func (c *Conn) Closed() bool { return c.phase == phaseClosed }

// Limits returns what the two sides accept.
func (c *Conn) Limits() (local, peer Limits) { return c.local, c.peer }

// OpenStreams is the number of streams that are open.
func (c *Conn) OpenStreams() int { return c.streams.n }

// Queued is the number of bytes that wait for Take.
func (c *Conn) Queued() int { return len(c.out) + len(c.refusals)*refusalSize }

// Take returns the bytes to write and uses spare's memory for those to come. What it returned counts as
// written: it must go to the peer whole and in order, or the connection be given up.
func (c *Conn) Take(spare []byte) []byte {
	for _, r := range c.refusals {
		c.appendRefusal(r)
	}
	c.refusals = c.refusals[:0]
	out := c.out
	if len(out) > 0 {
		c.before, c.taken = c.taken, c.highest
	}
	c.out = spare[:0]
	c.pongQueued = false
	return out
}

// Feed reads the frame at the start of b and says in ev what it means. It returns how many bytes it
// took: 0 if b does not hold a whole frame yet. An error ends the connection: a GOAWAY that says why is
// queued. Feed may be called with the same bytes again after 0, and never blocks.
func (c *Conn) Feed(b []byte, ev *Event) (n int, err error) {
	ev.Kind, ev.Stream, ev.Call = EventNone, nil, nil
	if c.phase == phaseClosed {
		c.offset += uint64(len(b))
		return len(b), nil
	}
	if len(b) < HeaderSize {
		return 0, nil
	}
	h, err := ParseHeader(b, c.local.MaxFrameBody)
	if err != nil {
		return 0, c.fail(err.Error())
	}
	head := HeaderSize + int(h.HeadLen)
	size := head + int(h.BodyLen)
	if len(b) < size {
		return 0, nil
	}
	ev.Frame = Frame{h, b[HeaderSize:head:head], b[head:size:size]}
	if err := c.receive(ev); err != nil {
		return 0, err
	}
	c.offset += uint64(size)
	return size, nil
}

func (c *Conn) receive(ev *Event) error {
	t := ev.Frame.Type
	if t.onStream() {
		return c.receiveStream(ev)
	}
	if c.phase != phaseOpen && t != TypeHello && t != TypeWelcome && t != TypeGoAway {
		return c.fail(fmt.Sprintf("%v before the handshake was done", t))
	}
	if !t.onConnection() {
		return nil // of a later version: skipped, whatever its stream
	}
	if ev.Frame.Stream != 0 {
		return c.fail(fmt.Sprintf("%v on stream %d, want 0", t, ev.Frame.Stream))
	}
	if ev.Frame.Has(FlagCritical) {
		return c.fail(fmt.Sprintf("%v has an unknown critical flag", t))
	}
	switch t {
	case TypeHello:
		return c.receiveHello(ev)
	case TypeWelcome:
		return c.receiveWelcome(ev)
	case TypePing:
		return c.receivePing(ev)
	case TypePong:
		c.pingOut = false
		ev.Kind, ev.Pong = EventPong, binary.BigEndian.Uint64(ev.Frame.Body)
	case TypeGoAway:
		return c.receiveGoAway(ev)
	case TypeDrained:
		if c.opens {
			return c.fail("DRAINED from the side that opens no calls")
		}
		c.gotDrained = true
		ev.Kind = EventDrained
	}
	return nil
}

func (c *Conn) receiveHello(ev *Event) error {
	if c.side != Acceptor || c.phase != phaseHandshake {
		return c.fail("HELLO out of place")
	}
	h := &ev.Hello
	if h.Parse(ev.Frame.Head) != nil {
		return c.fail("the head of HELLO does not parse")
	}
	if h.LowestVersion > Version || h.HighestVersion < Version {
		return c.end(GoAwayRefused, fmt.Sprintf(
			"no common version: the peer speaks %d to %d, this side %d", h.LowestVersion, h.HighestVersion, Version))
	}
	if h.Role != RoleCall && h.Role != RoleServe {
		return c.end(GoAwayRefused, fmt.Sprintf("unknown role %d", h.Role))
	}
	c.opens = h.Role == RoleServe
	c.peer = h.Limits.Normalize()
	c.phase = phaseHello
	ev.Kind = EventHello
	return nil
}

func (c *Conn) receiveWelcome(ev *Event) error {
	if c.side != Dialer || c.phase != phaseHandshake {
		return c.fail("WELCOME out of place")
	}
	w := &ev.Welcome
	if w.Parse(ev.Frame.Head) != nil {
		return c.fail("the head of WELCOME does not parse")
	}
	if w.Version != Version {
		return c.end(GoAwayRefused, fmt.Sprintf("the acceptor chose version %d, offered was %d", w.Version, Version))
	}
	c.peer = w.Limits.Normalize()
	c.phase = phaseOpen
	ev.Kind = EventWelcome
	return nil
}

func (c *Conn) receivePing(ev *Event) error {
	if c.pongQueued {
		return c.end(GoAwayEnhanceYourCalm, "a second PING before the first was answered")
	}
	c.pongQueued = true
	c.appendFirst(TypePong, ev.Frame.Body)
	return nil
}

func (c *Conn) receiveGoAway(ev *Event) error {
	if c.phase == phaseHello || c.phase == phaseHandshake && c.side == Acceptor {
		return c.fail("GOAWAY before the handshake was done")
	}
	g := &ev.GoAway
	if g.Parse(ev.Frame.Head) != nil {
		return c.fail("the head of GOAWAY does not parse")
	}
	ev.Kind = EventGoAway
	c.gotGoAway = true
	if g.Final && c.opens { // last speaks of the receiver's own streams only
		c.gotFinal, c.finalLast = true, g.Last
	}
	if c.phase == phaseHandshake || !g.Code.Graceful() {
		c.phase = phaseClosed
	}
	return nil
}

// Ping queues a PING in front of what is queued, unless one is still unanswered.
func (c *Conn) Ping(payload uint64) bool {
	if c.pingOut || c.phase != phaseOpen {
		return false
	}
	c.pingOut = true
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], payload)
	c.appendFirst(TypePing, b[:])
	return true
}

// Tick tells the connection that half a second has passed.
func (c *Conn) Tick() {
	c.resets = 0
	if len(c.delayed.order) > 0 && c.phase == phaseOpen {
		c.sendDelayed()
	}
}

// Trim gives back the memory of an idle connection's output.
func (c *Conn) Trim() {
	if len(c.out) == 0 {
		c.out = nil
	}
	if cap(c.scratchHead) > keptScratch {
		c.scratchHead = nil
	}
}

// keptScratch is what an idle connection keeps to build heads in: most are short.
const keptScratch = 1 << 10

// fail ends the connection because the peer broke the framing or the order of ids.
func (c *Conn) fail(why string) error { return c.end(GoAwayProtocolError, why) }

func (c *Conn) end(code GoAwayCode, why string) error {
	c.phase = phaseClosed
	e := &ConnError{code, why, c.offset}
	c.appendGoAway(GoAway{Code: code, Last: c.startedN, Message: why, Offset: c.offset})
	return e
}

// End closes the connection for a reason of the owner's, such as a limit of its own, and tells the peer.
func (c *Conn) End(code GoAwayCode, why string) {
	if c.phase != phaseClosed {
		_ = c.end(code, why)
	}
}

func (c *Conn) appendGoAway(g GoAway) {
	c.sentGoAway = true
	c.scratchHead = g.Append(c.scratchHead[:0])
	c.appendFrame(0, TypeGoAway, 0, c.scratchHead)
}

// appendFrame queues a frame without a body.
func (c *Conn) appendFrame(stream uint32, t Type, flags Flags, head []byte) {
	c.out = Header{Type: t, Flags: flags, HeadLen: uint16(len(head)), Stream: stream}.Append(c.out)
	c.out = append(c.out, head...)
}

// appendFirst queues a frame of stream 0 in front of what is queued: liveness must not wait for data.
func (c *Conn) appendFirst(t Type, body []byte) {
	const size = HeaderSize + 8
	n := len(c.out)
	c.out = append(c.out, make([]byte, size)...)
	copy(c.out[size:], c.out[:n])
	Header{Type: t, BodyLen: 8}.Append(c.out[:0])
	copy(c.out[HeaderSize:size], body)
}
