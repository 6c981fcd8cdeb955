package rendezvous_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/octomesh/octomesh/core/cmd/octo/plane/rendezvous"
	"github.com/octomesh/octomesh/core/configserver/store/embedded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// long is for what must come.
const long = 30 * time.Second

var quiet = slog.New(slog.DiscardHandler)

// etcd starts one, and returns a client of it.
func etcd(t *testing.T) *clientv3.Client {
	t.Helper()
	s, err := embedded.Start(t.Context(), embedded.Config{Dir: t.TempDir(), Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Client()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(); s.Close() })
	return c
}

// announce announces a member until stop, or the test's end.
func announce(t *testing.T, r *rendezvous.Rendezvous, role, id, address string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { r.Announce(ctx, role, rendezvous.Member{ID: id, Address: address}) })
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return stop
}

// follow returns who has a role, whenever that changes.
func follow(t *testing.T, r *rendezvous.Rendezvous, role string) (wants func(ids ...string)) {
	ctx, cancel := context.WithCancel(context.Background())
	told := make(chan []string, 100)
	var wg sync.WaitGroup
	wg.Go(func() {
		r.Follow(ctx, role, func(all []rendezvous.Member) {
			var ids []string
			for _, m := range all {
				ids = append(ids, m.ID)
			}
			slices.Sort(ids)
			told <- ids
		})
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return func(ids ...string) {
		t.Helper()
		late := time.After(long)
		for {
			select {
			case got := <-told:
				if slices.Equal(got, ids) {
					return
				}
			case <-late:
				t.Fatalf("never told: %v", ids)
			}
		}
	}
}

func TestMembersComeAndGo(t *testing.T) {
	client := etcd(t)
	r := rendezvous.New(client, "/octomesh/", quiet)
	wants := follow(t, r, "pilot")
	wants()
	stop := announce(t, r, "pilot", "a", "10.0.0.1:1")
	wants("a")
	announce(t, r, "dispatcher", "c", "10.0.0.3:1")
	announce(t, r, "pilot", "b", "10.0.0.2:1")
	wants("a", "b")
	if _, err := client.Put(t.Context(), "/octomesh/roles/pilot/x", "nonsense"); err != nil {
		t.Fatal(err)
	}
	stop()
	wants("b")
}

// TestAMemberWhoseLeaseIsLostComesBack: as after an outage of etcd that was longer than the lease.
func TestAMemberWhoseLeaseIsLostComesBack(t *testing.T) {
	client := etcd(t)
	r := rendezvous.New(client, "/octomesh/", quiet)
	wants := follow(t, r, "pilot")
	announce(t, r, "pilot", "a", "10.0.0.1:1")
	wants("a")
	leases, err := client.Leases(t.Context())
	if err != nil || len(leases.Leases) != 1 {
		t.Fatal(leases, err)
	}
	if _, err := client.Revoke(t.Context(), leases.Leases[0].ID); err != nil {
		t.Fatal(err)
	}
	wants()
	wants("a")
}

// server is one that has a role, and says who it is.
func server(t *testing.T, network, address string) (at string, stop func()) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	healthv1.RegisterHealthServer(g, health.NewServer())
	var wg sync.WaitGroup
	wg.Go(func() { _ = g.Serve(l) })
	stop = sync.OnceFunc(func() { g.Stop(); wg.Wait() })
	t.Cleanup(stop)
	if network == "unix" {
		return "unix:" + address, stop
	}
	return l.Addr().String(), stop
}

func TestCallsGoToWhoeverHasTheRole(t *testing.T) {
	r := rendezvous.New(etcd(t), "/octomesh/", quiet)
	conn, err := grpc.NewClient("octo:///pilot", grpc.WithResolvers(r.Resolver()), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	call := func(wait bool) error {
		ctx, cancel := context.WithTimeout(t.Context(), long)
		defer cancel()
		_, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{}, grpc.WaitForReady(wait))
		return err
	}
	if err := call(false); err == nil || !strings.Contains(err.Error(), `no process with the role "pilot"`) {
		t.Fatal(err)
	}
	first, stopFirst := server(t, "tcp", "127.0.0.1:0")
	leave := announce(t, r, "pilot", "a", first)
	if err := call(true); err != nil {
		t.Fatal(err)
	}
	second, _ := server(t, "unix", t.TempDir()+"/s")
	announce(t, r, "pilot", "b", second)
	stopFirst() // a process that dies still stands in etcd, and a call may have been on its way to it
	if err := call(true); err != nil && call(true) != nil {
		t.Fatal(err)
	}
	leave()
	if all, err := r.Members(t.Context(), "pilot"); err != nil || fmt.Sprint(all) != fmt.Sprint([]rendezvous.Member{{ID: "b", Address: second}}) {
		t.Fatal(all, err)
	}
	if err := call(true); err != nil {
		t.Fatal(err)
	}
}
