package session

import (
	"fmt"

	"github.com/octomesh/octomesh/core/proxy/policy"
	"github.com/octomesh/octomesh/core/wire"
)

// Machine is the state machine of one connection: bytes in, events out, and output that somebody else writes. wire.Conn is
// the one of OctoMesh's own protocol, and says what each method means. One of a foreign protocol does the same in that
// protocol's terms: what comes in is told as the events of a wire.Conn, with heads of octo.wire.v1, and what a wire.Conn would
// send is said as the foreign protocol says it. So a foreign call is a [Call] from its first byte on, and everything that
// happens to calls happens to it.
//
// Frames that an event brings may borrow memory of the machine's own until the next Begin.
type Machine interface {
	Hello(wire.Hello)
	Welcome(wire.Welcome)
	Refuse(wire.GoAway)
	SetOrigin(wire.Origin)

	Feed(b []byte, ev *wire.Event) (n int, err error)
	Take(spare []byte) []byte
	Queued() int
	Trim()
	Tick()
	Ping(payload uint64) bool

	CanOpen() error
	Open(call any) (*wire.Stream, error)
	Send(s *wire.Stream, o *wire.Out) (done bool)
	Consume(s *wire.Stream, cost int64)
	Reset(s *wire.Stream, r *wire.ResetHead)
	ForwardReset(s *wire.Stream, head []byte)
	Started(s *wire.Stream)
	Release()
	Each(f func(call any))
	OpenStreams() int
	Limits() (local, peer wire.Limits)

	Leave(code wire.GoAwayCode, message string)
	PeerLeaves() bool
	Drained()
	Done() bool
	Finish(code wire.GoAwayCode, message string, ended func(call any, st wire.Status))
	End(code wire.GoAwayCode, why string)
	Lost(unwritten bool, ended func(call any, st wire.Status))
}

// Foreign is the machine of a foreign protocol. One frame of it may mean several things: its Feed may return 0 with an event,
// and is called again with the same bytes.
type Foreign interface {
	Machine
	// Begin says that whatever earlier events lent is not used any more.
	Begin()
	// Takes tells a dialer whether the peer reads messages of a content type; empty: the caller has named none. Calls with others are refused
	// before a stream is opened for them.
	Takes(contentType []byte) bool
	// Turn returns the stream of a call whose Send found no room, and for which there is some: it is EventCredit, one call at a time, so that
	// who has waited longest comes first to what there is. nil: there is none. The session's owner asks when all that came was acted on.
	Turn() *wire.Stream
	// Late tells what no byte has brought: EventFailed for a call that the protocol, or its peer, has no room for, found as it was to be sent. The
	// stream is closed; an acceptor's counts until Release. nil: nothing. The session's owner asks whenever it flushes.
	Late() *wire.Event
}

// Plain is the machine of a protocol that has neither handshakes nor pings nor a word for leaving. Its dialer may open calls at once; a client's
// silence proves nothing, and this side closes the connection of one that has served its time.
type Plain interface {
	Foreign
	// Plain marks the protocol. Late tells more of it: EventWelcome, of a dialer, before anything else; EventResponse for a call that was sent and
	// gets no answer.
	Plain()
	// Lost leaves one-way calls open that came in here, as nobody waits for their ends: they go on (SEM-8). Called again, it ends them as well.
	Lost(unwritten bool, ended func(call any, st wire.Status))
}

// Protocol is a foreign protocol that connections may speak.
type Protocol interface {
	Name() string
	// Sniff tells by a connection's first bytes whether it speaks the protocol.
	Sniff(prefix []byte) Verdict
	// Machine makes the machine of one connection.
	Machine(side wire.Side, origin wire.Origin) Foreign
}

// Solitary is a Protocol that may carry one call at a time on a connection: as many connections are made to a peer as calls are open.
type Solitary interface {
	Protocol
	Solitary() bool
}

// Verdict is what a connection's first bytes say about its protocol.
type Verdict uint8

// The verdicts.
const (
	No   Verdict = iota // it is not spoken
	More                // too few bytes have come
	Yes
)

// output is what a session's connection writes: that of whichever machine it has.
type output struct{ *Session }

func (o output) Take(spare []byte) []byte { return o.wc.Take(spare) }

func (o output) Queued() int { return o.wc.Queued() }

// speak gives the session its machine.
func (s *Session) speak(p Protocol) {
	s.choosing = false
	s.foreign, s.spoken = p.Machine(s.side, s.opts.Origin), p.Name()
	s.plain, _ = s.foreign.(Plain)
	s.wc, s.native = s.foreign, nil
}

// Protocol names the foreign protocol that is spoken; empty: it is OctoMesh's own. It is for handlers.
func (s *Session) Protocol() string { return s.spoken }

// patient tells whether the peer's silence proves nothing: a foreign server may take it amiss to be asked, and some protocols have
// no words for it. The kernel's keep-alive finds the dead ones then.
func (s *Session) patient() bool {
	return s.foreign != nil && (s.side == wire.Dialer || s.plain != nil)
}

// Wordless tells whether the protocol has no word by which a peer that was asked to move says that it has: whoever finds the session
// finished closes it.
func (s *Session) Wordless() bool {
	s.tc.Lock()
	defer s.tc.Unlock()
	return s.plain != nil
}

// begin opens a dialed session whose protocol has no handshake.
func (s *Session) begin() {
	if s.plain == nil {
		return
	}
	s.tc.Lock()
	ev := s.foreign.Late()
	s.tc.Unlock()
	if ev != nil && ev.Kind == wire.EventWelcome {
		s.ev = *ev
		s.onConnection()
	}
}

// giveTurns lets calls go on that have waited for room in a foreign session. No lock is held.
func (s *Session) giveTurns(b *Batch) {
	for c, ok := s.turn(); ok; c, ok = s.turn() {
		if c == nil {
			continue
		}
		c.mu.Lock()
		switch {
		case s == c.down:
			c.pumpDown(b)
		case s == c.up: // of an attempt that was given up nothing waits
			c.pumpUp(b)
		}
		c.mu.Unlock()
		c.drop()
	}
}

// turn returns the call whose turn it is, which the caller drops, or nil for a copy of one, of which no more is sent; false: it is nobody's.
func (s *Session) turn() (c *Call, ok bool) {
	s.tc.Lock()
	defer s.tc.Unlock()
	st := s.foreign.Turn()
	if st == nil {
		return nil, false
	}
	if c, _ = st.Call.(*Call); c != nil {
		c.hold()
	}
	return c, true
}

// tellLate handles what the machine has to tell of calls though no byte has come: ev, and what follows. No lock is held.
func (s *Session) tellLate(ev *wire.Event, b *Batch) {
	for ev != nil {
		switch c := ev.Call.(type) {
		case *Call:
			c.mu.Lock()
			switch {
			case s != c.down && (s != c.up || ev.Frame.Stream != c.usID): // it is of an attempt that was given up
			case ev.Kind == wire.EventResponse:
				c.fromUp(ev.Kind, &ev.Frame, b)
			default:
				c.streamEnded(s, ev, b)
			}
			c.mu.Unlock()
			c.drop() // the stream's
		case *Shadow:
			s.shadowEnded(c, policy.CopyOutcome(ev.Status.Code))
		}
		s.tc.Lock()
		ev = s.foreign.Late()
		s.tc.Unlock()
	}
}

// misfit is the status of a call whose messages the peer of a foreign session does not read. Nothing of it was sent.
func (s *Session) misfit(contentType []byte) wire.Status {
	what := "of content type " + fmt.Sprintf("%.80q", contentType)
	if len(contentType) == 0 {
		what = "an SDK's, with no content type"
	}
	return wire.Refuse(wire.ReasonUnknownContentType, wire.OriginBridge, fmt.Sprintf("bridge: the call's messages are %s, and the server at %s speaks %s: "+
		"nothing is converted on the way; call it by %s, or call a target whose servers speak what the caller speaks", what, s.peer.Address, s.spoken, s.spoken))
}

// choose gives an accepted session its machine by the first bytes; false: too few have come. What no protocol knows is
// OctoMesh's own to refuse.
func (s *Session) choose(b []byte) bool {
	undecided := false
	for _, p := range s.opts.Protocols {
		switch p.Sniff(b) {
		case Yes:
			s.speak(p)
			return true
		case More:
			undecided = true
		}
	}
	s.choosing = undecided
	return !undecided
}

// send is Machine.Send. The native machine is called by itself, so that o, which its callers have on their stacks, stays there.
func (s *Session) send(st *wire.Stream, o *wire.Out) (done bool) {
	if s.native != nil {
		return s.native.Send(st, o)
	}
	s.out = *o
	done = s.wc.Send(st, &s.out)
	*o = s.out
	s.out = wire.Out{}
	return done
}

// reset is Machine.Reset, likewise.
func (s *Session) reset(st *wire.Stream, r *wire.ResetHead) {
	if s.native != nil {
		s.native.Reset(st, r)
		return
	}
	s.resetHead = *r
	s.wc.Reset(st, &s.resetHead)
	s.resetHead = wire.ResetHead{}
}
