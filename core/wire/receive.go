package wire

import (
	"encoding/binary"
	"fmt"
)

// maxResets is how many RESETs a tick of half a second may bring from who opens streams before he is told to calm
// down. Those of a callee answer REQUESTs of this side.
func (c *Conn) maxResets() int { return max(1000, 4*int(c.local.MaxStreams)) }

// receiveStream handles a frame of a call: first the order of ids, which the whole connection rests on,
// then the stream's own rules, which only that stream answers for.
func (c *Conn) receiveStream(ev *Event) error {
	f := &ev.Frame
	if c.phase != phaseOpen {
		return c.fail(fmt.Sprintf("%v before the handshake was done", f.Type))
	}
	dialers := f.Stream&1 == 1
	if f.Stream == 0 || dialers != ((c.side == Dialer) == c.opens) {
		return c.fail(fmt.Sprintf("%v on stream %d, which nobody may open here", f.Type, f.Stream))
	}
	if f.Type == TypeRequest {
		return c.receiveRequest(ev)
	}
	if f.Stream > c.highest {
		return c.fail(fmt.Sprintf("%v on stream %d, which is not open yet", f.Type, f.Stream))
	}
	if f.Type == TypeReset && !c.opens {
		if c.resets++; c.resets > c.maxResets() {
			return c.end(GoAwayEnhanceYourCalm, "too many RESETs")
		}
	}
	s := c.streams.get(f.Stream)
	if s == nil {
		switch {
		case len(c.delayed.heads) > 0 && (f.Type == TypeReset || f.Type == TypeResponse && f.Has(FlagEnd)):
			delete(c.delayed.heads, f.Stream) // the peer has ended it before it was told to
		case f.Type == TypeReset:
			c.dropRefusal(f.Stream)
		}
		return nil // closed: whatever still arrives for it is dropped
	}
	ev.Stream, ev.Call = s, s.Call
	if f.Type != TypeReset && f.Has(FlagCritical) {
		c.breakStream(ev, ReasonUnknownFlag, "a frame has an unknown critical flag")
		return nil
	}
	switch f.Type {
	case TypeResponse:
		c.receiveResponse(ev)
	case TypeMessage:
		c.receiveMessage(ev)
	case TypeWindow:
		c.receiveWindow(ev)
	case TypeReset:
		c.receiveReset(ev)
	}
	return nil
}

func (c *Conn) receiveRequest(ev *Event) error {
	f := &ev.Frame
	switch {
	case c.opens:
		return c.fail("REQUEST from the side that opens no calls")
	case f.Stream <= c.highest:
		return c.fail(fmt.Sprintf("REQUEST on stream %d, not above %d", f.Stream, c.highest))
	case c.gotDrained:
		return c.fail("REQUEST after DRAINED")
	}
	c.highest = f.Stream
	if c.sentFinal {
		return nil // above the announced last: the peer knows that it was not processed
	}
	if f.Has(FlagCritical) {
		return c.refuse(f.Stream, ReasonUnknownFlag)
	}
	if n, most := len(c.refusals), int(c.local.MaxStreams); c.streams.n+n >= most || c.held+n >= 2*most { // W-END-9
		return c.refuse(f.Stream, ReasonQueueFull)
	}
	s := c.newStream(f.Stream)
	ev.Stream = s
	if reason, why := c.account(s, f); why != "" {
		c.removeStream(s)
		_ = why // the reason is the peer's to act on; a refusal carries no text
		return c.refuse(f.Stream, reason)
	}
	c.held++
	ev.Kind = EventRequest
	return nil
}

func (c *Conn) receiveResponse(ev *Event) {
	s, f := ev.Stream, &ev.Frame
	if !c.opens {
		c.breakStream(ev, ReasonStreamProtocol, "RESPONSE from the side that opened the call")
		return
	}
	end := f.Has(FlagEnd)
	if s.gotResponse && !end {
		c.breakStream(ev, ReasonStreamProtocol, "a second RESPONSE without END")
		return
	}
	if reason, why := c.account(s, f); why != "" {
		c.breakStream(ev, reason, why)
		return
	}
	s.gotResponse = true
	ev.Kind = EventResponse
	if end {
		c.removeStream(s) // also our direction: what we still had to say is void
	}
}

func (c *Conn) receiveMessage(ev *Event) {
	s, f := ev.Stream, &ev.Frame
	reason, why := ReasonStreamProtocol, ""
	switch {
	case s.remoteEnd:
		why = "MESSAGE after END"
	case c.opens && f.Has(FlagEnd):
		why = "a server ends by RESPONSE, not by MESSAGE"
	default:
		reason, why = c.account(s, f)
	}
	if why != "" {
		c.breakStream(ev, reason, why)
		return
	}
	ev.Kind = EventMessage
}

// account checks a frame's part of a message against credit and announced length, and books it.
func (c *Conn) account(s *Stream, f *Frame) (Reason, string) {
	const bad = ReasonStreamProtocol
	end, more := f.Has(FlagEnd), f.Has(FlagMore)
	if !f.Has(FlagMessage) {
		switch {
		case len(f.Body) > 0:
			return bad, "a body without MSG"
		case more:
			return bad, "MORE without MSG"
		case s.inMessage && !(f.Type == TypeResponse && end):
			return bad, "a message was left unfinished"
		}
		s.inMessage = false
		s.remoteEnd = s.remoteEnd || end
		return 0, ""
	}
	if more && end {
		return bad, "MORE and END on one frame"
	}
	if s.recvWindow -= f.Cost(); s.recvWindow < 0 {
		return bad, "more than the granted credit"
	}
	if reason, why := s.assemble(f, more, end); why != "" {
		return reason, why
	}
	s.remoteEnd = s.remoteEnd || end
	return 0, ""
}

// assemble follows a message through its fragments.
func (s *Stream) assemble(f *Frame, more, end bool) (Reason, string) {
	const bad = ReasonStreamProtocol
	n := uint64(len(f.Body))
	if !s.inMessage {
		if !more {
			return 0, ""
		}
		total, ok := scanTotal(f.Head)
		if !ok {
			return ReasonBadHead, "the head does not parse"
		}
		if total == 0 || n > total {
			return bad, "a first fragment that does not fit its total_length"
		}
		s.inMessage, s.msgTotal, s.msgGot = true, total, n
		return 0, ""
	}
	if f.Type != TypeMessage && !(f.Type == TypeResponse && end) {
		return bad, "a message was left unfinished"
	}
	s.msgGot += n
	if s.msgGot > s.msgTotal || !more && s.msgGot != s.msgTotal {
		return bad, "fragments do not sum to total_length"
	}
	s.inMessage = more
	return 0, ""
}

func (c *Conn) receiveWindow(ev *Event) {
	s := ev.Stream
	grant := int64(binary.BigEndian.Uint32(ev.Frame.Body))
	if grant == 0 || s.sendCredit+grant > MaxCredit {
		c.breakStream(ev, ReasonStreamProtocol, "a WINDOW of 0, or credit above 2^31-1")
		return
	}
	s.sendCredit += grant
	if s.blocked {
		s.blocked = false
		ev.Kind = EventCredit
	}
}

func (c *Conn) receiveReset(ev *Event) {
	var r ResetHead
	if r.Parse(ev.Frame.Head) != nil {
		r.Status = Refuse(ReasonStreamProtocol, c.origin, "a RESET whose head does not parse")
	}
	ev.Kind, ev.Status, ev.HTTP2Code = EventReset, r.Status, r.HTTP2Code
	c.removeStream(ev.Stream)
}

// breakStream ends a stream whose peer broke a rule, and that stream alone.
func (c *Conn) breakStream(ev *Event, reason Reason, why string) {
	ev.Kind = EventFailed
	ev.Status = Refuse(reason, c.origin, why)
	ev.Status.Disposition = DispositionUnknown // bytes of it may be with a handler already
	c.Reset(ev.Stream, &ResetHead{Status: ev.Status})
}

// refuse answers a REQUEST that is not let in. Refusals are encoded when they are flushed, so that a
// peer that cancels before it reads does not make the queue grow.
func (c *Conn) refuse(id uint32, reason Reason) error {
	if len(c.refusals) >= int(c.local.MaxStreams) {
		return c.end(GoAwayEnhanceYourCalm, "refusals are not read")
	}
	c.refusals = append(c.refusals, refusal{id, reason})
	return nil
}

func (c *Conn) dropRefusal(id uint32) {
	for i, r := range c.refusals {
		if r.id == id {
			c.refusals = append(c.refusals[:i], c.refusals[i+1:]...)
			return
		}
	}
}

// refusalSize is about what an encoded refusal takes.
const refusalSize = HeaderSize + 16

func (c *Conn) appendRefusal(r refusal) {
	st := Refuse(r.reason, c.origin, "")
	st.Disposition = DispositionNotProcessed // no stream was made
	c.scratchReset = ResetHead{Status: st}
	c.scratchHead = c.scratchReset.Append(c.scratchHead[:0])
	c.appendFrame(r.id, TypeReset, 0, c.scratchHead)
}

func (c *Conn) newStream(id uint32) *Stream {
	var s *Stream
	if n := len(c.free); n > 0 {
		s, c.free = c.free[n-1], c.free[:n-1]
		*s = Stream{}
	} else {
		s = new(Stream)
	}
	s.ID, s.sendCredit, s.recvWindow = id, int64(c.peer.StreamWindow), int64(c.local.StreamWindow)
	c.streams.put(s)
	return s
}

// removeStream closes a stream. Its memory serves a later one.
func (c *Conn) removeStream(s *Stream) {
	c.streams.remove(s)
	s.Call = nil
	if len(c.free) < int(min(c.local.MaxStreams, 256)) {
		c.free = append(c.free, s)
	}
}
