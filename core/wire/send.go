package wire

import "errors"

// Errors of Open. The caller waits, moves to another connection, or refuses the call.
var (
	// ErrStreamLimit: the peer's max_streams are open; wait until one ends.
	ErrStreamLimit = errors.New("octo: the peer's stream limit is reached")
	// ErrNotOpen: the connection opens no calls any more, or not yet.
	ErrNotOpen = errors.New("octo: the connection takes no new calls")
)

// idReserve is how far below 2^32 a side stops opening streams and moves to a new connection.
const idReserve = 1 << 20

// CanOpen tells whether Open would succeed.
func (c *Conn) CanOpen() error {
	if c.phase != phaseOpen || !c.opens || c.sentDrained || c.gotFinal || c.IDsExhausted() {
		return ErrNotOpen
	}
	if c.Room() == 0 {
		return ErrStreamLimit
	}
	return nil
}

// Room is how many streams the peer's limit leaves: those whose RESET waits count, the peer does not know yet.
func (c *Conn) Room() int {
	return max(0, int(c.peer.MaxStreams)-c.streams.n-len(c.delayed.heads))
}

// IDsExhausted tells whether stream ids run out: time for a new connection.
func (c *Conn) IDsExhausted() bool { return c.nextID > 1<<32-1-idReserve }

// Open opens a stream for call. A Send of its REQUEST must follow before anything else is opened or
// sent, since ids must appear in their order.
func (c *Conn) Open(call any) (*Stream, error) {
	if err := c.CanOpen(); err != nil {
		return nil, err
	}
	s := c.newStream(c.nextID)
	s.Call = call
	c.highest = c.nextID
	c.nextID += 2
	return s, nil
}

// Out is a frame to send. Its head is given in up to three pieces, so that a hop can put fields before
// and behind the head that it forwards.
type Out struct {
	Type  Type
	Flags Flags
	Pre   []byte // a timeout, where the head has none
	Head  []byte
	Post  []byte // hop fields
	Body  []byte
}

// HeadLen is the length of the head's pieces together; over [MaxHead] they do not fit a frame.
func (o *Out) HeadLen() int { return len(o.Pre) + len(o.Head) + len(o.Post) }

// minFragment keeps a sender that is short of credit from sending slivers. It is far below half of any
// window, so that the grant it waits for is on its way.
const minFragment = 1 << 10

// totalSize is the most bytes that a total_length field takes.
const totalSize = 1 + 10

// Send queues a frame of stream s, as much of it as credit and the peer's limits allow: longer messages
// are split into fragments. If it returns false, credit ran out: o holds what remains, and [EventCredit]
// says when to call Send with it again. Pieces of a head that do not fit a frame are left out, Post
// first: hops check what they must not lose.
//
// A RESPONSE with END closes the stream.
func (c *Conn) Send(s *Stream, o *Out) (done bool) {
	if o.HeadLen() > MaxHead {
		o.Post = nil
		if o.HeadLen() > MaxHead {
			o.Pre = nil
		}
	}
	if o.Flags&FlagMessage == 0 {
		c.appendOut(s, o, o.Flags, nil, nil)
		c.sent(s, o)
		return true
	}
	for {
		room := min(s.sendCredit-FrameCost, int64(c.peer.MaxFrameBody))
		if int64(len(o.Body)) <= room {
			s.sendCredit -= FrameCost + int64(len(o.Body))
			c.appendOut(s, o, o.Flags, nil, o.Body)
			c.sent(s, o)
			return true
		}
		if room < minFragment {
			s.blocked = true
			return false
		}
		c.sendFragment(s, o, int(min(room, PreferredFragment)))
	}
}

// sendFragment queues the first n bytes of o's body and makes o the rest.
func (c *Conn) sendFragment(s *Stream, o *Out, n int) {
	var scratch [totalSize]byte
	var total []byte
	frame := *o
	first := !s.outMessage
	if first && o.Flags&FlagMore == 0 {
		total = AppendTotalLength(scratch[:0], uint64(len(o.Body)))
	}
	switch {
	case o.Type == TypeResponse && o.Flags&FlagEnd != 0:
		// The head ends the call, so it rides on the last fragment.
		frame.Type, frame.Pre, frame.Head, frame.Post = TypeMessage, nil, nil, nil
		if first && !s.sentResponse {
			frame.Type, frame.Head = TypeResponse, c.beginning(o.Head)
		}
	case total != nil && o.HeadLen()+totalSize > MaxHead:
		// The head leaves no room for the length: it goes alone, the message follows.
		c.appendOut(s, o, o.Flags&^(FlagMessage|FlagEnd|FlagMore|FlagCompressed), nil, nil)
		frame.Type, frame.Pre, frame.Head, frame.Post = TypeMessage, nil, nil, nil
		fallthrough
	default:
		o.Type, o.Pre, o.Head, o.Post = TypeMessage, nil, nil, nil
	}
	c.appendOut(s, &frame, o.Flags&^FlagEnd|FlagMore, total, o.Body[:n])
	s.sendCredit -= FrameCost + int64(n)
	s.outMessage = true
	s.sentResponse = s.sentResponse || frame.Type == TypeResponse
	o.Body = o.Body[n:]
	o.Flags &^= FlagCompressed
}

// beginning copies from a final head what an answer begins with, for a RESPONSE that goes before it (W-MSG-13): nothing, where that
// and a total_length are longer than a head may be, or where the head does not parse.
func (c *Conn) beginning(head []byte) []byte {
	var f field
	out := c.scratchHead[:0]
	for at := 0; at < len(head); at = f.end {
		if !next(head, at, &f) {
			return nil
		}
		if f.num >= firstOfBeginning && f.num <= lastOfBeginning {
			out = append(out, head[at:f.end]...)
		}
	}
	c.scratchHead = out
	if len(out)+totalSize > MaxHead {
		return nil
	}
	return out
}

func (c *Conn) appendOut(s *Stream, o *Out, flags Flags, total, body []byte) {
	c.out = Header{
		Type: o.Type, Flags: flags, HeadLen: uint16(o.HeadLen() + len(total)), Stream: s.ID, BodyLen: uint32(len(body)),
	}.Append(c.out)
	c.out = append(c.out, o.Pre...)
	c.out = append(c.out, o.Head...)
	c.out = append(c.out, o.Post...)
	c.out = append(c.out, total...)
	c.out = append(c.out, body...)
}

// sent books a frame that was queued whole.
func (c *Conn) sent(s *Stream, o *Out) {
	if o.Flags&FlagMessage != 0 {
		s.outMessage = o.Flags&FlagMore != 0
	}
	s.localEnd = s.localEnd || o.Flags&FlagEnd != 0
	if o.Type != TypeResponse {
		return
	}
	s.sentResponse = true
	if o.Flags&FlagEnd != 0 {
		c.held--
		c.removeStream(s)
	}
}

// Started notes that a handler has the stream, or that a byte of it was written upstream: from here on
// nobody may call it not processed.
func (c *Conn) Started(s *Stream) {
	s.started = true
	c.startedN = max(c.startedN, s.ID)
}

// Consume gives credit back for received frames whose cost, as [Header.Cost] has it, has left this side's
// memory. The grant is sent once half a window has come together, and not at all after END.
func (c *Conn) Consume(s *Stream, cost int64) {
	if s.remoteEnd || cost == 0 {
		return
	}
	s.recvPending += cost
	if s.recvPending < int64(c.local.StreamWindow/2) {
		return
	}
	grant := uint32(s.recvPending)
	s.recvWindow += s.recvPending
	s.recvPending = 0
	c.out = Header{Type: TypeWindow, Stream: s.ID, BodyLen: 4}.Append(c.out)
	c.out = append(c.out, byte(grant>>24), byte(grant>>16), byte(grant>>8), byte(grant))
}

// Reset ends a stream at once, behind what is queued. At the side that serves, the stream's handler may
// run on until the owner calls [Conn.Release] (W-END-9). At the side that opens, the stream counts while its RESET waits, where there were
// many (W-FLOW-14).
func (c *Conn) Reset(s *Stream, r *ResetHead) {
	c.scratchHead = r.Append(c.scratchHead[:0])
	if len(c.scratchHead) > MaxHead { // a peer's details: the code matters more
		c.scratchHead = r.short(c.scratchHead[:0])
	}
	c.reset(s.ID, c.scratchHead)
	c.removeStream(s)
}

// ForwardReset ends a stream with the head of a RESET that came from the other side of a hop.
func (c *Conn) ForwardReset(s *Stream, head []byte) {
	c.reset(s.ID, head)
	c.removeStream(s)
}

// Release says that the handler of a stream that ended by a reset, whoever sent it, has returned.
func (c *Conn) Release() { c.held-- }
