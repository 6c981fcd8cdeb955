// Package meter counts calls without locks, allocation or anybody listening: a counter is a word beside
// the thing that it counts, and whoever wants to know reads it (package telemetry, at scrape time).
package meter

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// codes is how many status codes have a counter of their own; the last counter takes all others.
const codes = 17

// reasons bounds the reason numbers that are counted apart; larger ones count as 0.
const reasons = 64

// Calls counts the calls of one route in one direction. The zero value is ready; it must not be copied.
type Calls struct {
	open    atomic.Int64
	byCode  [codes + 1]atomic.Uint64
	refused [reasons]atomic.Uint64
	// Latency is of calls that ended, whatever their code.
	Latency Histogram
}

// Begin notes a call that a route took. End must follow once.
func (c *Calls) Begin() { c.open.Add(1) }

// End notes how a call that began has ended: with a google.rpc.Code, after some time.
func (c *Calls) End(code int32, took time.Duration) {
	c.open.Add(-1)
	c.byCode[codeSlot(code)].Add(1)
	c.Latency.Observe(took)
}

// Refuse notes a status that this proxy itself concluded, by the number of its octo.wire.v1.Reason. A call
// that began is counted by End as well.
func (c *Calls) Refuse(reason uint32) {
	if reason >= reasons {
		reason = 0
	}
	c.refused[reason].Add(1)
}

// Open returns the calls that began and have not ended.
func (c *Calls) Open() int64 { return c.open.Load() }

// Ended returns how many calls ended with a code; any code outside 0 to 16 gives those with such codes.
func (c *Calls) Ended(code int32) uint64 { return c.byCode[codeSlot(code)].Load() }

// Refused returns how often this proxy concluded a status with the reason.
func (c *Calls) Refused(reason uint32) uint64 {
	if reason >= reasons {
		return 0
	}
	return c.refused[reason].Load()
}

// Codes and Reasons bound the arguments of Ended and Refused that are worth asking for.
const (
	Codes   = codes + 1
	Reasons = reasons
)

func codeSlot(code int32) int {
	if code < 0 || code >= codes {
		return codes
	}
	return int(code)
}

// Buckets is how many buckets a Histogram has. Bucket i counts what took less than 2^i microseconds and
// no less than the bucket before; the last one, from about 67 s on, has no upper bound.
const Buckets = 28

// Histogram counts durations in buckets that double.
type Histogram struct {
	buckets [Buckets]atomic.Uint64
	sum     atomic.Uint64 // nanoseconds

	exemplars atomic.Pointer[exemplars] // nil: none yet
}

// Observe counts one duration; a negative one counts as 0.
func (h *Histogram) Observe(d time.Duration) {
	d = max(d, 0)
	h.buckets[bucketOf(d)].Add(1)
	h.sum.Add(uint64(d))
}

func bucketOf(d time.Duration) int {
	return min(bits.Len64(uint64(d/time.Microsecond)), Buckets-1)
}

// Read returns how many durations each bucket counted and the sum of all. Reads run beside Observe, so
// that the parts may differ by what came between.
func (h *Histogram) Read() (buckets [Buckets]uint64, sum time.Duration) {
	for i := range h.buckets {
		buckets[i] = h.buckets[i].Load()
	}
	return buckets, time.Duration(h.sum.Load())
}

// Bound returns the upper bound of a bucket, which the bucket does not include. The last has none: it
// returns 0.
func Bound(bucket int) time.Duration {
	if bucket < 0 || bucket >= Buckets-1 {
		return 0
	}
	return time.Microsecond << bucket
}
