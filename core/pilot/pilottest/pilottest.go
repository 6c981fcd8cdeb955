// Package pilottest runs a Pilot's push in the test's process, over connections in memory. What its registry would
// have loaded, the test puts into the cache.
package pilottest

import (
	"context"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/pilot/derive"
	"github.com/octomesh/octomesh/core/pilot/push"
	"github.com/octomesh/octomesh/core/pilot/snapshot"
	"github.com/octomesh/octomesh/core/resource"
)

// kinds are what proxies ask for of each target.
var kinds = []resource.Kind{resource.KindEndpoint, resource.KindServicePolicy, resource.KindAuthPolicy, resource.KindMeshSwitch}

// Pilot is one that runs until the test's end, or until Stop.
type Pilot struct {
	Cache *snapshot.Cache
	// Server pushes what is in the cache.
	Server *push.Server
	// Conn is how proxies reach it.
	Conn *grpc.ClientConn
	// Stop ends it, and all its streams; further calls do nothing.
	Stop func()

	server      *grpc.Server
	t           testing.TB
	environment string
}

// Start runs a Pilot for one environment. Of cfg, the cache is made if there is none, and nothing is logged. Options are
// its gRPC server's; none: those that it needs.
func Start(t testing.TB, environment string, cfg push.Config, options ...grpc.ServerOption) *Pilot {
	t.Helper()
	if cfg.Cache == nil {
		cfg.Cache = snapshot.NewCache()
	}
	cfg.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	derived := derive.New(cfg.Cache, cfg.Log)
	p := &Pilot{Cache: cfg.Cache, Server: push.New(cfg), t: t, environment: environment}
	if len(options) == 0 {
		options = push.ServerOptions()
	}
	g := grpc.NewServer(options...)
	p.Server.Register(g)
	l := bufconn.Listen(1 << 20)
	p.server = g
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = g.Serve(l) })
	wg.Go(func() { p.Server.Run(ctx) })
	wg.Go(func() { derived.Run(ctx) })
	var err error
	p.Conn, err = grpc.NewClient("passthrough:pilot", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	p.Stop = sync.OnceFunc(func() { cancel(); g.Stop(); wg.Wait() })
	t.Cleanup(func() { _ = p.Conn.Close(); p.Stop() })
	return p
}

// Listen has the Pilot serve over TCP too, and returns a connection to there.
func (p *Pilot) Listen(t testing.TB) *grpc.ClientConn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("passthrough:"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = p.server.Serve(l) })
	t.Cleanup(func() { _ = conn.Close(); p.Stop(); wg.Wait() })
	return conn
}

// Entry is a resource with a stable version only.
func Entry(t testing.TB, topic resource.Topic, name string, m proto.Message) snapshot.Entry {
	t.Helper()
	r, err := snapshot.New(topic, name, m)
	if err != nil {
		t.Fatal(err)
	}
	return snapshot.Entry{Stable: r}
}

// Load makes a target known, with these endpoints and nothing else.
func (p *Pilot) Load(target string, endpoints map[string]snapshot.Entry) {
	for _, k := range kinds {
		topic := p.Topic(k, target)
		if k == resource.KindEndpoint {
			p.Cache.Load(topic, endpoints)
		} else {
			p.Cache.Load(topic, nil)
		}
	}
}

// Set changes one resource, and returns its version.
func (p *Pilot) Set(k resource.Kind, target, name string, m proto.Message) (version string) {
	p.t.Helper()
	e := Entry(p.t, p.Topic(k, target), name, m)
	p.Cache.Set(p.Topic(k, target), name, e)
	return e.Stable.Version
}

// Topic is one of the Pilot's environment.
func (p *Pilot) Topic(k resource.Kind, target string) resource.Topic {
	return resource.Topic{Kind: k, Environment: p.environment, Target: target}
}
