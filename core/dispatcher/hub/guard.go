package hub

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// guard is one key's endpoints behind the shrink guard. A registry that loses its mind must not take a service away: an
// update that removes all endpoints, or more than half of four or more, without saying that they deregistered, removes
// none of them. They are held until they deregister, come back, or somebody who knows confirms that they are gone.
//
// Removals in small steps add up over a window: what counts there is what is left, so that instances that are replaced
// by others one after the other do not add up.
type guard struct {
	window    time.Duration
	loaded    bool
	endpoints []*resourcev1.Endpoint // what is shown: what the registry has, and what is held
	held      map[string]source.Reason
	left      map[string]time.Time // instances that surely went, and when
	most      int                  // endpoints not held at once at most, since
	since     time.Time            // when counting began
}

const (
	// leftKept is for how long it is said of an instance that it has left, at least until others change; a proxy that was
	// not there for longer learns only that it is not there any more.
	leftKept = 10 * time.Minute
	// maxLeft bounds of how many that is said, the latest.
	maxLeft = 10_000
)

// minGuarded is the size from which on half of the endpoints are a mass.
const minGuarded = 4

// present counts endpoints that the registry has.
func (g *guard) present() int { return len(g.endpoints) - len(g.held) }

func (g *guard) has(instance string) *resourcev1.Endpoint {
	return (&Snapshot{Endpoints: g.endpoints}).Get(instance)
}

// apply takes a Full or Change event in. It returns whether anything is other than before, and how many removals it
// held.
func (g *guard) apply(e source.Event, now time.Time) (changed bool, heldNow int) {
	if e.Kind == source.Full {
		e.Removed = g.missing(e)
		if !g.loaded {
			g.loaded, changed = true, true
		}
	}
	g.count(now)
	before := len(g.endpoints)
	var fresh []*resourcev1.Endpoint
	added := 0
	for _, p := range e.Endpoints {
		old := g.has(p.GetInstance())
		if _, held := g.held[p.GetInstance()]; held {
			changed = true
			delete(g.held, p.GetInstance())
		}
		if old == nil {
			added++
		}
		if old == nil || !proto.Equal(old, p) {
			fresh = append(fresh, p)
		}
		delete(g.left, p.GetInstance())
	}
	gone, open := g.sort(e.Removed)
	n := g.presentWithout(gone)
	if g.mass(n, len(open), added) {
		for _, r := range open {
			g.hold(r)
		}
		heldNow = len(open)
	} else {
		for _, r := range open {
			gone[r.Instance] = true
		}
	}
	for instance := range gone {
		delete(g.held, instance)
	}
	g.leave(gone, now)
	if len(fresh)+len(gone) > 0 {
		g.endpoints = merge(g.endpoints, fresh, gone)
	}
	changed = changed || len(fresh) > 0 || heldNow > 0 || len(g.endpoints) != before
	g.most = max(g.most, g.present())
	return changed, heldNow
}

// leave notes instances that surely went, and forgets those of which that need not be said any more.
func (g *guard) leave(gone map[string]bool, now time.Time) {
	if len(gone) == 0 {
		return
	}
	if g.left == nil {
		g.left = make(map[string]time.Time)
	}
	for instance := range gone {
		g.left[instance] = now
	}
	maps.DeleteFunc(g.left, func(_ string, at time.Time) bool { return now.Sub(at) > leftKept })
	if len(g.left) <= maxLeft {
		return
	}
	byAge := slices.SortedFunc(maps.Keys(g.left), func(a, b string) int {
		return cmp.Or(g.left[a].Compare(g.left[b]), cmp.Compare(a, b))
	})
	for _, instance := range byAge[:len(byAge)-maxLeft] {
		delete(g.left, instance)
	}
}

func (g *guard) leftNames() []string { return slices.Sorted(maps.Keys(g.left)) }

// missing are the removals that a full set says by leaving instances out.
func (g *guard) missing(e source.Event) []source.Removal {
	there := make(map[string]bool, len(e.Endpoints)+len(e.Refused))
	for _, p := range e.Endpoints {
		there[p.GetInstance()] = true
	}
	for _, r := range e.Refused {
		there[r.Instance] = true // it is there, if in a way that cannot be used
	}
	var missing []source.Removal
	for _, p := range g.endpoints {
		if !there[p.GetInstance()] {
			missing = append(missing, source.Removal{Instance: p.GetInstance()})
		}
	}
	return missing
}

// count begins a new window if the old one is over and nothing is held.
func (g *guard) count(now time.Time) {
	if len(g.held) == 0 && now.Sub(g.since) >= g.window {
		g.since, g.most = now, g.present()
	}
}

// sort tells removals that are sure from those that are open to doubt. What is held already is not counted again.
func (g *guard) sort(removed []source.Removal) (sure map[string]bool, open []source.Removal) {
	sure = make(map[string]bool)
	for _, r := range removed {
		_, held := g.held[r.Instance]
		switch {
		case g.has(r.Instance) == nil:
		case r.Reason == source.Deregistered:
			sure[r.Instance] = true
			if !held {
				g.most = max(g.most-1, 0)
			}
		case !held:
			open = append(open, r)
		}
	}
	return sure, open
}

// presentWithout counts what the registry had before the event, with what came back from being held and less what
// surely went.
func (g *guard) presentWithout(sure map[string]bool) int {
	n := 0
	for _, p := range g.endpoints {
		if _, held := g.held[p.GetInstance()]; !held && !sure[p.GetInstance()] {
			n++
		}
	}
	return n
}

// mass tells whether to remove some of n is to remove too many.
func (g *guard) mass(n, removed, added int) bool {
	switch {
	case removed == 0:
		return false
	case removed >= n || n >= minGuarded && 2*removed > n:
		return true
	}
	return g.most >= minGuarded && 2*(n-removed+added) < g.most
}

func (g *guard) hold(r source.Removal) {
	if g.held == nil {
		g.held = make(map[string]source.Reason)
	}
	g.held[r.Instance] = r.Reason
}

// confirm removes what is held; none named: all. What is named and not known here, since it went before the Dispatcher
// began to watch, is said to have left, too: proxies may hold it. It returns how many it removed, and whether anything is
// other than before.
func (g *guard) confirm(now time.Time, instances ...string) (removed int, changed bool) {
	if len(instances) == 0 {
		instances = g.heldNames()
	}
	gone := make(map[string]bool)
	for _, i := range instances {
		_, held := g.held[i]
		if !held && g.has(i) != nil {
			continue // the registry has it
		}
		gone[i] = true
		if held {
			removed++
			delete(g.held, i)
		}
	}
	g.leave(gone, now)
	if removed > 0 {
		g.endpoints = merge(g.endpoints, nil, gone)
		g.most = max(g.most-removed, g.present())
	}
	return removed, len(gone) > 0
}

func (g *guard) heldNames() []string { return slices.Sorted(maps.Keys(g.held)) }
