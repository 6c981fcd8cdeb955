// Package sourcetest has the contract test that every adapter of a registry passes, and what it takes to write one: a
// registry in memory, and a link that can be cut.
package sourcetest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// Memory is a registry in memory, for tests of what stands above the sources. It passes the contract itself.
type Memory struct {
	// OnWatch is asked before each watch; an error ends it. It may block. Nil: all may watch.
	OnWatch func(ctx context.Context, key source.Key) error

	mu      sync.Mutex
	keys    map[source.Key]*memoryKey
	cut     bool
	starts  int
	watches int
	most    int // watches of one key at once, at most
}

type memoryKey struct {
	endpoints map[string]*resourcev1.Endpoint
	owners    map[string]*memoryLease
	watches   map[*memoryWatch]struct{}
}

type memoryWatch struct {
	queue []source.Event
	held  []source.Event // what it would have heard while the registry is cut
	err   error
	wake  chan struct{}
}

// NewMemory makes an empty registry.
func NewMemory() *Memory { return &Memory{keys: make(map[source.Key]*memoryKey)} }

// Name implements [source.Source].
func (m *Memory) Name() string { return "memory" }

// Watches tells how often a watch was begun, how many there are, and how many there were of one key at once at most.
func (m *Memory) Watches() (starts, now, mostOfOneKey int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.starts, m.watches, m.most
}

func (m *Memory) at(key source.Key) *memoryKey {
	k := m.keys[key]
	if k == nil {
		k = &memoryKey{endpoints: make(map[string]*resourcev1.Endpoint), owners: make(map[string]*memoryLease), watches: make(map[*memoryWatch]struct{})}
		m.keys[key] = k
	}
	return k
}

// tell puts an event into the queues of a key's watches, or while it is cut keeps it from them. The lock is held.
func (m *Memory) tell(k *memoryKey, e source.Event) {
	for w := range k.watches {
		if m.cut {
			w.held = append(w.held, e)
			continue
		}
		w.queue = append(w.queue, e)
		w.ring()
	}
}

func (w *memoryWatch) ring() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Watch implements [source.Source].
func (m *Memory) Watch(ctx context.Context, key source.Key, emit func(source.Event)) error {
	if err := key.Check(); err != nil {
		return err
	}
	w := &memoryWatch{wake: make(chan struct{}, 1)}
	k := m.begin(key, w)
	defer m.end(k, w)
	if m.OnWatch != nil {
		if err := m.OnWatch(ctx, key); err != nil {
			return err
		}
	}
	if !m.first(k, w) {
		return &source.Error{Kind: source.Unavailable, Source: m.Name(), Op: "watch", Key: key, Err: errors.New("it is cut off")}
	}
	for {
		m.mu.Lock()
		queue, err := w.queue, w.err
		w.queue = nil
		m.mu.Unlock()
		for _, e := range queue {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			emit(e)
		}
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.wake:
		}
	}
}

func (m *Memory) begin(key source.Key, w *memoryWatch) *memoryKey {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.starts++
	m.watches++
	k := m.at(key)
	k.watches[w] = struct{}{}
	m.most = max(m.most, len(k.watches))
	return k
}

func (m *Memory) end(k *memoryKey, w *memoryWatch) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.watches--
	delete(k.watches, w)
}

// first makes the full set the first event, in place of what came before it.
func (m *Memory) first(k *memoryKey, w *memoryWatch) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	w.queue = []source.Event{{Kind: source.Full, Endpoints: slices.Collect(maps.Values(k.endpoints))}}
	return !m.cut
}

// Put sets endpoints, as one change.
func (m *Memory) Put(key source.Key, endpoints ...*resourcev1.Endpoint) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.at(key)
	for _, e := range endpoints {
		k.endpoints[e.GetInstance()] = e
		m.take(k, e.GetInstance(), nil)
	}
	m.tell(k, source.Event{Kind: source.Change, Endpoints: endpoints})
}

// Remove removes instances, as one change; none: all.
func (m *Memory) Remove(key source.Key, why source.Reason, instances ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := m.at(key)
	if len(instances) == 0 {
		instances = slices.Sorted(maps.Keys(k.endpoints))
	}
	var removed []source.Removal
	for _, i := range instances {
		if k.endpoints[i] != nil {
			delete(k.endpoints, i)
			m.take(k, i, nil)
			removed = append(removed, source.Removal{Instance: i, Reason: why})
		}
	}
	if len(removed) > 0 {
		m.tell(k, source.Event{Kind: source.Change, Removed: removed})
	}
}

// Refuse tells of an entry that cannot be used.
func (m *Memory) Refuse(key source.Key, instance string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	err := &source.Error{Kind: source.Invalid, Source: m.Name(), Op: "read", Key: key, Err: errors.New("it is not an endpoint")}
	m.tell(m.at(key), source.Event{Kind: source.Change, Refused: []source.Refusal{{Instance: instance, Err: err}}})
}

// Cut keeps watches from hearing of anything until [Memory.Heal], and new ones from beginning.
func (m *Memory) Cut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all(func(_ source.Key, k *memoryKey) { m.tell(k, source.Event{Kind: source.Suspended}) })
	m.cut = true
}

// Lose ends all watches as lost.
func (m *Memory) Lose() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all(func(key source.Key, k *memoryKey) {
		for w := range k.watches {
			w.err = &source.Error{Kind: source.Lost, Source: m.Name(), Op: "watch", Key: key, Err: errors.New("the session ended")}
			w.ring()
		}
	})
}

// Heal ends what Cut began.
func (m *Memory) Heal() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cut = false
	m.all(func(_ source.Key, k *memoryKey) {
		for w := range k.watches {
			w.queue, w.held = append(w.queue, w.held...), nil
		}
		m.tell(k, source.Event{Kind: source.Resumed})
	})
}

func (m *Memory) all(f func(source.Key, *memoryKey)) {
	for key, k := range m.keys {
		f(key, k)
	}
}

// List implements [source.Lister].
func (m *Memory) List(_ context.Context, environment string) ([]source.Key, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []source.Key
	for key, k := range m.keys {
		if key.Environment == environment && len(k.endpoints) > 0 {
			keys = append(keys, key)
		}
	}
	slices.SortFunc(keys, func(a, b source.Key) int { return strings.Compare(a.Target, b.Target) })
	return keys, nil
}
