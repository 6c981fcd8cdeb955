package control

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// kinds are what a proxy asks for of each target that it follows.
var kinds = [...]resource.Kind{resource.KindEndpoint, resource.KindServicePolicy, resource.KindAuthPolicy, resource.KindMeshSwitch}

// Bounds of what is taken from the control plane, far above any use: memory is bounded whatever is pushed.
const (
	// maxResource bounds one resource, in bytes.
	maxResource = 1 << 20
	// maxEndpoints bounds the endpoints of one target, maxResources all resources of a kind.
	maxEndpoints = 100_000
	maxResources = 1_000_000
)

// state is what the control plane has said. It does no I/O and has no lock.
type state struct {
	environment string
	followed    map[string]bool // targets
	idle        map[string]time.Duration
	resources   [resource.Kinds]map[string]item
	present     map[string]int            // endpoints that the control plane has, by target
	held        map[string]resource.Topic // endpoints that it has no more, by full name
	lost        map[string][]lost         // endpoints that went a moment ago, by target
	answered    map[resource.Topic]bool
	// switches are by target and calling application; maps are replaced, and never changed.
	switches map[string]map[string]*resourcev1.MeshSwitch
}

// item is one resource, by its full name.
type item struct {
	version string
	value   []byte
	message proto.Message
	held    bool
}

func newState(environment string) *state {
	s := &state{
		environment: environment, followed: make(map[string]bool), idle: make(map[string]time.Duration), present: make(map[string]int),
		held: make(map[string]resource.Topic), lost: make(map[string][]lost), answered: make(map[resource.Topic]bool),
	}
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

// vet says why a version of a resource is not to be taken; nil: it may be.
type vet func(k resource.Kind, name, version string) error

// apply takes into the state what can be read of a response; err says what cannot. What it returns is to be confirmed, after
// what nobody can go by has been taken out.
func (s *state) apply(r *discoveryv3.DeltaDiscoveryResponse, vet vet) (*change, error) {
	kind, ok := resource.KindOf(r.TypeUrl)
	c := newChange(kind)
	if !ok || !slices.Contains(kinds[:], kind) {
		return c, fmt.Errorf("type %q was not asked for", r.TypeUrl)
	}
	had := make(map[resource.Topic]int) // endpoints of topics that lose some, less those that surely left
	for _, name := range r.RemovedResources {
		if t, err := resource.TopicOf(kind, name); err == nil {
			had[t] = s.present[t.Target]
		}
	}
	var problems []error
	for _, res := range r.Resources {
		t, m, err := s.read(kind, res, vet)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if m == nil {
			continue // nobody follows it any more
		}
		it := item{version: res.Version, value: res.GetResource().GetValue(), message: m}
		if _, losing := had[t]; losing && it.left() && s.resources[kind][res.Name].present() {
			had[t]--
		}
		s.set(c, t, res.Name, it)
		c.answered[t] = true
	}
	gone := make(map[resource.Topic][]string)
	for _, name := range r.RemovedResources {
		if t, err := resource.ParseTopic(kind, name); err == nil { // the topic has none
			c.answered[t] = s.followed[t.Target]
		}
		t, err := resource.TopicOf(kind, name)
		switch it := s.resources[kind][name]; {
		case err != nil || it.message == nil || it.held:
		case it.present():
			gone[t] = append(gone[t], name)
		default:
			s.set(c, t, name, item{})
		}
	}
	for t, names := range gone {
		s.shrink(c, t, had[t], names, time.Now())
	}
	return c, errors.Join(problems...)
}

// read reads one resource of a response. Without a message it is not wanted.
func (s *state) read(kind resource.Kind, res *discoveryv3.Resource, vet vet) (resource.Topic, proto.Message, error) {
	t, err := resource.TopicOf(kind, res.Name)
	if err != nil || t.Environment != s.environment {
		return t, nil, fmt.Errorf("resource %q: %w", res.Name, errors.Join(err, errForeign))
	}
	if !s.followed[t.Target] {
		return t, nil, nil
	}
	value := res.GetResource().GetValue()
	_, again := s.resources[kind][res.Name]
	switch {
	case len(value) > maxResource:
		err = fmt.Errorf("it has %d bytes, and %d at most: make it smaller", len(value), maxResource)
	case !again && len(s.resources[kind]) >= maxResources:
		err = fmt.Errorf("the proxy has %d already, its most: let it follow fewer targets", maxResources)
	case !again && kind == resource.KindEndpoint && s.present[t.Target] >= maxEndpoints:
		err = fmt.Errorf("the target has %d endpoints already, its most: split it", maxEndpoints)
	default:
		err = vet(kind, res.Name, res.Version)
	}
	var m proto.Message
	if err == nil {
		m, err = decode(t, res.Name, value)
	}
	if err != nil {
		return t, nil, fmt.Errorf("%v %q: %w", kind, res.Name, err)
	}
	return t, m, nil
}

// confirm notes that the proxy goes by a change: what it answers is known from now on.
func (s *state) confirm(c *change) {
	for t, now := range c.answered {
		if now {
			s.answered[t] = true
		}
	}
	if c.kind == resource.KindMeshSwitch {
		s.indexSwitches()
	}
}

// indexSwitches finds the switches of each target. They change rarely.
func (s *state) indexSwitches() {
	s.switches = make(map[string]map[string]*resourcev1.MeshSwitch)
	for name, it := range s.resources[resource.KindMeshSwitch] {
		topic, err := resource.TopicOf(resource.KindMeshSwitch, name)
		if err != nil {
			continue
		}
		application, _ := topic.LocalName(name)
		if s.switches[topic.Target] == nil {
			s.switches[topic.Target] = make(map[string]*resourcev1.MeshSwitch)
		}
		s.switches[topic.Target][application] = it.message.(*resourcev1.MeshSwitch)
	}
}

var errForeign = errors.New("not a name of this environment")

// set changes a resource; an item without a message removes it.
func (s *state) set(c *change, t resource.Topic, name string, it item) {
	c.add(t, name)
	if _, ok := c.before[name]; !ok {
		c.before[name] = s.resources[t.Kind][name]
	}
	s.put(t, name, it)
}

func (s *state) put(t resource.Topic, name string, it item) {
	before := s.resources[t.Kind][name]
	if before.present() {
		if s.present[t.Target]--; s.present[t.Target] == 0 {
			delete(s.present, t.Target)
		}
	}
	if it.present() {
		s.present[t.Target]++
	}
	delete(s.held, name)
	if it.held {
		s.held[name] = t
	}
	if it.message == nil {
		delete(s.resources[t.Kind], name)
	} else {
		s.resources[t.Kind][name] = it
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
	case resource.KindMeshSwitch:
		m := &resourcev1.MeshSwitch{}
		err := proto.Unmarshal(value, m)
		if err == nil && m.Permille > 1000 {
			err = fmt.Errorf("permille %d is more than 1000", m.Permille)
		}
		return m, err
	}
	return nil, fmt.Errorf("no message for %v", t.Kind)
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
			if !it.held {
				r.InitialResourceVersions[name] = it.version
			}
		}
	}
	return r
}

// targets are what is followed, sorted.
func (s *state) targets() []string { return slices.Sorted(maps.Keys(s.followed)) }
