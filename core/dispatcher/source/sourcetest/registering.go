package sourcetest

import (
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

const leaseTime = 2 * time.Second

func register(t *testing.T, r source.Registrar, key source.Key, e *resourcev1.Endpoint) source.Registration {
	t.Helper()
	lease, err := r.Register(t.Context(), key, e, leaseTime)
	if err != nil {
		t.Fatalf("register %s: %v", e.GetInstance(), err)
	}
	return lease
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
	case <-lease.Lost():
		t.Error("what deregistered is told that it lost its registration")
	case <-other.Lost():
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
	select {
	case <-old.Lost():
	case <-time.After(patience):
		t.Fatal("who was replaced is not told")
	}
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
	case <-stays.Lost():
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
		if _, err := r.Register(t.Context(), cart, e, leaseTime); source.KindOf(err) != source.Invalid {
			t.Errorf("%s: register returned %v", what, err)
		}
	}
	if _, err := r.Register(t.Context(), source.Key{Environment: "test"}, Endpoint(source.Key{}, "a", 1), leaseTime); source.KindOf(err) != source.Invalid {
		t.Errorf("without a target: register returned %v", err)
	}
	follow(t, s.Source, cart).wants()
}
