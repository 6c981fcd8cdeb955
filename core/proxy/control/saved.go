package control

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// save is the state for the disk.
func (s *state) save(now int64) *resourcev1.Saved {
	out := &resourcev1.Saved{Environment: s.environment, WrittenUnixMs: now, Targets: s.targets()}
	for _, target := range out.Targets {
		if !s.known(target) {
			out.Unanswered = append(out.Unanswered, target)
		}
		if idle := s.idle[target]; idle >= time.Second {
			if out.IdleS == nil {
				out.IdleS = make(map[string]int64)
			}
			out.IdleS[target] = int64(idle / time.Second)
		}
	}
	for _, k := range kinds {
		for _, name := range slices.Sorted(maps.Keys(s.resources[k])) {
			it := s.resources[k][name]
			out.Resources = append(out.Resources, &resourcev1.SavedResource{
				TypeUrl: k.TypeURL(), Name: name, Version: it.version, Value: it.value, Held: it.held,
			})
		}
	}
	return out
}

// instead says which version stands for one that is not to be taken, an empty one if none does; ok is false for one that may be.
type instead func(k resource.Kind, name, version string) (v string, value []byte, ok bool)

// restore makes a state of what was saved. What it does not know, of a later version, it leaves out.
func restore(environment string, saved *resourcev1.Saved, instead instead) (*state, error) {
	if saved.Environment != environment {
		return nil, fmt.Errorf("it is of environment %q, not %q", saved.Environment, environment)
	}
	s := newState(environment)
	for _, target := range saved.Targets {
		if !resource.IsName(target) {
			return nil, fmt.Errorf("target %q", target)
		}
		s.followed[target] = true
		s.idle[target] = time.Duration(max(saved.IdleS[target], 0)) * time.Second
		for _, k := range kinds {
			s.answered[s.topic(k, target)] = true
		}
	}
	for _, target := range saved.Unanswered {
		for _, k := range kinds {
			delete(s.answered, s.topic(k, target))
		}
	}
	for _, r := range saved.Resources {
		kind, ok := resource.KindOf(r.TypeUrl)
		if !ok || !slices.Contains(kinds[:], kind) {
			continue
		}
		t, err := resource.TopicOf(kind, r.Name)
		if err != nil {
			return nil, err
		}
		it := item{version: r.Version, value: r.Value}
		if v, value, refused := instead(kind, r.Name, r.Version); refused {
			if len(v) == 0 {
				continue
			}
			it.version, it.value = v, value
		}
		if it.message, err = decode(t, r.Name, it.value); err != nil {
			return nil, fmt.Errorf("%v %q: %w", kind, r.Name, err)
		}
		if r.Held && it.present() {
			it = it.hold()
		}
		s.put(t, r.Name, it)
	}
	s.indexSwitches()
	return s, nil
}

// standIn takes what stands for versions of a response that are not to be taken, where there is nothing else: the good one
// before may have come too short a time before the crash to be on the disk.
func (s *state) standIn(c *change, r *response, instead instead) {
	for _, res := range r.Resources {
		t, err := resource.TopicOf(c.kind, res.Name)
		if _, has := s.resources[c.kind][res.Name]; has || err != nil || t.Environment != s.environment || !s.followed[t.Target] {
			continue
		}
		v, value, refused := instead(c.kind, res.Name, res.Version)
		if !refused || len(v) == 0 {
			continue
		}
		if m, err := decode(t, res.Name, value); err == nil {
			s.set(c, t, res.Name, item{version: v, value: value, message: m})
			c.answered[t] = true
		}
	}
}
