package hub_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/octomesh/octomesh/core/dispatcher/hub"
	"github.com/octomesh/octomesh/core/dispatcher/source"
	"github.com/octomesh/octomesh/core/dispatcher/source/sourcetest"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

var errSick = errors.New("it is sick")

func TestLostWatchesBeginAgainInASpread(t *testing.T) {
	const keys = 2000
	bubble(t, func(c *hub.Config) { c.Registries[0].StartsPerSecond = 100 }, func(t *testing.T, m *sourcetest.Memory, h *hub.Hub) {
		s := h.Subscribe()
		for i := range keys {
			follow(t, s, key(i))
		}
		time.Sleep(25 * time.Second)
		if starts, now, _ := m.Watches(); starts != keys || now != keys {
			t.Fatalf("%d watches begun, %d stand", starts, now)
		}
		m.Lose()
		time.Sleep(10 * time.Second)
		if starts, _, _ := m.Watches(); starts-keys < 800 || starts-keys > 1010 {
			t.Errorf("%d watches begun in the 10 s after a loss, want at most 100 a second", starts-keys)
		}
		fill(m, cart, 1)
		follow(t, s, cart)
		time.Sleep(100 * time.Millisecond)
		if size(h, cart) != 1 {
			t.Error("a key that nobody knows waits for those that are read again")
		}
		time.Sleep(20 * time.Second)
		if starts, now, most := m.Watches(); starts != 2*keys+1 || now != keys+1 || most != 1 {
			t.Errorf("in the end %d watches begun, %d stand, %d of one key", starts, now, most)
		}
	})
}

func TestSickRegistryIsLeftAlone(t *testing.T) {
	const keys = 1000
	var sick atomic.Bool
	var asked atomic.Int64
	bubble(t, nil, func(t *testing.T, m *sourcetest.Memory, h *hub.Hub) {
		m.OnWatch = func(context.Context, source.Key) error {
			asked.Add(1)
			if sick.Load() {
				return &source.Error{Kind: source.Unavailable, Source: "memory", Op: "watch", Err: errSick}
			}
			return nil
		}
		s := h.Subscribe()
		for i := range keys {
			follow(t, s, key(i))
			fill(m, key(i), 2)
		}
		time.Sleep(5 * time.Second)
		sick.Store(true)
		m.Lose()
		asked.Store(0)
		time.Sleep(10 * time.Minute)
		if n := asked.Load(); n < 5 || n > 5+64+60 { // the first ones, and one for each time that the breaker was open
			t.Errorf("a sick registry was asked %d times in 10 minutes", n)
		}
		if st := h.Stats(); st.OpenBreakers != 1 || st.BreakerOpens < 10 {
			t.Errorf("the breaker: %+v", st)
		}
		st, _ := h.Status(key(1))
		if st.Endpoints != 2 || !st.Degraded || st.Live {
			t.Errorf("what is known of a key: %+v", st)
		}
		sick.Store(false)
		time.Sleep(time.Minute + 30*time.Second)
		synctest.Wait()
		if st := h.Stats(); st.OpenBreakers != 0 || st.Watches != keys || len(h.Troubled()) != 0 {
			t.Errorf("after it healed: %+v, %d troubled", st, len(h.Troubled()))
		}
	})
}

func TestSickRegistrySlowsNoOther(t *testing.T) {
	well := sourcetest.NewMemory()
	bubble(t, func(c *hub.Config) {
		c.Registries = append(c.Registries, hub.Registry{Source: well})
		c.Pick = func(k source.Key) int {
			if k.Environment == "prod" {
				return 1
			}
			return 0
		}
	}, func(t *testing.T, m *sourcetest.Memory, h *hub.Hub) {
		m.OnWatch = func(context.Context, source.Key) error { return errSick }
		s := h.Subscribe()
		for i := range 500 {
			follow(t, s, key(i))
		}
		time.Sleep(time.Minute)
		k := source.Key{Environment: "prod", Target: "cart"}
		follow(t, s, k)
		if size(h, k) != 0 || h.Stats().OpenBreakers != 1 {
			t.Errorf("the other registry's key: %d, %+v", size(h, k), h.Stats())
		}
	})
}

func TestWatchThatDoesNotBeginIsGivenUp(t *testing.T) {
	bubble(t, func(c *hub.Config) { c.Registries[0].MaxStarting = 2 }, func(t *testing.T, m *sourcetest.Memory, h *hub.Hub) {
		m.OnWatch = func(ctx context.Context, k source.Key) error {
			if k != cart {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		s := h.Subscribe()
		follow(t, s, key(0), key(1))
		synctest.Wait() // these two are first
		follow(t, s, key(2), cart)
		time.Sleep(14 * time.Second)
		if _, now, _ := m.Watches(); now != 2 || size(h, cart) != -1 {
			t.Errorf("%d watches begin at once, want 2", now)
		}
		time.Sleep(time.Minute)
		st, _ := h.Status(key(0))
		if size(h, cart) != 0 || st.Failures == 0 || source.KindOf(st.Err) != source.Unavailable {
			t.Errorf("the next one has %d; the one before it: %+v", size(h, cart), st)
		}
	})
}

func TestUnusableKeyDoesNotOpenTheBreaker(t *testing.T) {
	bubble(t, nil, func(t *testing.T, m *sourcetest.Memory, h *hub.Hub) {
		m.OnWatch = func(_ context.Context, k source.Key) error {
			if k != cart {
				return &source.Error{Kind: source.Invalid, Source: "memory", Op: "watch", Key: k, Err: errors.New("the registry takes no such name")}
			}
			return nil
		}
		s := h.Subscribe()
		for i := range 100 {
			follow(t, s, key(i))
		}
		time.Sleep(10 * time.Minute)
		follow(t, s, cart)
		if starts, _, _ := m.Watches(); size(h, cart) != 0 || h.Stats().BreakerOpens > 0 || starts > 100*40 {
			t.Errorf("after %d begins: %+v", starts, h.Stats())
		}
	})
}

func TestNoFinalStateIsLostThroughLossesAndComings(t *testing.T) {
	const seed, keys = 20261122, 20
	bubble(t, func(c *hub.Config) { c.Linger = 5 * time.Second }, func(t *testing.T, m *sourcetest.Memory, h *hub.Hub) {
		random := rand.New(rand.NewPCG(seed, 2))
		want, seen := make([]map[string]uint64, keys), make(map[source.Key]map[string]uint64)
		for i := range keys {
			want[i] = make(map[string]uint64)
		}
		s, fickle := h.Subscribe(), h.Subscribe()
		for i := range keys {
			follow(t, s, key(i))
		}
		take := func() {
			for u, ok := s.Take(); ok; u, ok = s.Take() {
				if seen[u.Key] == nil {
					seen[u.Key] = make(map[string]uint64)
				}
				changed, removed := u.Diff()
				for _, e := range changed {
					seen[u.Key][e.GetInstance()] = e.GetIncarnation()
				}
				for _, name := range removed {
					delete(seen[u.Key], name)
				}
			}
		}
		for n := range 5000 {
			i := random.IntN(keys)
			name := fmt.Sprintf("i%d", random.IntN(10))
			switch dice := random.IntN(100); {
			case dice < 50:
				m.Put(key(i), []*resourcev1.Endpoint{sourcetest.Endpoint(key(i), name, n)}...)
				want[i][name] = uint64(n)
			case dice < 80:
				m.Remove(key(i), source.Deregistered, name)
				delete(want[i], name)
			case dice < 82:
				m.Lose()
			case dice < 84:
				m.Cut()
			case dice < 87:
				m.Heal()
			case dice < 92:
				fickle.Unfollow(key(i))
			case dice < 96:
				follow(t, fickle, key(i))
			case dice < 98:
				take()
			default:
				time.Sleep(rand.N(3 * time.Second))
			}
		}
		m.Heal()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		for i := range keys {
			h.Confirm(key(i)) // what went while a watch was lost has no reason, and may be held
		}
		take()
		for i := range keys {
			if !maps.Equal(seen[key(i)], want[i]) {
				t.Errorf("%v: seen %v, want %v", key(i), seen[key(i)], want[i])
			}
		}
		if _, _, most := m.Watches(); most != 1 {
			t.Errorf("%d watches of one key at once", most)
		}
	})
}
