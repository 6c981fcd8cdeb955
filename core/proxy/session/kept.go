package session

import (
	"sync/atomic"

	"github.com/octomesh/octomesh/core/wire"
)

// Memory bounds what all calls of a proxy keep of their requests.
type Memory struct {
	max  int64
	used atomic.Int64
}

// NewMemory returns a bound of so many bytes.
func NewMemory(limit int64) *Memory { return &Memory{max: limit} }

// Used is how many bytes are kept.
func (m *Memory) Used() int64 { return m.used.Load() }

func (m *Memory) take(n int) bool {
	if m.used.Add(int64(n)) > m.max {
		m.used.Add(-int64(n))
		return false
	}
	return true
}

// MaxKept is the most that one call keeps, with wire.FrameCost for each frame.
const MaxKept = 64 << 10

// kept is what a call has sent up, as it came, so that it can be sent again. Small requests have a buffer that
// stays with the call's memory, larger ones a block. Charges to the proxy's memory are by content.
type kept struct {
	limit   int // 0: nothing is kept
	missing bool
	charged int
	bytes   []byte
	from    *[]byte // the block that bytes lie in, if they do
	frames  []keptFrame
}

type keptFrame struct {
	typ        wire.Type
	flags      wire.Flags
	head, body int // lengths
	cost       int64
}

// Buffers of kept requests: most fit the first, and calls with a larger one give it back at their end.
const (
	smallKept  = 2 << 10
	keptFrames = 8 // places for frames that a call's memory keeps
)

// add keeps a frame, or gives up where it does not fit.
func (k *kept) add(m *Memory, o *wire.Out, cost int64) {
	if k.limit == 0 || k.missing {
		return
	}
	size := len(o.Head) + len(o.Body) + wire.FrameCost
	if k.charged+size > k.limit || !m.take(size) {
		k.drop(m)
		k.missing = true
		return
	}
	k.charged += size
	k.reserve(len(o.Head) + len(o.Body))
	k.bytes = append(append(k.bytes, o.Head...), o.Body...)
	k.frames = append(k.frames, keptFrame{o.Type, o.Flags, len(o.Head), len(o.Body), cost})
}

// reserve makes room for n bytes more.
func (k *kept) reserve(n int) {
	switch n += len(k.bytes); {
	case n <= cap(k.bytes):
	case n <= smallKept:
		k.bytes = make([]byte, 0, smallKept)
	default:
		k.from = blocks.Get().(*[]byte)
		k.bytes = append((*k.from)[:0], k.bytes...)
	}
}

// drop forgets what was kept, and keeps nothing any more.
func (k *kept) drop(m *Memory) {
	if k.limit == 0 {
		return
	}
	m.used.Add(-int64(k.charged))
	if k.from != nil {
		blocks.Put(k.from)
		k.bytes, k.from = nil, nil
	}
	if cap(k.frames) > keptFrames {
		k.frames = nil
	}
	k.limit, k.charged, k.bytes, k.frames = 0, 0, k.bytes[:0], k.frames[:0]
}

// Keep has the call keep what it sends, up to limit bytes, for handlers that may want to send it again. It
// is for Serve, before the first Forward.
func (c *Call) Keep(limit int) {
	if c.Try == 0 && !c.kept.missing && c.down.opts.Kept != nil {
		c.kept.limit = min(limit, MaxKept)
	}
}

// keepRequest keeps what goes up first. The call is locked.
func (c *Call) keepRequest() {
	if c.kept.limit == 0 || c.Try > 0 {
		return
	}
	m := c.down.opts.Kept
	if c.frame != nil {
		c.kept.add(m, &wire.Out{Type: c.frame.Type, Flags: c.frame.Flags, Head: c.frame.Head, Body: c.frame.Body}, c.frame.Cost())
		return
	}
	for i := range c.upQueue.frames {
		c.kept.add(m, &c.upQueue.frames[i].out, c.upQueue.frames[i].cost)
	}
}

// forget ends keeping: the call does not go again.
func (c *Call) forget() {
	if c.kept.limit > 0 {
		c.kept.drop(c.down.opts.Kept)
	}
}
