package policy

import (
	"sync/atomic"

	"github.com/octomesh/octomesh/core/wire"
)

// MirrorRules is a compiled octo.resource.v1.Mirror. Times are nanoseconds.
type MirrorRules struct {
	Permille uint32
	Timeout  int64
	MaxOpen  int64
}

// Copied is what a copy of a call came to, or why it was not made.
type Copied uint8

// What copies come to.
const (
	CopyAnswered     Copied = iota // with OK
	CopyFailed                     // answered otherwise, or lost
	CopyExpired                    // its time was over
	CopyUnsuited                   // not made: the request is not one frame
	CopyTooMany                    // not made: max_open are under way
	CopyNoEndpoint                 // not made: there is no endpoint
	CopyNotConnected               // not made: no connection stands
	CopyBusy                       // not made: the connection has much to do
	copyOutcomes
)

var copiedNames = [copyOutcomes]string{
	"answered", "failed", "expired", "unsuited", "too_many", "no_endpoint", "not_connected", "busy",
}

// CopyOutcome is what an answer makes of a copy.
func CopyOutcome(code wire.Code) Copied {
	switch code {
	case wire.OK:
		return CopyAnswered
	case wire.DeadlineExceeded:
		return CopyExpired // the other end's clock was first
	}
	return CopyFailed
}

// Copies counts a route's. It outlives generations.
type Copies struct {
	open  atomic.Int64
	sent  atomic.Uint64
	ended [copyOutcomes]atomic.Uint64
}

// Begin takes one of so many places for a copy; End or Drop gives it back.
func (c *Copies) Begin(limit int64) bool {
	if c.open.Add(1) > limit {
		c.Drop(CopyTooMany)
		return false
	}
	return true
}

// Sent notes that a copy that began has left.
func (c *Copies) Sent() { c.sent.Add(1) }

// End notes what a copy that was sent came to.
func (c *Copies) End(how Copied) {
	c.open.Add(-1)
	c.ended[how].Add(1)
}

// Drop notes that a copy that began was not made after all.
func (c *Copies) Drop(why Copied) { c.End(why) }

// Skip notes that a copy was not even begun.
func (c *Copies) Skip(why Copied) { c.ended[why].Add(1) }

// Open returns how many copies are under way.
func (c *Copies) Open() int64 { return c.open.Load() }

// Counts yields each counter, by what became of copies.
func (c *Copies) Counts(yield func(outcome string, n uint64)) {
	yield("sent", c.sent.Load())
	for i := range c.ended {
		yield(copiedNames[i], c.ended[i].Load())
	}
}
