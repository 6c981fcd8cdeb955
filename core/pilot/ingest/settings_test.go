package ingest_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/configserver"
	"github.com/octomesh/octomesh/core/configserver/store"
	"github.com/octomesh/octomesh/core/pilot/ingest"
	"github.com/octomesh/octomesh/core/pilot/snapshot"
	"github.com/octomesh/octomesh/core/resource"
	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"
	dispatchv1 "github.com/octomesh/octomesh/gen/control/octo/dispatch/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// configServer is a real one that can be away.
type configServer struct {
	t       *testing.T
	service *configserver.Service
	conn    *grpc.ClientConn

	mu       sync.Mutex
	server   *grpc.Server
	listener *bufconn.Listener
	served   sync.WaitGroup
}

func serveConfig(t *testing.T, kept store.Store) *configServer {
	t.Helper()
	c := &configServer{t: t, service: configserver.New(configserver.Config{Store: kept, Log: slog.New(slog.DiscardHandler)})}
	var err error
	c.conn, err = grpc.NewClient("passthrough:config", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: time.Millisecond, Multiplier: 1, MaxDelay: time.Millisecond}}),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			c.mu.Lock()
			l := c.listener
			c.mu.Unlock()
			if l == nil {
				return nil, io.ErrClosedPipe
			}
			return l.DialContext(ctx)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.conn.Close(); c.stop() })
	return c
}

func (c *configServer) start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	l, g := bufconn.Listen(1<<20), grpc.NewServer()
	c.service.Register(g)
	c.listener, c.server = l, g
	c.served.Go(func() { _ = g.Serve(l) })
}

func (c *configServer) stop() {
	c.mu.Lock()
	g := c.server
	c.server, c.listener = nil, nil
	c.mu.Unlock()
	if g != nil {
		g.Stop()
		c.served.Wait()
	}
}

// configured is a world with Config Servers on one store.
type configured struct {
	*world
	servers []*configServer
	service *configserver.Service // to write by, whichever server is away
}

func startConfigured(t *testing.T, servers int, linger time.Duration) *configured {
	t.Helper()
	kept := store.NewMemory(50) // few: a slow watch begins anew
	c := &configured{service: configserver.New(configserver.Config{Store: kept, Log: slog.New(slog.DiscardHandler)})}
	cfg := ingest.Config{Linger: linger, Patience: time.Hour}
	for range servers {
		s := serveConfig(t, kept)
		c.servers = append(c.servers, s)
		cfg.ConfigServers = append(cfg.ConfigServers, s.conn)
	}
	c.world = startWith(t, cfg)
	return c
}

func (c *configured) apply(text string) {
	c.t.Helper()
	_, err := c.service.Apply(c.t.Context(), &configv1.ApplyRequest{
		Environment: "prod", Files: []*configv1.File{{Name: "f.yaml", Content: []byte(text)}}, Why: &configv1.Why{Author: "a", Reason: "r"},
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// remove deletes a resource, if it is there.
func (c *configured) remove(name string) {
	_, _ = c.service.Delete(c.t.Context(), &configv1.DeleteRequest{
		Environment: "prod", Names: []string{name}, Why: &configv1.Why{Author: "a", Reason: "r"},
	})
}

// seen is what a proxy has by what it was told.
type seen struct {
	*snapshot.Follower
	t    *testing.T
	wake chan struct{}
	has  map[string]string // messages as text, by kind and full name
}

func (w *world) watch(node string) *seen {
	f := &seen{t: w.t, wake: make(chan struct{}, 1), has: make(map[string]string)}
	f.Follower = w.cache.Follow(node, func() {
		select {
		case f.wake <- struct{}{}:
		default:
		}
	})
	w.t.Cleanup(f.Close)
	return f
}

var messages = map[resource.Kind]func() proto.Message{
	resource.KindEndpoint:      func() proto.Message { return &resourcev1.Endpoint{} },
	resource.KindServicePolicy: func() proto.Message { return &resourcev1.ServicePolicy{} },
	resource.KindAuthPolicy:    func() proto.Message { return &resourcev1.AuthPolicy{} },

	resource.KindMeshSwitch: func() proto.Message { return &resourcev1.MeshSwitch{} },
	resource.KindSchema:     func() proto.Message { return &resourcev1.Schema{} },
}

// text is a resource's message, without what only the store knows.
func text(t *testing.T, k resource.Kind, raw []byte) string {
	t.Helper()
	m := messages[k]()
	if err := proto.Unmarshal(raw, m); err != nil {
		t.Fatal(err)
	}
	if s, ok := m.(*resourcev1.MeshSwitch); ok {
		s.Revision = 0
	}
	return string(resource.Format(m))
}

func (f *seen) await(want map[string]string) {
	f.t.Helper()
	late := time.After(long)
	for {
		for u, ok := f.Take(1 << 20); ok; u, ok = f.Take(1 << 20) {
			for _, told := range u.Told {
				f.has[u.Kind.String()+" "+told.Topic.FullName(told.Resource.Name)] = text(f.t, u.Kind, told.Resource.Value())
			}
			for _, name := range u.Removed {
				delete(f.has, u.Kind.String()+" "+name)
			}
		}
		if maps.Equal(f.has, want) {
			return
		}
		select {
		case <-f.wake:
		case <-late:
			f.t.Fatalf("it has\n%s\nwant\n%s", show(f.has), show(want))
		}
	}
}

func show(m map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+": "+strings.ReplaceAll(m[k], "\n", "; "))
	}
	return strings.Join(out, "\n")
}

func topic(k resource.Kind, target string) resource.Topic {
	return resource.Topic{Kind: k, Environment: "prod", Target: target}
}

func TestWithoutAConfigServerProxiesKeepWhatTheyHave(t *testing.T) {
	c := startConfigured(t, 1, time.Hour)
	f := c.watch("p1")
	f.Subscribe(topic(resource.KindServicePolicy, "stock"), map[string]string{"": "old"})
	f.Subscribe(stock, map[string]string{"s9": "old"})
	c.wantsAsked("stock", "")
	c.say <- &dispatchv1.WatchResponse{Key: key("stock"), Full: true, Endpoints: endpoints("s1")}
	c.say <- &dispatchv1.WatchResponse{Key: key("other"), Full: true} // by now the one before was taken
	if f.Waiting() {
		t.Fatal("a proxy is told something although nobody knows what operators say")
	}
	c.apply("policies: [{target: stock, max_timeout: 2s}]\ninstances: [{target: stock, instance: s1, disabled: true}]\n")
	c.servers[0].start()
	f.await(map[string]string{
		"ServicePolicy prod/stock": "max_timeout: 2s\n", "Endpoint prod/stock/s1": "mesh_address: h:1\ndisabled: true\n",
	})
	c.servers[0].stop()
	c.remove("policy/stock")
	c.servers[0].start()
	f.await(map[string]string{"Endpoint prod/stock/s1": "mesh_address: h:1\ndisabled: true\n"})
}

func TestWhatAnOperatorSaysOfAnInstanceHoldsOverWhatItRegisters(t *testing.T) {
	c := startConfigured(t, 1, time.Hour)
	c.servers[0].start()
	f := c.watch("p1")
	f.Subscribe(stock, nil)
	c.wantsAsked("stock", "")
	is := func(fields string) {
		f.await(map[string]string{"Endpoint prod/stock/s1": "mesh_address: h:1\n" + fields})
	}
	c.say <- &dispatchv1.WatchResponse{Key: key("stock"), Full: true, Endpoints: endpoints("s1")}
	is("")
	c.apply("instances: [{target: stock, instance: s1, disabled: true}]\n")
	is("disabled: true\n")
	heavy := endpoints("s1")
	heavy[0].Weight = proto.Uint32(7)
	c.say <- &dispatchv1.WatchResponse{Key: key("stock"), Endpoints: heavy} // registered anew
	is("weight: 7\ndisabled: true\n")
	c.apply("instances: [{target: stock, instance: s1, weight: 0}]\n")
	is("weight: 0\n")
	c.say <- &dispatchv1.WatchResponse{Key: key("stock"), Removed: []string{"s1"}}
	f.await(map[string]string{})
	c.say <- &dispatchv1.WatchResponse{Key: key("stock"), Full: true, Endpoints: heavy}
	is("weight: 0\n")
	c.remove("instance/stock,s1")
	is("weight: 7\n")
}

func TestCandidatesReachTheirNodesOnly(t *testing.T) {
	s := &saying{say: make(chan *configv1.WatchResponse)}
	w := startWith(t, ingest.Config{Linger: time.Hour, Patience: time.Hour, ConfigServers: []grpc.ClientConnInterface{s.serve(t)}})
	first, other := w.watch("p1"), w.watch("p2")
	policies := topic(resource.KindServicePolicy, "stock")
	first.Subscribe(policies, nil)
	other.Subscribe(policies, nil)
	version := func(c *configv1.Candidate) *configv1.Version {
		return &configv1.Version{Name: "policy/stock", Resource: policy("stock", 1), Candidate: c}
	}
	s.say <- &configv1.WatchResponse{Begin: true, Complete: true, Versions: []*configv1.Version{version(&configv1.Candidate{Nodes: []string{"p1"}, Resource: policy("stock", 2)})}}
	stable, candidate := map[string]string{"ServicePolicy prod/stock": "limits:\n  max_open_calls: 1\n"}, map[string]string{"ServicePolicy prod/stock": "limits:\n  max_open_calls: 2\n"}
	first.await(candidate)
	other.await(stable)
	s.say <- &configv1.WatchResponse{Complete: true, Versions: []*configv1.Version{version(&configv1.Candidate{Nodes: []string{"p1"}, Permille: 1000, Deleted: true})}}
	first.await(map[string]string{})
	other.await(map[string]string{})
	s.say <- &configv1.WatchResponse{Complete: true, Versions: []*configv1.Version{version(nil)}}
	first.await(stable)
	other.await(stable)
}

func policy(target string, calls uint32) *resourcev1.Configuration {
	return &resourcev1.Configuration{Policies: []*resourcev1.ServicePolicy{{Target: target, Limits: &resourcev1.Limits{MaxOpenCalls: calls}}}}
}

// saying is a Config Server that the test speaks for.
type saying struct {
	configv1.UnimplementedConfigServer
	say chan *configv1.WatchResponse
}

// Watch implements the service.
func (s *saying) Watch(_ *configv1.WatchRequest, out grpc.ServerStreamingServer[configv1.WatchResponse]) error {
	for {
		select {
		case <-out.Context().Done():
			return nil
		case r := <-s.say:
			if err := out.Send(r); err != nil {
				return err
			}
		}
	}
}

func (s *saying) serve(t *testing.T) *grpc.ClientConn {
	t.Helper()
	l, g := bufconn.Listen(1<<20), grpc.NewServer()
	configv1.RegisterConfigServer(g, s)
	var served sync.WaitGroup
	served.Go(func() { _ = g.Serve(l) })
	conn, err := grpc.NewClient("passthrough:config", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(); g.Stop(); served.Wait() })
	return conn
}

// TestTheLastStateIsNeverLost changes anything at random, with Config Servers that go and come and proxies that come
// and go, and compares what a proxy was told with what there is.
func TestTheLastStateIsNeverLost(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			random(t, rand.New(rand.NewPCG(seed, 17)))
		})
	}
}

func random(t *testing.T, rnd *rand.Rand) {
	const targets, instances = 6, 4
	c := startConfigured(t, 2, 20*time.Millisecond)
	f := c.watch("p1")
	registered := make(map[string]map[string]*resourcev1.Endpoint)
	for i := range targets {
		target := fmt.Sprintf("t%d", i)
		for k := range messages {
			f.Subscribe(topic(k, target), nil)
		}
		registered[target] = make(map[string]*resourcev1.Endpoint)
	}
	for asked := 0; asked < targets; { // each begins empty
		r := <-c.asked
		for _, k := range r.Follow {
			c.say <- &dispatchv1.WatchResponse{Key: k, Full: true}
			asked++
		}
	}
	c.servers[0].start()
	for range 300 {
		target := fmt.Sprintf("t%d", rnd.IntN(targets))
		instance := fmt.Sprintf("%s-%d", target, rnd.IntN(instances))
		switch n := rnd.IntN(1000); rnd.IntN(12) {
		case 0:
			c.apply(fmt.Sprintf("policies: [{target: %s, limits: {max_open_calls: %d}}]\n", target, n))
		case 1:
			c.apply(fmt.Sprintf("auth_policies: [{target: %s, allow: [{name: a%d}]}]\n", target, n))
		case 2:
			c.apply(fmt.Sprintf("mesh_switches: [{target: %s, permille: %d}, {target: %s, application: a%d, permille: %d}]\n", target, n, target, n%3, n))
		case 3, 4:
			c.apply(fmt.Sprintf("instances: [{target: %s, instance: %s, weight: %d}]\n", target, instance, n))
		case 5:
			for _, name := range []string{"policy/" + target, "switch/," + target, "switch/a1," + target} {
				c.remove(name)
			}
		case 6:
			c.remove("instance/" + target + "," + instance)
		case 7, 8:
			e := &resourcev1.Endpoint{Instance: instance, MeshAddress: fmt.Sprintf("h:%d", n+1), Disabled: n%2 == 0}
			registered[target][instance] = e
			c.say <- &dispatchv1.WatchResponse{Key: key(target), Endpoints: []*resourcev1.Endpoint{e}}
		case 9:
			delete(registered[target], instance)
			c.say <- &dispatchv1.WatchResponse{Key: key(target), Removed: []string{instance}}
		case 10:
			s := c.servers[rnd.IntN(2)]
			s.stop()
			if rnd.IntN(2) == 0 {
				s.start()
			}
		case 11: // another proxy comes or goes
			other := c.cache.Follow("p2", func() {})
			other.Subscribe(topic(resource.KindMeshSwitch, target), nil)
			other.Close()
		}
	}
	c.servers[0].stop()
	c.servers[1].stop()
	c.servers[rnd.IntN(2)].start()
	f.await(c.expected(registered))
}

// expected is what there is, as proxies should be told it.
func (c *configured) expected(registered map[string]map[string]*resourcev1.Endpoint) map[string]string {
	c.t.Helper()
	list, err := c.service.List(c.t.Context(), &configv1.ListRequest{Environment: "prod"})
	if err != nil {
		c.t.Fatal(err)
	}
	out := make(map[string]string)
	put := func(k resource.Kind, target, name string, m proto.Message) {
		out[k.String()+" "+topic(k, target).FullName(name)] = string(resource.Format(m))
	}
	overrides := make(map[string]*resourcev1.InstanceOverride)
	for _, v := range list.GetVersions() {
		for _, p := range v.GetResource().GetPolicies() {
			target := p.Target
			p.Target = ""
			put(resource.KindServicePolicy, target, "", p)
		}
		for _, p := range v.GetResource().GetAuthPolicies() {
			target := p.Target
			p.Target = ""
			put(resource.KindAuthPolicy, target, "", p)
		}
		for _, s := range v.GetResource().GetMeshSwitches() {
			target, name := s.Target, s.Application
			if name == "" {
				name = resource.EveryApplication
			}
			s.Target, s.Application = "", ""
			put(resource.KindMeshSwitch, target, name, s)
		}
		for _, o := range v.GetResource().GetInstances() {
			overrides[o.Instance] = o
		}
	}
	for target, all := range registered {
		for instance, e := range all {
			told := &resourcev1.Endpoint{MeshAddress: e.MeshAddress, Disabled: e.Disabled, Weight: e.Weight}
			if o := overrides[instance]; o != nil {
				told.Weight = o.Weight
			}
			put(resource.KindEndpoint, target, instance, told)
		}
	}
	return out
}
