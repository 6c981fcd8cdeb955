package session

import "github.com/octomesh/octomesh/core/wire"

// queue holds frames that wait, in order. It is bounded by the credit that their sender was granted.
type queue struct{ frames []waiting }

// waiting is a frame that owns its bytes, and what it costs its sender's credit.
type waiting struct {
	out  wire.Out
	cost int64
	end  bool // the sender's side ends with it: no credit is given back
}

func (q *queue) len() int { return len(q.frames) }

// push copies a frame behind the others.
func (q *queue) push(out *wire.Out, cost int64) {
	w := waiting{out: *out, cost: cost, end: out.Flags&wire.FlagEnd != 0}
	w.own()
	q.frames = append(q.frames, w)
}

// own copies the frame's bytes into one block of its own.
func (w *waiting) own() {
	o := &w.out
	b := make([]byte, 0, o.HeadLen()+len(o.Body))
	piece := func(p []byte) []byte {
		from := len(b)
		b = append(b, p...)
		return b[from:len(b):len(b)]
	}
	o.Pre, o.Head, o.Post, o.Body = piece(o.Pre), piece(o.Head), piece(o.Post), piece(o.Body)
}

func (q *queue) pop() {
	q.frames[0] = waiting{}
	q.frames = q.frames[1:]
	if len(q.frames) == 0 {
		q.frames = nil
	}
}

func (q *queue) clear() { q.frames = nil }

// pump sends what credit allows and gives the senders' credit back for what has left whole. to is
// locked, and so is the call.
func (c *Call) pump(q *queue, to *Session, st *wire.Stream) (sentEnd bool, cost int64) {
	for q.len() > 0 {
		w := &q.frames[0]
		if !to.wc.Send(st, &w.out) {
			return false, cost
		}
		if !w.end {
			cost += w.cost
		}
		sentEnd = w.end
		q.pop()
	}
	return sentEnd, cost
}
