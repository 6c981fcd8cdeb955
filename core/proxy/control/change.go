package control

import (
	"maps"
	"slices"

	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// change is how a response changes resources of one kind.
type change struct {
	kind     resource.Kind
	before   map[string]item           // of what is touched; without an item where there was none
	topics   map[string]resource.Topic // of what is touched
	answered map[resource.Topic]bool
	refused  map[resource.Topic]bool // of what was taken out again
	held     int                     // endpoints that are held from now on
}

func newChange(k resource.Kind) *change {
	return &change{
		kind: k, before: make(map[string]item), topics: make(map[string]resource.Topic),
		answered: make(map[resource.Topic]bool), refused: make(map[resource.Topic]bool),
	}
}

func (c *change) add(t resource.Topic, name string) { c.topics[name] = t }

// only is the part of a change that has these resources.
func (c *change) only(names []string) *change {
	out := newChange(c.kind)
	for _, name := range names {
		out.before[name] = c.before[name]
		out.add(c.topics[name], name)
	}
	return out
}

// split is a change in parts: all but some resources, and each of these by itself.
func (c *change) split(apart map[string]bool) []*change {
	var rest []string
	for name := range c.topics {
		if !apart[name] {
			rest = append(rest, name)
		}
	}
	parts := []*change{c.only(rest)}
	for _, name := range slices.Sorted(maps.Keys(apart)) {
		parts = append(parts, c.only([]string{name}))
	}
	return parts
}

// everything is the change that makes a state of nothing.
func (s *state) everything() []*change {
	var all []*change
	for _, k := range kinds {
		c := newChange(k)
		for name := range s.resources[k] {
			if t, err := resource.TopicOf(k, name); err == nil {
				c.before[name] = item{}
				c.add(t, name)
			}
		}
		all = append(all, c)
	}
	return all
}

// update is what a change makes of the proxy's resources.
func (s *state) update(changes ...*change) *resource.Change {
	out := &resource.Change{}
	for _, c := range changes {
		for name, t := range c.topics {
			it := s.resources[c.kind][name]
			switch c.kind {
			case resource.KindEndpoint:
				instance, _ := t.LocalName(name)
				before := c.before[name]
				if it.message != nil && !it.left() {
					out.SetEndpoint(t.Target, instance, it.message.(*resourcev1.Endpoint))
				} else if before.message != nil && !before.left() {
					out.SetEndpoint(t.Target, instance, nil)
				}
			case resource.KindServicePolicy:
				m, _ := it.message.(*resourcev1.ServicePolicy)
				out.SetPolicy(t.Target, m)
			case resource.KindAuthPolicy:
				m, _ := it.message.(*resourcev1.AuthPolicy)
				out.SetAuthPolicy(t.Target, m)
			}
		}
	}
	return out
}

// policies are those that a change has brought.
func (c *change) policies(s *state) (all []*resourcev1.ServicePolicy) {
	for name := range c.topics {
		if p, ok := s.resources[c.kind][name].message.(*resourcev1.ServicePolicy); ok && p != nil {
			all = append(all, p)
		}
	}
	return all
}

// in tells whether an update has a resource.
func in(update *resource.Change, t resource.Topic, name string) (has bool) {
	switch t.Kind {
	case resource.KindEndpoint:
		instance, _ := t.LocalName(name)
		_, has = update.Endpoints[t.Target][instance]
	case resource.KindServicePolicy:
		_, has = update.Policies[t.Target]
	case resource.KindAuthPolicy:
		_, has = update.AuthPolicies[t.Target]
	}
	return has
}

// undo takes out of a change, and back in the state, what was in an update and is not in the rest of it. It tells whether
// there was any.
func (s *state) undo(c *change, update, rest *resource.Change) (some bool) {
	for name, t := range c.topics {
		if !in(update, t, name) || in(rest, t, name) {
			continue
		}
		some = true
		s.put(t, name, c.before[name])
		delete(c.before, name)
		delete(c.topics, name)
		c.refused[t] = true
	}
	return some
}
