package cluster

import (
	"sync"
	"sync/atomic"
)

// Health is what slow start and outlier ejection know of an endpoint. Times are the proxy's monotonic clock's,
// which is never 0.
type Health struct {
	since   atomic.Int64 // when it began or returned; 0: no call has come since
	ejected atomic.Int64 // until when; 0: never was
	absent  atomic.Int64 // until when; 0: never was
	// Until when the endpoint's proxy is passed by, since it cannot reach the instance; 0: never was.
	unreached atomic.Int64

	mu       sync.Mutex
	inARow   uint32
	window   int64 // when the current window began
	calls    uint32
	failures uint32
	last     int64 // how long the last ejection was
}

// Return notes that the endpoint appeared or came back: slow start begins with its next call.
func (h *Health) Return() { h.since.Store(0) }

// Ejected tells whether the endpoint is ejected.
func (h *Health) Ejected(now int64) bool { return h.ejected.Load() > now }

// Leave notes that the endpoint's proxy said that it cannot reach the instance: until then calls go to others.
func (h *Health) Leave(until int64) { h.absent.Store(until) }

// PassBy notes the same of an endpoint that has an address of its own: until then calls go there.
func (h *Health) PassBy(until int64) { h.unreached.Store(until) }

// PassedBy tells whether the endpoint's proxy said a while ago that it cannot reach the instance, which has an address of its own.
func (h *Health) PassedBy(now int64) bool { return h.unreached.Load() > now }

// Absent tells whether the endpoint's proxy said a while ago that it cannot reach the instance.
func (h *Health) Absent(now int64) bool { return h.absent.Load() > now }

// share is the part of the weight that an endpoint has, in permille.
func (h *Health) share(now, window, initial int64) int64 {
	since := h.since.Load()
	if since == 0 {
		h.since.CompareAndSwap(0, now)
		return initial
	}
	age := now - since
	switch {
	case age >= window:
		return 1000
	case age <= 0: // it returns later
		return initial
	}
	return initial + int64(float64(1000-initial)*float64(age)/float64(window))
}

// Warmth is the part of the weight that an endpoint has by slow start, in permille. Other than what balancers ask, it
// changes nothing: an endpoint that got no call yet has its initial share.
func (h *Health) Warmth(now, window, initial int64) int64 {
	if window == 0 {
		return 1000
	}
	if h.since.Load() == 0 {
		return initial
	}
	return h.share(now, window, initial)
}

// Tally is what Note has counted.
type Tally struct{ InARow, Calls, Failures uint32 }

// Note counts a call that succeeded or failed, and returns the failures in a row and what the current
// window holds. Calls that end while the endpoint is ejected are not counted.
func (h *Health) Note(failed bool, now, window int64) Tally {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ejected.Load() > now {
		return Tally{}
	}
	if now-h.window >= window {
		h.window, h.calls, h.failures = now, 0, 0
	}
	h.calls++
	if failed {
		h.inARow++
		h.failures++
	} else {
		h.inARow = 0
	}
	return Tally{h.inARow, h.calls, h.failures}
}

// Eject takes the endpoint out: for base, or for twice as long as the time before if that was not longer ago than
// it lasted, at most for limit. It returns until when; what was counted is forgotten.
func (h *Health) Eject(now, base, limit int64) (until int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	d := base
	if back := h.ejected.Load(); h.last > 0 && now-back <= h.last {
		d = 2 * h.last
	}
	d = min(d, limit)
	h.last, h.inARow, h.calls, h.failures = d, 0, 0, 0
	h.window = now + d
	h.since.Store(now + d)
	h.ejected.Store(now + d)
	return now + d
}
