package sourcetest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

const leaseTime = 2 * time.Second

// held is a registration, and whether it was lost.
type held struct {
	source.Registration
	lost chan struct{}
}

func register(t *testing.T, r source.Registrar, key source.Key, e *resourcev1.Endpoint) held {
	t.Helper()
	lost := make(chan struct{})
	lease, err := r.Register(t.Context(), key, e, leaseTime, func() { close(lost) })
	if err != nil {
		t.Fatalf("register %s: %v", e.GetInstance(), err)
	}
	return held{lease, lost}
}

// awaitLoss waits until a registration is told that it is lost.
func (h held) awaitLoss(t *testing.T) {
	t.Helper()
	select {
	case <-h.lost:
	case <-time.After(patience):
		t.Fatal("who was replaced is not told")
	}
}

func registers(t *testing.T, s *Subject) {
	r, _ := s.Registrar(t)
	f := follow(t, s.Source, cart)
	f.wants()
	a, b := Endpoint(cart, "host/1", 1), Endpoint(cart, "b", 1)
	lease := register(t, r, cart, a)
	other := register(t, r, cart, b)
	f.wants(a, b)
	for version := 2; version < 10; version++ {
		a = Endpoint(cart, "host/1", version)
		if err := lease.Update(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	f.wants(a, b)
	f.see(func(v *view) {
		if v.vanished > 0 {
			t.Error("an update let the instance vanish")
		}
	})
	if err := lease.Update(t.Context(), Endpoint(cart, "other", 10)); source.KindOf(err) != source.Invalid {
		t.Errorf("an update to another instance returned %v", err)
	}
	for range 2 { // the second time it is no error
		if err := lease.Deregister(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	f.wants(b)
	f.see(func(v *view) {
		if why := v.removed["host/1"]; why != s.Deregistered {
			t.Errorf("it went for %v, want %v", why, s.Deregistered)
		}
	})
	if err := lease.Update(t.Context(), a); source.KindOf(err) != source.Lost {
		t.Errorf("an update after deregistration returned %v", err)
	}
	select {
	case <-lease.lost:
		t.Error("what deregistered is told that it lost its registration")
	case <-other.lost:
		t.Error("the other one lost its registration")
	default:
	}
	again := register(t, r, cart, Endpoint(cart, "host/1", 11))
	f.wants(b, Endpoint(cart, "host/1", 11))
	if err := again.Deregister(t.Context()); err != nil {
		t.Error(err)
	}
}

func takenOver(t *testing.T, s *Subject) {
	first, _ := s.Registrar(t)
	second, _ := s.Registrar(t)
	f := follow(t, s.Source, cart)
	old := register(t, first, cart, Endpoint(cart, "a", 1))
	f.wants(Endpoint(cart, "a", 1))
	now := register(t, second, cart, Endpoint(cart, "a", 2))
	f.wants(Endpoint(cart, "a", 2))
	old.awaitLoss(t)
	if err := old.Update(t.Context(), Endpoint(cart, "a", 3)); source.KindOf(err) != source.Lost {
		t.Errorf("who was replaced updates: %v", err)
	}
	if err := old.Deregister(t.Context()); err != nil {
		t.Errorf("who was replaced deregisters: %v", err)
	}
	b := Endpoint(cart, "b", 1)
	s.Put(t, cart, b)
	f.wants(Endpoint(cart, "a", 2), b) // who was replaced took nothing away
	if err := now.Update(t.Context(), Endpoint(cart, "a", 4)); err != nil {
		t.Error(err)
	}
	f.wants(Endpoint(cart, "a", 4), b)
}

func leaseExpires(t *testing.T, s *Subject) {
	dies, crash := s.Registrar(t)
	lives, _ := s.Registrar(t)
	f := follow(t, s.Source, cart)
	register(t, dies, cart, Endpoint(cart, "dies-1", 1))
	updated := register(t, dies, cart, Endpoint(cart, "dies-2", 1))
	if err := updated.Update(t.Context(), Endpoint(cart, "dies-2", 2)); err != nil { // an update keeps the lease
		t.Fatal(err)
	}
	stays := register(t, lives, cart, Endpoint(cart, "lives", 1))
	f.wants(Endpoint(cart, "dies-1", 1), Endpoint(cart, "dies-2", 2), Endpoint(cart, "lives", 1))
	crash()
	f.wants(Endpoint(cart, "lives", 1))
	f.see(func(v *view) {
		for _, instance := range []string{"dies-1", "dies-2"} {
			if why := v.removed[instance]; why != s.Expired {
				t.Errorf("%s went for %v, want %v", instance, why, s.Expired)
			}
		}
	})
	select {
	case <-stays.lost:
		t.Error("who lives lost its registration")
	default:
	}
}

func unsoundRegistration(t *testing.T, s *Subject) {
	r, _ := s.Registrar(t)
	bad := Endpoint(cart, "a", 1)
	bad.MeshAddress = ""
	for what, e := range map[string]*resourcev1.Endpoint{
		"no address": bad, "no instance": Endpoint(cart, "", 1), "another target": Endpoint(source.Key{Target: "x"}, "a", 1),
		"a name from elsewhere": Endpoint(cart, "ä", 1), "nothing": {},
	} {
		if _, err := r.Register(t.Context(), cart, e, leaseTime, func() {}); source.KindOf(err) != source.Invalid {
			t.Errorf("%s: register returned %v", what, err)
		}
	}
	if _, err := r.Register(t.Context(), source.Key{Environment: "test"}, Endpoint(source.Key{}, "a", 1), leaseTime, func() {}); source.KindOf(err) != source.Invalid {
		t.Errorf("without a target: register returned %v", err)
	}
	follow(t, s.Source, cart).wants()
}

func newestWins(t *testing.T, s *Subject) {
	first, _ := s.Registrar(t)
	second, _ := s.Registrar(t)
	f := follow(t, s.Source, cart)
	newer := register(t, first, cart, Endpoint(cart, "a", 5))
	if _, err := second.Register(t.Context(), cart, Endpoint(cart, "a", 4), leaseTime, func() {}); source.KindOf(err) != source.Superseded {
		t.Errorf("an older incarnation registers: %v", err)
	}
	f.wants(Endpoint(cart, "a", 5))
	later := Endpoint(cart, "a", 5)
	later.MeshAddress = "127.0.0.1:9"
	now := register(t, second, cart, later)
	f.wants(later)
	newer.awaitLoss(t)
	if _, err := first.Reclaim(t.Context(), cart, Endpoint(cart, "a", 5), leaseTime, func() {}); source.KindOf(err) != source.Superseded {
		t.Errorf("who was replaced takes it back: %v", err)
	}
	f.wants(later)
	if err := now.Deregister(t.Context()); err != nil {
		t.Error(err)
	}
	f.wants()
	back, err := first.Reclaim(t.Context(), cart, Endpoint(cart, "a", 5), leaseTime, func() {})
	if err != nil {
		t.Fatal(err)
	}
	f.wants(Endpoint(cart, "a", 5))
	if err := back.Deregister(t.Context()); err != nil {
		t.Error(err)
	}
	register(t, second, cart, Endpoint(cart, "a", 4)) // what has left is not newer
	f.wants(Endpoint(cart, "a", 4))
}

func abandoned(t *testing.T, s *Subject) {
	r, _ := s.Registrar(t)
	f := follow(t, s.Source, cart)
	lease := register(t, r, cart, Endpoint(cart, "a", 1))
	register(t, r, cart, Endpoint(cart, "b", 1))
	f.wants(Endpoint(cart, "a", 1), Endpoint(cart, "b", 1))
	for range 2 { // the second time it is no error
		if err := lease.Abandon(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	f.wants(Endpoint(cart, "b", 1))
	f.see(func(v *view) {
		if why := v.removed["a"]; why != s.Expired {
			t.Errorf("it went for %v, want %v", why, s.Expired)
		}
	})
	select {
	case <-lease.lost:
		t.Error("who gave it up is told of a loss")
	default:
	}
}

func removed(t *testing.T, s *Subject) {
	r, _ := s.Registrar(t)
	other, _ := s.Registrar(t)
	f := follow(t, s.Source, cart)
	lease := register(t, r, cart, Endpoint(cart, "a", 5))
	elsewhere := Endpoint(cart, "a", 5)
	elsewhere.MeshAddress = "127.0.0.1:9"
	for what, e := range map[string]*resourcev1.Endpoint{
		"an older incarnation": Endpoint(cart, "a", 4), "another address": elsewhere, "another instance": Endpoint(cart, "b", 5),
	} {
		if err := other.Remove(t.Context(), cart, e); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	b := Endpoint(cart, "b", 1)
	s.Put(t, cart, b)
	f.wants(Endpoint(cart, "a", 5), b)
	if err := other.Remove(t.Context(), cart, Endpoint(cart, "a", 5)); err != nil {
		t.Fatal(err)
	}
	f.wants(b)
	f.see(func(v *view) {
		if why := v.removed["a"]; why != s.Deregistered {
			t.Errorf("it went for %v, want %v", why, s.Deregistered)
		}
	})
	if err := lease.Update(t.Context(), Endpoint(cart, "a", 6)); source.KindOf(err) != source.Lost {
		t.Errorf("what was removed is updated: %v", err)
	}
}

func manyRegistrations(t *testing.T, s *Subject) {
	const n, atOnce = 60, 8
	r, _ := s.Registrar(t)
	other, _ := s.Registrar(t)
	f := follow(t, s.Source, cart)
	leases, want := make([]held, n), make([]*resourcev1.Endpoint, n)
	var wg sync.WaitGroup
	turns := make(chan struct{}, atOnce)
	for i := range n {
		turns <- struct{}{}
		want[i] = Endpoint(cart, fmt.Sprintf("i%d", i), 1)
		wg.Go(func() {
			defer func() { <-turns }()
			lost := make(chan struct{})
			reg, err := r.Register(t.Context(), cart, want[i], leaseTime, func() { close(lost) })
			if err != nil {
				t.Error(err)
			}
			leases[i] = held{reg, lost}
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	f.wants(want...)
	for i := range n / 2 { // of those that share anything some are taken, and only those learn of it
		register(t, other, cart, want[i])
	}
	for i := range n / 2 {
		leases[i].awaitLoss(t)
	}
	for i := n / 2; i < n; i++ {
		want[i] = Endpoint(cart, fmt.Sprintf("i%d", i), 2)
		if err := leases[i].Update(t.Context(), want[i]); err != nil {
			t.Fatal(err)
		}
		select {
		case <-leases[i].lost:
			t.Fatalf("i%d was lost, which nobody took", i)
		default:
		}
	}
	f.wants(want...)
}
