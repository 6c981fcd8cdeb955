package h2

import (
	"bytes"
	"encoding/binary"
	"errors"

	"golang.org/x/net/http2"
)

// Feed reads what stands at the start of b and says in ev what it means. It returns how many bytes it took; 0 with
// EventNone: b does not hold enough yet. 0 with another event: there is more to tell of the same bytes. An error ends the
// connection: a GOAWAY that says why is queued.
func (c *Conn) Feed(b []byte, ev *Event) (n int, err error) {
	*ev = Event{}
	switch {
	case c.phase == phaseClosed:
		n = len(b)
	case c.nextReady(ev):
		return 0, nil
	case c.tail > 0:
		n = min(c.tail, len(b))
		c.tail -= n
	case c.phase == phasePreface:
		n, err = c.preface(b, ev)
	case c.data.on:
		n = c.feedData(b, ev)
	case len(b) < headerSize:
		return 0, nil
	default:
		n, err = c.frame(b, ev)
	}
	if len(c.ready) > 0 && n > 0 {
		// Whoever feeds comes back as long as bytes are left, so one is.
		c.tail++
		n--
	}
	c.offset += uint64(n)
	return n, err
}

// nextReady tells the next of several events that one frame brought.
func (c *Conn) nextReady(ev *Event) bool {
	for len(c.ready) > 0 {
		r := c.ready[0]
		c.ready = c.ready[1:]
		s := c.Stream(r.id)
		if s == nil || s != r.stream {
			continue // it was closed meanwhile
		}
		ev.Kind, ev.Stream, ev.User = r.kind, s, s.User
		switch r.kind {
		case EventData:
			c.dataEnd(s, ev)
		case EventFailed:
			ev.Code, ev.Unprocessed, ev.Message = http2.ErrCodeRefusedStream, true, "the peer left before it saw the stream"
			c.remove(s, closedByPeer)
		}
		return true
	}
	c.ready = nil
	return false
}

func (c *Conn) preface(b []byte, ev *Event) (int, error) {
	n := min(len(b), len(http2.ClientPreface))
	if !bytes.Equal(b[:n], []byte(http2.ClientPreface[:n])) {
		return 0, c.fail(http2.ErrCodeProtocol, "the connection does not begin with HTTP/2's preface")
	}
	if n < len(http2.ClientPreface) {
		return 0, nil
	}
	c.phase = phaseSettings
	ev.Kind = EventPreface
	return n, nil
}

// frame handles a frame whose header has come.
func (c *Conn) frame(b []byte, ev *Event) (int, error) {
	size := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
	t, flags := http2.FrameType(b[3]), http2.Flags(b[4])
	id := binary.BigEndian.Uint32(b[5:]) & (1<<31 - 1)
	switch {
	case size > maxFrame:
		return 0, c.fail(http2.ErrCodeFrameSize, "a frame of more than 16 KiB")
	case c.phase == phaseSettings && (t != http2.FrameSettings || flags&http2.FlagSettingsAck != 0):
		return 0, c.fail(http2.ErrCodeProtocol, "SETTINGS must come first")
	case t == http2.FrameData && !c.block.on:
		return c.beginData(b, size, flags, id, ev)
	case len(b) < headerSize+size:
		return 0, nil
	}
	size += headerSize
	known, err := c.common(t, flags, id, b[headerSize:size], ev)
	if !known {
		var f http2.Frame
		c.in.Reset(b[:size])
		if f, err = c.framer.ReadFrame(); err == nil {
			err = c.control(f, ev)
		}
	}
	return size, c.judge(err, id, ev)
}

// common takes the frames that each call brings, if they are as every peer sends them: http2's framer makes an object of each. What is in
// any way unusual is the framer's to judge; it need not have seen these, since nothing it judges rests on a frame that is whole.
func (c *Conn) common(t http2.FrameType, flags http2.Flags, id uint32, p []byte, ev *Event) (known bool, err error) {
	switch {
	case c.block.on:
	case t == http2.FrameHeaders && id != 0 && flags&^http2.FlagHeadersEndStream == http2.FlagHeadersEndHeaders:
		return true, c.headers(id, flags, p, false, ev)
	case t == http2.FrameWindowUpdate && len(p) == 4:
		if n := binary.BigEndian.Uint32(p) & maxWindow; n > 0 {
			return true, c.windowFrame(id, n, ev)
		}
	}
	return false, nil
}

// judge tells errors of one stream from those of the connection. What it looks for in an error escapes, so that none costs nothing.
func (c *Conn) judge(err error, id uint32, ev *Event) error {
	if err == nil {
		return nil
	}
	return c.judgeError(err, id, ev)
}

func (c *Conn) judgeError(err error, id uint32, ev *Event) error {
	var of http2.StreamError
	var all http2.ConnectionError
	var own *ConnError
	switch {
	case errors.As(err, &own):
		return err
	case errors.As(err, &of):
		return c.breakStream(id, streamFault{of.Code, "a frame that breaks the stream's rules"}, ev)
	case errors.As(err, &all):
		why := "a frame that breaks the protocol"
		if detail := c.framer.ErrorDetail(); detail != nil {
			why = detail.Error()
		}
		return c.fail(http2.ErrCode(all), why)
	case errors.Is(err, http2.ErrFrameTooLarge):
		return c.fail(http2.ErrCodeFrameSize, "a frame of more than 16 KiB")
	}
	return c.fail(http2.ErrCodeProtocol, err.Error())
}

func (c *Conn) control(f http2.Frame, ev *Event) error {
	switch f := f.(type) {
	case *http2.HeadersFrame:
		return c.headersFrame(f, ev)
	case *http2.ContinuationFrame:
		return c.continuation(f, ev)
	case *http2.SettingsFrame:
		return c.settingsFrame(f, ev)
	case *http2.PingFrame:
		return c.pingFrame(f, ev)
	case *http2.WindowUpdateFrame:
		return c.windowFrame(f.StreamID, f.Increment, ev)
	case *http2.RSTStreamFrame:
		return c.resetFrame(f, ev)
	case *http2.GoAwayFrame:
		return c.goAwayFrame(f, ev)
	case *http2.PushPromiseFrame:
		return c.fail(http2.ErrCodeProtocol, "PUSH_PROMISE, and nothing may be pushed")
	case *http2.PriorityFrame:
		if f.StreamDep == f.StreamID {
			return c.breakStream(f.StreamID, streamFault{http2.ErrCodeProtocol, "a stream that depends on itself"}, ev)
		}
	}
	return c.isCheap()
}

// mayBeLate tells whether a frame of a closed stream may have been on its way when this side ended it. What ended so long ago that nobody
// knows how is given the benefit of the doubt, but for HEADERS at a server: those would open a stream.
func (c *Conn) mayBeLate(how closing, t http2.FrameType) bool {
	return how == closedByUs || how == closedUnknown && (t != http2.FrameHeaders || c.cfg.Side == Client)
}

// pay books frames that the peer may send because of what this side sends.
func (c *Conn) pay(n int) { c.paid = min(c.paid+n, maxPaid) }

// isPaid counts a frame that cost its sender next to nothing, unless it answers what this side has sent.
func (c *Conn) isPaid() error {
	if c.paid > 0 {
		c.paid--
		return nil
	}
	return c.isCheap()
}

// isCheap counts a frame that cost its sender next to nothing.
func (c *Conn) isCheap() error {
	if c.cheap++; c.cheap > maxCheap {
		return c.fail(http2.ErrCodeEnhanceYourCalm, "too many frames that say nothing")
	}
	return nil
}

// answered counts an answer that was queued.
func (c *Conn) answered() error {
	if c.answers++; c.answers > maxAnswers {
		return c.fail(http2.ErrCodeEnhanceYourCalm, "answers are not read")
	}
	return c.isCheap()
}

// breakStream ends a stream whose peer broke a rule, and that stream alone.
func (c *Conn) breakStream(id uint32, f streamFault, ev *Event) error {
	s := c.Stream(id)
	if s == nil {
		c.appendReset(id, f.code)
		return c.answered()
	}
	ev.Kind, ev.Stream, ev.User, ev.Code, ev.Message = EventFailed, s, s.User, f.code, f.why
	c.reset(s, f.code)
	if ev.User == nil { // nobody knows of it
		c.unheld()
		ev.Kind = EventNone
	}
	return c.answered()
}

func (c *Conn) settingsFrame(f *http2.SettingsFrame, ev *Event) error {
	if f.IsAck() {
		return c.isCheap()
	}
	var delta int64
	err := f.ForeachSetting(func(s http2.Setting) error {
		if err := s.Valid(); err != nil {
			return err
		}
		switch s.ID {
		case http2.SettingInitialWindowSize:
			delta += int64(s.Val) - c.peerWindow
			c.peerWindow = int64(s.Val)
		case http2.SettingMaxFrameSize:
			c.peerFrame = int(min(s.Val, 4*maxFrame))
		case http2.SettingMaxConcurrentStreams:
			c.peerStreams = s.Val
		case http2.SettingMaxHeaderListSize:
			c.peerList = s.Val
		case http2.SettingEnablePush:
			if s.Val != 0 && c.cfg.Side == Client {
				return http2.ConnectionError(http2.ErrCodeProtocol)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for s := range c.streams.all() {
		if s.sendWindow += delta; s.sendWindow > maxWindow {
			return c.fail(http2.ErrCodeFlowControl, "SETTINGS lift a stream's window above 2^31-1")
		}
		c.widened(s)
	}
	c.out = appendHeader(c.out, 0, http2.FrameSettings, http2.FlagSettingsAck, 0)
	if c.phase == phaseSettings {
		c.phase = phaseOpen
		if c.cfg.Side == Client {
			ev.Kind = EventReady
		}
	}
	return c.answered()
}

func (c *Conn) pingFrame(f *http2.PingFrame, ev *Event) error {
	payload := binary.BigEndian.Uint64(f.Data[:])
	if !f.IsAck() {
		c.appendPing(payload, true)
		if c.cfg.Side == Server && c.cfg.PingStrikes >= 0 {
			if c.ticks-c.lastPing < c.cfg.PingEvery {
				c.strikes++
			}
			c.lastPing = c.ticks
			if c.strikes > c.cfg.PingStrikes {
				return c.fail(http2.ErrCodeEnhanceYourCalm, "too_many_pings")
			}
		}
		return c.answered()
	}
	switch {
	case payload == pingPayload && c.leaving && !c.final && c.cfg.Side == Server:
		c.final = true
		c.appendGoAway(c.highest, http2.ErrCodeNo, "")
		ev.Kind = EventDrained
	case payload == flushPayload && c.flushing:
		c.flushing = false
	case payload == c.pingOut && payload != 0:
		c.pingOut = 0
		ev.Kind, ev.Pong = EventPong, payload
	}
	return c.isCheap()
}

func (c *Conn) windowFrame(id, increment uint32, ev *Event) error {
	if err := c.isPaid(); err != nil {
		return err
	}
	n := int64(increment)
	if id == 0 {
		if c.sendWindow += n; c.sendWindow > maxWindow {
			return c.fail(http2.ErrCodeFlowControl, "the connection's window is above 2^31-1")
		}
		return nil
	}
	s := c.Stream(id)
	if s == nil {
		return c.absent(id, http2.FrameWindowUpdate)
	}
	if s.sendWindow += n; s.sendWindow > maxWindow {
		return c.breakStream(s.ID, streamFault{http2.ErrCodeFlowControl, "the stream's window is above 2^31-1"}, ev)
	}
	c.widened(s)
	return nil
}

// absent judges a frame of a stream that is not open.
func (c *Conn) absent(id uint32, t http2.FrameType) error {
	if id > c.highest || (id&1 == 0) || c.cfg.Side == Client && id >= c.nextID {
		return c.fail(http2.ErrCodeProtocol, t.String()+" of a stream that was never opened")
	}
	if t == http2.FrameWindowUpdate || t == http2.FrameRSTStream {
		return nil // it may have crossed the stream's end
	}
	how := c.past.find(id)
	switch {
	case c.mayBeLate(how, t):
		return c.isPaid()
	case how == closedUnknown:
		return c.fail(http2.ErrCodeProtocol, "HEADERS of a stream below one that is open")
	case how == closedWhole && t == http2.FrameHeaders:
		return c.fail(http2.ErrCodeStreamClosed, "HEADERS of a stream that has ended")
	}
	c.appendReset(id, http2.ErrCodeStreamClosed)
	return c.answered()
}

// maxResets is how many streams a client may cancel within a tick of half a second, or as many as it may have open: to give up all that
// one does is no attack. They go on over a connection that other clients' calls share, and whose opener sends as many within a tick
// (W-FLOW-14): what one client may have there is about a link's whole share.
const maxResets = 1000

func (c *Conn) resetFrame(f *http2.RSTStreamFrame, ev *Event) error {
	if c.cfg.Side == Server {
		if c.resets++; c.resets > max(maxResets, int(c.cfg.MaxStreams)) {
			return c.fail(http2.ErrCodeEnhanceYourCalm, "too many RST_STREAM")
		}
	}
	s := c.Stream(f.StreamID)
	if s == nil {
		return c.absent(f.StreamID, http2.FrameRSTStream)
	}
	ev.Kind, ev.Stream, ev.User, ev.Code = EventReset, s, s.User, f.ErrCode
	c.remove(s, closedByPeer)
	return nil
}

func (c *Conn) goAwayFrame(f *http2.GoAwayFrame, ev *Event) error {
	if c.gotAway && f.LastStreamID > c.gotLast {
		return c.fail(http2.ErrCodeProtocol, "a GOAWAY that takes back the one before")
	}
	c.gotAway, c.gotLast = true, f.LastStreamID
	ev.Kind, ev.Code, ev.Message = EventGoAway, f.ErrCode, string(f.DebugData())
	if c.cfg.Side == Client {
		for s := range c.streams.all() {
			if s.ID > f.LastStreamID {
				c.ready = append(c.ready, ready{EventFailed, s.ID, s})
			}
		}
	}
	return c.isCheap()
}
