package pilot_test

import (
	"context"
	"log/slog"
	"net"
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
	"github.com/octomesh/octomesh/core/pilot"
	"github.com/octomesh/octomesh/core/pilot/push"
	"github.com/octomesh/octomesh/core/pilot/snapshot"
	"github.com/octomesh/octomesh/core/proxy/control"
	"github.com/octomesh/octomesh/core/proxy/store"
	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// long is for what must come.
const long = 20 * time.Second

var quiet = slog.New(slog.DiscardHandler)

// serve runs a gRPC server in memory until the test ends.
func serve(t *testing.T, g *grpc.Server) *grpc.ClientConn {
	t.Helper()
	l := bufconn.Listen(1 << 20)
	conn, err := grpc.NewClient("passthrough:memory", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = g.Serve(l) })
	t.Cleanup(func() { _ = conn.Close(); g.Stop(); wg.Wait() })
	return conn
}

// applied notes the kinds of what proxies go by.
type applied chan resource.Kind

func (a applied) Applied(_ push.Node, u snapshot.Update) {
	for _, r := range u.Told {
		a <- r.Topic.Kind
	}
}

func (a applied) Refused(push.Node, snapshot.Update, string) {}

// part is one that says when it runs, and when it has ended.
type part struct {
	registered   int
	begun, ended chan struct{}
}

func (p *part) Register(grpc.ServiceRegistrar) { p.registered++ }

func (p *part) Run(ctx context.Context) {
	close(p.begun)
	<-ctx.Done()
	close(p.ended)
}

func TestAProxyIsToldWhatTheRegistryHasAndThatNothingIsConfigured(t *testing.T) {
	registry := sourcetest.NewMemory()
	key := source.Key{Environment: "prod", Target: "cart"}
	registry.Put(key, &resourcev1.Endpoint{Target: "cart", Instance: "cart-1", MeshAddress: "10.0.0.1:7000"})
	h, err := hub.New(hub.Config{Registries: []hub.Registry{{Source: registry}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	d := grpc.NewServer()
	dispatching := dispatcher.New(dispatcher.Config{Hub: h, Log: quiet})
	t.Cleanup(dispatching.Close)
	dispatching.Register(d)

	first, second := make(applied, 100), make(applied, 100)
	p, err := pilot.New(pilot.Config{
		Dispatchers: []grpc.ClientConnInterface{serve(t, d)}, Linger: time.Millisecond, Observers: []push.Observer{first, second},
	})
	if err != nil {
		t.Fatal(err)
	}
	beside := &part{begun: make(chan struct{}), ended: make(chan struct{})}
	p.Add(beside)
	g := grpc.NewServer(pilot.ServerOptions()...)
	p.Register(g)
	conn := serve(t, g)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { p.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })

	c := control.New(control.Config{Environment: "prod", Instance: "web-1", Pilots: []grpc.ClientConnInterface{conn}, Log: quiet})
	has := make(chan *resourcev1.Snapshot, 100)
	proxy, leave := context.WithCancel(ctx)
	wg.Go(func() { _ = c.Run(proxy, store.Snapshots(func(s *resourcev1.Snapshot) error { has <- s; return nil })) })
	waiting, done := context.WithTimeout(ctx, long)
	defer done()
	if err := c.Await(waiting, "cart"); err != nil { // policies, too: there are none
		t.Fatal(err)
	}
	var last *resourcev1.Snapshot
	for len(last.GetEndpoints()) == 0 {
		last = <-has
	}
	if e := last.Endpoints[0]; e.Instance != "cart-1" || e.Target != "cart" {
		t.Fatal(last)
	}
	for _, o := range []applied{first, second} {
		select {
		case k := <-o:
			if k != resource.KindEndpoint {
				t.Fatal(k)
			}
		case <-time.After(long):
			t.Fatal("an observer was not told")
		}
	}
	if s := p.Stats(); s.Push.Streams != 1 || s.Targets != 1 || s.Topics == 0 || s.Followings != s.Topics {
		t.Fatalf("%+v", s)
	}
	<-beside.begun
	leave()
	for s := p.Stats(); s.Topics > 0 && waiting.Err() == nil; s = p.Stats() { // it forgets what nobody follows any more
		<-time.After(time.Millisecond)
	}
	if s := p.Stats(); s.Topics != 0 || s.Targets != 0 {
		t.Fatalf("%+v", s)
	}
	cancel()
	<-beside.ended
	if beside.registered != 1 {
		t.Fatal(beside.registered)
	}
}

func TestAPilotNeedsADispatcher(t *testing.T) {
	if _, err := pilot.New(pilot.Config{}); err == nil {
		t.Fatal("it was made without any")
	}
}
