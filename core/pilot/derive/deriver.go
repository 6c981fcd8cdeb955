package derive

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/pilot/snapshot"
	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// Deriver keeps the derived topics of a cache that somebody follows. It follows in the same cache what they are made of,
// and so has it brought like for any proxy. Of what is being rolled out it takes the stable version: clients that say
// nothing of what they crash with are no proxies to try it on.
type Deriver struct {
	cache    *snapshot.Cache
	log      *slog.Logger
	follower *snapshot.Follower

	mu      sync.Mutex
	changed map[resource.Topic]bool // interest in them may have changed
	news    chan struct{}           // holds one element while there is something to look at

	// Run's alone.
	made    map[resource.Topic]*made
	sources map[key]*source

	topics atomic.Int64
	times  atomic.Uint64
}

// made is a derived topic.
type made struct {
	of      map[key]*source
	entries map[string]snapshot.Entry // that the cache has
}

// key is a target.
type key struct{ environment, target string }

func (k key) topic(kind resource.Kind) resource.Topic {
	return resource.Topic{Kind: kind, Environment: k.environment, Target: k.target}
}

// Stats are counts.
type Stats struct {
	// Topics that are kept, and how often one was made anew.
	Topics int
	Times  uint64
}

// New makes a deriver for a cache. It takes the cache's Interest in what is derived, and leaves the rest to whoever had it.
func New(cache *snapshot.Cache, log *slog.Logger) *Deriver {
	d := &Deriver{
		cache: cache, log: log, changed: make(map[resource.Topic]bool), news: make(chan struct{}, 1),
		made: make(map[resource.Topic]*made), sources: make(map[key]*source),
	}
	d.follower = cache.Watch(d.wake)
	others := cache.Interest
	cache.Interest = func(t resource.Topic) {
		switch {
		case t.Kind.Derived():
			d.interest(t)
		case others != nil:
			others(t)
		}
	}
	return d
}

// Stats returns the counts.
func (d *Deriver) Stats() Stats { return Stats{int(d.topics.Load()), d.times.Load()} }

func (d *Deriver) interest(t resource.Topic) {
	d.mu.Lock()
	d.changed[t] = true
	d.mu.Unlock()
	d.wake()
}

func (d *Deriver) wake() {
	select {
	case d.news <- struct{}{}:
	default:
	}
}

// Run derives until ctx is done.
func (d *Deriver) Run(ctx context.Context) {
	defer d.follower.Close()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.news:
			d.tend()
		}
	}
}

// tend makes anew what is to be, each topic once for all that has changed.
func (d *Deriver) tend() {
	dirty := make(map[resource.Topic]bool)
	d.interests(dirty)
	for _, c := range d.follower.Changed() {
		s := d.sources[key{c.Topic.Environment, c.Topic.Target}]
		if s == nil {
			continue
		}
		d.read(s, c)
		for t := range s.users {
			dirty[t] = true
		}
	}
	d.renew(dirty)
	d.topics.Store(int64(len(d.made)))
}

// renew makes topics anew, in the order in which clients are to hear of them: what others lead to comes first, and goes when
// nobody leads there any more.
func (d *Deriver) renew(dirty map[resource.Topic]bool) {
	var less []resource.Topic
	for _, t := range slices.SortedFunc(maps.Keys(dirty), func(a, b resource.Topic) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Environment, b.Environment), cmp.Compare(a.Target, b.Target))
	}) {
		m := d.made[t]
		if m == nil {
			continue
		}
		now, ok := d.make(t, m)
		if !ok {
			continue
		}
		d.times.Add(1)
		before := m.entries
		m.entries = now
		with := maps.Clone(now)
		for name, e := range before {
			if _, stays := now[name]; !stays {
				with[name] = e
			}
		}
		d.cache.Load(t, with)
		if len(with) > len(now) {
			less = append(less, t)
		}
	}
	for _, t := range slices.Backward(less) {
		d.cache.Load(t, d.made[t].entries)
	}
}

// interests begins and ends to keep topics.
func (d *Deriver) interests(dirty map[resource.Topic]bool) {
	d.mu.Lock()
	changed := d.changed
	d.changed = make(map[resource.Topic]bool)
	d.mu.Unlock()
	for t := range changed {
		m := d.made[t]
		switch {
		case m == nil && d.cache.Followed(t):
			d.made[t] = &made{of: make(map[key]*source)}
			dirty[t] = true
		case m != nil && !d.cache.Followed(t) && d.cache.Drop(t):
			d.needs(t, m, nil)
			delete(d.made, t)
		}
	}
}

// needs has a topic made of these targets and no others.
func (d *Deriver) needs(t resource.Topic, m *made, all map[key]bool) {
	for k := range all {
		if m.of[k] != nil {
			continue
		}
		s := d.sources[k]
		if s == nil {
			s = &source{key: k, users: make(map[resource.Topic]bool), instances: make(map[string]*endpoint)}
			d.sources[k] = s
			d.follower.Subscribe(k.topic(resource.KindEndpoint), nil)
			d.follower.Subscribe(k.topic(resource.KindServicePolicy), nil)
		}
		m.of[k], s.users[t] = s, true
	}
	for k, s := range m.of {
		if all[k] {
			continue
		}
		delete(m.of, k)
		if delete(s.users, t); len(s.users) == 0 {
			delete(d.sources, k)
			d.follower.Unsubscribe(k.topic(resource.KindEndpoint))
			d.follower.Unsubscribe(k.topic(resource.KindServicePolicy))
		}
	}
}

// make makes a topic, once all that it is made of is known. ok is false if what was told stays.
func (d *Deriver) make(t resource.Topic, m *made) (entries map[string]snapshot.Entry, ok bool) {
	r := recipeOf(t)
	d.needs(t, m, r.needs(d.sources))
	for _, s := range m.of {
		if !s.known() {
			return nil, false
		}
	}
	messages, err := r.make(m.of)
	if err != nil {
		d.log.Error("a resource cannot be derived: what was told stays", "type", t.Kind, "name", r.name, "error", err)
		return nil, false
	}
	entries = make(map[string]snapshot.Entry, len(messages))
	for name, message := range messages {
		one, err := snapshot.New(t, name, message)
		if err != nil {
			d.log.Error("a derived resource cannot be encoded: what was told stays", "type", t.Kind, "name", r.name, "error", err)
			return nil, false
		}
		entries[name] = snapshot.Entry{Stable: one}
	}
	return entries, true
}

// source is a target of which something is made.
type source struct {
	key
	users map[resource.Topic]bool
	// instances are all that are there; nil: one that takes no calls of stock clients.
	instances map[string]*endpoint
	policy    *resourcev1.ServicePolicy // nil: none

	hasInstances, hasPolicy bool // the cache has said so
}

func (s *source) known() bool { return s.hasInstances && s.hasPolicy }

// exists tells whether a registry knows the target, or somebody has configured it.
func (s *source) exists() bool { return len(s.instances) > 0 || s.policy != nil }

// read takes over what has changed of a target.
func (d *Deriver) read(s *source, c snapshot.Changed) {
	if c.Topic.Kind == resource.KindServicePolicy {
		s.policy, s.hasPolicy = nil, true
		if r := d.cache.Entry(c.Topic, "").Stable; r != nil {
			p := &resourcev1.ServicePolicy{}
			if d.decode(r, p) {
				s.policy = p
			}
		}
		return
	}
	if c.All {
		entries, _ := d.cache.Get(c.Topic)
		s.hasInstances = true
		clear(s.instances)
		for name, e := range entries {
			d.instance(s, name, e.Stable)
		}
		return
	}
	for _, name := range c.Names {
		d.instance(s, name, d.cache.Entry(c.Topic, name).Stable)
	}
}

func (d *Deriver) instance(s *source, name string, r *snapshot.Resource) {
	e := &resourcev1.Endpoint{}
	if r == nil || !d.decode(r, e) || e.GetStanding() == resourcev1.Standing_STANDING_LEFT {
		delete(s.instances, name)
		return
	}
	s.instances[name] = endpointOf(e)
}

func (d *Deriver) decode(r *snapshot.Resource, into proto.Message) bool {
	if err := proto.Unmarshal(r.Value(), into); err != nil {
		d.log.Error("a resource of the cache cannot be read: nothing is derived of it", "name", r.Name, "error", err)
		return false
	}
	return true
}
