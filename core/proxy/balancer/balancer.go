// Package balancer chooses the endpoint of a call.
package balancer

import (
	"math/rand/v2"

	"github.com/octomesh/octomesh/core/proxy/cluster"
	"github.com/octomesh/octomesh/core/wire"
)

// Request is what balancers know of a call.
type Request struct {
	HashKey []byte // borrowed
	// Now is the proxy's monotonic time.
	Now int64
	// Avoid is an endpoint that failed the call before and is not to be chosen, or nil.
	Avoid *cluster.Endpoint
}

// Balancer chooses among the endpoints of a group. It keeps no state of a call, may be used by many
// goroutines at once and allocates nothing.
type Balancer interface {
	// Pick returns a usable endpoint, or nil if it found none; [Choose] looks again.
	Pick(g *cluster.Group, r Request) *cluster.Endpoint
}

// Choose asks the groups in their order and takes the first usable endpoint. Where none is usable it takes one
// that is not ejected, so that somebody dials, and else any: a guess is better than a refusal. Nil: there is no
// endpoint but the one to avoid.
func Choose(b Balancer, groups []*cluster.Group, r Request) *cluster.Endpoint {
	_, common := b.(PowerOfTwo)
	for _, g := range groups {
		if common { // saves a copy of the request
			if e, usable := twoChoices(g, r.Now, r.Avoid); usable {
				return e
			}
		} else if e := b.Pick(g, r); e != nil {
			return e
		}
		if e := g.Find((*cluster.Group).Usable, r.Now, r.Avoid); e != nil {
			return e
		}
	}
	return guess(groups, r)
}

// guess chooses where nobody is usable.
func guess(groups []*cluster.Group, r Request) *cluster.Endpoint {
	for _, g := range groups {
		if e, _ := twoChoices(g, r.Now, r.Avoid); e != nil && g.InPlay(e, r.Now) {
			return e
		}
		if e := g.Find((*cluster.Group).InPlay, r.Now, r.Avoid); e != nil {
			return e
		}
	}
	for _, g := range groups {
		if e, _ := twoChoices(g, r.Now, r.Avoid); e != nil {
			return e
		}
	}
	return nil
}

// RoundRobin deals calls out in turns by weight.
type RoundRobin struct{}

// Pick implements [Balancer]. The group must have been made with turns.
func (RoundRobin) Pick(g *cluster.Group, r Request) *cluster.Endpoint { return g.Next(r.Now, r.Avoid) }

// RingHash sends calls with the same hash key to the same endpoint.
type RingHash struct{}

// Pick implements [Balancer]: without a key as [PowerOfTwo] does. The group must have been made with keys.
func (RingHash) Pick(g *cluster.Group, r Request) *cluster.Endpoint {
	if len(r.HashKey) == 0 {
		return PowerOfTwo{}.Pick(g, r)
	}
	return g.Owner(wire.RingHash(g.Target, r.HashKey), r.Now, r.Avoid)
}

// PowerOfTwo takes two endpoints at random and of them the one that has less to do for its weight: the first is
// drawn by weight, the second evenly among the others.
//
//   - A usable one goes before one that is not.
//   - If neither has a call in flight the first wins, so that calls that come one by one follow the
//     weights exactly.
//   - Otherwise the one with less (open+1)/weight, that is, with less to do after it took this call; at
//     a tie the first.
type PowerOfTwo struct{}

// Pick implements [Balancer].
func (PowerOfTwo) Pick(g *cluster.Group, r Request) *cluster.Endpoint {
	if e, usable := twoChoices(g, r.Now, r.Avoid); usable {
		return e
	}
	return nil
}

// draws bounds how often an endpoint to avoid, or one that still warms up, is drawn again before it, or its
// neighbour, is taken.
const draws = 8

// twoChoices returns nil only if there is none but the one to avoid.
func twoChoices(g *cluster.Group, now int64, avoid *cluster.Endpoint) (e *cluster.Endpoint, usable bool) {
	n := len(g.Endpoints)
	if n == 1 {
		if e = g.Endpoints[0]; e == avoid {
			return nil, false
		}
		return e, g.Usable(e, now)
	}
	i, random := first(g, now, avoid)
	a, b := g.Endpoints[i], second(g, i, random, avoid)
	if b == nil {
		return a, g.Usable(a, now)
	}
	ua, ub := g.Usable(a, now), g.Usable(b, now)
	if ua != ub {
		if ua {
			return a, true
		}
		return b, true
	}
	openA, openB := a.Open.Load(), b.Open.Load()
	if openA == 0 && openB == 0 {
		return a, ua
	}
	weightA, weightB := int64(a.Weight), int64(b.Weight)
	if !g.Plain() {
		weightA, weightB = weightA*g.Share(a, now), weightB*g.Share(b, now)
	}
	if (openA+1)*weightB <= (openB+1)*weightA {
		return a, ua
	}
	return b, ua
}

// first draws by weight, and returns what it drew with. The group has two endpoints or more.
func first(g *cluster.Group, now int64, avoid *cluster.Endpoint) (i int, random uint64) {
	random = rand.Uint64()
	i = g.Sample(random)
	for try := 1; try < draws && (g.Endpoints[i] == avoid || !g.Plain() && !warm(g, g.Endpoints[i], now)); try++ {
		random = rand.Uint64()
		i = g.Sample(random)
	}
	if g.Endpoints[i] == avoid {
		i = (i + 1) % len(g.Endpoints)
	}
	return i, random
}

// warm lets an endpoint's draw pass as often as its share of its weight says.
func warm(g *cluster.Group, e *cluster.Endpoint, now int64) bool {
	share := g.Share(e, now)
	return share >= 1000 || rand.Int64N(1000) < share
}

// second draws evenly among the others, by the bits of the first draw mixed anew: drawing is what costs most here. Nil if
// that leaves none but the one to avoid.
func second(g *cluster.Group, i int, random uint64, avoid *cluster.Endpoint) *cluster.Endpoint {
	n := len(g.Endpoints)
	random = (random ^ random>>32) * 0x9e3779b97f4a7c15
	random = (random ^ random>>29) * 0xbf58476d1ce4e5b9
	j := i + 1 + int((random>>32)*uint64(n-1)>>32)
	if j >= n {
		j -= n
	}
	if g.Endpoints[j] != avoid {
		return g.Endpoints[j]
	}
	if n == 2 {
		return nil
	}
	if j = (j + 1) % n; j == i {
		j = (j + 1) % n
	}
	return g.Endpoints[j]
}
