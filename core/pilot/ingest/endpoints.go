package ingest

import (
	"log/slog"
	"maps"
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/pilot/snapshot"
	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// endpoints puts together what registries have of instances and what operators say of them. The latter holds, whatever
// an instance registers.
type endpoints struct {
	cache *snapshot.Cache
	log   *slog.Logger

	mu        sync.Mutex
	overrides map[resource.Topic]map[string]*resourcev1.InstanceOverride
	// registered is what registries have, only of instances with an override: of the others the cache has it.
	registered map[resource.Topic]map[string]*resourcev1.Endpoint
	// ready are environments whose overrides are known, or not waited for any more. What comes before that waits.
	ready   map[string]bool
	waiting map[resource.Topic]*change
}

// change is news of one topic that may come in parts. Endpoints have no target and no instance.
type change struct {
	full    bool
	set     map[string]*resourcev1.Endpoint
	removed []string
}

func newEndpoints(cache *snapshot.Cache, log *slog.Logger) *endpoints {
	return &endpoints{
		cache: cache, log: log, overrides: make(map[resource.Topic]map[string]*resourcev1.InstanceOverride),
		registered: make(map[resource.Topic]map[string]*resourcev1.Endpoint), ready: make(map[string]bool),
		waiting: make(map[resource.Topic]*change),
	}
}

// apply takes a registry's news.
func (e *endpoints) apply(t resource.Topic, c *change) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ready[t.Environment] {
		e.applyNow(t, c)
		return
	}
	w := e.waiting[t]
	if w == nil || c.full {
		e.waiting[t] = c
		return
	}
	maps.Copy(w.set, c.set)
	for _, name := range c.removed {
		delete(w.set, name)
	}
	w.removed = append(w.removed, c.removed...)
}

func (e *endpoints) applyNow(t resource.Topic, c *change) {
	if c.full {
		delete(e.registered, t)
		all := make(map[string]snapshot.Entry, len(c.set))
		for name, registered := range c.set {
			if entry, ok := e.entry(t, name, registered); ok {
				all[name] = entry
			}
		}
		e.cache.Load(t, all)
		return
	}
	for _, name := range c.removed {
		if _, again := c.set[name]; !again {
			delete(e.registered[t], name)
			e.cache.Set(t, name, snapshot.Entry{})
		}
	}
	for name, registered := range c.set {
		if entry, ok := e.entry(t, name, registered); ok {
			e.cache.Set(t, name, entry)
		}
	}
}

// entry is what proxies are told of an instance.
func (e *endpoints) entry(t resource.Topic, name string, registered *resourcev1.Endpoint) (snapshot.Entry, bool) {
	told := registered
	if o := e.overrides[t][name]; o != nil {
		if e.registered[t] == nil {
			e.registered[t] = make(map[string]*resourcev1.Endpoint)
		}
		e.registered[t][name] = registered
		told = proto.CloneOf(registered)
		if o.Disabled != nil {
			told.Disabled = o.GetDisabled()
		}
		if o.Weight != nil {
			told.Weight = o.Weight
		}
	}
	r, err := snapshot.New(t, name, told)
	if err != nil {
		e.log.Error("an endpoint is passed over", "target", t.Name(), "instance", name, "error", err)
	}
	return snapshot.Entry{Stable: r}, err == nil
}

// override takes what an operator says of an instance; nil: nothing any more.
func (e *endpoints) override(t resource.Topic, name string, o *resourcev1.InstanceOverride) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.overrideNow(t, name, o)
}

func (e *endpoints) overrideNow(t resource.Topic, name string, o *resourcev1.InstanceOverride) {
	if proto.Equal(e.overrides[t][name], o) {
		return
	}
	registered := e.registered[t][name]
	if registered == nil {
		registered = e.told(t, name)
	}
	switch {
	case o == nil:
		delete(e.overrides[t], name)
		delete(e.registered[t], name)
	case e.overrides[t] == nil:
		e.overrides[t] = map[string]*resourcev1.InstanceOverride{name: o}
	default:
		e.overrides[t][name] = o
	}
	if registered == nil {
		return // it holds as soon as the instance is there
	}
	if entry, ok := e.entry(t, name, registered); ok {
		e.cache.Set(t, name, entry)
	}
}

// told is what the cache has of an instance, nil if it has none.
func (e *endpoints) told(t resource.Topic, name string) *resourcev1.Endpoint {
	r := e.cache.Entry(t, name).Stable
	if r == nil {
		return nil
	}
	out := &resourcev1.Endpoint{}
	if err := proto.Unmarshal(r.Value(), out); err != nil {
		e.log.Error("an endpoint of the cache cannot be read", "target", t.Name(), "instance", name, "error", err)
		return nil
	}
	return out
}

// replace takes all overrides of an environment, in place of those before.
func (e *endpoints) replace(environment string, all map[resource.Topic]map[string]*resourcev1.InstanceOverride) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for t, before := range e.overrides {
		if t.Environment != environment {
			continue
		}
		for name := range before {
			if all[t][name] == nil {
				e.overrideNow(t, name, nil)
			}
		}
	}
	for t, now := range all {
		for name, o := range now {
			e.overrideNow(t, name, o)
		}
	}
	e.releaseNow(environment)
}

// release lets endpoints of an environment through that wait for overrides. It tells whether any did.
func (e *endpoints) release(environment string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.releaseNow(environment)
}

func (e *endpoints) releaseNow(environment string) bool {
	e.ready[environment] = true
	any := false
	for t, c := range e.waiting {
		if t.Environment == environment {
			delete(e.waiting, t)
			e.applyNow(t, c)
			any = true
		}
	}
	return any
}

// drop forgets a topic that nobody follows.
func (e *endpoints) drop(t resource.Topic) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.registered, t)
	delete(e.waiting, t)
}

// forget forgets an environment of which nobody follows anything.
func (e *endpoints) forget(environment string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.ready, environment)
	maps.DeleteFunc(e.overrides, func(t resource.Topic, _ map[string]*resourcev1.InstanceOverride) bool {
		return t.Environment == environment
	})
}
