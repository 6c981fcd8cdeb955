package sourcetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

var cart = source.Key{Environment: "test", Target: "shop.cart"}

func fullSetThenChanges(t *testing.T, s *Subject) {
	f := follow(t, s.Source, cart)
	f.wants() // a target that nobody knows is empty, and that is told
	a, b := Endpoint(cart, "a", 1), Endpoint(cart, "b", 1)
	s.Put(t, cart, a)
	f.wants(a)
	a = Endpoint(cart, "a", 2)
	s.Put(t, cart, a)
	f.wants(a)
	s.Put(t, cart, b)
	f.wants(a, b)
	s.Remove(t, cart, "a")
	f.wants(b)
	f.see(func(v *view) {
		if why, ok := v.removed["a"]; !ok || why != s.Removed {
			t.Errorf("a was removed for %v (told: %v), want %v", why, ok, s.Removed)
		}
		if v.fulls != 1 {
			t.Errorf("%d full sets without any loss", v.fulls)
		}
	})
	s.Remove(t, cart, "b")
	f.wants()
}

func firstSetHasAll(t *testing.T, s *Subject) {
	var all []*resourcev1.Endpoint
	for i := range 50 {
		all = append(all, Endpoint(cart, fmt.Sprintf("10.0.0.%d:8080", i), i))
		s.Put(t, cart, all[i])
	}
	follow(t, s.Source, cart).wants(all...) // a registry that is polled may have told of some before
	late := follow(t, s.Source, cart)
	late.until("a first full set", func(v *view) bool { return v.fulls > 0 })
	late.see(func(v *view) {
		if len(v.endpoints) != len(all) {
			t.Errorf("the first full set had %d endpoints of %d", len(v.endpoints), len(all))
		}
	})
}

func noFinalStateIsLost(t *testing.T, s *Subject) {
	const seed, keys, ops = 20261122, 3, 150
	random := rand.New(rand.NewPCG(seed, 1))
	want := make([]map[string]*resourcev1.Endpoint, keys)
	names := make([]source.Key, keys)
	var followers []*follower
	for i := range keys {
		names[i] = source.Key{Environment: "test", Target: fmt.Sprintf("target-%d", i)}
		want[i] = make(map[string]*resourcev1.Endpoint)
		followers = append(followers, follow(t, s.Source, names[i]))
	}
	for n := range ops {
		i := random.IntN(keys)
		instance := fmt.Sprintf("i%d", random.IntN(8))
		if want[i][instance] != nil && random.IntN(3) == 0 {
			s.Remove(t, names[i], instance)
			delete(want[i], instance)
		} else {
			want[i][instance] = Endpoint(names[i], instance, n+1)
			s.Put(t, names[i], want[i][instance])
		}
		if n == ops/2 { // who comes in the middle loses nothing either
			for i := range keys {
				followers = append(followers, follow(t, s.Source, names[i]))
			}
		}
	}
	for i, f := range followers {
		f.wants(slices.Collect(maps.Values(want[i%keys]))...)
	}
}

func keysNeverMix(t *testing.T, s *Subject) {
	var keys []source.Key
	for _, environment := range []string{"test", "prod", "prod-2"} {
		for _, target := range []string{"cart", "cart2", "cart.v2", "cart/v2", "cart/", "Cart", "carT@x:1"} {
			keys = append(keys, source.Key{Environment: environment, Target: target})
		}
	}
	var followers []*follower
	for _, key := range keys {
		followers = append(followers, follow(t, s.Source, key))
	}
	for i, key := range keys {
		s.Put(t, key, Endpoint(key, "same", i))
		s.Put(t, key, Endpoint(key, fmt.Sprintf("own-%d", i), i))
	}
	for i, key := range keys {
		followers[i].wants(Endpoint(key, "same", i), Endpoint(key, fmt.Sprintf("own-%d", i), i))
	}
	s.Remove(t, keys[0], "same")
	followers[0].wants(Endpoint(keys[0], "own-0", 0))
	for i, key := range keys[1:] {
		followers[i+1].wants(Endpoint(key, "same", i+1), Endpoint(key, fmt.Sprintf("own-%d", i+1), i+1))
		followers[i+1].see(func(v *view) {
			if v.vanished > 0 {
				t.Errorf("%v lost an instance when %v did", key, keys[0])
			}
		})
	}
}

func manyKeys(t *testing.T, s *Subject) {
	const keys = 200
	var followers []*follower
	key := func(i int) source.Key {
		return source.Key{Environment: "test", Target: fmt.Sprintf("many.%d", i)}
	}
	for i := range keys {
		followers = append(followers, follow(t, s.Source, key(i)))
	}
	for i := range keys {
		s.Put(t, key(i), Endpoint(key(i), "one", i))
	}
	for i, f := range followers {
		f.wants(Endpoint(key(i), "one", i))
	}
	for _, f := range followers {
		f.cancel() // all at once
	}
	for _, f := range followers {
		f.stop()
	}
}

func cancelEndsPromptly(t *testing.T, s *Subject) {
	f := follow(t, s.Source, cart)
	f.wants()
	f.cancel()
	f.wait(f.ended, "the watch to end")
	if err := f.errs[len(f.errs)-1]; !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled watch returned %v", err)
	}
	s.Put(t, cart, Endpoint(cart, "a", 1))
	follow(t, s.Source, cart).wants(Endpoint(cart, "a", 1))
	f.see(func(v *view) {
		if len(v.endpoints) > 0 {
			t.Error("a watch told something after its end")
		}
	})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Source.Watch(ended, cart, func(source.Event) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("a watch that was cancelled before it began returned %v", err)
	}
}

func oddNames(t *testing.T, s *Subject) {
	long := strings.Repeat("n", source.MaxName)
	for _, key := range []source.Key{
		{Environment: "", Target: "cart"}, {Environment: "test", Target: ""}, {Environment: "test/x", Target: "cart"},
		{Environment: "Test", Target: "cart"}, {Environment: "test", Target: "/cart"}, {Environment: "test", Target: ".."},
		{Environment: "..", Target: "cart"}, {Environment: "test", Target: "Käse"}, {Environment: "test", Target: "a\x00b"}, {Environment: "test", Target: "a b"},
		{Environment: "test", Target: "a%2Fb"}, {Environment: "test", Target: "a~b"}, {Environment: "test", Target: long + "n"}, {Environment: long + "n", Target: "cart"},
	} {
		err := s.Source.Watch(t.Context(), key, func(e source.Event) { t.Errorf("%q: an event %v", key, e.Kind) })
		if source.KindOf(err) != source.Invalid {
			t.Errorf("a watch of %q returned %v", key, err)
		}
	}
	for _, key := range []source.Key{
		{Environment: "test", Target: "com.sankuai/shop//cart/"}, {Environment: "0-9", Target: "a:b@c_d-e.f"}, {Environment: "test", Target: long},
		{Environment: long, Target: "9"}, {Environment: "zookeeper", Target: "zookeeper"},
	} {
		f := follow(t, s.Source, key)
		var all []*resourcev1.Endpoint
		for i, instance := range []string{"10.0.0.1:8080", "host/1", "host", "a@b", "z..", long} {
			all = append(all, Endpoint(key, instance, i+1))
			s.Put(t, key, all[i])
		}
		f.wants(all...)
		s.Remove(t, key, "host")
		f.wants(slices.Delete(all, 2, 3)...)
	}
}

func unusableEntry(t *testing.T, s *Subject) {
	a, b := Endpoint(cart, "a", 1), Endpoint(cart, "b", 1)
	s.Put(t, cart, a)
	s.Put(t, cart, b)
	f := follow(t, s.Source, cart)
	f.wants(a, b)
	s.Spoil(t, cart, "a")
	f.until("the refusal", func(v *view) bool { return v.refused["a"] })
	f.wants(a, b) // what was known holds
	late := follow(t, s.Source, cart)
	late.until("the refusal in a full set", func(v *view) bool { return v.refused["a"] })
	late.wants(b)
	a = Endpoint(cart, "a", 2)
	s.Put(t, cart, a)
	f.wants(a, b)
	late.wants(a, b)
	s.Spoil(t, cart, "c")
	f.until("the refusal of what was never known", func(v *view) bool { return v.refused["c"] })
	s.Remove(t, cart, "c")
	s.Remove(t, cart, "a")
	f.wants(b)
	late.wants(b)
}

func outage(t *testing.T, s *Subject, forget bool) {
	other := source.Key{Environment: "test", Target: "quiet"}
	a, b, c := Endpoint(cart, "a", 1), Endpoint(cart, "b", 1), Endpoint(cart, "c", 1)
	s.Put(t, cart, a)
	s.Put(t, cart, b)
	s.Put(t, other, Endpoint(other, "x", 1))
	f, quiet := follow(t, s.Source, cart), follow(t, s.Source, other)
	f.wants(a, b)
	quiet.wants(Endpoint(other, "x", 1))
	s.Cut(t)
	for _, f := range []*follower{f, quiet} { // it does not go unnoticed, also where nothing happens
		f.until("a sign of the outage", func(v *view) bool { return v.suspended || !v.begun })
	}
	a = Endpoint(cart, "a", 2)
	s.Put(t, cart, a)
	s.Remove(t, cart, "b")
	s.Put(t, cart, c)
	if forget {
		s.Forget(t)
	}
	f.see(func(v *view) {
		if v.endpoints["b"] == nil || v.endpoints["a"].GetIncarnation() != 1 || v.endpoints["c"] != nil {
			t.Errorf("the outage changed what is known to %v", v.endpoints)
		}
	})
	s.Heal(t)
	f.wants(a, c)
	quiet.wants(Endpoint(other, "x", 1))
	for _, f := range []*follower{f, quiet} {
		f.until("the end of the outage", func(v *view) bool { return !v.suspended && v.begun })
	}
	if forget {
		f.see(func(v *view) {
			if v.fulls < 2 {
				t.Error("what could not go on did not tell a full set again")
			}
		})
	}
	a = Endpoint(cart, "a", 3)
	s.Put(t, cart, a)
	f.wants(a, c)
}

func unreachableAtFirst(t *testing.T, s *Subject) {
	s.Put(t, cart, Endpoint(cart, "a", 1))
	s.Cut(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	err := s.Source.Watch(ctx, cart, func(e source.Event) { t.Errorf("cut off, it tells %v of %d endpoints", e.Kind, len(e.Endpoints)) })
	if !errors.Is(err, context.DeadlineExceeded) && source.KindOf(err) != source.Unavailable && source.KindOf(err) != source.Lost {
		t.Errorf("it returned %v", err)
	}
	s.Heal(t)
	follow(t, s.Source, cart).wants(Endpoint(cart, "a", 1))
}

func list(t *testing.T, s *Subject) {
	var want []source.Key
	for _, target := range []string{"a", "a/b", "b", "b.c"} {
		key := source.Key{Environment: "test", Target: target}
		want = append(want, key)
		for i := range 3 {
			s.Put(t, key, Endpoint(key, fmt.Sprint("i", i), 1))
		}
	}
	gone, elsewhere := source.Key{Environment: "test", Target: "gone"}, source.Key{Environment: "test-2", Target: "c"}
	s.Put(t, gone, Endpoint(gone, "x", 1))
	s.Remove(t, gone, "x")
	s.Put(t, elsewhere, Endpoint(elsewhere, "x", 1))
	follow(t, s.Source, elsewhere).wants(Endpoint(elsewhere, "x", 1)) // a registry that is polled knows a little later
	follow(t, s.Source, gone).wants()
	for _, key := range want {
		follow(t, s.Source, key).wants(Endpoint(key, "i0", 1), Endpoint(key, "i1", 1), Endpoint(key, "i2", 1))
	}
	got, err := s.Source.(source.Lister).List(t.Context(), "test")
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("it lists %v, %v, want %v", got, err, want)
	}
	if got, err := s.Source.(source.Lister).List(t.Context(), "nowhere"); err != nil || len(got) > 0 {
		t.Errorf("it lists %v, %v of an environment that is not there", got, err)
	}
}
