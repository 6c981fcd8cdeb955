package ingest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/pilot/snapshot"
	"github.com/octomesh/octomesh/core/resource"
	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// environment is what the Config Server says of one environment: all of it, since it cannot be asked for less. What nobody
// follows is kept as bytes.
type environment struct {
	name     string
	settings *settings
	stop     context.CancelFunc
	watches  sync.WaitGroup

	mu       sync.Mutex
	known    bool // the Config Server has told all, once
	held     *holding
	next     *holding                     // what it tells anew, until it has told all; nil: it does not
	followed map[resource.Topic]time.Time // when the last follower left, zero while there is one
}

// holding is all resources of an environment.
type holding struct {
	resources map[place][]held // by name
	overrides map[resource.Topic]map[string]*resourcev1.InstanceOverride
}

// place is a topic without its environment.
type place struct {
	kind   resource.Kind
	target string
}

// held is one resource, encoded as proxies are told it.
type held struct {
	name      string
	stable    []byte // nil: not there
	candidate *candidate
}

type candidate struct {
	value []byte // nil: not there
	wave  *snapshot.Wave
	said  *configv1.Candidate // without the resource
}

func (h held) entry(t resource.Topic) snapshot.Entry {
	var e snapshot.Entry
	if h.stable != nil {
		e.Stable = snapshot.Encoded(t, h.name, h.stable)
	}
	if h.candidate != nil {
		e.Wave = h.candidate.wave
		if h.candidate.value != nil {
			e.Candidate = snapshot.Encoded(t, h.name, h.candidate.value)
		}
	}
	return e
}

func newHolding() *holding {
	return &holding{make(map[place][]held), make(map[resource.Topic]map[string]*resourcev1.InstanceOverride)}
}

// put keeps a resource; one without anything is removed.
func (h *holding) put(p place, one held) {
	all := h.resources[p]
	i, found := slices.BinarySearchFunc(all, one.name, func(a held, name string) int { return cmp.Compare(a.name, name) })
	gone := one.stable == nil && one.candidate == nil
	switch {
	case gone && !found:
	case gone && len(all) == 1:
		delete(h.resources, p)
	case gone:
		h.resources[p] = slices.Delete(all, i, i+1)
	case found:
		all[i] = one
	default:
		h.resources[p] = slices.Insert(all, i, one)
	}
}

func (h *holding) putOverride(t resource.Topic, instance string, o *resourcev1.InstanceOverride) {
	if o == nil {
		if delete(h.overrides[t], instance); len(h.overrides[t]) == 0 {
			delete(h.overrides, t)
		}
		return
	}
	if h.overrides[t] == nil {
		h.overrides[t] = make(map[string]*resourcev1.InstanceOverride)
	}
	h.overrides[t][instance] = o
}

// interest notes whether a topic is followed, and loads it when it begins to be.
func (e *environment) interest(t resource.Topic, wanted bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, has := e.followed[t]
	switch {
	case wanted:
		if e.followed[t] = (time.Time{}); !has {
			e.load(t)
		}
	case has && e.followed[t].IsZero():
		e.followed[t] = time.Now()
	}
}

// load gives the cache all of a topic, once it is known. The lock is held.
func (e *environment) load(t resource.Topic) {
	if !e.known || t.Kind == resource.KindEndpoint {
		return
	}
	all := e.held.resources[place{t.Kind, t.Target}]
	entries := make(map[string]snapshot.Entry, len(all))
	for _, h := range all {
		entries[h.name] = h.entry(t)
	}
	e.settings.cfg.Cache.Load(t, entries)
}

// expire forgets topics that nobody has followed for a while. It tells whether none is left.
func (e *environment) expire(now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for t, left := range e.followed {
		if left.IsZero() || now.Sub(left) < e.settings.cfg.Linger {
			continue
		}
		if t.Kind == resource.KindEndpoint || e.settings.cfg.Cache.Drop(t) { // endpoints are the Dispatcher's to drop
			delete(e.followed, t)
		}
	}
	return len(e.followed) == 0
}

// abandon forgets what an earlier stream had begun to tell.
func (e *environment) abandon() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.next = nil
}

// take goes by what the Config Server says.
func (e *environment) take(r *configv1.WatchResponse) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if r.Begin {
		e.next = newHolding()
	}
	for _, v := range r.Versions {
		if err := e.one(v); err != nil {
			e.settings.cfg.Log.Error("a resource is passed over", "environment", e.name, "resource", v.GetName(),
				"revision", v.GetRevision(), "error", err)
		}
	}
	if r.Complete && e.next != nil {
		e.swap()
	}
}

// swap goes by all that was told anew: what was not told is gone.
func (e *environment) swap() {
	before := e.held
	e.held, e.next, e.known = e.next, nil, true
	e.compare(before)
	for t := range e.followed {
		e.load(t)
	}
	e.settings.endpoints.replace(e.name, e.held.overrides)
}

// compare tells of what is being rolled out, and of what was before and is not any more.
func (e *environment) compare(before *holding) {
	now := make(map[resource.Topic]map[string]bool)
	for p, all := range e.held.resources {
		for _, h := range all {
			if h.candidate == nil {
				continue
			}
			t := resource.Topic{Kind: p.kind, Environment: e.name, Target: p.target}
			if now[t] == nil {
				now[t] = make(map[string]bool)
			}
			now[t][h.name] = true
			e.tell(t, h)
		}
	}
	if before == nil {
		return
	}
	for p, all := range before.resources {
		t := resource.Topic{Kind: p.kind, Environment: e.name, Target: p.target}
		for _, h := range all {
			if h.candidate != nil && !now[t][h.name] {
				e.tell(t, held{name: h.name})
			}
		}
	}
}

// tell tells of a candidate, or that there is none.
func (e *environment) tell(t resource.Topic, h held) {
	switch {
	case e.settings.cfg.Candidates == nil:
	case h.candidate == nil:
		e.settings.cfg.Candidates.Candidate(t, h.name, nil, nil, "")
	case h.candidate.value == nil:
		e.settings.cfg.Candidates.Candidate(t, h.name, h.candidate.said, h.candidate.wave, "")
	default:
		e.settings.cfg.Candidates.Candidate(t, h.name, h.candidate.said, h.candidate.wave, snapshot.VersionOf(h.candidate.value))
	}
}

// one takes one resource. The lock is held.
func (e *environment) one(v *configv1.Version) error {
	kind, target, name, err := placeOf(v.GetName())
	if err != nil {
		return err
	}
	into := e.next
	if into == nil {
		into = e.held
	}
	t := resource.Topic{Kind: kind, Environment: e.name, Target: target}
	if kind == resource.KindEndpoint {
		var o *resourcev1.InstanceOverride
		if all := v.GetResource().GetInstances(); !v.GetDeleted() && len(all) == 1 {
			o = all[0]
		}
		if into.putOverride(t, name, o); e.next == nil {
			e.settings.endpoints.override(t, name, o)
		}
		return nil
	}
	if kind == resource.Kinds {
		return nil // not for proxies
	}
	h := held{name: name}
	if h.stable, err = encode(kind, v.GetResource(), v.GetDeleted()); err != nil {
		return err
	}
	if c := v.GetCandidate(); c != nil {
		h.candidate = &candidate{wave: &snapshot.Wave{Nodes: make(map[string]bool, len(c.GetNodes())), Permille: c.GetPermille(), Salt: c.GetSalt()}}
		for _, n := range c.GetNodes() {
			h.candidate.wave.Nodes[n] = true
		}
		if h.candidate.value, err = encode(kind, c.GetResource(), c.GetDeleted()); err != nil {
			return err
		}
		c.Resource, h.candidate.said = nil, c
	}
	into.put(place{kind, target}, h)
	if e.next == nil {
		e.tell(t, h)
	}
	if _, followed := e.followed[t]; followed && e.next == nil {
		e.settings.cfg.Cache.Set(t, name, h.entry(t))
	}
	return nil
}

// placeOf takes apart the name of a resource of the Config Server's. Overrides are of kind Endpoint; what no proxy is told
// is of kind Kinds.
func placeOf(full string) (kind resource.Kind, target, name string, err error) {
	word, local, _ := strings.Cut(full, "/")
	first, second, pair := strings.Cut(local, ",")
	switch word {
	case "policy":
		return resource.KindServicePolicy, local, "", nil
	case "auth":
		return resource.KindAuthPolicy, local, "", nil
	case "schema":
		return resource.KindSchema, local, "", nil
	case "switch":
		if pair {
			return resource.KindMeshSwitch, second, cmp.Or(first, resource.EveryApplication), nil
		}
	case "instance":
		if pair {
			return resource.KindEndpoint, first, second, nil
		}
	default:
		return resource.Kinds, "", "", nil
	}
	return 0, "", "", fmt.Errorf("the name %q has no comma", full)
}

// encode encodes the only resource of a configuration, without what its name on the stream says; nil: there is none.
func encode(kind resource.Kind, c *resourcev1.Configuration, deleted bool) ([]byte, error) {
	if deleted {
		return nil, nil
	}
	var m proto.Message
	switch kind {
	case resource.KindServicePolicy:
		if all := c.GetPolicies(); len(all) == 1 {
			all[0].Target, m = "", all[0]
		}
	case resource.KindAuthPolicy:
		if all := c.GetAuthPolicies(); len(all) == 1 {
			all[0].Target, m = "", all[0]
		}
	case resource.KindMeshSwitch:
		if all := c.GetMeshSwitches(); len(all) == 1 {
			all[0].Target, all[0].Application, m = "", "", all[0]
		}
	case resource.KindSchema:
		if all := c.GetSchemas(); len(all) == 1 {
			all[0].Target, m = "", all[0]
		}
	}
	if m == nil {
		return nil, fmt.Errorf("it holds no %v", kind)
	}
	out, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if out == nil {
		out = []byte{} // an empty one is one
	}
	return out, err
}
