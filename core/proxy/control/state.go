package control

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// kinds are what a proxy asks for of each target that it follows.
var kinds = [...]resource.Kind{resource.KindEndpoint, resource.KindServicePolicy, resource.KindAuthPolicy}

// state is what the control plane has said. It does no I/O and has no lock.
type state struct {
	environment string
	followed    map[string]bool // targets
	resources   [resource.Kinds]map[string]item
	answered    map[resource.Topic]bool
}

// item is one resource, by its full name.
type item struct {
	version string
	value   []byte
	message proto.Message
}

func newState(environment string) *state {
	s := &state{environment: environment, followed: make(map[string]bool), answered: make(map[resource.Topic]bool)}
	for k := range s.resources {
		s.resources[k] = make(map[string]item)
	}
	return s
}

func (s *state) topic(k resource.Kind, target string) resource.Topic {
	return resource.Topic{Kind: k, Environment: s.environment, Target: target}
}

// known tells whether everything about a target has been answered.
func (s *state) known(target string) bool {
	for _, k := range kinds {
		if !s.answered[s.topic(k, target)] {
			return false
		}
	}
	return true
}

// change is how a response changes resources of one kind.
type change struct {
	kind     resource.Kind
	before   map[string]item           // of what is touched; without an item where there was none
	topics   map[string]resource.Topic // of what is touched
	answered map[resource.Topic]bool
}

// apply takes into the state what can be read of a response; err says what cannot. What it returns is to be confirmed, after
// what nobody can go by has been taken out.
func (s *state) apply(r *discoveryv3.DeltaDiscoveryResponse) (*change, error) {
	kind, ok := resource.KindOf(r.TypeUrl)
	c := &change{kind: kind, before: make(map[string]item), topics: make(map[string]resource.Topic), answered: make(map[resource.Topic]bool)}
	if !ok || !slices.Contains(kinds[:], kind) {
		return c, fmt.Errorf("type %q was not asked for", r.TypeUrl)
	}
	var problems []error
	for _, res := range r.Resources {
		topic, err := resource.TopicOf(kind, res.Name)
		if err != nil || topic.Environment != s.environment {
			problems = append(problems, fmt.Errorf("resource %q: %w", res.Name, errors.Join(err, errForeign)))
			continue
		}
		m, err := decode(topic, res.Name, res.GetResource().GetValue())
		if err != nil {
			problems = append(problems, fmt.Errorf("%v %q: %w", kind, res.Name, err))
			continue
		}
		s.set(c, topic, res.Name, item{res.Version, res.GetResource().GetValue(), m})
		c.answered[topic] = true
	}
	for _, name := range r.RemovedResources {
		if topic, err := resource.ParseTopic(kind, name); err == nil { // the topic has none
			c.answered[topic] = true
		}
		if topic, err := resource.TopicOf(kind, name); err == nil {
			s.set(c, topic, name, item{})
		}
	}
	return c, errors.Join(problems...)
}

// confirm notes that the proxy goes by a change: what it answers is known from now on.
func (s *state) confirm(c *change) {
	for t := range c.answered {
		s.answered[t] = true
	}
}

// update is what a change makes of the proxy's resources.
func (s *state) update(c *change) *resource.Change {
	out := &resource.Change{}
	for name := range c.before {
		topic, it := c.topics[name], s.resources[c.kind][name]
		switch c.kind {
		case resource.KindEndpoint:
			instance, _ := topic.LocalName(name)
			m, _ := it.message.(*resourcev1.Endpoint)
			if _, before := c.before[name].message.(*resourcev1.Endpoint); m != nil || before {
				out.SetEndpoint(topic.Target, instance, m)
			}
		case resource.KindServicePolicy:
			m, _ := it.message.(*resourcev1.ServicePolicy)
			out.SetPolicy(topic.Target, m)
		case resource.KindAuthPolicy:
			m, _ := it.message.(*resourcev1.AuthPolicy)
			out.SetAuthPolicy(topic.Target, m)
		}
	}
	return out
}

// policies are those that a change has brought.
func (c *change) policies(s *state) (all []*resourcev1.ServicePolicy) {
	for name := range c.before {
		if p, ok := s.resources[c.kind][name].message.(*resourcev1.ServicePolicy); ok && p != nil {
			all = append(all, p)
		}
	}
	return all
}

// keep takes out of a change, and back in the state, what is not in an update. It tells whether there was any.
func (s *state) keep(c *change, update *resource.Change) (some bool) {
	for name, before := range c.before {
		topic, kept := c.topics[name], false
		switch c.kind {
		case resource.KindEndpoint:
			instance, _ := topic.LocalName(name)
			_, kept = update.Endpoints[topic.Target][instance]
		case resource.KindServicePolicy:
			_, kept = update.Policies[topic.Target]
		case resource.KindAuthPolicy:
			_, kept = update.AuthPolicies[topic.Target]
		}
		if kept {
			continue
		}
		some = true
		s.put(c.kind, name, before)
		delete(c.before, name)
		delete(c.answered, topic) // what there is of it is not known, unless it was
	}
	return some
}

var errForeign = errors.New("not a name of this environment")

// set changes a resource; an item without a message removes it.
func (s *state) set(c *change, topic resource.Topic, name string, it item) {
	if _, ok := c.before[name]; !ok {
		c.before[name], c.topics[name] = s.resources[c.kind][name], topic
	}
	s.put(c.kind, name, it)
}

func (s *state) put(k resource.Kind, name string, it item) {
	if it.message == nil {
		delete(s.resources[k], name)
	} else {
		s.resources[k][name] = it
	}
}

// decode reads a resource, whose place in its message's own fields the name has.
func decode(t resource.Topic, full string, value []byte) (proto.Message, error) {
	switch t.Kind {
	case resource.KindEndpoint:
		m := &resourcev1.Endpoint{}
		err := proto.Unmarshal(value, m)
		m.Target = t.Target
		m.Instance, _ = t.LocalName(full)
		return m, err
	case resource.KindServicePolicy:
		m := &resourcev1.ServicePolicy{}
		err := proto.Unmarshal(value, m)
		m.Target = t.Target
		return m, err
	case resource.KindAuthPolicy:
		m := &resourcev1.AuthPolicy{}
		err := proto.Unmarshal(value, m)
		m.Target = t.Target
		return m, err
	}
	return nil, fmt.Errorf("no message for %v", t.Kind)
}

// snapshot is all resources, in the order of their names. Messages are shared with the state, which never changes them.
func (s *state) snapshot() *resourcev1.Snapshot {
	out := &resourcev1.Snapshot{Environment: s.environment}
	for _, name := range slices.Sorted(maps.Keys(s.resources[resource.KindEndpoint])) {
		out.Endpoints = append(out.Endpoints, s.resources[resource.KindEndpoint][name].message.(*resourcev1.Endpoint))
	}
	for _, name := range slices.Sorted(maps.Keys(s.resources[resource.KindServicePolicy])) {
		out.Policies = append(out.Policies, s.resources[resource.KindServicePolicy][name].message.(*resourcev1.ServicePolicy))
	}
	for _, name := range slices.Sorted(maps.Keys(s.resources[resource.KindAuthPolicy])) {
		out.AuthPolicies = append(out.AuthPolicies, s.resources[resource.KindAuthPolicy][name].message.(*resourcev1.AuthPolicy))
	}
	return out
}

// subscription is a request for all that is followed, or for some targets of it, of one kind.
func (s *state) subscription(k resource.Kind, targets []string, resume bool) *discoveryv3.DeltaDiscoveryRequest {
	r := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: k.TypeURL()}
	for _, target := range targets {
		r.ResourceNamesSubscribe = append(r.ResourceNamesSubscribe, s.topic(k, target).Name())
	}
	if resume {
		r.InitialResourceVersions = make(map[string]string, len(s.resources[k]))
		for name, it := range s.resources[k] {
			r.InitialResourceVersions[name] = it.version
		}
	}
	return r
}

// save is the state for the disk.
func (s *state) save(now int64) *resourcev1.Saved {
	out := &resourcev1.Saved{Environment: s.environment, WrittenUnixMs: now, Targets: slices.Sorted(maps.Keys(s.followed))}
	for _, k := range kinds {
		for _, name := range slices.Sorted(maps.Keys(s.resources[k])) {
			it := s.resources[k][name]
			out.Resources = append(out.Resources, &resourcev1.SavedResource{
				TypeUrl: k.TypeURL(), Name: name, Version: it.version, Value: it.value,
			})
		}
	}
	return out
}

// restore makes a state of what was saved. What it does not know, of a later version, it leaves out.
func restore(environment string, saved *resourcev1.Saved) (*state, error) {
	if saved.Environment != environment {
		return nil, fmt.Errorf("it is of environment %q, not %q", saved.Environment, environment)
	}
	s := newState(environment)
	for _, target := range saved.Targets {
		if !resource.IsName(target) {
			return nil, fmt.Errorf("target %q", target)
		}
		s.followed[target] = true
		for _, k := range kinds {
			s.answered[s.topic(k, target)] = true // as far as one knew
		}
	}
	for _, r := range saved.Resources {
		kind, ok := resource.KindOf(r.TypeUrl)
		if !ok || !slices.Contains(kinds[:], kind) {
			continue
		}
		topic, err := resource.TopicOf(kind, r.Name)
		if err != nil {
			return nil, err
		}
		m, err := decode(topic, r.Name, r.Value)
		if err != nil {
			return nil, fmt.Errorf("%v %q: %w", kind, r.Name, err)
		}
		s.resources[kind][r.Name] = item{r.Version, r.Value, m}
	}
	return s, nil
}
