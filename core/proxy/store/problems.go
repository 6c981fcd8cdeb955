package store

import (
	"maps"
	"slices"

	"github.com/octomesh/octomesh/core/proxy/route"
	"github.com/octomesh/octomesh/core/resource"
)

// problems are warnings by target, of which most have none. It is immutable.
type problems struct {
	whole    []resource.Problem            // of a snapshot, in the order of its fields
	byTarget map[string][]resource.Problem // of what changed since, and then of all
	count    int
}

func wholeProblems(list []resource.Problem) problems { return problems{whole: list, count: len(list)} }

// with is the problems when some targets have changed.
func (p problems) with(targets []string, t *route.Table) problems {
	if len(p.whole) > 0 {
		return problems{}.with(t.Names(), t)
	}
	view := t.View()
	out := problems{byTarget: p.byTarget, count: p.count}
	copied := false
	for _, name := range targets {
		found := resource.TargetWarnings(view, name)
		if len(found) == 0 && len(p.byTarget[name]) == 0 {
			continue
		}
		if !copied {
			copied = true
			if out.byTarget = maps.Clone(p.byTarget); out.byTarget == nil {
				out.byTarget = make(map[string][]resource.Problem)
			}
		}
		out.count += len(found) - len(out.byTarget[name])
		if out.byTarget[name] = found; len(found) == 0 {
			delete(out.byTarget, name)
		}
	}
	return out
}

func (p problems) all() []resource.Problem {
	out := slices.Clone(p.whole)
	for _, name := range slices.Sorted(maps.Keys(p.byTarget)) {
		out = append(out, p.byTarget[name]...)
	}
	return out
}
