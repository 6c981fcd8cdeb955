package cluster

import (
	"math/rand/v2"
	"time"

	"github.com/octomesh/octomesh/core/wire"
)

// Rules is what a target's policy says of choosing among its endpoints. The zero value says nothing.
type Rules struct {
	// Zone is that of this proxy; its endpoints go before the others. Empty: zones do not matter.
	Zone string
	// MaxOpen is the calls in flight with which an endpoint has no capacity left; 0: unbounded.
	MaxOpen int64
	// SlowStart is how long an endpoint's share grows; 0: it has its whole weight at once.
	SlowStart time.Duration
	// Initial is the share at the begin, in permille.
	Initial int64
	// Ejects says that endpoints may be ejected.
	Ejects bool
	// Turns and Keys prepare groups for Next and for Owner.
	Turns, Keys bool
}

// Group is endpoints of a cluster of which none is to be preferred for what it is.
type Group struct {
	Target    string
	Endpoints []*Endpoint // never empty

	rules *Rules // nil: only readiness matters
	slots []slot // nil where all weights are equal
	turns *turns
	seeds []uint64
}

// group splits endpoints by what goes first: the zone's own, other zones, the zone's own backups, other
// backups. Empty groups are left out.
func group(endpoints []*Endpoint, rules Rules) []*Group {
	rank := func(e *Endpoint) int {
		at := 0
		if e.Backup {
			at = 2
		}
		if rules.Zone != "" && e.Zone != rules.Zone {
			at++
		}
		return at
	}
	var sizes [4]int
	for _, e := range endpoints {
		sizes[rank(e)]++
	}
	var out []*Group
	for at, n := range sizes {
		if n == 0 {
			continue
		}
		members := endpoints
		if n < len(endpoints) {
			members = make([]*Endpoint, 0, n)
			for _, e := range endpoints {
				if rank(e) == at {
					members = append(members, e)
				}
			}
		}
		out = append(out, newGroup(members, &rules))
	}
	return out
}

func newGroup(endpoints []*Endpoint, rules *Rules) *Group {
	g := &Group{Target: endpoints[0].Target, Endpoints: endpoints, slots: weigh(endpoints)}
	if rules.MaxOpen > 0 || rules.SlowStart > 0 || rules.Ejects {
		g.rules = rules
	}
	if rules.Turns {
		g.turns = newTurns(g)
	}
	if rules.Keys {
		for _, e := range endpoints {
			name := []byte(e.Instance)
			g.seeds = append(g.seeds, uint64(wire.Murmur3(name, 1))<<32|uint64(wire.Murmur3(name, 2)))
		}
	}
	return g
}

// Plain tells that only readiness matters in the group.
func (g *Group) Plain() bool { return g.rules == nil }

// Usable tells whether a call may go to the endpoint now: it is ready, not ejected or absent, and has capacity.
func (g *Group) Usable(e *Endpoint, now int64) bool {
	return (g.rules == nil || g.rules.admit(e, now)) && e.absent.Load() <= now && e.Ready()
}

func (r *Rules) admit(e *Endpoint, now int64) bool {
	return (!r.Ejects || !e.Ejected(now)) && (r.MaxOpen == 0 || e.Open.Load() < r.MaxOpen)
}

// Share returns how much of its weight an endpoint has now, in permille, from 1 on.
func (g *Group) Share(e *Endpoint, now int64) int64 {
	if g.rules == nil || g.rules.SlowStart == 0 {
		return 1000
	}
	return e.share(now, int64(g.rules.SlowStart), g.rules.Initial)
}

// probes bounds how many endpoints of a big group are looked at for one call.
const probes = 128

// Find returns some endpoint that the test holds for, looking from a random one on, so that no one of them gets
// all calls; nil: none of many has passed.
func (g *Group) Find(test func(g *Group, e *Endpoint, now int64) bool, now int64, avoid *Endpoint) *Endpoint {
	n := len(g.Endpoints)
	at := rand.IntN(n)
	for range min(n, probes) {
		if e := g.Endpoints[at]; e != avoid && test(g, e, now) {
			return e
		}
		if at++; at == n {
			at = 0
		}
	}
	return nil
}

// InPlay tells that an endpoint is not ejected, though it may not be ready or have capacity.
func (g *Group) InPlay(e *Endpoint, now int64) bool {
	return g.rules == nil || !g.rules.Ejects || !e.Ejected(now)
}
