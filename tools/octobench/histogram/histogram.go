// Package histogram counts latencies in buckets whose width is at most 1/32 of their value.
package histogram

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Each power of two is split into steps buckets; below steps nanoseconds each value has its own.
const (
	stepBits = 5
	steps    = 1 << stepBits
	// buckets reach up to 2^40 ns, some 18 minutes; longer latencies count as that.
	buckets = (40-stepBits-1)*steps + 2*steps
)

// Recorder counts latencies. One goroutine observes, any may read meanwhile. The zero value is ready.
type Recorder struct{ counts [buckets]atomic.Uint64 }

// Observe counts one latency.
func (r *Recorder) Observe(d time.Duration) { r.counts[slot(d)].Add(1) }

// AddTo adds what was counted so far.
func (r *Recorder) AddTo(c Counts) {
	for i := range r.counts {
		if n := r.counts[i].Load(); n > 0 {
			c[i] += n
		}
	}
}

// slot keeps the highest stepBits+1 bits of a latency.
func slot(d time.Duration) int {
	v := uint64(max(d, 0))
	exponent := max(bits.Len64(v)-stepBits-1, 0)
	return min(exponent*steps+int(v>>exponent), buckets-1)
}

// middle is the latency that stands for all of a slot.
func middle(slot int) time.Duration {
	exponent := max(slot/steps-1, 0)
	low := uint64(slot-exponent*steps) << exponent
	return time.Duration(low + 1<<exponent/2)
}

// Counts is how many latencies fell into which slot. Counts of several sources add up.
type Counts map[int]uint64

// Add adds another's counts.
func (c Counts) Add(other Counts) {
	for i, n := range other {
		c[i] += n
	}
}

// Since returns what was counted after earlier, a state of the same source.
func (c Counts) Since(earlier Counts) Counts {
	out := make(Counts, len(c))
	for i, n := range c {
		if n > earlier[i] {
			out[i] = n - earlier[i]
		}
	}
	return out
}

// Total is the number of latencies.
func (c Counts) Total() uint64 {
	var total uint64
	for _, n := range c {
		total += n
	}
	return total
}

// Quantile returns the latency that a share q of all does not exceed; 0 if there are none.
func (c Counts) Quantile(q float64) time.Duration {
	total := c.Total()
	if total == 0 {
		return 0
	}
	rank := min(uint64(q*float64(total)), total-1)
	for i := range buckets {
		n := c[i]
		if rank < n {
			return middle(i)
		}
		rank -= n
	}
	return middle(buckets - 1)
}
