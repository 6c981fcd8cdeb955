package etcd_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	"github.com/octomesh/octomesh/core/dispatcher/source/etcd"
	"github.com/octomesh/octomesh/core/dispatcher/source/sourcetest"
)

var cart = source.Key{Environment: "test", Target: "cart"}

// long is for what must come.
const long = 20 * time.Second

// register registers version 1 of an instance.
func register(t *testing.T, s *etcd.Source, instance string, ttl time.Duration) (lost chan struct{}, r source.Registration) {
	t.Helper()
	lost = make(chan struct{})
	r, err := s.Register(t.Context(), cart, sourcetest.Endpoint(cart, instance, 1), ttl, func() { close(lost) })
	if err != nil {
		t.Fatal(err)
	}
	return lost, r
}

// leases counts those that etcd has.
func leases(t *testing.T, c *clientv3.Client) int {
	t.Helper()
	r, err := c.Leases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return len(r.Leases)
}

// awaitKeys waits until the registry has so many instances, and returns the time at which it had.
func awaitKeys(t *testing.T, c *clientv3.Client, prefix string, want int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	for {
		r, err := c.Get(ctx, prefix+"/", clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			t.Fatalf("the registry never had %d instances: %v", want, err)
		}
		if r.Count == want {
			return
		}
	}
}

func TestRegistrationsShareLeases(t *testing.T) {
	t.Parallel()
	address := embedded(t)
	direct := connect(t, address)
	s := newSource(t, etcd.Config{Endpoints: []string{address}, Prefix: "/r"})
	const n = 1500
	all := make([]source.Registration, n)
	for i := range n {
		_, all[i] = register(t, s, fmt.Sprintf("i%d", i), time.Hour)
	}
	awaitKeys(t, direct, "/r", n)
	if got := leases(t, direct); got != 2 {
		t.Errorf("%d registrations have %d leases, want 2", n, got)
	}
	for _, r := range all[:1200] {
		if err := r.Deregister(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 600 { // there is room in those that are there
		register(t, s, fmt.Sprintf("again%d", i), time.Hour)
	}
	awaitKeys(t, direct, "/r", 900)
	if got := leases(t, direct); got != 2 {
		t.Errorf("there are %d leases, want 2", got)
	}
}

func TestWhatIsTakenByHandIsLost(t *testing.T) {
	t.Parallel()
	address := embedded(t)
	direct := connect(t, address)
	s := newSource(t, etcd.Config{Endpoints: []string{address}, Prefix: "/r"})
	gone, _ := register(t, s, "gone", 2*time.Second) // leases are looked at as often as they are kept alive
	taken, _ := register(t, s, "taken", 2*time.Second)
	stays, _ := register(t, s, "stays", 2*time.Second)
	layout := source.Layout{Prefix: "/r"}
	if _, err := direct.Delete(t.Context(), layout.Instance(cart, "gone")); err != nil {
		t.Fatal(err)
	}
	if _, err := direct.Put(t.Context(), layout.Instance(cart, "taken"), `{"meshAddress":"h:1"}`); err != nil {
		t.Fatal(err)
	}
	for what, lost := range map[string]chan struct{}{"who was deleted": gone, "who was replaced": taken} {
		select {
		case <-lost:
		case <-time.After(long):
			t.Errorf("%s is not told", what)
		}
	}
	select {
	case <-stays:
		t.Error("whom nobody touched is lost")
	default:
	}
	if _, err := s.Reclaim(t.Context(), cart, sourcetest.Endpoint(cart, "gone", 1), time.Hour, func() {}); err != nil {
		t.Errorf("who was deleted does not come back: %v", err)
	}
}

func TestWhatADeadProcessRegisteredEndsWhenSomebodyIsHeardAgain(t *testing.T) {
	t.Parallel()
	address := embedded(t)
	direct := connect(t, address)
	dead, err := etcd.New(etcd.Config{Endpoints: []string{address}, Prefix: "/r"})
	if err != nil {
		t.Fatal(err)
	}
	dead.Attend(true)
	for _, name := range []string{"a", "b", "c"} {
		register(t, dead, name, time.Hour)
	}
	awaitKeys(t, direct, "/r~attending", 1)
	_ = dead.Close()
	awaitKeys(t, direct, "/r~attending", 0) // its sign has ended by itself
	deaf := newSource(t, etcd.Config{Endpoints: []string{address}, Prefix: "/r", Abandoned: time.Second})
	register(t, deaf, "d", time.Hour) // by one that hears nobody, and therefore removes nothing
	time.Sleep(2 * time.Second)
	awaitKeys(t, direct, "/r", 4)

	hears := newSource(t, etcd.Config{Endpoints: []string{address}, Prefix: "/r", Abandoned: 2 * time.Second})
	hears.Attend(true)
	taken, _ := register(t, hears, "a", time.Hour)
	lost, _ := register(t, deaf, "e", time.Hour)
	awaitKeys(t, direct, "/r", 1)
	select {
	case <-taken:
		t.Error("who was taken over is lost")
	default:
	}
	select { // whoever comes back to it registers again
	case <-lost:
	case <-time.After(long):
		t.Error("a living one that nobody speaks through is not told that it lost what it had")
	}
}
