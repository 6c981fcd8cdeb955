package directory

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/octomesh/octomesh/core/directory"
	"github.com/octomesh/octomesh/core/proxy/store"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// Source is what brings the proxy its configuration, as far as it can be asked. A file can not: what it has is all.
type Source interface {
	// Follow begins to bring what there is about a target, or goes on. False: there can be nothing.
	Follow(target string) bool
	// Known tells whether all about a target has been said.
	Known(target string) bool
	// Switches are the mesh switches of a target, by application and "*".
	Switches(target string) map[string]*resourcev1.MeshSwitch
	// Silent is since when the control plane is not heard. Zero: it is.
	Silent() time.Time
}

// Targets is what a proxy knows of targets: what its calls go by. Its methods are safe for concurrent use.
type Targets struct {
	store  *store.Store
	source Source // nil: a file

	mu      sync.Mutex
	targets map[string]*target
	others  map[*listener]struct{} // who is told of changes of anything
	silent  bool                   // as it was last looked at
	stale   bool
}

// NewTargets makes the knowledge of a store that source fills; nil: a file does.
func NewTargets(s *store.Store, source Source) *Targets {
	return &Targets{store: s, source: source, targets: make(map[string]*target), others: make(map[*listener]struct{})}
}

const (
	// checkEvery is how late it may be noticed that knowledge has become stale.
	checkEvery = time.Second
	// keepEvery is, in checks, how often the source is told that targets are still wanted.
	keepEvery = 30
)

// Run looks after staleness until ctx is done.
func (t *Targets) Run(ctx context.Context) {
	if t.source == nil {
		return
	}
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			t.check(n%keepEvery == 0)
		}
	}
}

func (t *Targets) check(keep bool) {
	silent := t.source.Silent()
	t.mu.Lock()
	stale := !silent.IsZero() && time.Since(silent) >= directory.StaleAfter
	all := stale != t.stale || silent.IsZero() == t.silent
	t.stale, t.silent = stale, !silent.IsZero()
	names := slices.Collect(maps.Keys(t.targets))
	t.mu.Unlock()
	if keep {
		for _, name := range names {
			t.source.Follow(name)
		}
	}
	if all {
		t.Changed()
	}
}

// Changed tells those who watch that anything may have changed. It does not block.
func (t *Targets) Changed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, each := range t.targets {
		for w := range each.watchers {
			w.changed()
		}
	}
	for l := range t.others {
		l.changed()
	}
}

// listener is one who is told of changes.
type listener struct{ changed func() }

// Listen has changed called as Follow has, whatever has changed, without following a target.
func (t *Targets) Listen(changed func()) (stop func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := &listener{changed}
	t.others[l] = struct{}{}
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.others, l)
	}
}

// Watched tells whether somebody watches a target.
func (t *Targets) Watched(target string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.targets[target] != nil
}

// Follow implements directory.Targets.
func (t *Targets) Follow(name string, changed func()) (directory.Followed, error) {
	if t.source != nil && !t.source.Follow(name) {
		return nil, errors.New("the proxy follows as many targets as it can")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	at := t.targets[name]
	if at == nil {
		at = &target{of: t, name: name, watchers: make(map[*watcher]struct{})}
		t.targets[name] = at
	}
	w := &watcher{at, changed}
	at.watchers[w] = struct{}{}
	return w, nil
}

// watcher is one who watches a target.
type watcher struct {
	*target
	changed func()
}

// Close implements directory.Followed.
func (w *watcher) Close() {
	t := w.of
	t.mu.Lock()
	defer t.mu.Unlock()
	if delete(w.watchers, w); len(w.watchers) == 0 && t.targets[w.name] == w.target {
		delete(t.targets, w.name)
	}
}

// Look implements directory.Followed.
func (w *watcher) Look() *directory.View {
	v := *w.view()
	if w.of.source != nil {
		v.Silent = w.of.source.Silent()
	}
	return &v
}

// target is one that somebody watches. Its watchers are guarded by the lock of its owner, the rest by its own.
type target struct {
	of       *Targets
	name     string
	watchers map[*watcher]struct{}

	mu         sync.Mutex
	generation uint64
	endpoints  []*resourcev1.Endpoint // as they were when current was made
	encoded    map[string][]byte
	revision   uint64
}

// view is what is known now. Endpoints are encoded anew only if they have changed.
func (t *target) view() *directory.View {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.of.store.Current()
	if g.Number == 0 || t.of.source != nil && !t.of.source.Known(t.name) {
		return directory.Unknown(time.Time{})
	}
	if g.Number != t.generation {
		t.generation = g.Number
		t.take(g.Table.View().Endpoints(t.name))
	}
	r := directory.Resources{Endpoints: t.encoded, Policy: g.Table.Policy(t.name), Auth: g.Table.AuthPolicy(t.name) != nil}
	if t.of.source != nil {
		r.Switches = t.of.source.Switches(t.name)
	}
	return directory.Of(r, t.revision)
}

// take encodes what has changed of the endpoints. Messages never change: another one is another pointer.
func (t *target) take(now []*resourcev1.Endpoint) {
	if t.encoded != nil && slices.Equal(now, t.endpoints) {
		return
	}
	before := make(map[*resourcev1.Endpoint]bool, len(t.endpoints))
	for _, e := range t.endpoints {
		before[e] = true
	}
	next := make(map[string][]byte, len(now))
	for _, e := range now {
		if before[e] {
			next[e.Instance] = t.encoded[e.Instance]
		} else {
			next[e.Instance] = directory.Encode(e.Instance, e)
		}
	}
	same := t.encoded != nil && maps.EqualFunc(t.encoded, next, bytes.Equal)
	if t.endpoints, t.encoded = now, next; same {
		return
	}
	t.revision = max(t.revision+1, uint64(time.Now().UnixMicro()))
}
