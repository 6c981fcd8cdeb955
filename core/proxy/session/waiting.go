package session

import (
	"sync/atomic"

	"github.com/octomesh/octomesh/core/wire"
)

// Waiting adds up the bytes that wait in a proxy and bounds them: frames that calls keep because they have no credit or no stream, and
// output for peers whose sockets are full. What passes through at once is not counted, and costs nothing.
type Waiting struct {
	max   int64
	bytes atomic.Int64

	ended atomic.Uint64 // calls
}

// NewWaiting returns a bound of so many bytes.
func NewWaiting(limit int64) *Waiting { return &Waiting{max: limit} }

// Load is how much waits, and what had to end for it.
type Load struct {
	Limit, Bytes int64
	Ended        uint64 // calls
}

// Load tells how much waits.
func (w *Waiting) Load() Load {
	if w == nil {
		return Load{}
	}
	return Load{w.max, w.bytes.Load(), w.ended.Load()}
}

// Refuses tells that so much waits that no call should begin: open ones have the last quarter.
func (w *Waiting) Refuses() bool { return w != nil && w.bytes.Load() >= w.max-w.max/4 }

// full tells that nothing more may wait: a call of which something would has to end.
func (w *Waiting) full() bool { return w != nil && w.bytes.Load() >= w.max }

func (w *Waiting) add(n int64) {
	if w != nil {
		w.bytes.Add(n)
	}
}

// lateShare may wait for any peer.
const lateShare = 64 << 10

// full tells whether what is sent to a session would wait though nothing may. The session is locked.
func (q *queue) full(to *Session) bool {
	return (len(q.frames) > 0 || to.tc.Late() > lateShare) && q.waiting.full()
}

// shed ends a call of which something would have to wait. The call is locked.
func (c *Call) shed(b *Batch) {
	if c.gone {
		return
	}
	st := wire.Refuse(wire.ReasonOverloaded, c.down.opts.Origin, "too much waits in the proxy, and the call's peer does not take what is sent")
	if !c.parked {
		st.Disposition = wire.DispositionUnknown
	}
	c.down.opts.Waiting.ended.Add(1)
	c.end(&st, b)
}
