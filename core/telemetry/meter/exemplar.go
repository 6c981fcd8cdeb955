package meter

import (
	"sync"
	"time"
)

// Exemplar is one call of a histogram's, by which its trace is found.
type Exemplar struct {
	Took  time.Duration
	At    time.Time
	Trace [16]byte
	Span  [8]byte
}

// exemplars is the last exemplar of each bucket. A histogram has them from its first sampled call on.
type exemplars struct {
	mu sync.Mutex
	of [Buckets]Exemplar // zero At: none
}

// Exemplify notes a call that Observe has counted, or will, in place of the bucket's last one. It is not for
// the path of calls.
func (h *Histogram) Exemplify(e Exemplar) {
	all := h.exemplars.Load()
	if all == nil {
		h.exemplars.CompareAndSwap(nil, new(exemplars))
		all = h.exemplars.Load()
	}
	e.Took = max(e.Took, 0)
	all.mu.Lock()
	all.of[bucketOf(e.Took)] = e
	all.mu.Unlock()
}

// Exemplars returns the last exemplar of each bucket that has one, those of short calls first.
func (h *Histogram) Exemplars() (out []Exemplar) {
	all := h.exemplars.Load()
	if all == nil {
		return nil
	}
	all.mu.Lock()
	defer all.mu.Unlock()
	for i := range all.of {
		if !all.of[i].At.IsZero() {
			out = append(out, all.of[i])
		}
	}
	return out
}
