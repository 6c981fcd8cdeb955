package hub

import (
	"slices"
	"strings"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// Snapshot is what is known of a key at one time. It is immutable and shared by all subscribers.
type Snapshot struct {
	Key source.Key
	// Version grows with each snapshot of the key.
	Version uint64
	// Endpoints are sorted by instance. One that did not change is the same pointer in the next snapshot.
	Endpoints []*resourcev1.Endpoint
	// Held are instances that the registry does not have any more and the shrink guard keeps, sorted. They are in
	// Endpoints.
	Held []string
	// Left are instances that are not in Endpoints since they surely left, sorted: not all that ever did.
	Left []string
	// Degraded tells that the registry has not been heard for [Config.Degraded]: this may be old.
	Degraded bool
}

func byInstance(e *resourcev1.Endpoint, name string) int {
	return strings.Compare(e.GetInstance(), name)
}

// Get finds an instance; nil: it is not there.
func (s *Snapshot) Get(instance string) *resourcev1.Endpoint {
	if i, ok := slices.BinarySearchFunc(s.Endpoints, instance, byInstance); ok {
		return s.Endpoints[i]
	}
	return nil
}

// Update is what a subscriber is told of one key: what it was told last and what there is now. States in between are
// left out.
type Update struct {
	Key source.Key
	// Before is nil the first time.
	Before *Snapshot
	Now    *Snapshot
}

// Diff returns what leads from Before to Now: endpoints that are new or changed, and instances that are gone, each
// sorted.
func (u Update) Diff() (changed []*resourcev1.Endpoint, removed []string) {
	if u.Before == nil {
		return u.Now.Endpoints, nil
	}
	a, b := u.Before.Endpoints, u.Now.Endpoints
	for len(a) > 0 && len(b) > 0 {
		switch order := strings.Compare(a[0].GetInstance(), b[0].GetInstance()); {
		case order < 0:
			removed = append(removed, a[0].GetInstance())
			a = a[1:]
		case order > 0:
			changed = append(changed, b[0])
			b = b[1:]
		default:
			if a[0] != b[0] {
				changed = append(changed, b[0])
			}
			a, b = a[1:], b[1:]
		}
	}
	for _, e := range a {
		removed = append(removed, e.GetInstance())
	}
	return append(changed, b...), removed
}

// Farewells tells which instances have surely left since Before, and of which that is not said any more since nobody needs
// to know by now, each sorted. Who was told the former is to be told the latter, or that they are there again.
func (u Update) Farewells() (left, forgotten []string) {
	var before []string
	if u.Before != nil {
		before = u.Before.Left
	}
	for _, name := range u.Now.Left {
		if _, told := slices.BinarySearch(before, name); !told {
			left = append(left, name)
		}
	}
	for _, name := range before {
		if _, still := slices.BinarySearch(u.Now.Left, name); !still && u.Now.Get(name) == nil {
			forgotten = append(forgotten, name)
		}
	}
	return left, forgotten
}

// merge makes sorted endpoints of sorted ones, with changed ones set and removed ones left out.
func merge(endpoints, changed []*resourcev1.Endpoint, removed map[string]bool) []*resourcev1.Endpoint {
	slices.SortFunc(changed, func(a, b *resourcev1.Endpoint) int { return byInstance(a, b.GetInstance()) })
	out := make([]*resourcev1.Endpoint, 0, len(endpoints)+len(changed))
	for _, e := range endpoints {
		for len(changed) > 0 && byInstance(changed[0], e.GetInstance()) < 0 {
			out, changed = append(out, changed[0]), changed[1:]
		}
		switch {
		case len(changed) > 0 && changed[0].GetInstance() == e.GetInstance():
			out, changed = append(out, changed[0]), changed[1:]
		case !removed[e.GetInstance()]:
			out = append(out, e)
		}
	}
	return slices.Clip(append(out, changed...))
}
