package cached

import (
	"maps"
	"sync"
	"time"

	"github.com/octomesh/octomesh/core/directory"
	"github.com/octomesh/octomesh/core/pilot/snapshot"
	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// target is one that somebody watches. Its watchers and degraded are guarded by the knowledge's lock, the rest by its own.
type target struct {
	key
	of       *Knowledge
	watchers map[*watcher]struct{}
	degraded bool

	mu        sync.Mutex
	resources directory.Resources
	answered  [resource.Kinds]bool // the cache has said what it has, of the kind
	revision  uint64
	current   *directory.View // nil: to be made anew
}

func newTarget(k *Knowledge, at key) *target {
	return &target{key: at, of: k, watchers: make(map[*watcher]struct{}), resources: directory.Resources{
		Endpoints: make(map[string][]byte), Switches: make(map[string]*resourcev1.MeshSwitch),
	}}
}

func (t *target) topic(kind resource.Kind) resource.Topic {
	return resource.Topic{Kind: kind, Environment: t.environment, Target: t.key.target}
}

// tell tells those who watch. The knowledge's lock is held.
func (t *target) tell() {
	for w := range t.watchers {
		w.changed()
	}
}

// set takes a resource of the target.
func (t *target) set(kind resource.Kind, r *snapshot.Resource) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.answered[kind], t.current = true, nil
	switch kind {
	case resource.KindEndpoint:
		e, err := message(r, &resourcev1.Endpoint{})
		if err != nil {
			return err
		}
		if e.GetStanding() == resourcev1.Standing_STANDING_LEFT {
			delete(t.resources.Endpoints, r.Name)
		} else {
			t.resources.Endpoints[r.Name] = directory.Encode(r.Name, e)
		}
		t.revise()
	case resource.KindServicePolicy:
		p, err := message(r, &resourcev1.ServicePolicy{})
		if err != nil {
			return err
		}
		t.resources.Policy = p
	case resource.KindAuthPolicy:
		t.resources.Auth = true
	case resource.KindMeshSwitch:
		s, err := message(r, &resourcev1.MeshSwitch{})
		if err != nil {
			return err
		}
		t.resources.Switches = maps.Clone(t.resources.Switches) // views have it
		t.resources.Switches[r.Name] = s
	}
	return nil
}

// remove takes a resource away; of a collection, "" stands for all there might be.
func (t *target) remove(kind resource.Kind, name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.answered[kind], t.current = true, nil
	switch kind {
	case resource.KindEndpoint:
		if name == "" {
			clear(t.resources.Endpoints)
		}
		delete(t.resources.Endpoints, name)
		t.revise()
	case resource.KindServicePolicy:
		t.resources.Policy = nil
	case resource.KindAuthPolicy:
		t.resources.Auth = false
	case resource.KindMeshSwitch:
		t.resources.Switches = maps.Clone(t.resources.Switches)
		if name == "" {
			clear(t.resources.Switches)
		}
		delete(t.resources.Switches, name)
	}
}

// revise gives the endpoints a revision: microseconds since 1970, so that it rises over restarts too as far as clocks do.
func (t *target) revise() { t.revision = max(t.revision+1, uint64(time.Now().UnixMicro())) }

// view is what is known, made at most once between two changes, by the first who looks.
func (t *target) view() *directory.View {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current != nil {
		return t.current
	}
	t.current = directory.Unknown(time.Time{})
	for _, kind := range kinds {
		if !t.answered[kind] {
			return t.current
		}
	}
	t.current = directory.Of(t.resources, t.revision)
	return t.current
}
