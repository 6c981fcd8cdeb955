package ratelimit

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// health keeps calls from waiting for a service that does not answer.
type health struct {
	broken  atomic.Bool  // calls do not wait
	until   atomic.Int64 // when somebody may look whether it answers again
	probing atomic.Bool  // somebody does

	mu       sync.Mutex
	failures int // in a row
	rest     time.Duration
}

// down is what [policy.Asker] says of it.
func (h *health) down(now int64) (down, probe bool) {
	if !h.broken.Load() {
		return false, false
	}
	return true, now >= h.until.Load() && h.probing.CompareAndSwap(false, true)
}

// least is how many hits each question has at least: one that looks whether the service answers asks for something.
func (h *health) least() int64 {
	if h.probing.Load() {
		return 1
	}
	return 0
}

// answered notes an answer, and tells whether that is news.
func (h *health) answered() (news bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	news = h.broken.Load()
	h.failures, h.rest = 0, 0
	h.broken.Store(false)
	h.probing.Store(false)
	return news
}

// failed notes that there was no answer, and tells whether calls stop waiting from now on.
func (h *health) failed(now int64) (news bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failures++; h.failures < failuresToBreak {
		return false
	}
	if news = !h.broken.Load(); !news && !h.probing.Load() {
		return false // it was asked before that was known
	}
	h.rest = min(max(2*h.rest, minRest), maxRest)
	h.until.Store(now + int64(h.rest/2) + rand.Int64N(int64(h.rest)))
	h.broken.Store(true)
	h.probing.Store(false)
	return news
}

// counts is what became of questions.
type counts struct {
	requests, failed atomic.Uint64
	granted, over    atomic.Uint64 // hits
}

func (c *counts) answered(over bool, hits int64) {
	if over {
		c.over.Add(uint64(hits))
	} else {
		c.granted.Add(uint64(hits))
	}
}

// Status is what a client has done, for metrics.
type Status struct {
	// Requests is how many were answered, Failed how many were not.
	Requests, Failed uint64
	// Granted and Over are the calls that were asked for.
	Granted, Over uint64
	// Answers tells whether calls wait for answers; if not, the service is thought not to answer.
	Answers bool
}

// Status returns what the client has done.
func (c *Client) Status() Status {
	n := &c.counts
	return Status{n.requests.Load(), n.failed.Load(), n.granted.Load(), n.over.Load(), !c.health.broken.Load()}
}
