package session

import (
	"context"
	"errors"
	"io"
	"sync"

	"github.com/octomesh/octomesh/core/wire"
)

// Local is a call that ends in the proxy itself: a service of its own answers it, on a goroutine of its own, for which
// frames wait here as they would wait for another session. What the caller may send ahead is bounded by the window, since
// its credit goes back when a message is taken; what is sent to the caller waits for its credit.
type Local struct {
	call   *Call // a reference is held until End
	ctx    context.Context
	cancel context.CancelCauseFunc

	giving sync.Mutex
	given  bool // End has given the reference up, or is about to; guarded by giving

	arrived chan struct{} // holds one element when there is something to receive
	room    chan struct{} // likewise when all that was sent has left

	// Guarded by the call's lock.
	part     []byte // of the message that is arriving
	partCost int64
	inPart   bool
	waiting  []message
	half     bool // the caller sends no more
	answered bool // a RESPONSE was sent
}

// message is one that waits to be received, and the credit that it holds.
type message struct {
	bytes []byte
	cost  int64
}

// MaxLocal is the largest message that a service of the proxy's own takes, in bytes. It fits any window, so that no
// message waits for credit that it holds itself.
const MaxLocal = 64 << 10

// maxLocals bounds the calls of one session that end in the proxy.
const maxLocals = 256

// ErrCallOver is the cause with which the context of a [Local] ends when its caller has gone, cancelled or run out of time.
var ErrCallOver = errors.New("octo: the call is over")

// Here has the call end in the proxy: whoever calls it, in Serve and in place of Forward, Refuse and Park, answers by what
// it returns, on another goroutine, and Ends that in any case. nil: too many calls of the session are open here; the call is to
// be refused. The context ends with the call, or with ctx.
func (c *Call) Here(ctx context.Context) *Local {
	if c.down.locals.Add(1) > maxLocals {
		c.down.locals.Add(-1)
		return nil
	}
	l := &Local{call: c, arrived: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	c.hold()
	c.local = l
	if c.frame != nil {
		l.take(c.frame, c.batch)
	}
	return l
}

// take keeps what the caller has sent. The call is locked, no session is.
func (l *Local) take(f *wire.Frame, b *Batch) {
	if f.Has(wire.FlagEnd) {
		l.half = true
	}
	if f.Has(wire.FlagMessage) {
		if reason, why := l.add(f); reason != 0 {
			st := wire.Refuse(reason, l.call.down.opts.Origin, why)
			l.call.end(&st, b)
			return
		}
	}
	signal(l.arrived)
}

// add keeps a frame's part of a message, or says why the call ends.
func (l *Local) add(f *wire.Frame) (wire.Reason, string) {
	switch {
	case f.Has(wire.FlagCompressed):
		return wire.ReasonUnknownEncoding, "the proxy's own services take messages without compression"
	case len(l.part)+len(f.Body) > MaxLocal:
		return wire.ReasonMessageTooLarge, "the proxy's own services take messages of 64 KiB"
	}
	if l.part == nil {
		l.part = make([]byte, 0, len(f.Body)) // an empty message is not nil
	}
	l.part = append(l.part, f.Body...)
	l.partCost += f.Cost()
	if l.inPart = f.Has(wire.FlagMore); !l.inPart {
		l.waiting = append(l.waiting, message{l.part, l.partCost})
		l.part, l.partCost = nil, 0
	}
	return 0, ""
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// cut tells whoever answers that the call is over. The call is locked.
func (l *Local) cut() {
	l.waiting, l.part = nil, nil
	l.cancel(ErrCallOver)
}

// Context ends with the call.
func (l *Local) Context() context.Context { return l.ctx }

// Session is where the call came from.
func (l *Local) Session() *Session { return l.call.down }

// Receive returns the next message, io.EOF after the last, or why the call has ended. It is for one goroutine at a time;
// another one may send, and End: then it fails, as it does ever after.
func (l *Local) Receive() ([]byte, error) {
	for {
		if m, err := l.next(); m != nil || err != nil {
			return m, err
		}
		select {
		case <-l.arrived:
		case <-l.ctx.Done():
			return nil, context.Cause(l.ctx)
		}
	}
}

// held is the call with a reference more, for who does not end it; nil: it was given up, and may be another one's by now.
func (l *Local) held() *Call {
	l.giving.Lock()
	defer l.giving.Unlock()
	if l.given {
		return nil
	}
	l.call.hold()
	return l.call
}

// next takes a message, if one has come; an empty one is not nil.
func (l *Local) next() ([]byte, error) {
	c := l.held()
	if c == nil {
		return nil, ErrCallOver
	}
	defer c.drop() // when the lock is free
	b := Batch{Now: c.down.opts.Clock.Now()}
	defer b.Flush()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.gone:
		return nil, ErrCallOver
	case len(l.waiting) > 0:
		m := l.waiting[0]
		l.waiting = l.waiting[1:]
		c.credit(c.down, c.ds, m.cost, &b)
		return m.bytes, nil
	case l.half:
		return nil, io.EOF
	}
	return nil, nil
}

// Send sends a message and waits until it has left: until the caller has given credit for all of it. It is for one goroutine
// at a time.
func (l *Local) Send(m []byte) error {
	l.queue(m)
	for {
		switch left, err := l.left(); {
		case err != nil:
			return err
		case left:
			return nil
		}
		select {
		case <-l.room:
		case <-l.ctx.Done():
			return context.Cause(l.ctx)
		}
	}
}

// queue sends as much of a message as there is credit for, and keeps the rest.
func (l *Local) queue(m []byte) {
	c := l.call
	b := Batch{Now: c.down.opts.Clock.Now()}
	c.mu.Lock()
	if !c.gone {
		out := wire.Out{Type: wire.TypeMessage, Flags: wire.FlagMessage, Body: m}
		if !l.answered {
			out.Type = wire.TypeResponse
		}
		l.answered = true
		c.doQueue.push(&out, 0)
		c.pumpDown(&b)
	}
	c.mu.Unlock()
	b.Flush()
}

// left tells whether nothing waits for credit.
func (l *Local) left() (bool, error) {
	c := l.call
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return false, ErrCallOver
	}
	return c.doQueue.len() == 0, nil
}

// End ends the call with st, unless it is over, and gives it up. What has not left of a message is dropped. Only the first
// call counts.
func (l *Local) End(st wire.Status) {
	l.giving.Lock()
	again := l.given
	l.given = true
	l.giving.Unlock()
	if again {
		return
	}
	c := l.call
	b := Batch{Now: c.down.opts.Clock.Now()}
	c.mu.Lock()
	c.doQueue.clear()
	d := c.down
	d.tc.Lock()
	over := c.gone || c.ds.Call != c
	if !over {
		head := wire.ResponseHead{Status: st}
		d.send(c.ds, &wire.Out{Type: wire.TypeResponse, Flags: wire.FlagEnd, Head: head.Append(nil)})
		d.touch(&b)
	}
	d.tc.Unlock()
	if !over {
		c.finished(&st, &b)
	}
	l.cut()
	c.mu.Unlock()
	b.Flush()
	d.locals.Add(-1)
	if !over {
		c.drop() // the stream's
	}
	c.drop() // this one's
}
