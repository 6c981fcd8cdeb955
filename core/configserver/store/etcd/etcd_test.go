package etcd_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/octomesh/octomesh/core/configserver/store"
	"github.com/octomesh/octomesh/core/configserver/store/embedded"
	"github.com/octomesh/octomesh/core/configserver/store/etcd"
	"github.com/octomesh/octomesh/core/configserver/store/storetest"
)

func start(t *testing.T, dir string) (*embedded.Server, *etcd.Store, func()) {
	t.Helper()
	server, err := embedded.Start(t.Context(), embedded.Config{Dir: dir, Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	client, err := server.Client()
	if err != nil {
		server.Close()
		t.Fatal(err)
	}
	return server, etcd.New(client, "/octo/"), func() {
		_ = client.Close()
		server.Close()
	}
}

// TestEtcdKeepsTheContract gives each test a server of its own: compaction is the whole server's, and so are revisions.
func TestEtcdKeepsTheContract(t *testing.T) {
	storetest.Contract(t, func(t *testing.T) storetest.Compacter {
		_, s, stop := start(t, t.TempDir())
		t.Cleanup(stop)
		return s
	})
}

func TestWhatWasCommittedIsThereAfterARestart(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := t.TempDir()
	_, s, stop := start(t, dir)
	before, err := s.Commit(t.Context(), store.Op{Key: "a", Value: []byte("1")})
	stop()
	if err != nil {
		t.Fatal(err)
	}
	_, s, stop = start(t, dir)
	defer stop()
	if e, err := s.Get(t.Context(), "a"); err != nil || string(e.Value) != "1" || e.Revision != before {
		t.Errorf("got %v, %v", e, err)
	}
}

func TestOtherKeysOfTheServerAreNotSeen(t *testing.T) {
	server, s, stop := start(t, t.TempDir())
	defer stop()
	client, err := server.Client()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	other := etcd.New(client, "/other/")
	for _, each := range []*etcd.Store{s, other} {
		if _, err := each.Commit(context.Background(), store.Op{Key: "a"}); err != nil {
			t.Fatal(err)
		}
	}
	if entries, _, err := s.List(t.Context(), ""); err != nil || len(entries) != 1 || entries[0].Key != "a" {
		t.Errorf("got %v, %v", entries, err)
	}
}

func TestAServerWithoutDirectoryDoesNotStart(t *testing.T) {
	if _, err := embedded.Start(t.Context(), embedded.Config{}); err == nil {
		t.Error("it runs")
	}
}

// TestOneLeadsAndAnotherOneAfterIt has two processes of which one leads at a time.
func TestOneLeadsAndAnotherOneAfterIt(t *testing.T) {
	server, _, stop := start(t, t.TempDir())
	defer stop()
	client, err := server.Client()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	led := make(chan string, 10)
	run := func(name string) (stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		e := &etcd.Election{Client: client, Prefix: "/election", Name: name, Log: slog.New(slog.DiscardHandler)}
		var wg sync.WaitGroup
		wg.Go(func() {
			e.Lead(ctx, func(ctx context.Context) { led <- name + " leads"; <-ctx.Done(); led <- name + " ends" })
		})
		return func() { cancel(); wg.Wait() }
	}
	stopA := run("a")
	if got := <-led; got != "a leads" {
		t.Fatal(got)
	}
	stopB := run("b")
	defer stopB()
	stopA()
	for _, want := range []string{"a ends", "b leads"} {
		if got := <-led; got != want {
			t.Fatalf("%q, want %q", got, want)
		}
	}
}
