package ratelimit

import (
	"context"
	"time"
)

// Hit is calls that want to begin, counted by one counter.
type Hit struct {
	// Key names the counter. It is short, whatever the descriptor.
	Key string
	// Limit is how many hits the counter takes in the time Per.
	Limit uint64
	Per   time.Duration
	// Hits is how many come; 0 only looks. Below 0 so many are given back that were taken and not used.
	Hits int64
}

// Result is what became of a hit.
type Result struct {
	// OK: the hits were counted. Otherwise none of them were.
	OK bool
	// Remaining is how many hits the counter would take now.
	Remaining uint64
	// Reset is when the window ends in which hits were counted. If nothing remains it is when a hit will be taken again.
	Reset time.Duration
}

// Store keeps counters. A counter takes no more than its limit in each of the windows that follow each other, which begin at
// multiples of Per; and what the window before took counts too, by the share of it that is not yet as long ago as Per. So
// there is no double burst where two windows meet.
//
// Take counts hits, each for itself, in their order. An error is no answer: hits may have been counted, or not. It may be used by
// many goroutines at once.
type Store interface {
	Take(ctx context.Context, hits []Hit) ([]Result, error)
	// Close gives back what the store holds.
	Close() error
}

// window is what a counter holds.
type window struct {
	number  int64 // which multiple of Per it began at
	current uint64
	before  uint64 // what the window before took
}

// take counts hits at a time, in microseconds. The script of the Redis store does the same.
func (w *window) take(h Hit, now int64) Result {
	per := h.Per.Microseconds()
	v, left := w.at(now, per)
	before := uint64(float64(v.before) * float64(left) / float64(per))
	used := before + v.current
	if h.Hits <= 0 || used+uint64(h.Hits) <= h.Limit {
		if h.Hits != 0 {
			v.current = uint64(max(int64(v.current)+h.Hits, 0))
			used = before + v.current
			*w = v
		}
		return Result{OK: h.Hits != 0 || used < h.Limit, Remaining: rest(h.Limit, used), Reset: time.Duration(left) * time.Microsecond}
	}
	r := Result{Remaining: rest(h.Limit, used), Reset: time.Duration(left) * time.Microsecond}
	if r.Remaining == 0 {
		r.Reset = time.Duration(v.until(h.Limit, per, left)) * time.Microsecond
	}
	return r
}

// at is what the counter holds at a time, and how much is left of the window then.
func (w *window) at(now, per int64) (v window, left int64) {
	v = window{number: now / per}
	switch w.number {
	case v.number:
		v = *w
	case v.number - 1:
		v.before = w.current
	case v.number + 1: // the clock was set back a little
		return *w, per
	}
	return v, per - (now - v.number*per)
}

func rest(limit, used uint64) uint64 {
	if used >= limit {
		return 0
	}
	return limit - used
}

// until is in how many microseconds one more hit will be taken, where left are left of the window.
func (w *window) until(limit uint64, per, left int64) int64 {
	switch {
	case limit == 0:
		return left
	case w.current < limit: // once enough of the window before is gone
		return max(left-int64(float64(limit-w.current)/float64(w.before)*float64(per)), 0) + 1
	}
	// In the next window, where this one is the one before.
	return left + max(per-int64(float64(limit)/float64(w.current)*float64(per)), 0) + 1
}
