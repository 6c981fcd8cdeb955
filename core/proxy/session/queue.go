package session

import (
	"sync"

	"github.com/octomesh/octomesh/core/wire"
)

// queue holds frames that wait, in order. It is bounded by the credit that their sender was granted.
type queue struct {
	frames  []waiting
	waiting *Waiting
}

// waiting is a frame that owns its bytes, and what it costs its sender's credit.
type waiting struct {
	out  wire.Out
	cost int64
	end  bool    // the sender's side ends with it: no credit is given back
	from *[]byte // the block that holds the bytes, if it goes back to the pool
	size int64   // of the memory that the bytes take
}

// blocks hold frames that wait. Small frames are not worth one.
var blocks = sync.Pool{New: func() any { b := make([]byte, blockSize); return &b }}

const (
	blockSize  = 68 << 10 // a full body and a usual head
	smallFrame = 4 << 10
)

func (q *queue) len() int { return len(q.frames) }

// push copies a frame behind the others.
func (q *queue) push(out *wire.Out, cost int64) {
	w := waiting{out: *out, cost: cost, end: out.Flags&wire.FlagEnd != 0}
	w.own()
	q.waiting.add(w.size)
	q.frames = append(q.frames, w)
}

// replace puts another frame in the place of the first one.
func (q *queue) replace(out *wire.Out) {
	w := &q.frames[0]
	before := w.size
	w.out = *out
	w.own()
	q.waiting.add(w.size - before)
}

// own copies the frame's bytes into one block of its own.
func (w *waiting) own() {
	o := &w.out
	before := w.from
	size := o.HeadLen() + len(o.Body)
	var b []byte
	if w.from = nil; size > smallFrame && size <= blockSize {
		w.from = blocks.Get().(*[]byte)
		b = (*w.from)[:0]
	} else {
		b = make([]byte, 0, size)
	}
	w.size = int64(cap(b))
	piece := func(p []byte) []byte {
		from := len(b)
		b = append(b, p...)
		return b[from:len(b):len(b)]
	}
	o.Pre, o.Head, o.Post, o.Body = piece(o.Pre), piece(o.Head), piece(o.Post), piece(o.Body)
	if before != nil {
		blocks.Put(before)
	}
}

// release gives the frame's memory back.
func (q *queue) release(w *waiting) {
	q.waiting.add(-w.size)
	if w.from != nil {
		blocks.Put(w.from)
	}
	*w = waiting{}
}

func (q *queue) pop() {
	q.release(&q.frames[0])
	q.frames = q.frames[1:]
	if len(q.frames) == 0 {
		q.frames = nil
	}
}

func (q *queue) clear() {
	for i := range q.frames {
		q.release(&q.frames[i])
	}
	q.frames = nil
}

// pump sends what credit allows and gives the senders' credit back for what has left whole. to is
// locked, and so is the call.
func (c *Call) pump(q *queue, to *Session, st *wire.Stream) (sentEnd bool, cost int64) {
	for q.len() > 0 {
		w := &q.frames[0]
		if !to.send(st, &w.out) {
			return false, cost
		}
		if !w.end {
			cost += w.cost
			if st.Call != c { // what was sent could not be said, and has ended the stream: Late tells
				return false, cost
			}
		}
		sentEnd = w.end
		q.pop()
	}
	return sentEnd, cost
}
