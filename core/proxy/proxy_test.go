package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
	"go.uber.org/goleak"

	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/proxy/store"
	"github.com/octomesh/octomesh/core/transport"
	"github.com/octomesh/octomesh/core/transport/identity"
	"github.com/octomesh/octomesh/core/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source is a configuration that the test sets.
type source struct{ snapshots chan *resourcev1.Snapshot }

func (s *source) Name() string { return "test" }

func (s *source) Run(ctx context.Context, apply func(store.Update) error) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case snap := <-s.snapshots:
			if err := apply(store.Whole(snap)); err != nil {
				return err
			}
		}
	}
}

// node is a proxy of the test's with its addresses.
type node struct {
	*proxy.Proxy
	socket, address string
	source          *source
}

func startNode(t *testing.T, limits wire.Limits) *node {
	t.Helper()
	return startSecureNode(t, limits, nil)
}

func startSecureNode(t *testing.T, limits wire.Limits, tls *identity.Source) *node {
	t.Helper()
	return startNodeWith(t, proxy.Config{Limits: limits, TLS: tls})
}

func startNodeWith(t *testing.T, cfg proxy.Config) *node {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "o.sock")
	out, err := transport.ListenUnix(socket, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	in, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &node{socket: socket, address: in.Addr().String(), source: &source{make(chan *resourcev1.Snapshot)}}
	cfg.Environment, cfg.Instance, cfg.Outbound, cfg.Inbound, cfg.Source, cfg.DrainDeadline = "test", t.Name(), out, in, n.source, 5*time.Second
	cfg.Log = slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
	n.Proxy, err = proxy.Start(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// configure publishes endpoints of targets at mesh addresses.
func (n *node) configure(t *testing.T, endpoints map[string][]string) {
	t.Helper()
	snap := &resourcev1.Snapshot{}
	for target, addresses := range endpoints {
		snap.Policies = append(snap.Policies, &resourcev1.ServicePolicy{Target: target})
		for i, a := range addresses {
			snap.Endpoints = append(snap.Endpoints, &resourcev1.Endpoint{
				Target: target, Instance: fmt.Sprintf("%s-%d", target, i), MeshAddress: a,
			})
		}
	}
	before := n.Store().Current().Number
	n.source.snapshots <- snap
	waitFor(t, "the configuration", func() bool { return n.Store().Current().Number > before })
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s did not come", what)
		}
	}
}

func (n *node) serve(t *testing.T, target string, on func(*meshtest.Raw, *wire.Event)) *meshtest.Raw {
	t.Helper()
	r, err := meshtest.Dial("unix", n.socket, wire.Hello{
		Role: wire.RoleServe, Kind: wire.PeerSDK, Environment: "test", Application: target, Targets: []string{target},
	}, wire.Limits{}, on)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); <-r.Done() })
	return r
}

func (n *node) caller(t *testing.T) *meshtest.Caller {
	t.Helper()
	c, err := meshtest.DialCaller("unix", n.socket, wire.Hello{Kind: wire.PeerSDK, Environment: "test", Application: "caller"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); <-c.Done() })
	return c
}

func get(t *testing.T, ch <-chan meshtest.Answer, err error) meshtest.Answer {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	select {
	case a := <-ch:
		return a
	case <-time.After(20 * time.Second):
		t.Fatal("no answer")
		return meshtest.Answer{}
	}
}

func head(target string) *wire.RequestHead {
	return &wire.RequestHead{Target: []byte(target), Service: []byte("s.S"), Method: []byte("Do"), Kind: wire.KindUnary}
}

// mesh is a caller's proxy and a server's, with an echo server behind the second.
func mesh(t *testing.T) (client, server *node) {
	server = startNode(t, wire.Limits{})
	client = startNode(t, wire.Limits{})
	client.configure(t, map[string][]string{"echo": {server.address}})
	return client, server
}

func TestCallGoesThroughTwoProxies(t *testing.T) {
	client, server := mesh(t)
	server.serve(t, "echo", meshtest.Echo)
	c := client.caller(t)
	for i := range 100 {
		body := bytes.Repeat([]byte{byte(i)}, i*100)
		got, err := c.Call(head("echo"), body)
		if a := get(t, got, err); a.Status.Code != wire.OK || !bytes.Equal(a.Body, body) {
			t.Fatalf("call %d: %+v", i, a)
		}
	}
}

func TestRefusalsSayWhoAndWhy(t *testing.T) {
	client, server := mesh(t)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close()
	client.configure(t, map[string][]string{"echo": {server.address}, "dead": {dead.Addr().String()}, "empty": nil})
	c := client.caller(t)
	for target, want := range map[string]wire.Status{
		"nobody": wire.Refuse(wire.ReasonUnknownTarget, wire.OriginClientProxy, ""),
		"dead":   wire.Refuse(wire.ReasonProxyUnreachable, wire.OriginClientProxy, ""),
		"empty":  wire.Refuse(wire.ReasonNoEndpoint, wire.OriginClientProxy, ""),
		"echo":   wire.Refuse(wire.ReasonProxyUnready, wire.OriginServerProxy, ""),
	} {
		got, err := c.Call(head(target), nil)
		a := get(t, got, err)
		if !a.Reset || a.Status.Code != want.Code || a.Status.Reason != want.Reason || a.Status.Origin != want.Origin ||
			a.Status.Disposition != want.Disposition {
			t.Errorf("%s: got %+v, want %+v", target, a.Status, want)
		}
	}
	server.serve(t, "echo", meshtest.Echo)
	got, err := c.Call(head("echo"), []byte("x"))
	if a := get(t, got, err); string(a.Body) != "x" {
		t.Fatalf("after all that: %+v", a)
	}
}

func TestHopFieldsFromAnSDKAreRefused(t *testing.T) {
	client, server := mesh(t)
	server.serve(t, "echo", meshtest.Echo)
	c := client.caller(t)
	forged := head("echo")
	forged.VerifiedCaller, forged.HasVerifiedCaller = []byte("root"), true
	got, err := c.Call(forged, nil)
	if a := get(t, got, err); a.Status.Code != wire.InvalidArgument || a.Status.Reason != wire.ReasonBadHead {
		t.Fatalf("got %+v", a.Status)
	}
	got, err = c.Call(head("echo"), []byte("x"))
	if a := get(t, got, err); string(a.Body) != "x" {
		t.Fatalf("its neighbour: %+v", a)
	}
}

func TestDeadlineEndsTheCallEverywhere(t *testing.T) {
	client, server := mesh(t)
	cancelled := make(chan wire.Code, 1)
	var seen wire.RequestHead
	server.serve(t, "echo", func(r *meshtest.Raw, ev *wire.Event) {
		switch ev.Kind {
		case wire.EventRequest:
			_ = seen.Parse(bytes.Clone(ev.Frame.Head))
		case wire.EventReset:
			r.Wire.Release()
			cancelled <- ev.Status.Code
		}
	})
	c := client.caller(t)
	h := head("echo")
	h.TimeoutUS = 50_000
	got, err := c.Call(h, nil)
	a := get(t, got, err)
	if a.Status.Code != wire.DeadlineExceeded || a.Status.Disposition != wire.DispositionUnknown {
		t.Fatalf("got %+v", a.Status)
	}
	if code := <-cancelled; code != wire.DeadlineExceeded {
		t.Fatalf("the handler learned %v", code)
	}
	if seen.TimeoutUS == 0 || seen.TimeoutUS > 50_000 || string(seen.Caller) != "caller" || !seen.HasVerifiedCaller {
		t.Fatalf("the handler saw %+v", seen)
	}
}

func TestThousandCallsAtOnceBothWays(t *testing.T) {
	a := startNode(t, wire.Limits{})
	b := startNode(t, wire.Limits{})
	all := map[string][]string{"on-a": {a.address}, "on-b": {b.address}}
	a.configure(t, all)
	b.configure(t, all)
	a.serve(t, "on-a", meshtest.Echo)
	b.serve(t, "on-b", meshtest.Echo)
	body := bytes.Repeat([]byte("x"), 3000) // all of them fit the queue of a peer that reads late
	errs := make(chan error, 2)
	for _, from := range []struct {
		n      *node
		target string
	}{{a, "on-b"}, {b, "on-a"}} {
		c := from.n.caller(t)
		go func() { errs <- flood(c, from.target, body) }()
	}
	for range 2 {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
}

// flood has 1,000 calls open at once.
func flood(c *meshtest.Caller, target string, body []byte) error {
	var open []<-chan meshtest.Answer
	for range 1000 {
		got, err := c.Call(head(target), body)
		if err != nil {
			return err
		}
		open = append(open, got)
	}
	for i, got := range open {
		select {
		case a := <-got:
			if a.Status.Code != wire.OK || len(a.Body) != len(body) {
				return fmt.Errorf("call %d: %+v", i, a.Status)
			}
		case <-time.After(20 * time.Second):
			return fmt.Errorf("call %d was never answered", i)
		}
	}
	return nil
}

func TestCallsWaitForAStreamOfALimitedPeer(t *testing.T) {
	client, server := mesh(t)
	r, err := meshtest.Dial("unix", server.socket, wire.Hello{
		Role: wire.RoleServe, Environment: "test", Application: "echo", Targets: []string{"echo"},
	}, wire.Limits{MaxStreams: 2}, meshtest.Echo)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { r.Close(); <-r.Done() }()
	if err := flood(client.caller(t), "echo", []byte("small")); err != nil {
		t.Fatal(err)
	}
}

func TestDrainLosesNoCall(t *testing.T) {
	client, server := mesh(t)
	hold := make(chan struct{})
	server.serve(t, "echo", func(r *meshtest.Raw, ev *wire.Event) {
		if ev.Kind == wire.EventRequest {
			s := ev.Stream
			go func() {
				<-hold
				r.Lock()
				r.Wire.Send(s, &wire.Out{Type: wire.TypeResponse, Flags: wire.FlagMessage | wire.FlagEnd, Body: []byte("late")})
				r.FlushUnlock()
			}()
		}
	})
	c := client.caller(t)
	got, err := c.Call(head("echo"), nil)
	if err != nil {
		t.Fatal(err)
	}
	drained := make(chan int)
	waitFor(t, "the call", func() bool { return server.Sessions()["instance"] == 1 && openOn(server) == 1 })
	go func() { drained <- server.Drain(context.Background()) }()
	waitFor(t, "the drain", func() bool { return len(server.NotReady()) > 0 })
	close(hold)
	if a := get(t, got, nil); string(a.Body) != "late" {
		t.Fatalf("got %+v", a)
	}
	if cut := <-drained; cut != 0 {
		t.Fatalf("%d calls were cut off", cut)
	}
}

func openOn(n *node) int { return len(n.OpenCalls()) }
