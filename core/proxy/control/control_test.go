package control_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/octomesh/octomesh/core/pilot/pilottest"
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

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// pilot is a real one, with what its source would have loaded.
type pilot struct {
	*pilottest.Pilot
	refused chan string
}

func (p *pilot) Applied(push.Node, snapshot.Update) {}

func (p *pilot) Refused(_ push.Node, _ snapshot.Update, why string) { p.refused <- why }

func startPilot(t testing.TB) *pilot {
	t.Helper()
	p := &pilot{refused: make(chan string, 16)}
	p.Pilot = pilottest.Start(t, "prod", push.Config{Observer: p})
	for _, target := range []string{"stock", "cart", "mail"} { // mail has nothing
		p.Load(target, nil)
	}
	return p
}

func (p *pilot) endpoint(target, instance, address string) {
	p.Set(resource.KindEndpoint, target, instance, &resourcev1.Endpoint{MeshAddress: address})
}

// proxy is a client with what it had applied.
type proxy struct {
	*control.Client
	stop func()

	mu      sync.Mutex
	current *resourcev1.Snapshot
	applied chan struct{}
	refuse  func(*resourcev1.Snapshot) error
}

func (p *proxy) apply(s *resourcev1.Snapshot) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse != nil {
		if err := p.refuse(s); err != nil {
			return err
		}
	}
	p.current = s
	select {
	case p.applied <- struct{}{}:
	default:
	}
	return nil
}

// text is the current endpoints and policies in a line.
func (p *proxy) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for _, e := range p.current.GetEndpoints() {
		all = append(all, fmt.Sprintf("%s/%s=%s", e.Target, e.Instance, e.MeshAddress))
	}
	for _, s := range p.current.GetPolicies() {
		all = append(all, "policy "+s.Target)
	}
	return strings.Join(all, " ")
}

func (p *proxy) await(t testing.TB, want string) {
	t.Helper()
	late := time.After(long)
	for p.text() != want {
		select {
		case <-p.applied:
		case <-late:
			t.Fatalf("it has %q, want %q", p.text(), want)
		}
	}
}

func startProxy(t testing.TB, dir string, refuse func(*resourcev1.Snapshot) error, pilots ...grpc.ClientConnInterface) *proxy {
	t.Helper()
	p := &proxy{applied: make(chan struct{}, 1), refuse: refuse}
	p.Client = control.New(control.Config{Environment: "prod", Instance: "p1", Pilots: pilots, Dir: dir, Log: quiet})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = p.Run(ctx, store.Snapshots(p.apply)) })
	p.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(p.stop)
	return p
}

// nobody is a Pilot that is not there.
func nobody(t testing.TB) grpc.ClientConnInterface {
	t.Helper()
	c, err := grpc.NewClient("passthrough:nobody", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return nil, errors.New("nobody is there") }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), long)
	t.Cleanup(cancel)
	return ctx
}

func TestTargetsAreFollowedOnDemand(t *testing.T) {
	pilot := startPilot(t)
	pilot.endpoint("stock", "s1", "h:1")
	pilot.endpoint("cart", "c1", "h:2")
	p := startProxy(t, "", nil, pilot.Conn)
	if err := p.Await(within(t), "stock"); err != nil {
		t.Fatal(err)
	}
	if got := p.text(); got != "stock/s1=h:1" { // and cart is nobody's business
		t.Fatal(got)
	}
	if err := p.Await(within(t), "mail"); err != nil || p.text() != "stock/s1=h:1" {
		t.Fatal(err, p.text()) // known to have nothing
	}
	pilot.endpoint("stock", "s2", "h:3")
	p.await(t, "stock/s1=h:1 stock/s2=h:3")
	if s := p.Status(); !s.Connected || s.Degraded || !slices.Equal(s.Targets, []string{"mail", "stock"}) || s.Resources != 2 {
		t.Fatal(s)
	}
}

func TestNamesThatNoTargetHasDoNoHarm(t *testing.T) {
	pilot := startPilot(t)
	pilot.endpoint("stock", "s1", "h:1")
	p := startProxy(t, "", nil, pilot.Conn)
	for _, name := range []string{"", "\xff", "a b", "a%2Fb", "*", strings.Repeat("x", 300)} {
		if p.Follow(name) {
			t.Errorf("%q is followed", name)
		}
	}
	p.Follow("stock")
	p.await(t, "stock/s1=h:1")
	if s := p.Status(); !slices.Equal(s.Targets, []string{"stock"}) {
		t.Fatal(s)
	}
}

func TestWhatCannotBeUsedIsRefusedAndTheLastGoodGoesOn(t *testing.T) {
	pilot := startPilot(t)
	pilot.endpoint("stock", "s1", "h:1")
	p := startProxy(t, "", func(s *resourcev1.Snapshot) error {
		for _, e := range s.Endpoints {
			if e.MeshAddress == "bad" {
				return errors.New("endpoint s2: no such address")
			}
		}
		return nil
	}, pilot.Conn)
	p.Follow("stock")
	p.await(t, "stock/s1=h:1")
	pilot.endpoint("stock", "s2", "bad")
	select {
	case why := <-pilot.refused:
		if !strings.Contains(why, "no such address") {
			t.Fatal(why)
		}
	case <-time.After(long):
		t.Fatal("nobody refused it")
	}
	pilot.endpoint("stock", "s3", "h:3") // a later good one is taken without the bad one
	p.await(t, "stock/s1=h:1 stock/s3=h:3")
	pilot.endpoint("stock", "s2", "h:2")
	p.await(t, "stock/s1=h:1 stock/s2=h:2 stock/s3=h:3")
}

func TestItGoesOnWithAnotherPilot(t *testing.T) {
	first, second := startPilot(t), startPilot(t)
	for _, pilot := range []*pilot{first, second} {
		pilot.endpoint("stock", "s1", "h:1")
	}
	p := startProxy(t, "", nil, nobody(t), first.Conn, second.Conn)
	p.Follow("stock")
	p.await(t, "stock/s1=h:1")
	first.Stop()
	second.endpoint("stock", "s2", "h:2")
	p.await(t, "stock/s1=h:1 stock/s2=h:2")
}

func TestARestartServesFromTheDisk(t *testing.T) {
	dir := t.TempDir()
	pilot := startPilot(t)
	pilot.endpoint("stock", "s1", "h:1")
	pilot.Set(resource.KindServicePolicy, "stock", "", &resourcev1.ServicePolicy{})
	p := startProxy(t, dir, nil, pilot.Conn)
	if err := p.Await(within(t), "stock"); err != nil {
		t.Fatal(err)
	}
	p.stop()
	alone := startProxy(t, dir, nil, nobody(t))
	alone.await(t, "stock/s1=h:1 policy stock")
	if !alone.Known("stock") || alone.Known("cart") {
		t.Fatal("known are those that it had")
	}
	alone.Follow("cart") // remembered
	alone.stop()
	pilot.endpoint("cart", "c1", "h:2")
	pilot.endpoint("stock", "s1", "h:9")
	back := startProxy(t, dir, nil, pilot.Conn)
	back.await(t, "cart/c1=h:2 stock/s1=h:9 policy stock")
	back.stop()
	if files, _ := filepath.Glob(filepath.Join(dir, "config-*")); len(files) == 0 || len(files) > 3 {
		t.Fatal(files)
	}
}

func TestSpoiledFilesAreNeverLoaded(t *testing.T) {
	dir := t.TempDir()
	pilot := startPilot(t)
	pilot.endpoint("stock", "s1", "h:1")
	p := startProxy(t, dir, nil, pilot.Conn)
	if err := p.Await(within(t), "stock"); err != nil {
		t.Fatal(err)
	}
	p.stop()
	files, _ := filepath.Glob(filepath.Join(dir, "config-*"))
	whole, err := os.ReadFile(files[len(files)-1])
	if err != nil {
		t.Fatal(err)
	}
	load := func(content []byte) *control.Client {
		d := t.TempDir()
		if err := os.WriteFile(filepath.Join(d, "config-7"), content, 0o600); err != nil {
			t.Fatal(err)
		}
		return control.New(control.Config{Environment: "prod", Dir: d, Log: quiet})
	}
	has := func(c *control.Client) bool { return slices.Contains(c.Status().Targets, "stock") }
	if !has(load(whole)) {
		t.Fatal("the whole file is not loaded")
	}
	for i := range whole {
		if has(load(whole[:i])) {
			t.Fatalf("cut at %d, and loaded", i)
		}
		bad := slices.Clone(whole)
		bad[i] ^= 1
		if has(load(bad)) {
			t.Fatalf("changed at %d, and loaded", i)
		}
	}
	if has(control.New(control.Config{Environment: "test", Dir: dir, Log: quiet})) {
		t.Fatal("the files of another environment are loaded")
	}
	// An older one that is whole stands in.
	if err := os.WriteFile(filepath.Join(dir, "config-999"), whole[:40], 0o600); err != nil {
		t.Fatal(err)
	}
	if !has(control.New(control.Config{Environment: "prod", Dir: dir, Log: quiet})) {
		t.Fatal("the one before is not loaded")
	}
}

func TestADiskThatCannotBeWrittenHarmsNobody(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // a file where the directory should be
		t.Fatal(err)
	}
	pilot := startPilot(t)
	pilot.endpoint("stock", "s1", "h:1")
	p := startProxy(t, dir, nil, pilot.Conn)
	p.Follow("stock")
	p.await(t, "stock/s1=h:1")
	p.stop()
}

// TestPoisonIsRefusedAndTheRestTaken is row 15 of the table of faults, as one proxy sees it.
func TestPoisonIsRefusedAndTheRestTaken(t *testing.T) {
	pilot := startPilot(t)
	pilot.endpoint("stock", "s1", "h:1")
	s := store.New(store.Config{Environment: "prod"})
	c := control.New(control.Config{Environment: "prod", Instance: "p1", Pilots: []grpc.ClientConnInterface{pilot.Conn}, Log: quiet})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Run(ctx, c) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	for _, target := range []string{"stock", "cart"} {
		if err := c.Await(within(t), target); err != nil {
			t.Fatal(err)
		}
	}
	large := &resourcev1.ServicePolicy{}
	for i := range 4 {
		name := fmt.Sprintf("r%d", i)
		to := &resourcev1.Destination{Subset: map[string]string{"x": strings.Repeat("y", 300<<10)}}
		large.Routes = append(large.Routes, &resourcev1.Route{Name: name, Destinations: []*resourcev1.Destination{to}})
	}
	before := s.Current().Hash
	for _, bad := range []struct {
		says   string
		policy *resourcev1.ServicePolicy
	}{
		{"and 1048576 at most", large},
		{"routes[0].destinations (policy stock): is empty", &resourcev1.ServicePolicy{Routes: []*resourcev1.Route{{Name: "r"}}}},
		{"default_timeout (policy stock)", &resourcev1.ServicePolicy{DefaultTimeout: durationpb.New(-time.Second)}},
	} {
		pilot.Set(resource.KindServicePolicy, "stock", "", bad.policy)
		select {
		case why := <-pilot.refused:
			if !strings.Contains(why, bad.says) {
				t.Errorf("refused as %.300q, want %q in it", why, bad.says)
			}
		case <-time.After(long):
			t.Fatalf("nobody refuses what %s", bad.says)
		}
		if now := s.Current().Hash; now != before {
			t.Fatal("what was refused has changed something")
		}
	}
	topic := pilot.Topic(resource.KindEndpoint, "cart")
	pilot.Load("cart", map[string]snapshot.Entry{ // in one response
		"bad":  pilottest.Entry(t, topic, "bad", &resourcev1.Endpoint{MeshAddress: "nowhere"}),
		"good": pilottest.Entry(t, topic, "good", &resourcev1.Endpoint{MeshAddress: "h:2"}),
	})
	select {
	case why := <-pilot.refused:
		if !strings.Contains(why, "mesh_address (endpoint cart/bad)") || strings.Contains(why, "good") {
			t.Errorf("refused as %q", why)
		}
	case <-time.After(long):
		t.Fatal("nobody refuses the bad one")
	}
	table := s.Current().Table
	if table.Endpoint("cart", "good") == nil || table.Endpoint("cart", "bad") != nil || table.Endpoint("stock", "s1") == nil {
		t.Fatal("what is sound is to be taken, and nothing else")
	}
}
