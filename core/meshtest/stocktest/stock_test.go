package stocktest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/xds"

	"github.com/octomesh/octomesh/core/meshtest/planetest"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

var programs planetest.Programs

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "octo")
	if err != nil {
		panic(err)
	}
	if programs, err = planetest.Build(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// world is a control plane, and gRPC servers that know nothing of it.
type world struct {
	*planetest.Plane
	t *testing.T
}

func newWorld(t *testing.T, p *planetest.Plane) *world {
	return &world{p, t}
}

// serve starts a gRPC server, and puts it into the registry.
func (w *world) serve(e *resourcev1.Endpoint) *resourcev1.Endpoint {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	g := grpc.NewServer()
	healthv1.RegisterHealthServer(g, named{health.NewServer(), e.Instance})
	done := make(chan struct{})
	go func() { defer close(done); _ = g.Serve(l) }()
	w.t.Cleanup(func() { g.Stop(); <-done })
	e.DirectAddress, e.DirectProtocol = l.Addr().String(), resourcev1.Protocol_PROTOCOL_GRPC
	w.PutEndpoint(e)
	return e
}

// named says in its headers which one it is.
type named struct {
	*health.Server
	name string
}

func (n named) Check(ctx context.Context, r *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	_ = grpc.SetHeader(ctx, metadata.Pairs("instance", n.name))
	return n.Server.Check(ctx, r)
}

// client is a connection of gRPC's own.
type client struct {
	*grpc.ClientConn
	t *testing.T
}

// call calls once, and returns which instance has answered.
func (c *client) call(headers ...string) (string, error) {
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(c.t.Context(), headers...), 20*time.Second)
	defer cancel()
	var header metadata.MD
	_, err := healthv1.NewHealthClient(c).Check(ctx, &healthv1.HealthCheckRequest{}, grpc.Header(&header))
	return strings.Join(header.Get("instance"), " "), err
}

// reaches calls once, and that must succeed.
func (c *client) reaches(want string, headers ...string) {
	c.t.Helper()
	if got, err := c.call(headers...); err != nil || got != want {
		c.t.Fatalf("%q answered, want %q: %v", got, want, err)
	}
}

// comes calls until an instance answers some times on end.
func (c *client) comes(want string, headers ...string) {
	c.t.Helper()
	planetest.Await(c.t, want, func() error {
		for range 10 {
			if got, err := c.call(headers...); err != nil || got != want {
				return fmt.Errorf("%q answered: %w", got, err)
			}
		}
		return nil
	})
}

// shares counts who answers.
func (c *client) shares(calls int) map[string]int {
	c.t.Helper()
	out := make(map[string]int)
	for range calls {
		who, err := c.call()
		if err != nil {
			c.t.Fatal(err)
		}
		out[who]++
	}
	return out
}

// awaitShares calls until those answer, and no others.
func (c *client) awaitShares(want ...string) {
	c.t.Helper()
	planetest.Await(c.t, fmt.Sprint(want), func() error {
		got := c.shares(20 * len(want))
		for _, name := range want {
			if got[name] == 0 {
				return fmt.Errorf("%v answer", got)
			}
		}
		if len(got) != len(want) {
			return fmt.Errorf("%v answer", got)
		}
		return nil
	})
}

// block is the first block of a guide in a language.
func block(t *testing.T, guide, language string) string {
	t.Helper()
	text, err := os.ReadFile("../../../docs/guides/" + guide)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```"+language+"\n")
	found, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatalf("%s has no block of %s", guide, language)
	}
	return found
}

// bootstrap is what a gRPC client has to be told: what the guide says, with other servers.
func (w *world) bootstrap(node, zone string, servers []json.RawMessage) []byte {
	w.t.Helper()
	var b struct {
		Servers []json.RawMessage `json:"xds_servers"`
		Node    map[string]any    `json:"node"`
	}
	if err := json.Unmarshal([]byte(block(w.t, "control-plane.md", "json")), &b); err != nil || len(b.Servers) != 1 || b.Node["cluster"] != planetest.Environment {
		w.t.Fatal(b, err)
	}
	if servers == nil {
		for _, p := range w.PilotAddresses() {
			servers = append(servers, bytes.Replace(b.Servers[0], []byte("127.0.0.1:7600"), []byte(p), 1))
		}
	}
	b.Servers, b.Node["id"], b.Node["locality"] = servers, node, map[string]string{"zone": zone}
	text, err := json.Marshal(b)
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

// dial calls a target as gRPC's own xDS client, which follows servers; none: the Pilots.
func (w *world) dial(target, node, zone string, servers ...json.RawMessage) *client {
	w.t.Helper()
	r, err := xds.NewXDSResolverWithConfigForTesting(w.bootstrap(node, zone, servers))
	if err != nil {
		w.t.Fatal(err)
	}
	c, err := grpc.NewClient("xds:///"+target, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithResolvers(r))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.Close() })
	return &client{c, w.t}
}

// apply applies resources.
func (w *world) apply(text string) {
	w.t.Helper()
	if out, err := w.Octo(w.Configs[0], text, "apply", "-f", "-", "-m", "a test"); err != nil {
		w.t.Fatal(out, err)
	}
}

// metric reads one of a Pilot's.
func (w *world) metric(r *planetest.Role, name string) string {
	w.t.Helper()
	res, err := http.Get("http://" + r.Metrics + "/metrics")
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	w.t.Fatalf("there is no %s", name)
	return ""
}

// tookAll checks that no client refused anything.
func (w *world) tookAll() {
	w.t.Helper()
	for _, r := range w.Pilots {
		if n := w.metric(r, "octo_pilot_stock_refusals_total"); n != "0" {
			w.t.Errorf("%s responses were refused:\n%s", n, r.Written())
		}
	}
}
