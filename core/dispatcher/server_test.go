package dispatcher_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/octomesh/octomesh/core/dispatcher"
	"github.com/octomesh/octomesh/core/dispatcher/hub"
	"github.com/octomesh/octomesh/core/dispatcher/source"
	"github.com/octomesh/octomesh/core/dispatcher/source/sourcetest"
	"github.com/octomesh/octomesh/core/pilot/ingest"
	"github.com/octomesh/octomesh/core/pilot/snapshot"
	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// long is for what must come.
const long = 20 * time.Second

var quiet = slog.New(slog.DiscardHandler)

// world is a registry, its Dispatcher, and what a Pilot has of it.
type world struct {
	t        *testing.T
	registry *sourcetest.Memory
	conn     *grpc.ClientConn
	cache    *snapshot.Cache
	server   *grpc.Server
}

func start(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, registry: sourcetest.NewMemory(), cache: snapshot.NewCache(), server: grpc.NewServer()}
	h, err := hub.New(hub.Config{Registries: []hub.Registry{{Source: w.registry.Client()}}, GuardWindow: time.Millisecond, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	d := dispatcher.New(dispatcher.Config{Hub: h, Log: quiet})
	d.Register(w.server)
	l := bufconn.Listen(1 << 20)
	conn, err := grpc.NewClient("passthrough:dispatcher", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	w.conn = conn
	i := ingest.New(ingest.Config{Cache: w.cache, Dispatchers: []grpc.ClientConnInterface{conn}, Log: quiet})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = w.server.Serve(l) })
	wg.Go(func() { i.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		_ = conn.Close()
		w.server.Stop()
		wg.Wait()
		d.Close()
		h.Close()
	})
	return w
}

// proxy follows targets, and knows what it was told.
type proxy struct {
	*snapshot.Follower
	t    *testing.T
	wake chan struct{}
	has  map[string]string // versions by full name
}

func (w *world) proxy(id string, targets ...string) *proxy {
	p := &proxy{t: w.t, wake: make(chan struct{}, 1), has: make(map[string]string)}
	p.Follower = w.cache.Follow(id, func() {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	})
	for _, target := range targets {
		p.Subscribe(resource.Topic{Kind: resource.KindEndpoint, Environment: "prod", Target: target}, nil)
	}
	return p
}

// await waits until the proxy has so many resources, those of the names among them.
func (p *proxy) await(n int, names ...string) {
	p.t.Helper()
	late := time.After(long)
	for {
		for u, ok := p.Take(1 << 20); ok; u, ok = p.Take(1 << 20) {
			for _, told := range u.Told {
				name := told.Topic.FullName(told.Resource.Name)
				if p.has[name] = told.Resource.Version; told.Resource.Version == versionOfLeft {
					delete(p.has, name)
				}
			}
			for _, name := range u.Removed {
				delete(p.has, name)
			}
		}
		if len(p.has) == n && !slices.ContainsFunc(names, func(name string) bool { return p.has[name] == "" }) {
			return
		}
		select {
		case <-p.wake:
		case <-late:
			p.t.Fatalf("it has %d resources, want %d, %v among them", len(p.has), n, names)
		}
	}
}

// versionOfLeft is the version of each instance that has left.
var versionOfLeft = func() string {
	r, err := snapshot.New(resource.Topic{}, "", &resourcev1.Endpoint{Standing: resourcev1.Standing_STANDING_LEFT})
	if err != nil {
		panic(err)
	}
	return r.Version
}()

var stock = source.Key{Environment: "prod", Target: "stock"}

func endpoints(n int) []*resourcev1.Endpoint {
	var all []*resourcev1.Endpoint
	for i := range n {
		all = append(all, &resourcev1.Endpoint{Target: "stock", Instance: fmt.Sprintf("s%05d", i), MeshAddress: "10.0.0.1:7000"})
	}
	return all
}

func TestARegistrysChangesComeToProxies(t *testing.T) {
	w := start(t)
	w.registry.Put(stock, endpoints(3)...)
	first, second := w.proxy("p1", "stock"), w.proxy("p2", "stock", "nothing")
	first.await(3, "prod/stock/s00000")
	second.await(3, "prod/stock/s00000")
	moved := &resourcev1.Endpoint{Target: "stock", Instance: "s00001", MeshAddress: "10.0.0.2:7000"}
	delete(first.has, "prod/stock/s00001") // it is to be told anew
	w.registry.Put(stock, moved, &resourcev1.Endpoint{Target: "stock", Instance: "new", MeshAddress: "10.0.0.3:7000"})
	first.await(4, "prod/stock/new", "prod/stock/s00001")
	w.registry.Remove(stock, source.Deregistered, "s00000")
	first.await(3, "prod/stock/new")
	second.await(3, "prod/stock/new")
	for late := time.Now().Add(long); ; time.Sleep(time.Millisecond) { // of "nothing" there are no news that one could wait for
		if _, now, most := w.registry.Watches(); now == 2 && most == 1 {
			return
		} else if time.Now().After(late) {
			t.Fatalf("%d watches, %d of one key", now, most)
		}
	}
}

func TestManyEndpointsComeInParts(t *testing.T) {
	w := start(t)
	w.registry.Put(stock, endpoints(12_000)...)
	p := w.proxy("p1", "stock")
	p.await(12_000, "prod/stock/s11999")
}

func TestNamesThatNoRegistryHasAreRefused(t *testing.T) {
	w := start(t)
	p := w.proxy("p1", "a b", "stock")
	w.registry.Put(stock, endpoints(1)...)
	p.await(1, "prod/stock/s00000")
	topic := resource.Topic{Kind: resource.KindEndpoint, Environment: "prod", Target: "a b"}
	for late := time.Now().Add(long); ; {
		if entries, loaded := w.cache.Get(topic); loaded && len(entries) == 0 {
			return
		} else if time.Now().After(late) {
			t.Fatal("nobody says that there is nothing")
		}
		time.Sleep(time.Millisecond)
	}
}
