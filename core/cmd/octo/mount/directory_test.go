package mount_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/cmd/octo/mount"
	"github.com/octomesh/octomesh/core/directory"
	"github.com/octomesh/octomesh/core/directory/cached"
	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/pilot/pilottest"
	"github.com/octomesh/octomesh/core/pilot/push"
	"github.com/octomesh/octomesh/core/pilot/snapshot"
	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/proxy/control"
	"github.com/octomesh/octomesh/core/proxy/register"
	"github.com/octomesh/octomesh/core/resource"
	"google.golang.org/grpc"

	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
	octomesh "github.com/octomesh/octomesh/sdks/go"
	sdkdirectory "github.com/octomesh/octomesh/sdks/go/directory"
)

// long is for what must come.
const long = 20 * time.Second

// side is one of the two places where a Directory is served, with the Pilot's cache from which it learns.
type side struct {
	cache     *snapshot.Cache
	registrar *registrar
	service   func() *directory.Service
	source    directoryv1.WatchResponse_Source
	dial      octomesh.DialOption
	address   string // on TCP
	// attach is what a server needs to be attached, where that is needed; register how it comes to the Directory.
	attach, register []octomesh.ServerOption
}

// sides runs a test against both places: they answer alike.
func sides(t *testing.T, test func(t *testing.T, s *side)) {
	t.Run("the control plane over TCP", func(t *testing.T) { test(t, startRole(t)) })
	t.Run("a proxy on its socket", func(t *testing.T) { test(t, startProxy(t)) })
}

type heard struct{}

func (heard) Silent() time.Time            { return time.Time{} }
func (heard) Degraded(resource.Topic) bool { return false }

func startRole(t *testing.T) *side {
	s := &side{cache: snapshot.NewCache(), registrar: &registrar{}, source: directoryv1.WatchResponse_SOURCE_CONTROL_PLANE}
	knowledge := cached.New(cached.Config{Cache: s.cache, Freshness: heard{}, Node: "d1"})
	service, err := directory.New(directory.Config{
		Environment: meshtest.Environment, Source: s.source, Targets: knowledge.In(meshtest.Environment), Registrar: s.registrar,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.service = func() *directory.Service { return service }
	server := octomesh.NewServer(directory.Target, octomesh.WithMode("off"), octomesh.WithListen("127.0.0.1:0"),
		octomesh.WithEnvironment(meshtest.Environment), octomesh.WithDrainTimeout(time.Second))
	mount.Directory(server, service)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { knowledge.Run(ctx) })
	wg.Go(func() { _ = server.Serve(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait(); service.Wait() })
	if err := server.Ready(within(t)); err != nil {
		t.Fatal(err)
	}
	at := server.Addresses()[0].String()
	s.address = at
	s.dial, s.register = octomesh.WithDirect(at), []octomesh.ServerOption{octomesh.WithDirectory(at), octomesh.WithMode("off")}
	return s
}

func startProxy(t *testing.T) *side {
	s := &side{cache: snapshot.NewCache(), registrar: &registrar{}, source: directoryv1.WatchResponse_SOURCE_PROXY}
	pilot := pilottest.Start(t, meshtest.Environment, push.Config{Cache: s.cache})
	source := control.New(control.Config{Environment: meshtest.Environment, Instance: "p1", Pilots: []grpc.ClientConnInterface{pilot.Conn}, Log: slog.New(slog.DiscardHandler)})
	p, err := meshtest.StartProxy(t.TempDir(), proxy.Config{Source: source, Registrar: s.registrar})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	s.service = p.Directory
	socket := octomesh.WithSocket(p.Socket)
	s.dial, s.attach = socket, []octomesh.ServerOption{socket, octomesh.WithMode("on")}
	s.register = s.attach
	return s
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), long)
	t.Cleanup(cancel)
	return ctx
}

func (s *side) client(t *testing.T, opts ...octomesh.DialOption) sdkdirectory.DirectoryClient {
	t.Helper()
	opts = append([]octomesh.DialOption{s.dial, octomesh.WithApplication("shop"), octomesh.WithInstance("shop-1"), octomesh.WithEnvironment(meshtest.Environment)}, opts...)
	ch, err := octomesh.Dial(directory.Target, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ch.Close() })
	return sdkdirectory.NewDirectoryClient(ch)
}

func (s *side) topic(k resource.Kind, target string) resource.Topic {
	return resource.Topic{Kind: k, Environment: meshtest.Environment, Target: target}
}

// load makes a target known, with nothing.
func (s *side) load(target string) {
	for k := range resource.Kinds {
		s.cache.Load(s.topic(k, target), nil)
	}
}

func (s *side) set(t testing.TB, k resource.Kind, target, name string, m proto.Message) {
	s.cache.Set(s.topic(k, target), name, pilottest.Entry(t, s.topic(k, target), name, m))
}

// text is a snapshot in a line.
func text(r *directoryv1.WatchResponse) string {
	var all []string
	for _, e := range r.Endpoints {
		all = append(all, fmt.Sprintf("%s=%s*%d", e.Instance, e.DirectAddress, e.Weight))
	}
	if m := r.MeshSwitch; m != nil {
		all = append(all, fmt.Sprintf("mesh=%d@%d", m.Permille, m.Revision))
	}
	if r.DirectForbidden {
		all = append(all, "forbidden")
	}
	return strings.TrimPrefix(r.State.String(), "STATE_") + " " + strings.Join(all, " ")
}

// awaitText receives until a snapshot is as wanted: what is between is free.
func awaitText(t *testing.T, stream *octomesh.ReceiveStream[directoryv1.WatchResponse], want string) *directoryv1.WatchResponse {
	t.Helper()
	for {
		r, err := stream.Receive()
		if err != nil {
			t.Fatalf("waiting for %q: %v", want, err)
		}
		if text(r) == want {
			return r
		}
	}
}

func TestBothDirectoriesShowTheSame(t *testing.T) {
	t.Parallel()
	sides(t, func(t *testing.T, s *side) {
		c := s.client(t)
		stream, err := c.Watch(within(t), &directoryv1.WatchRequest{Target: "stock", Node: "n1"})
		if err != nil {
			t.Fatal(err)
		}
		first, err := stream.Receive()
		if err != nil || text(first) != "UNKNOWN " || first.Source != s.source || first.Environment != meshtest.Environment || first.Target != "stock" {
			t.Fatal(first, err)
		}
		s.load("stock")
		awaitText(t, stream, "DELETED ")
		s.set(t, resource.KindEndpoint, "stock", "s1", &resourcev1.Endpoint{DirectAddress: "h:1", MeshAddress: "h:2", Incarnation: 9, Zone: "z", Tags: map[string]string{"lane": "x"}})
		r := awaitText(t, stream, "PRESENT s1=h:1*100")
		if e := r.Endpoints[0]; e.Incarnation != 9 || e.Zone != "z" || e.Tags["lane"] != "x" || !e.DirectHealthy || r.Stale {
			t.Fatal(r)
		}
		s.set(t, resource.KindEndpoint, "stock", "s1", &resourcev1.Endpoint{DirectAddress: "h:1", MeshAddress: "h:2", Weight: proto.Uint32(0)})
		if later := awaitText(t, stream, "PRESENT s1=h:1*0"); later.EndpointsRevision <= r.EndpointsRevision {
			t.Fatal("the revision has not risen")
		}
		s.set(t, resource.KindMeshSwitch, "stock", "*", &resourcev1.MeshSwitch{Permille: 10, Revision: 3})
		awaitText(t, stream, "PRESENT s1=h:1*0 mesh=10@3")
		s.set(t, resource.KindMeshSwitch, "stock", "shop", &resourcev1.MeshSwitch{Permille: 20, Revision: 4, Nodes: []string{"n1"}})
		awaitText(t, stream, "PRESENT s1=h:1*0 mesh=1000@4")
		s.set(t, resource.KindServicePolicy, "stock", "", &resourcev1.ServicePolicy{DirectForbidden: true})
		awaitText(t, stream, "PRESENT s1=h:1*0 mesh=1000@4 forbidden")
		// What goes without a word may be a mistake, and a proxy holds it.
		s.set(t, resource.KindEndpoint, "stock", "s1", &resourcev1.Endpoint{Standing: resourcev1.Standing_STANDING_LEFT})
		awaitText(t, stream, "PRESENT mesh=1000@4 forbidden")
		stream.Close()
	})
}

func TestBothDirectoriesRefuseTheSame(t *testing.T) {
	t.Parallel()
	sides(t, func(t *testing.T, s *side) {
		c := s.client(t)
		for name, test := range map[string]struct {
			r    *directoryv1.WatchRequest
			code octomesh.Code
		}{
			"another environment": {&directoryv1.WatchRequest{Target: "stock", Environment: "other"}, octomesh.InvalidArgument},
			"no target":           {&directoryv1.WatchRequest{}, octomesh.InvalidArgument},
		} {
			stream, err := c.Watch(within(t), test.r)
			if err == nil {
				_, err = stream.Receive()
			}
			if octomesh.CodeOf(err) != test.code {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := c.Report(within(t), &directoryv1.ReportRequest{Application: "mail", Instance: "shop-1"}); octomesh.CodeOf(err) != octomesh.PermissionDenied {
			t.Error(err)
		}
		stream, err := c.Register(within(t))
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.Send(&directoryv1.RegisterRequest{Application: "shop", Instance: "shop-2", Targets: []string{"stock"}})
		if _, err := stream.Receive(); octomesh.CodeOf(err) != octomesh.PermissionDenied {
			t.Error(err)
		}
	})
}

func TestBothDirectoriesTakeReports(t *testing.T) {
	t.Parallel()
	sides(t, func(t *testing.T, s *side) {
		c := s.client(t)
		// Its incarnation is the SDK's to know; another one's is refused.
		r := &directoryv1.ReportRequest{Application: "shop", Instance: "shop-1", Incarnation: 1, Paths: []*directoryv1.PathReport{{Target: "stock", Calls: 3}}}
		if _, err := c.Report(within(t), r); octomesh.CodeOf(err) != octomesh.PermissionDenied {
			t.Fatal(err)
		}
		r.Incarnation = octomesh.ProcessIncarnation()
		res, err := c.Report(within(t), r)
		if err != nil || res.IntervalMs < 9000 {
			t.Fatal(res, err)
		}
		if st := s.service().Stats(); st.Reports != 1 || st.Refused != 1 {
			t.Fatal(st)
		}
	})
}

func TestASlowWatcherGetsTheNewestAndNotAll(t *testing.T) {
	t.Parallel()
	sides(t, func(t *testing.T, s *side) {
		c := s.client(t, octomesh.WithLimits(octomesh.Limits{StreamWindow: 128 << 10}))
		s.load("stock")
		tags := make(map[string]string)
		for i := range 10 {
			tags[fmt.Sprint("tag", i)] = strings.Repeat("x", 100)
		}
		for i := range 200 { // a snapshot is larger than the window
			s.set(t, resource.KindEndpoint, "stock", fmt.Sprintf("s%03d", i), &resourcev1.Endpoint{DirectAddress: "h:1", Tags: tags})
		}
		stream, err := c.Watch(within(t), &directoryv1.WatchRequest{Target: "stock"})
		if err != nil {
			t.Fatal(err)
		}
		for {
			r, err := stream.Receive()
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Endpoints) == 200 {
				break
			}
		}
		// Nobody reads while all instances change many times.
		for i := range 100 {
			for j := range 20 {
				s.set(t, resource.KindEndpoint, "stock", fmt.Sprintf("s%03d", j), &resourcev1.Endpoint{DirectAddress: fmt.Sprint("h:", i+2), Tags: tags})
			}
		}
		n := 0
		for {
			r, err := stream.Receive()
			if err != nil {
				t.Fatal(err)
			}
			n++
			if slices.IndexFunc(r.Endpoints[:20], func(e *directoryv1.Endpoint) bool { return e.DirectAddress != "h:101" }) < 0 {
				break
			}
		}
		if n > 50 {
			t.Fatalf("%d snapshots for 2000 changes", n)
		}
	})
}

// registrar is one whose control plane publishes everything at once.
type registrar struct {
	mu       sync.Mutex
	log      []string
	withdraw func() // is called when somebody withdraws
}

func (r *registrar) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = append(r.log, fmt.Sprintf(format, args...))
}

func (r *registrar) notes() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.log)
}

func (r *registrar) Register(d register.Details, told func(register.Status)) (register.Held, error) {
	r.note("register %s %s %s %v %s*%d", d.Application, d.Instance, d.Zone, d.Targets, d.DirectAddress, d.Weight)
	for _, target := range d.Targets {
		told(register.Status{Target: target, State: controlv1.RegistrationState_STATE_PUBLISHED})
	}
	return held{r}, nil
}

type held struct{ r *registrar }

func (h held) Update(register.Details) error { h.r.note("update"); return nil }
func (h held) Withdraw() {
	if h.r.withdraw != nil {
		h.r.withdraw()
	}
	h.r.note("withdraw")
}
func (h held) Release() { h.r.note("release") }

func TestBothDirectoriesRegisterTheirCaller(t *testing.T) {
	t.Parallel()
	sides(t, func(t *testing.T, s *side) {
		if s.attach != nil {
			server := octomesh.NewServer("stock", append(s.attach, octomesh.WithApplication("shop"), octomesh.WithInstance("shop-1"),
				octomesh.WithEnvironment(meshtest.Environment), octomesh.WithRegistration(octomesh.Registration{Off: true}))...)
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- server.Serve(ctx) }()
			defer func() { cancel(); <-done }()
		}
		stream, err := s.client(t).Register(within(t))
		if err != nil {
			t.Fatal(err)
		}
		r := &directoryv1.RegisterRequest{
			Environment: meshtest.Environment, Application: "shop", Instance: "shop-1", Incarnation: octomesh.ProcessIncarnation(),
			Targets: []string{"stock"}, DirectAddress: "h:1", Zone: "z",
		}
		state := func(want directoryv1.RegisterResponse_State) {
			t.Helper()
			for {
				m, err := stream.Receive()
				if err != nil {
					t.Fatal(err)
				}
				if m.State == want {
					return
				}
			}
		}
		if err := stream.Send(r); err != nil {
			t.Fatal(err)
		}
		state(directoryv1.RegisterResponse_STATE_PUBLISHED)
		r.Deregister = true
		if err := errors.Join(stream.Send(r), stream.CloseSend()); err != nil {
			t.Fatal(err)
		}
		state(directoryv1.RegisterResponse_STATE_WITHDRAWN)
		if _, err := stream.Receive(); err != io.EOF {
			t.Fatal(err)
		}
		if got := s.registrar.notes(); len(got) != 2 || !strings.HasPrefix(got[0], "register shop shop-1 z [stock] h:1") || got[1] != "withdraw" {
			t.Fatal(got)
		}
	})
}
