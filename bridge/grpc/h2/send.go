package h2

import (
	"encoding/binary"
	"errors"

	"golang.org/x/net/http2"
)

// Errors of Open.
var (
	// ErrStreamLimit: as many streams are open as the peer allows.
	ErrStreamLimit = errors.New("http2: the peer's stream limit is reached")
	// ErrNotOpen: the connection opens no streams any more, or not yet.
	ErrNotOpen = errors.New("http2: the connection takes no new streams")
)

// lastID is the last id that a client opens.
const lastID = 1<<31 - 1 - 1<<16

// CanOpen tells whether Open would succeed.
func (c *Conn) CanOpen() error {
	switch {
	case c.phase != phaseOpen || c.cfg.Side != Client || c.gotAway || c.leaving || c.nextID > lastID:
		return ErrNotOpen
	case uint32(c.streams.n) >= c.peerStreams:
		return ErrStreamLimit
	}
	return nil
}

// Open opens a stream. Its Headers must follow before anything else is opened, since ids must appear in their order.
func (c *Conn) Open(user any) (*Stream, error) {
	if err := c.CanOpen(); err != nil {
		return nil, err
	}
	s := c.newStream(c.nextID)
	s.User = user
	c.highest = c.nextID
	c.nextID += 2
	return s, nil
}

func appendHeader(dst []byte, size int, t http2.FrameType, flags http2.Flags, stream uint32) []byte {
	return append(dst, byte(size>>16), byte(size>>8), byte(size), byte(t), byte(flags),
		byte(stream>>24), byte(stream>>16), byte(stream>>8), byte(stream))
}

// Headers sends a header block, in as many frames as it takes. After its last one a stream's side says nothing more.
func (c *Conn) Headers(s *Stream, block []byte, end bool) {
	var flags http2.Flags
	if end {
		flags = http2.FlagHeadersEndStream
	}
	t := http2.FrameHeaders
	for {
		n := min(len(block), c.peerFrame)
		if n == len(block) {
			flags |= http2.FlagHeadersEndHeaders
		}
		c.out = append(appendHeader(c.out, n, t, flags, s.ID), block[:n]...)
		if block = block[n:]; len(block) == 0 {
			break
		}
		t, flags = http2.FrameContinuation, 0
	}
	c.spoke(s, end)
}

// Room is how many bytes Data may send now.
func (c *Conn) Room(s *Stream) int {
	return int(max(0, min(s.sendWindow, c.room())))
}

// Data sends what the windows allow of a stream's bytes, the head before the body, and returns how much of both that was.
// If that is not all, [Conn.Turn] tells when to call it again with the rest; end is then still to be said.
func (c *Conn) Data(s *Stream, head, body []byte, end bool) (n int) {
	size := len(head) + len(body)
	for room := c.Room(s); ; {
		if size > 0 && room <= 0 || size == 0 && !end {
			break
		}
		k := min(size, room, c.peerFrame)
		var flags http2.Flags
		last := end && k == size
		if last {
			flags = http2.FlagDataEndStream
		}
		c.out = appendHeader(c.out, k, http2.FrameData, flags, s.ID)
		c.pay(paidByData)
		h := min(k, len(head))
		c.out = append(append(c.out, head[:h]...), body[:k-h]...)
		head, body = head[h:], body[k-h:]
		n, size, room = n+k, size-k, room-k
		if last {
			break
		}
	}
	s.sendWindow -= int64(n)
	c.sendWindow -= int64(n)
	if size > 0 {
		if n > 0 {
			c.mayPing()
		}
		c.blocks(s, n)
		c.flush()
		s.turn = false
		return n
	}
	s.turn = false
	c.spoke(s, end)
	return n
}

// mayPing lets the peer send a PING at once: who gets DATA measures the way by one, also in the middle of a long message.
func (c *Conn) mayPing() { c.strikes, c.lastPing = 0, c.ticks-c.cfg.PingEvery }

// spoke books what was sent on a stream.
func (c *Conn) spoke(s *Stream, end bool) {
	c.mayPing()
	if !end {
		return
	}
	s.sentEnd = true
	if c.cfg.Side == Server && !s.recvEnd {
		// The answer is whole: what the client would still say is of no use (RFC 9113, 8.1). It stands behind all of the answer.
		c.held--
		c.reset(s, http2.ErrCodeNo)
		return
	}
	c.ended(s)
}

// Abandon closes a client's stream of which nothing was said, in silence: to the server its id is one that was never used.
func (c *Conn) Abandon(s *Stream) { c.remove(s, closedByUs) }

// Reset ends a stream at once. At a server it counts against MaxStreams until Release.
func (c *Conn) Reset(s *Stream, code http2.ErrCode) { c.reset(s, code) }

func (c *Conn) reset(s *Stream, code http2.ErrCode) {
	c.pay(paidByReset)
	c.appendReset(s.ID, code)
	c.remove(s, closedByUs)
}

func (c *Conn) appendReset(id uint32, code http2.ErrCode) {
	c.out = appendHeader(c.out, 4, http2.FrameRSTStream, 0, id)
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(code))
}

func (c *Conn) appendWindow(id, n uint32) {
	c.out = appendHeader(c.out, 4, http2.FrameWindowUpdate, 0, id)
	c.out = binary.BigEndian.AppendUint32(c.out, n)
}

func (c *Conn) appendPing(payload uint64, ack bool) {
	var flags http2.Flags
	if ack {
		flags = http2.FlagPingAck
	}
	c.out = appendHeader(c.out, 8, http2.FramePing, flags, 0)
	c.out = binary.BigEndian.AppendUint64(c.out, payload)
}

func (c *Conn) appendGoAway(last uint32, code http2.ErrCode, why string) {
	c.out = appendHeader(c.out, 8+len(why), http2.FrameGoAway, 0, 0)
	c.out = binary.BigEndian.AppendUint32(c.out, last)
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(code))
	c.out = append(c.out, why...)
}

// Consume gives back window for bytes that have left this side's memory.
func (c *Conn) Consume(s *Stream, n int) {
	if s.recvEnd || n == 0 {
		return
	}
	s.pending += int64(n)
	if s.pending >= (int64(c.cfg.Window)+s.grown)/2 {
		c.grant(s, s.pending)
		s.pending = 0
	}
}

// Widen lets a stream send ahead up to window, for as long as it lasts.
func (c *Conn) Widen(s *Stream, window uint32) {
	more := int64(window) - int64(c.cfg.Window) - s.grown
	if more <= 0 || s.recvEnd {
		return
	}
	s.grown += more
	c.grant(s, more)
}

func (c *Conn) grant(s *Stream, n int64) {
	s.recvWindow += n
	c.appendWindow(s.ID, uint32(n))
}

// pingPayload marks the PING of a leaving side, flushPayload the one behind much output; what Ping sends is below them.
const (
	pingPayload  = 1<<64 - 1
	flushPayload = 1<<64 - 2
)

// Ping queues a PING, unless one is still unanswered.
func (c *Conn) Ping(payload uint64) bool {
	if c.pingOut != 0 || c.phase != phaseOpen {
		return false
	}
	c.pingOut = payload&(1<<63-1) | 1
	c.appendPing(c.pingOut, false)
	return true
}

// Leave asks a client to move: what it has sent already is still served. When it has answered, EventDrained comes, and
// it knows which of its streams were seen.
func (c *Conn) Leave(why string) {
	if c.leaving || c.phase == phaseClosed {
		return
	}
	c.leaving = true
	if c.cfg.Side == Client {
		return // it just opens nothing
	}
	c.Start()
	c.appendGoAway(maxWindow, http2.ErrCodeNo, why)
	c.appendPing(pingPayload, false)
}

// Finish says the last word to a client: streams above those that were seen were not processed.
func (c *Conn) Finish(why string) {
	if c.final || c.phase == phaseClosed {
		return
	}
	c.final, c.leaving = true, true
	c.Start()
	c.appendGoAway(c.highest, http2.ErrCodeNo, why)
}
