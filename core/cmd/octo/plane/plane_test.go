package plane_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/octomesh/octomesh/core/cmd/octo/plane"
	"github.com/octomesh/octomesh/core/cmd/octo/plane/registries"
	"github.com/octomesh/octomesh/core/configserver/store/embedded"
	"github.com/octomesh/octomesh/core/dispatcher/source"
	"github.com/octomesh/octomesh/core/proxy/control"
	"github.com/octomesh/octomesh/core/proxy/store"
	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// long is for what must come.
const long = 30 * time.Second

var quiet = slog.New(slog.DiscardHandler)

func short(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "octo") // a socket's path has to be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// start starts a process' roles until the test ends, or stop.
func start(t *testing.T, cfg plane.Config) (p *plane.Plane, stop func()) {
	t.Helper()
	cfg.Unsafe = true
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	p, err := plane.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(p.Close)
	t.Cleanup(stop)
	ready(t, p)
	return p, stop
}

func ready(t *testing.T, p *plane.Plane) {
	t.Helper()
	for late := time.Now().Add(long); ; {
		lacking := p.AwaitReady(t.Context())
		if len(lacking) == 0 {
			return
		}
		if time.Now().After(late) {
			t.Fatal(lacking)
		}
	}
}

func dial(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	c, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// registry puts instances into the control plane's own.
func registry(t *testing.T, endpoint string) (put func(target, instance string)) {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return func(target, instance string) {
		key := source.Layout{Prefix: "/octo/registry"}.Instance(source.Key{Environment: "prod", Target: target}, instance)
		if _, err := c.Put(t.Context(), key, `{"meshAddress": "10.0.0.1:7000"}`); err != nil {
			t.Fatal(err)
		}
	}
}

// proxy follows Pilots, and knows what it goes by.
type proxy struct {
	*control.Client
	t    *testing.T
	news chan *resourcev1.Snapshot
}

func follow(t *testing.T, pilots ...string) *proxy {
	t.Helper()
	var conns []grpc.ClientConnInterface
	for _, address := range pilots {
		conns = append(conns, dial(t, address))
	}
	p := &proxy{t: t, news: make(chan *resourcev1.Snapshot, 1000), Client: control.New(control.Config{
		Environment: "prod", Instance: "web-1", Pilots: conns, Log: quiet,
	})}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = p.Run(ctx, store.Snapshots(func(s *resourcev1.Snapshot) error { p.news <- s; return nil }))
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return p
}

// wants waits until the proxy goes by something.
func (p *proxy) wants(what string, is func(*resourcev1.Snapshot) bool) {
	p.t.Helper()
	late := time.After(long)
	for {
		select {
		case s := <-p.news:
			if is(s) {
				return
			}
		case <-late:
			p.t.Fatalf("never: %s", what)
		}
	}
}

func endpoints(n int) func(*resourcev1.Snapshot) bool {
	return func(s *resourcev1.Snapshot) bool { return len(s.GetEndpoints()) == n }
}

func apply(t *testing.T, address, yaml string) {
	t.Helper()
	_, err := configv1.NewConfigClient(dial(t, address)).Apply(t.Context(), &configv1.ApplyRequest{
		Environment: "prod", Why: &configv1.Why{Author: "alice", Reason: "test"}, Files: []*configv1.File{{Name: "f.yaml", Content: []byte(yaml)}},
	}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
}

const policy = "policies:\n- {target: cart, max_timeout: 2s}\n"

func hasPolicy(s *resourcev1.Snapshot) bool { return len(s.GetPolicies()) == 1 }

// TestOneProcessIsAWholeControlPlane and goes on after a restart with what it knew.
func TestOneProcessIsAWholeControlPlane(t *testing.T) {
	dir := short(t)
	file := filepath.Join(dir, "files.yaml")
	if err := os.WriteFile(file, []byte("environment: old\nendpoints: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	spec, err := registries.Parse("old=static:" + file)
	if err != nil {
		t.Fatal(err)
	}
	cfg := plane.Config{
		Roles: plane.Roles(), Store: plane.Store{Data: filepath.Join(dir, "data")}, Listen: "unix:" + dir + "/octo", Metrics: "127.0.0.1:0",
		Registries: []registries.Spec{spec},
	}
	p, stop := start(t, cfg)
	put := registry(t, p.StoreName())
	put("cart", "cart-1")
	web := follow(t, p.Address())
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	if err := web.Await(ctx, "cart"); err != nil {
		t.Fatal(err)
	}
	web.wants("one endpoint", endpoints(1))
	put("cart", "cart-2")
	web.wants("two endpoints", endpoints(2))
	apply(t, p.Address(), policy)
	web.wants("a policy", hasPolicy)
	page := get(t, "http://"+p.MetricsAddress()+"/metrics", http.StatusOK)
	for _, want := range []string{
		"octo_pilot_streams 1", "octo_dispatcher_watches 1", "octo_dispatcher_watches_of_one_key_max 1", `octo_role_ready{role="pilot"} 1`,
		`octo_build_info{program="octo"`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %s in:\n%s", want, page)
		}
	}
	get(t, "http://"+p.MetricsAddress()+"/healthz", http.StatusOK)
	if text := get(t, "http://"+p.MetricsAddress()+"/readyz", http.StatusOK); !strings.Contains(text, "dispatcher: ready\n") {
		t.Error(text)
	}
	get(t, "http://"+p.MetricsAddress()+"/readyz/pilot", http.StatusOK)
	get(t, "http://"+p.MetricsAddress()+"/readyz/meta", http.StatusNotFound)

	if _, err := plane.Start(t.Context(), plane.Config{Roles: plane.Roles(), Store: cfg.Store, Listen: "127.0.0.1:0"}); err == nil || !strings.Contains(err.Error(), "uses this directory") {
		t.Fatal(err)
	}
	stop()
	again, _ := start(t, cfg)
	fresh := follow(t, again.Address())
	if err := fresh.Await(ctx, "cart"); err != nil {
		t.Fatal(err)
	}
	fresh.wants("all that was", func(s *resourcev1.Snapshot) bool { return endpoints(2)(s) && hasPolicy(s) })
	if err := web.Await(ctx, "mail"); err != nil { // it finds the new process by itself
		t.Fatal(err)
	}
}

func get(t *testing.T, url string, code int) string {
	t.Helper()
	c := http.Client{Timeout: long, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != code {
		t.Fatalf("%s: %s, %v: %s", url, r.Status, err, b)
	}
	return string(b)
}

// TestRolesApartFindEachOther: two of each, of which one may go.
func TestRolesApartFindEachOther(t *testing.T) {
	etcd, err := embedded.Start(t.Context(), embedded.Config{Dir: short(t), Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(etcd.Close)
	store := plane.Store{Endpoints: []string{etcd.Endpoint()}}
	stops := make(map[string]func())
	var pilots, configs []string
	for _, role := range []string{plane.RoleConfig, plane.RoleDispatcher, plane.RolePilot} {
		for i := range 2 {
			p, stop := start(t, plane.Config{Roles: []string{role}, Name: fmt.Sprint(i), Store: store})
			stops[role+fmt.Sprint(i)] = stop
			switch role {
			case plane.RolePilot:
				pilots = append(pilots, p.Address())
			case plane.RoleConfig:
				configs = append(configs, p.Address())
			}
		}
	}
	put := registry(t, etcd.Endpoint())
	put("cart", "cart-1")
	web := follow(t, pilots...)
	web.Follow("cart")
	web.wants("one endpoint", endpoints(1))
	stops["pilot0"]()
	put("cart", "cart-2")
	web.wants("two endpoints", endpoints(2))
	stops["dispatcher0"]()
	put("cart", "cart-3")
	web.wants("three endpoints", endpoints(3))
	stops["config0"]()
	apply(t, configs[1], policy)
	web.wants("a policy", hasPolicy)
}

func TestWhatIsMissingIsSaid(t *testing.T) {
	etcd, err := embedded.Start(t.Context(), embedded.Config{Dir: short(t), Unsafe: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(etcd.Close)
	p, err := plane.Start(t.Context(), plane.Config{
		Roles: []string{plane.RolePilot}, Store: plane.Store{Endpoints: []string{etcd.Endpoint()}}, Listen: "127.0.0.1:0", Metrics: "127.0.0.1:0",
	})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.Ready(t.Context())[plane.RolePilot]; err == nil || !strings.Contains(err.Error(), "no Dispatcher is reached") {
		t.Fatal(err)
	}
	if text := get(t, "http://"+p.MetricsAddress()+"/readyz", http.StatusServiceUnavailable); !strings.Contains(text, "no Dispatcher") {
		t.Fatal(text)
	}
	if text := get(t, "http://"+p.MetricsAddress()+"/metrics", http.StatusOK); !strings.Contains(text, `octo_role_ready{role="pilot"} 0`) {
		t.Fatal(text)
	}
}

func TestAMistakeIsToldWithWhatToDo(t *testing.T) {
	here := plane.Store{Data: filepath.Join(t.TempDir(), "never")}
	there := func(s plane.Store, endpoints ...string) plane.Store { s.Endpoints = endpoints; return s }
	for want, c := range map[string]plane.Config{
		"--roles is empty":                  {Store: here},
		"give --data":                       {Roles: plane.Roles()},
		"pilot needs dispatcher":            {Roles: []string{plane.RolePilot}, Store: here},
		"is not loopback":                   {Roles: plane.Roles(), Store: here, Listen: "0.0.0.0:0"},
		"--writers is for TLS":              {Roles: plane.Roles(), Store: here, Writers: []string{"x"}},
		"want host:port, http":              {Roles: plane.Roles(), Store: there(plane.Store{}, "ftp://x:1")},
		"missing port":                      {Roles: plane.Roles(), Store: there(plane.Store{}, "etcd-1")},
		"some endpoints are https":          {Roles: plane.Roles(), Store: there(plane.Store{}, "https://a:1", "http://b:1")},
		"for everybody to read":             {Roles: plane.Roles(), Store: there(plane.Store{User: "octo", Password: "b5d1"}, "10.0.0.1:2379")},
		"one that everybody would try":      {Roles: plane.Roles(), Store: there(plane.Store{User: "root", Password: "root"}, "https://10.0.0.1:2379")},
		"no such host":                      {Roles: plane.Roles(), Store: here, Listen: "nowhere.invalid:1"},
		"--etcd-authorities, --etcd-certif": {Roles: plane.Roles(), Store: there(withTLS(), "10.0.0.1:2379")},
	} {
		if c.Listen == "" {
			c.Listen = "127.0.0.1:0"
		}
		p, err := plane.Start(t.Context(), c)
		if err == nil {
			p.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want it to say %q", err, want)
		}
	}
	for text, want := range map[string]string{"": `"" is no role`, "pilot,health": "health comes later", "pilots": "is no role"} {
		if _, err := plane.ParseRoles(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if roles, err := plane.ParseRoles("pilot, config"); err != nil || fmt.Sprint(roles) != "[config pilot]" {
		t.Error(roles, err)
	}
	if _, err := os.Stat(here.Data); err == nil {
		t.Error("a mistake left a data directory behind")
	}
}

func withTLS() (s plane.Store) { s.TLS.Authorities = "x"; return s }
