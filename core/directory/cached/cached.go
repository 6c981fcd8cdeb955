// Package cached is what a Directory of the control plane knows: the resources in a Pilot's cache, or in one of its own
// that is filled in the same way, as views for those who watch. Each target is followed once, whoever watches it.
package cached

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/directory"
	"github.com/octomesh/octomesh/core/pilot/snapshot"
	"github.com/octomesh/octomesh/core/resource"
)

// Freshness tells how old what is in the cache may be. A Pilot's ingest does.
type Freshness interface {
	// Silent is since when nobody is heard who fills the cache. Zero: somebody is.
	Silent() time.Time
	// Degraded tells whether the registry of a target's endpoints is not heard.
	Degraded(resource.Topic) bool
}

// Config is what a knowledge is made of.
type Config struct {
	Cache     *snapshot.Cache
	Freshness Freshness
	// Node is the name by which waves choose.
	Node string
	// MaxTargets bounds what is followed: whoever watches names it. 0: 50,000.
	MaxTargets int
	Log        *slog.Logger
}

// Knowledge follows a cache. Its methods are safe for concurrent use.
type Knowledge struct {
	cfg      Config
	news     chan struct{} // holds one element while the follower has some
	follower *snapshot.Follower

	mu      sync.Mutex // held while the follower is changed, or asked
	targets map[key]*target
	silent  bool // as it was last looked at
	stale   bool
}

type key struct{ environment, target string }

// kinds are what views are made of.
var kinds = [...]resource.Kind{resource.KindEndpoint, resource.KindServicePolicy, resource.KindAuthPolicy, resource.KindMeshSwitch}

// New makes a knowledge that does nothing before Run.
func New(cfg Config) *Knowledge {
	if cfg.MaxTargets == 0 {
		cfg.MaxTargets = 50_000
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	k := &Knowledge{cfg: cfg, news: make(chan struct{}, 1), targets: make(map[key]*target), silent: true}
	k.follower = cfg.Cache.Follow(cfg.Node, func() {
		select {
		case k.news <- struct{}{}:
		default:
		}
	})
	return k
}

// In is what is known of one environment.
func (k *Knowledge) In(environment string) directory.Targets { return in{k, environment} }

type in struct {
	*Knowledge
	environment string
}

// freshEvery is how late it may be noticed that knowledge has become stale.
const freshEvery = time.Second

// batch is how many bytes of resources are taken at once.
const batch = 1 << 20

// Run brings what changes to those who watch, until ctx is done.
func (k *Knowledge) Run(ctx context.Context) {
	defer k.close()
	tick := time.NewTicker(freshEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.news:
			k.take()
		case <-tick.C:
			k.checkFreshness()
		}
	}
}

func (k *Knowledge) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.follower.Close()
}

// Targets is how many targets are followed.
func (k *Knowledge) Targets() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.targets)
}

var errTooMany = errors.New("this Directory follows as many targets as it can")

// Follow implements directory.Targets.
func (e in) Follow(name string, changed func()) (directory.Followed, error) {
	k := e.Knowledge
	k.mu.Lock()
	defer k.mu.Unlock()
	at := key{e.environment, name}
	t := k.targets[at]
	if t == nil {
		if len(k.targets) >= k.cfg.MaxTargets {
			return nil, errTooMany
		}
		t = newTarget(k, at)
		k.targets[at] = t
		for _, kind := range kinds {
			k.follower.Subscribe(t.topic(kind), nil)
		}
	}
	w := &watcher{t, changed}
	t.watchers[w] = struct{}{}
	return w, nil
}

// leave ends a watcher; with the last one of a target, the target is not followed any more.
func (k *Knowledge) leave(w *watcher) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(w.watchers, w)
	if len(w.watchers) > 0 || k.targets[w.key] != w.target {
		return
	}
	delete(k.targets, w.key)
	for _, kind := range kinds {
		k.follower.Unsubscribe(w.topic(kind))
	}
}

// take takes all that is new, and tells those who watch once they can see all of it.
func (k *Knowledge) take() {
	k.mu.Lock()
	defer k.mu.Unlock()
	touched := make(map[*target]bool)
	for {
		u, ok := k.follower.Take(batch)
		if !ok {
			break
		}
		for _, told := range u.Told {
			if t := k.targets[key{told.Topic.Environment, told.Topic.Target}]; t != nil {
				k.set(t, told.Topic, told.Resource)
				touched[t] = true
			}
		}
		for _, name := range u.Removed {
			if t := k.remove(u.Kind, name); t != nil {
				touched[t] = true
			}
		}
	}
	for t := range touched {
		t.tell()
	}
}

func (k *Knowledge) set(t *target, topic resource.Topic, r *snapshot.Resource) {
	if err := t.set(topic.Kind, r); err != nil {
		k.cfg.Log.Error("a resource cannot be read, and is passed over", "resource", topic.FullName(r.Name), "error", err)
	}
}

// remove takes a resource away by its name on the stream, which is the topic's where that has nothing.
func (k *Knowledge) remove(kind resource.Kind, name string) *target {
	topic, err := resource.ParseTopic(kind, name)
	local := ""
	if err != nil {
		if topic, err = resource.TopicOf(kind, name); err != nil {
			return nil
		}
		local, _ = topic.LocalName(name)
	}
	t := k.targets[key{topic.Environment, topic.Target}]
	if t != nil {
		t.remove(kind, local)
	}
	return t
}

// checkFreshness tells those who watch if knowledge has become stale, or is not any more.
func (k *Knowledge) checkFreshness() {
	silent := k.cfg.Freshness.Silent()
	k.mu.Lock()
	defer k.mu.Unlock()
	stale := !silent.IsZero() && time.Since(silent) >= directory.StaleAfter
	all := stale != k.stale || silent.IsZero() == k.silent
	k.stale, k.silent = stale, !silent.IsZero()
	for _, t := range k.targets {
		if degraded := k.cfg.Freshness.Degraded(t.topic(resource.KindEndpoint)); degraded != t.degraded {
			t.degraded = degraded
			t.tell()
		} else if all {
			t.tell()
		}
	}
}

// message decodes a resource.
func message[M proto.Message](r *snapshot.Resource, into M) (M, error) {
	return into, proto.Unmarshal(r.Value(), into)
}

// watcher is one who watches a target.
type watcher struct {
	*target
	changed func()
}

// Look implements directory.Followed.
func (w *watcher) Look() *directory.View {
	v := *w.view()
	f := w.of.cfg.Freshness
	v.Silent, v.Degraded = f.Silent(), f.Degraded(w.topic(resource.KindEndpoint))
	return &v
}

// Close implements directory.Followed.
func (w *watcher) Close() { w.of.leave(w) }
