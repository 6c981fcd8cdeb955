package h2

import (
	"bytes"
	"encoding/binary"
	"math"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Side says which end of a connection this is.
type Side uint8

// The two sides. A client's streams have odd ids; servers open none, since nothing is pushed.
const (
	Client Side = iota
	Server
)

// Bounds of what a peer may send.
const (
	// MaxHeaderList is the longest header list that is taken, counted as HTTP/2 does: a head's size in OctoMesh.
	MaxHeaderList = 60 << 10
	// maxBlock bounds a header block as it stands on the wire, over all its frames.
	maxBlock = 4 * MaxHeaderList
	// maxContinuations bounds the frames of a header block: empty ones cost their sender nothing.
	maxContinuations = 64
	// maxFrame is the longest frame that is taken: what every endpoint starts with.
	maxFrame = 16 << 10
	// connWindow is the connection's window. It opens as bytes arrive, so that one slow stream does not hold up the others:
	// what is held is bounded by the windows of the streams.
	connWindow = 16 << 20
	// maxAnswers bounds the answers that wait for a peer that does not read: to PINGs, SETTINGS, and refused streams.
	maxAnswers = 1024
	// maxCheap bounds the frames within a tick of half a second that cost their sender next to nothing.
	maxCheap = 10_000
	// paidByData is how many frames a DATA frame that was sent may bring back: who reads it opens the stream's window and the connection's,
	// and may do so by small steps. paidByReset is the same of a stream that this side has reset: the answer to it may be on its way.
	paidByData, paidByReset = 10, 4
	maxPaid                 = 100 * maxCheap
	// maxOut is how much output may wait at a server before messages wait where they come from: a client may grant more than it reads.
	maxOut = 4 << 20
	// initialWindow is every window's size before anything else was said.
	initialWindow = 1<<16 - 1
	maxWindow     = math.MaxInt32
	headerSize    = 9
)

// Config is what a Conn is made of.
type Config struct {
	Side Side
	// MaxStreams is how many streams the peer may have open. 0: 1024.
	MaxStreams uint32
	// Window is what a stream may send ahead at first. 0: 64 KiB.
	Window uint32
	// PingEvery is how many ticks must lie between two PINGs of the peer, unless something was sent to it meanwhile.
	// 0: 20, which is 10 s.
	PingEvery int
	// PingStrikes is how many PINGs may come too soon. 0: 2. Below 0: any number.
	PingStrikes int
}

// phase is how far a connection has come.
type phase uint8

const (
	phasePreface  phase = iota // a server waits for the client's first bytes
	phaseSettings              // the peer's SETTINGS have to come first
	phaseOpen
	phaseClosed // whatever arrives is discarded
)

// Conn is one side of an HTTP/2 connection. See the package's comment.
type Conn struct {
	cfg    Config
	phase  phase
	offset uint64 // of what Feed gets next

	framer *http2.Framer // of control frames that arrive
	in     bytes.Reader
	out    []byte

	streams table
	free    []*Stream
	past    past
	ready   []ready // events that one frame brought
	tail    int     // bytes of that frame that are still to be taken
	held    int     // a server's streams that count against MaxStreams: open ones, and reset ones that nobody has released
	highest uint32  // the highest id that the client opened
	nextID  uint32

	data  incoming
	block block

	sendWindow  int64
	connPending int64
	waiting     queue

	peerWindow  int64 // initial, of a stream
	peerFrame   int
	peerStreams uint32
	peerList    uint32

	answers int
	cheap   int
	paid    int // frames that count for nothing, since what this side has sent brings them
	resets  int
	ticks   int
	lastPing,
	strikes int

	flushing bool   // a PING stands behind the output that messages wait for
	pingOut  uint64 // payload of our own PING that has no answer; 0: none is out
	leaving  bool   // the first GOAWAY was sent
	final    bool   // the last one was
	gotAway  bool
	gotLast  uint32
	settings bool // our own have been sent
}

// ready is an event that waits for its turn.
type ready struct {
	kind   EventKind
	id     uint32
	stream *Stream
}

// incoming is the DATA frame that is arriving.
type incoming struct {
	stream *Stream // nil: a closed one, whose bytes are dropped
	id     uint32
	left   int // of its bytes
	pad    int
	flow   int // overhead that counts with the next bytes
	end    bool
	on     bool
}

// NewConn returns a connection. A client's first words are queued; a server waits for its peer's.
func NewConn(cfg Config) *Conn {
	if cfg.MaxStreams == 0 {
		cfg.MaxStreams = 1024
	}
	if cfg.Window == 0 {
		cfg.Window = 64 << 10
	}
	if cfg.PingEvery == 0 {
		cfg.PingEvery = 20
	}
	if cfg.PingStrikes == 0 {
		cfg.PingStrikes = 2
	}
	c := &Conn{
		cfg: cfg, nextID: 1, lastPing: -cfg.PingEvery,
		sendWindow: initialWindow, peerWindow: initialWindow, peerFrame: maxFrame, peerStreams: math.MaxUint32, peerList: math.MaxUint32,
	}
	c.framer = http2.NewFramer(nil, &c.in)
	c.framer.SetMaxReadFrameSize(maxFrame)
	c.block.decoder = hpack.NewDecoder(4096, c.block.add)
	c.block.decoder.SetMaxStringLength(maxBlock)
	if cfg.Side == Client {
		c.out = append(c.out, http2.ClientPreface...)
		c.phase = phaseSettings
		c.Start()
	}
	return c
}

// Start sends this side's SETTINGS and opens the connection's window.
func (c *Conn) Start() {
	if c.settings || c.phase == phaseClosed {
		return
	}
	c.settings = true
	s := []http2.Setting{
		{ID: http2.SettingInitialWindowSize, Val: c.cfg.Window},
		{ID: http2.SettingMaxHeaderListSize, Val: MaxHeaderList},
		{ID: http2.SettingMaxConcurrentStreams, Val: c.cfg.MaxStreams},
	}
	if c.cfg.Side == Client {
		s[2] = http2.Setting{ID: http2.SettingEnablePush, Val: 0}
	}
	c.out = appendHeader(c.out, 6*len(s), http2.FrameSettings, 0, 0)
	for _, one := range s {
		c.out = binary.BigEndian.AppendUint16(c.out, uint16(one.ID))
		c.out = binary.BigEndian.AppendUint32(c.out, one.Val)
	}
	c.appendWindow(0, connWindow-initialWindow)
}

// Queued is the number of bytes that wait for Take.
func (c *Conn) Queued() int { return len(c.out) }

// Take returns the bytes to write and uses spare's memory for those to come.
func (c *Conn) Take(spare []byte) []byte {
	out := c.out
	c.out = spare[:0]
	c.answers = 0
	return out
}

// Trim gives back the memory of an idle connection's output.
func (c *Conn) Trim() {
	if len(c.out) == 0 {
		c.out = nil
	}
}

// Tick tells the connection that half a second has passed.
func (c *Conn) Tick() {
	c.ticks++
	c.cheap, c.resets = 0, 0
}

// Closed tells whether the connection carries nothing any more.
func (c *Conn) Closed() bool { return c.phase == phaseClosed }

// OpenStreams is the number of streams that are open.
func (c *Conn) OpenStreams() int { return c.streams.n }

// MaxStreams is how many streams may be open at once by this side's word and by the peer's.
func (c *Conn) MaxStreams() (local, peer uint32) { return c.cfg.MaxStreams, c.peerStreams }

// PeerHeaderList is the longest header list that the peer takes, counted as HTTP/2 does (see FieldSize): what SETTINGS_MAX_HEADER_LIST_SIZE says.
func (c *Conn) PeerHeaderList() uint32 { return c.peerList }

// Stream returns an open stream, or nil.
func (c *Conn) Stream(id uint32) *Stream { return c.streams.get(id) }

// Each calls f with every open stream, in no order. f must not close any.
func (c *Conn) Each(f func(*Stream)) {
	for s := range c.streams.all() {
		f(s)
	}
}

// PeerLeaves tells whether the peer has sent GOAWAY.
func (c *Conn) PeerLeaves() bool { return c.gotAway }

// Unprocessed tells whether the peer has said that it will not see a stream of the id.
func (c *Conn) Unprocessed(id uint32) bool { return c.gotAway && id > c.gotLast }

// Hold has a server's stream that has ended count against MaxStreams until Release, as if it had been reset.
func (c *Conn) Hold() { c.held++ }

// Release says that a stream that ended by a reset, whoever sent it, is done with: it does not count any more.
func (c *Conn) Release() { c.held-- }

// End closes the connection for a reason of the owner's, and tells the peer.
func (c *Conn) End(code http2.ErrCode, why string) {
	if c.phase != phaseClosed {
		_ = c.fail(code, why)
	}
}

// Close discards what arrives from here on.
func (c *Conn) Close() { c.phase = phaseClosed }

// fail ends the connection with a GOAWAY that says why.
func (c *Conn) fail(code http2.ErrCode, why string) error {
	c.Start() // a server's first frame is always SETTINGS
	c.phase = phaseClosed
	c.appendGoAway(c.highest, code, why)
	return &ConnError{code, why, c.offset}
}

func (c *Conn) newStream(id uint32) *Stream {
	var s *Stream
	if n := len(c.free); n > 0 {
		s, c.free = c.free[n-1], c.free[:n-1]
		*s = Stream{}
	} else {
		s = new(Stream)
	}
	s.ID, s.sendWindow, s.recvWindow, s.contentLength = id, c.peerWindow, int64(c.cfg.Window), -1
	c.streams.put(s)
	return s
}

// maxFree bounds the streams that are kept to be used again.
const maxFree = 128

// remove forgets a stream. Whether it still counts against MaxStreams is the caller's to say.
func (c *Conn) remove(s *Stream, how closing) {
	c.past.add(s.ID, how)
	c.streams.remove(s)
	c.unblock(s)
	s.User = nil
	if c.data.stream == s {
		c.data.stream = nil
	}
	if len(c.free) < maxFree {
		c.free = append(c.free, s)
	}
}

// unheld books a server's stream that has ended by itself.
func (c *Conn) unheld() {
	if c.cfg.Side == Server {
		c.held--
	}
}

// ended removes a stream that both sides have half-closed.
func (c *Conn) ended(s *Stream) {
	if s.recvEnd && s.sentEnd {
		c.unheld()
		c.remove(s, closedWhole)
	}
}

// closing is how a stream was closed.
type closing uint8

const (
	closedUnknown closing = iota // long ago, or never opened
	closedWhole
	closedByPeer // it sent RST_STREAM
	closedByUs   // what the peer had sent before it knew is dropped
)

// past remembers how the streams that were closed last were: who speaks on them is told so, unless it could not know.
type past struct {
	ids  [256]uint32
	hows [256]closing
	at   uint8
}

func (p *past) add(id uint32, how closing) {
	p.ids[p.at], p.hows[p.at] = id, how
	p.at++
}

func (p *past) find(id uint32) closing {
	for i, known := range p.ids {
		if known == id {
			return p.hows[i]
		}
	}
	return closedUnknown
}
