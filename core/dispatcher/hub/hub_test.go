package hub_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/octomesh/octomesh/core/dispatcher/hub"
	"github.com/octomesh/octomesh/core/dispatcher/source"
	"github.com/octomesh/octomesh/core/dispatcher/source/sourcetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var cart = source.Key{Environment: "test", Target: "cart"}

func key(i int) source.Key {
	return source.Key{Environment: "test", Target: fmt.Sprintf("target.%d", i)}
}

// fill puts n instances of a key.
func fill(m *sourcetest.Memory, k source.Key, n int) {
	for i := range n {
		m.Put(k, sourcetest.Endpoint(k, fmt.Sprintf("i%d", i), 1))
	}
}

func newHub(t *testing.T, c hub.Config) *hub.Hub {
	t.Helper()
	h, err := hub.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func follow(t *testing.T, s *hub.Subscriber, keys ...source.Key) {
	t.Helper()
	for _, k := range keys {
		if err := s.Follow(k); err != nil {
			t.Fatal(err)
		}
	}
}

// bubble runs a hub on a registry in memory in virtual time.
func bubble(t *testing.T, change func(*hub.Config), run func(*testing.T, *sourcetest.Memory, *hub.Hub)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := sourcetest.NewMemory()
		c := hub.Config{Registries: []hub.Registry{{Source: m}}}
		if change != nil {
			change(&c)
		}
		h := newHub(t, c)
		defer h.Close()
		run(t, m, h)
	})
}

// size waits until all is quiet and counts a key's endpoints; -1: nothing is known.
func size(h *hub.Hub, k source.Key) int {
	synctest.Wait()
	if s := h.Snapshot(k); s != nil {
		return len(s.Endpoints)
	}
	return -1
}

func TestOneWatchAKeyWhateverTheSubscribers(t *testing.T) {
	t.Parallel()
	const keys, subscribers = 30_000, 8
	m := sourcetest.NewMemory()
	index := make(map[source.Key]int)
	for i := range keys {
		index[key(i)] = i
		m.Put(key(i), sourcetest.Endpoint(key(i), "a", 1))
	}
	h := newHub(t, hub.Config{Registries: []hub.Registry{{Source: m, StartsPerSecond: 1e9, MaxStarting: keys}}})
	defer h.Close()
	var wg sync.WaitGroup
	var shared [keys]atomic.Pointer[hub.Snapshot]
	for range subscribers {
		wg.Go(func() {
			s := h.Subscribe()
			for k := range index {
				if err := s.Follow(k); err != nil {
					t.Error(err)
					return
				}
			}
			for range keys {
				u, err := s.Next(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				i := index[u.Key]
				if u.Before != nil || len(u.Now.Endpoints) != 1 || !shared[i].CompareAndSwap(nil, u.Now) && shared[i].Load() != u.Now {
					t.Errorf("%v: it is told %+v, which is not what others were told", u.Key, u.Now)
				}
			}
		})
	}
	wg.Wait()
	if starts, now, most := m.Watches(); starts != keys || now != keys || most != 1 {
		t.Errorf("the registry saw %d watches begin, %d now, %d of one key at once; want %d, %d, 1", starts, now, most, keys, keys)
	}
	if s := h.Stats(); s.Keys != keys || s.Watches != keys || s.Starts != keys || s.MostOfOneKey != 1 || s.Subscriptions != keys*subscribers {
		t.Errorf("the hub counts %v", s)
	}
}

func TestLateSubscriberIsToldAtOnce(t *testing.T) {
	bubble(t, nil, func(t *testing.T, m *sourcetest.Memory, h *hub.Hub) {
		fill(m, cart, 3)
		follow(t, h.Subscribe(), cart)
		synctest.Wait()
		late := h.Subscribe()
		follow(t, late, cart)
		u, ok := late.Take()
		if !ok || u.Before != nil || len(u.Now.Endpoints) != 3 || u.Now != h.Snapshot(cart) {
			t.Errorf("a late subscriber is told %+v, %v", u.Now, ok)
		}
		if _, ok := late.Take(); ok {
			t.Error("it is told twice")
		}
	})
}

func TestSlowSubscriberIsToldTheNewest(t *testing.T) {
	bubble(t, nil, func(t *testing.T, m *sourcetest.Memory, h *hub.Hub) {
		fill(m, cart, 4)
		s := h.Subscribe()
		follow(t, s, cart)
		synctest.Wait()
		before, _ := s.Take()
		for version := range 100 {
			m.Put(cart, sourcetest.Endpoint(cart, "i1", 2+version))
			m.Put(cart, sourcetest.Endpoint(cart, fmt.Sprintf("new%d", version), 1))
			synctest.Wait()
			m.Remove(cart, source.Unknown, fmt.Sprintf("new%d", version))
		}
		m.Put(cart, sourcetest.Endpoint(cart, "last", 1))
		m.Remove(cart, source.Unknown, "i2")
		synctest.Wait()
		u, ok := s.Take()
		if !ok || u.Before != before.Now {
			t.Fatal("it is not told what comes after what it knew")
		}
		changed, removed := u.Diff()
		if len(changed) != 2 || changed[0].GetInstance() != "i1" || changed[0].GetIncarnation() != 101 || changed[1].GetInstance() != "last" || !slices.Equal(removed, []string{"i2"}) {
			t.Errorf("the difference is %v, without %v", changed, removed)
		}
		if _, ok := s.Take(); ok {
			t.Error("there is more")
		}
	})
}

func TestWatchLingersAfterItsLastSubscriber(t *testing.T) {
	bubble(t, nil, func(t *testing.T, m *sourcetest.Memory, h *hub.Hub) {
		fill(m, cart, 1)
		s, other := h.Subscribe(), h.Subscribe()
		follow(t, s, cart)
		follow(t, other, cart)
		s.Close()
		if err := s.Follow(cart); !errors.Is(err, hub.ErrClosed) {
			t.Errorf("a closed subscriber follows: %v", err)
		}
		time.Sleep(time.Hour)
		if size(h, cart) != 1 {
			t.Error("a watch ended that had a subscriber")
		}
		other.Unfollow(cart)
		time.Sleep(59 * time.Second)
		follow(t, other, cart)
		time.Sleep(time.Hour)
		if starts, now, _ := m.Watches(); starts != 1 || now != 1 {
			t.Errorf("who came back in time cost %d watches of which %d stand", starts, now)
		}
		other.Unfollow(cart)
		time.Sleep(61 * time.Second)
		if starts, now, _ := m.Watches(); starts != 1 || now != 0 || h.Stats().Keys != 0 {
			t.Errorf("after the last subscriber %d watches stand, %d were begun, %v", now, starts, h.Stats())
		}
		follow(t, other, cart)
		if size(h, cart) != 1 {
			t.Error("who came back late is told nothing")
		}
	})
}

// slowToEnd is a source whose watches take a minute to end.
type slowToEnd struct{ *sourcetest.Memory }

func (s slowToEnd) Watch(ctx context.Context, k source.Key, emit func(source.Event)) error {
	return s.Memory.Watch(ctx, k, func(e source.Event) {
		emit(e)
		<-ctx.Done()
		time.Sleep(time.Minute)
	})
}

func TestThereIsNeverASecondWatchOfAKey(t *testing.T) {
	bubble(t, func(c *hub.Config) {
		c.Registries[0].Source = slowToEnd{c.Registries[0].Source.(*sourcetest.Memory)}
		c.Linger = time.Second
	}, func(t *testing.T, m *sourcetest.Memory, h *hub.Hub) {
		s := h.Subscribe()
		for range 5 { // come and go while the old watch is still ending
			follow(t, s, cart)
			time.Sleep(time.Second)
			s.Unfollow(cart)
			time.Sleep(5 * time.Second)
		}
		follow(t, s, cart)
		time.Sleep(10 * time.Minute)
		if starts, now, most := m.Watches(); most != 1 || now != 1 || starts > 6 {
			t.Errorf("%d watches begun, %d now, %d at once", starts, now, most)
		}
		if size(h, cart) != 0 || h.Stats().MostOfOneKey != 1 {
			t.Errorf("in the end: %v", h.Stats())
		}
	})
}

func TestHeldEndpointsStayUntilSomebodyKnows(t *testing.T) {
	bubble(t, nil, func(t *testing.T, m *sourcetest.Memory, h *hub.Hub) {
		fill(m, cart, 10)
		s := h.Subscribe()
		follow(t, s, cart)
		synctest.Wait()
		m.Remove(cart, source.Expired)
		if n := size(h, cart); n != 10 {
			t.Fatalf("%d endpoints are left of a service that vanished", n)
		}
		if held := h.Snapshot(cart).Held; len(held) != 10 || len(h.Troubled()) != 1 || h.Stats().Held != 10 {
			t.Errorf("held: %v, troubled: %v", held, h.Troubled())
		}
		if n := h.Confirm(cart, "i0", "i1"); n != 2 || size(h, cart) != 8 {
			t.Errorf("a verdict on two removed %d, %d are left", n, size(h, cart))
		}
		m.Put(cart, sourcetest.Endpoint(cart, "i2", 2))
		if size(h, cart) != 8 || len(h.Snapshot(cart).Held) != 7 {
			t.Error("who came back is still held")
		}
		m.Lose() // the guard remembers across a loss
		time.Sleep(time.Minute)
		if size(h, cart) != 8 {
			t.Errorf("%d are left after a loss", size(h, cart))
		}
		if n := h.Confirm(cart); n != 7 || size(h, cart) != 1 || len(h.Troubled()) != 0 {
			t.Errorf("the operator removed %d, %d are left, %v", n, size(h, cart), h.Troubled())
		}
		m.Remove(cart, source.Deregistered)
		if size(h, cart) != 0 {
			t.Error("who deregisters stays")
		}
		u, _ := s.Take()
		if u.Now.Version != h.Snapshot(cart).Version || len(u.Now.Endpoints) != 0 {
			t.Errorf("the subscriber is told %+v", u.Now)
		}
		if h.Confirm(key(7)) != 0 {
			t.Error("a key that nobody follows is confirmed")
		}
	})
}

func TestUnusableEntryIsShownAndTakesNothingAway(t *testing.T) {
	bubble(t, nil, func(t *testing.T, m *sourcetest.Memory, h *hub.Hub) {
		fill(m, cart, 2)
		follow(t, h.Subscribe(), cart)
		synctest.Wait()
		m.Refuse(cart, "i0")
		if size(h, cart) != 2 || len(h.Troubled()) != 1 || len(h.Troubled()[0].Refused) != 1 || h.Stats().Refused != 1 {
			t.Errorf("%d endpoints, troubled: %+v", size(h, cart), h.Troubled())
		}
		m.Put(cart, sourcetest.Endpoint(cart, "i0", 2))
		if synctest.Wait(); len(h.Troubled()) != 0 {
			t.Errorf("corrected, it is still troubled: %+v", h.Troubled())
		}
	})
}

func TestOldKnowledgeIsMarked(t *testing.T) {
	bubble(t, nil, func(t *testing.T, m *sourcetest.Memory, h *hub.Hub) {
		fill(m, cart, 2)
		follow(t, h.Subscribe(), cart)
		synctest.Wait()
		wants := func(when string, degraded bool, age time.Duration) {
			t.Helper()
			synctest.Wait()
			st, _ := h.Status(cart)
			if h.Snapshot(cart).Degraded != degraded || st.Degraded != degraded || st.Age != age || st.Live != (age == 0) || st.Endpoints != 2 {
				t.Errorf("%s: %+v", when, st)
			}
		}
		time.Sleep(time.Hour)
		wants("live", false, 0)
		m.Cut()
		time.Sleep(59 * time.Second)
		wants("cut off for a moment", false, 59*time.Second)
		m.Lose() // the age goes on
		time.Sleep(2 * time.Second)
		wants("cut off for long", true, 61*time.Second)
		time.Sleep(time.Hour)
		wants("cut off for an hour", true, time.Hour+61*time.Second)
		m.Heal()
		time.Sleep(time.Minute)
		wants("healed", false, 0)
		m.Cut()
		time.Sleep(time.Second)
		m.Heal()
		time.Sleep(time.Hour)
		wants("after a short cut", false, 0)
	})
}

func TestCloseEndsAll(t *testing.T) {
	bubble(t, nil, func(t *testing.T, m *sourcetest.Memory, h *hub.Hub) {
		s := h.Subscribe()
		follow(t, s, cart, key(1), key(2))
		ended := make(chan error)
		go func() {
			for {
				if _, err := s.Next(context.Background()); err != nil {
					ended <- err
					return
				}
			}
		}()
		synctest.Wait()
		h.Close()
		if err := <-ended; !errors.Is(err, hub.ErrClosed) {
			t.Errorf("who waits gets %v", err)
		}
		if _, now, _ := m.Watches(); now != 0 {
			t.Errorf("%d watches are left", now)
		}
		if err := h.Subscribe().Follow(cart); !errors.Is(err, hub.ErrClosed) {
			t.Errorf("a closed hub is followed: %v", err)
		}
		s.Close()
	})
}

func TestNamesThatCannotBeAreNotFollowed(t *testing.T) {
	bubble(t, func(c *hub.Config) {
		c.Pick = func(k source.Key) int {
			if k.Environment == "test" {
				return 0
			}
			return -1
		}
	}, func(t *testing.T, _ *sourcetest.Memory, h *hub.Hub) {
		s := h.Subscribe()
		for _, k := range []source.Key{{}, {Environment: "test"}, {Environment: "prod", Target: "cart"}, {Environment: "te/st", Target: "cart"}} {
			if err := s.Follow(k); source.KindOf(err) != source.Invalid {
				t.Errorf("%v: %v", k, err)
			}
		}
		if h.Stats().Keys != 0 {
			t.Errorf("it keeps %v", h.Stats())
		}
	})
}
