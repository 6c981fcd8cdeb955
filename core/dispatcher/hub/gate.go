package hub

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// gate lets watches of one registry begin: so many a second, so many at once, and none while the breaker is open.
type gate struct {
	limits Registry
	wake   chan struct{}

	mu       sync.Mutex
	waiting  [2][]*ticket // keys that nobody knows yet, then the others
	starting int
	failures int       // in a row
	opened   int       // times in a row that the breaker opened
	until    time.Time // when it lets one through again; zero: it is closed
	opens    uint64    // ever
}

// ticket is one watch that waits to begin.
type ticket struct {
	let  chan struct{} // closed when it may
	gone bool          // it does not wait any more
}

// outcome of a watch's beginning.
type outcome uint8

const (
	began outcome = iota
	failed
	withdrawn // it says nothing of the registry
)

func newGate(r Registry) *gate { return &gate{limits: r, wake: make(chan struct{}, 1)} }

func (g *gate) ring() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// enter waits until a watch may begin; leave must follow if it returns nil.
func (g *gate) enter(ctx context.Context, known bool) error {
	t := &ticket{let: make(chan struct{})}
	line := 0
	if known {
		line = 1
	}
	g.mu.Lock()
	g.waiting[line] = append(g.waiting[line], t)
	g.mu.Unlock()
	g.ring()
	select {
	case <-t.let:
		return nil
	case <-ctx.Done():
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-t.let:
		g.starting--
		g.ring()
	default:
		t.gone = true
	}
	return ctx.Err()
}

// leave says how the beginning went.
func (g *gate) leave(o outcome) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.starting--
	switch o {
	case began:
		g.failures, g.opened, g.until = 0, 0, time.Time{}
	case failed:
		g.failures++
		if g.failures >= g.limits.BreakAfter && !time.Now().Before(g.until) { // those that began before it opened do not prolong it
			g.until = time.Now().Add(spread(backoff(g.limits, g.opened)))
			g.opened++
			g.opens++
		}
	}
	g.ring()
}

// run lets watches begin until ctx ends.
func (g *gate) run(ctx context.Context) {
	limiter := rate.NewLimiter(rate.Limit(g.limits.StartsPerSecond), max(1, int(g.limits.StartsPerSecond/20)))
	for {
		may, after := g.look()
		if !may {
			var timer <-chan time.Time
			if after > 0 {
				timer = time.After(after)
			}
			select {
			case <-ctx.Done():
				return
			case <-g.wake:
			case <-timer:
			}
			continue
		}
		if limiter.Wait(ctx) != nil {
			return
		}
		g.admit()
	}
}

// look tells whether somebody may begin now, and if not when to look again; 0: when something happens.
func (g *gate) look() (may bool, after time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	most := g.limits.MaxStarting
	if !g.until.IsZero() {
		if wait := time.Until(g.until); wait > 0 {
			return false, wait
		}
		most = 1 // a single one, to see
	}
	return g.next() != nil && g.starting < most, 0
}

// next finds who is first. The lock is held.
func (g *gate) next() *ticket {
	for i := range g.waiting {
		for len(g.waiting[i]) > 0 {
			if t := g.waiting[i][0]; !t.gone {
				return t
			}
			g.waiting[i] = g.waiting[i][1:]
		}
	}
	return nil
}

// admit lets the first begin, if it still may.
func (g *gate) admit() {
	if may, _ := g.look(); !may {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.next()
	if t == nil {
		return
	}
	for i := range g.waiting {
		if len(g.waiting[i]) > 0 && g.waiting[i][0] == t {
			g.waiting[i] = g.waiting[i][1:]
		}
	}
	g.starting++
	close(t.let)
}

// state counts who waits and who begins, and tells whether the breaker is open.
func (g *gate) state() (waiting, starting int, open bool, opens uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, line := range g.waiting {
		for _, t := range line {
			if !t.gone {
				waiting++
			}
		}
	}
	return waiting, g.starting, !g.until.IsZero(), g.opens
}

// backoff is the wait after so many failures.
func backoff(r Registry, failures int) time.Duration {
	d := r.Backoff
	for range min(failures, 62) {
		if d *= 2; d >= r.MaxBackoff {
			return r.MaxBackoff
		}
	}
	return d
}

// spread makes those that failed together not come back together.
func spread(d time.Duration) time.Duration { return d/2 + rand.N(d+1) }
