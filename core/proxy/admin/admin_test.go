package admin_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/octomesh/octomesh/core/proxy/admin"
	"github.com/octomesh/octomesh/core/proxy/cluster"
	"github.com/octomesh/octomesh/core/proxy/route"
	"github.com/octomesh/octomesh/core/proxy/store"
	"github.com/octomesh/octomesh/core/resource"
	"github.com/octomesh/octomesh/core/telemetry"
	"github.com/octomesh/octomesh/core/transport"
	"github.com/octomesh/octomesh/core/wire"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const snapshot = `
endpoints:
- {target: cart, instance: a, mesh_address: "h:1", zone: z}
- {target: cart, instance: b, mesh_address: "h:2"}
- {target: cart, instance: off, mesh_address: "h:3", disabled: true}
policies:
- target: cart
  routes:
  - {name: canary, match: {method: Get}, destinations: [{subset: {version: "2"}}]}
`

type peer struct{ address string }

func (p *peer) Address() string { return p.address }
func (p *peer) Ready() bool     { return p.address != "h:2" }
func (p *peer) Answers() bool   { return p.Ready() }

// node is an admin interface on a real socket.
type node struct {
	t       *testing.T
	store   *store.Store
	reasons []string
	calls   []admin.Call
	drained int
	client  *http.Client
	path    string
}

func start(t *testing.T) *node {
	t.Helper()
	n := &node{t: t, path: filepath.Join(t.TempDir(), "run", "admin.sock")}
	n.store = store.New(store.Config{NewPeer: func(at cluster.Place) cluster.Peer { return &peer{at.Address} }})
	metrics := telemetry.NewMetrics("octo-proxy", "test")
	metrics.Add(admin.NewCollector(n.store, func(yield func(*route.Target) bool) {
		for _, name := range []string{"served", "cart", "\xff"} { // a resource names cart, too
			served := route.NewTarget(route.Inbound, name)
			served.Routes[0].Calls.Begin()
			yield(served)
		}
	}))
	l, err := transport.ListenUnix(n.path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- admin.Serve(ctx, l, admin.Handler(admin.Config{
			Store: n.store, NotReady: func() []string { return n.reasons }, Metrics: metrics.Handler(),
			Drain: func() { n.drained++ },
			Calls: func(yield func(admin.Call) bool) {
				for _, c := range n.calls {
					if !yield(c) {
						return
					}
				}
			},
		}))
	}()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", n.path)
	}}
	n.client = &http.Client{Transport: transport}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return n
}

func (n *node) load() {
	n.t.Helper()
	s := &resourcev1.Snapshot{}
	if _, err := resource.Parse("f", []byte(snapshot), s); err != nil {
		n.t.Fatal(err)
	}
	if err := n.store.Apply("file f", s); err != nil {
		n.t.Fatal(err)
	}
}

// ask returns the status and the body of an answer.
func (n *node) ask(method, path string) (int, string) {
	n.t.Helper()
	req, err := http.NewRequest(method, "http://proxy"+path, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	resp, err := n.client.Do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// json asks and reads the answer into v.
func (n *node) json(path string, v any) int {
	n.t.Helper()
	code, body := n.ask("GET", path)
	if err := json.Unmarshal([]byte(body), v); err != nil {
		n.t.Fatalf("%s: %v in %s", path, err, body)
	}
	return code
}

func TestReadySaysWhyNot(t *testing.T) {
	n := start(t)
	var got struct {
		Ready      bool
		Reasons    []string
		Generation uint64
	}
	if code := n.json("/ready", &got); code != 503 || got.Ready || len(got.Reasons) != 1 || !strings.Contains(got.Reasons[0], "no configuration") {
		t.Errorf("%d %+v", code, got)
	}
	n.load()
	if code := n.json("/ready", &got); code != 200 || !got.Ready || len(got.Reasons) != 0 || got.Generation != 1 {
		t.Errorf("%d %+v", code, got)
	}
	n.reasons = []string{"draining"}
	if code := n.json("/ready", &got); code != 503 || got.Ready || got.Reasons[0] != "draining" {
		t.Errorf("%d %+v", code, got)
	}
}

func TestConfigShowsTheCurrentGeneration(t *testing.T) {
	n := start(t)
	n.load()
	var got struct {
		Generation uint64
		Hash       string
		Source     string
		Warnings   []string
		Snapshot   struct {
			Endpoints []struct {
				MeshAddress string `json:"mesh_address"`
			}
		}
	}
	n.json("/config", &got)
	if got.Generation != 1 || got.Hash != n.store.Current().Hash || got.Source != "file f" || len(got.Snapshot.Endpoints) != 3 ||
		got.Snapshot.Endpoints[0].MeshAddress != "h:1" || len(got.Warnings) != 1 {
		t.Errorf("%+v", got)
	}
}

func TestGenerationsShowWhatWasRefused(t *testing.T) {
	n := start(t)
	n.load()
	if err := n.store.Apply("pilot", &resourcev1.Snapshot{Environment: "NO"}); err == nil {
		t.Fatal("the snapshot was taken")
	}
	var got []store.Attempt
	n.json("/generations", &got)
	if len(got) != 2 || got[0].Source != "pilot" || got[0].Error == "" || got[1].Number != 1 {
		t.Errorf("%+v", got)
	}
}

func TestCallsAreListedUpToALimit(t *testing.T) {
	n := start(t)
	n.calls = []admin.Call{{Target: "cart", Method: "Get", State: "open"}, {Target: "cart"}, {Target: "cart"}}
	var got struct {
		Total int
		Calls []admin.Call
	}
	if n.json("/calls?limit=1", &got); got.Total != 3 || len(got.Calls) != 1 || got.Calls[0] != n.calls[0] {
		t.Errorf("%+v", got)
	}
	if code, _ := n.ask("GET", "/calls?limit=-1"); code != http.StatusBadRequest {
		t.Errorf("a bad limit: %d", code)
	}
}

func TestEndpointsShowTheirLoad(t *testing.T) {
	n := start(t)
	n.load()
	d, _ := n.store.Current().Table.Match(&wire.RequestHead{Target: []byte("cart")}, nil)
	for _, e := range d.Cluster.Endpoints {
		e.Open.Store(2)
		e.Calls.Store(5)
	}
	_, body := n.ask("GET", "/endpoints")
	var got []map[string]any
	if err := json.Unmarshal([]byte(body), &got); err != nil || len(got) != 3 {
		t.Fatal(body, err)
	}
	a, b, off := got[0], got[1], got[2]
	if a["instance"] != "a" || a["open"] != 2.0 || a["calls"] != 5.0 || a["ready"] != true || b["ready"] != false ||
		off["in_rotation"] != false || off["open"] != 0.0 {
		t.Error(body)
	}
}

func TestMetricsReadTheCounters(t *testing.T) {
	n := start(t)
	n.load()
	table := n.store.Current().Table
	d, _ := table.Match(&wire.RequestHead{Target: []byte("cart"), Method: []byte("Get")}, nil)
	for range 3 {
		d.Route.Calls.Begin()
	}
	d.Route.Calls.End(0, 3*time.Millisecond)
	d.Route.Calls.End(14, time.Millisecond)
	d.Route.Calls.Refuse(uint32(wire.ReasonNoEndpoint))
	n.store.Unmatched.Refuse(uint32(wire.ReasonUnknownTarget))
	for e := range table.Endpoints() {
		if e.Instance == "a" {
			e.Calls.Store(9)
			e.Failures.Store(1)
		}
	}
	_, text := n.ask("GET", "/metrics")
	for _, want := range []string{
		`octo_calls_open{direction="outbound",route="canary",target="cart"} 1`,
		`octo_calls_total{code="OK",direction="outbound",route="canary",target="cart"} 1`,
		`octo_calls_total{code="UNAVAILABLE",direction="outbound",route="canary",target="cart"} 1`,
		`octo_calls_refused_total{direction="outbound",reason="NO_ENDPOINT",route="canary",target="cart"} 1`,
		`octo_calls_refused_total{direction="outbound",reason="UNKNOWN_TARGET",route="",target=""} 1`,
		`octo_call_seconds_count{direction="outbound",route="canary",target="cart"} 2`,
		`octo_calls_open{direction="inbound",route="default",target="served"} 1`,
		`octo_endpoints{state="ready",target="cart"} 1`, `octo_endpoints{state="not_ready",target="cart"} 1`,
		`octo_endpoints{state="out",target="cart"} 1`,
		`octo_endpoint_calls_total{instance="a",target="cart"} 9`, `octo_endpoint_failures_total{instance="a",target="cart"} 1`,
		`octo_generation 1`, `octo_snapshots_total{result="applied"} 1`, `octo_snapshots_total{result="refused"} 0`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s in:\n%s", want, text)
		}
	}
	if strings.Contains(text, `route="default",target="cart"`) {
		t.Error("a route without calls has metrics")
	}
}

func TestDrainNeedsAPost(t *testing.T) {
	n := start(t)
	if code, _ := n.ask("GET", "/drain"); code != http.StatusMethodNotAllowed || n.drained != 0 {
		t.Errorf("GET: %d, drained %d times", code, n.drained)
	}
	if code, _ := n.ask("POST", "/drain"); code != http.StatusAccepted || n.drained != 1 {
		t.Errorf("POST: %d, drained %d times", code, n.drained)
	}
}

func TestProfilesAndIndex(t *testing.T) {
	n := start(t)
	if code, body := n.ask("GET", "/debug/pprof/goroutine?debug=1"); code != 200 || !strings.Contains(body, "goroutine profile") {
		t.Errorf("%d %s", code, body)
	}
	if code, body := n.ask("GET", "/"); code != 200 || !strings.Contains(body, "POST /drain") {
		t.Errorf("%d %s", code, body)
	}
	if code, _ := n.ask("GET", "/nothing"); code != http.StatusNotFound {
		t.Errorf("an unknown path: %d", code)
	}
}

func TestSocketIsTheOwnersAlone(t *testing.T) {
	n := start(t)
	info, err := os.Stat(n.path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Dir(n.path) + "/*"); len(left) != 1 {
		t.Errorf("the directory holds %v", left)
	}
	if _, err := transport.ListenUnix(n.path, 0o600); err == nil || !strings.Contains(err.Error(), "a living process listens") {
		t.Errorf("a second process took the socket: %v", err)
	}
}

func TestADeadSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	for range 2 {
		l, err := transport.ListenUnix(path, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		if _, err := os.Stat(path); err != nil {
			t.Fatal("the file must stay: a successor may own it")
		}
	}
}
