package cluster

import (
	"math/rand/v2"
	"sync"
)

// turns deals calls out exactly by weight: each endpoint has a time on a common scale at which it is due, the
// one that is due first gets the call and is due again a step later, and its step is the inverse of its weight. A
// heap finds the first. Times may wrap around; they are compared by their distance.
type turns struct {
	mu   sync.Mutex
	heap []turn
}

type turn struct {
	due uint64
	at  int // index of the endpoint
}

// newTurns begins each endpoint at a random point of its first step, so that many proxies, or
// generations that follow each other soon, do not all begin with the same endpoint.
func newTurns(g *Group) *turns {
	t := &turns{}
	for i, e := range g.Endpoints {
		t.heap = append(t.heap, turn{1 + rand.Uint64N(step(e, 1000)), i})
	}
	for i := len(t.heap)/2 - 1; i >= 0; i-- {
		t.down(i)
	}
	return t
}

// step is an endpoint's with a share of its weight in permille. It is at least 4294: rounding costs less than one
// call in 4,000.
func step(e *Endpoint, share int64) uint64 {
	return (1000 << 32) / (uint64(e.Weight) * uint64(max(share, 1)))
}

// down puts the turn at index i into its place among those below it.
func (t *turns) down(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(t.heap); child++ {
			if int64(t.heap[child].due-t.heap[least].due) < 0 {
				least = child
			}
		}
		if least == i {
			return
		}
		t.heap[i], t.heap[least] = t.heap[least], t.heap[i]
		i = least
	}
}

// Next returns the endpoint whose turn it is. Those that are not usable, and the one to avoid, miss their turn; nil:
// no usable one came. The group must have been made with turns.
func (g *Group) Next(now int64, avoid *Endpoint) *Endpoint {
	t := g.turns
	t.mu.Lock()
	defer t.mu.Unlock()
	for range min(len(t.heap), probes) {
		e := g.Endpoints[t.heap[0].at]
		t.heap[0].due += step(e, g.Share(e, now))
		t.down(0)
		if e != avoid && g.Usable(e, now) {
			return e
		}
	}
	return nil
}
