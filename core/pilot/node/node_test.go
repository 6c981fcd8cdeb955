package node_test

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
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/octomesh/octomesh/core/dispatcher"
	"github.com/octomesh/octomesh/core/dispatcher/hub"
	"github.com/octomesh/octomesh/core/dispatcher/source"
	"github.com/octomesh/octomesh/core/dispatcher/source/sourcetest"
	"github.com/octomesh/octomesh/core/fleet"
	"github.com/octomesh/octomesh/core/pilot/node"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// long is for what must come.
const long = 20 * time.Second

const (
	published  = controlv1.RegistrationState_STATE_PUBLISHED
	pending    = controlv1.RegistrationState_STATE_PENDING
	superseded = controlv1.RegistrationState_STATE_SUPERSEDED
	withdrawn  = controlv1.RegistrationState_STATE_WITHDRAWN
	refused    = controlv1.RegistrationState_STATE_REFUSED
)

var cart = source.Key{Environment: "test", Target: "cart"}

// serve runs a gRPC server in memory until it is stopped, and returns a connection to it.
func serve(t *testing.T, register func(grpc.ServiceRegistrar)) (conn *grpc.ClientConn, stop func()) {
	t.Helper()
	g := grpc.NewServer()
	register(g)
	l := bufconn.Listen(1 << 20)
	conn, err := grpc.NewClient("passthrough:x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = g.Serve(l) })
	stop = sync.OnceFunc(func() { g.Stop(); wg.Wait() })
	t.Cleanup(func() { _ = conn.Close(); stop() })
	return conn, stop
}

// startDispatcher runs one on a registry; stop ends it without a word.
func startDispatcher(t *testing.T, m *sourcetest.Memory) (conn *grpc.ClientConn, stop func()) {
	t.Helper()
	h, err := hub.New(hub.Config{Registries: []hub.Registry{{Source: m.Client()}}})
	if err != nil {
		t.Fatal(err)
	}
	d := dispatcher.New(dispatcher.Config{Hub: h})
	conn, end := serve(t, d.Register)
	stop = sync.OnceFunc(func() { end(); d.Close(); h.Close() })
	t.Cleanup(stop)
	return conn, stop
}

// world is a registry, and what it has told.
type world struct {
	t        *testing.T
	registry *sourcetest.Memory
	pilot    *grpc.ClientConn
	service  *node.Service

	mu     sync.Mutex
	there  map[string]*resourcev1.Endpoint
	gone   map[string]source.Reason
	ends   map[string]int
	change chan struct{}
}

func start(t *testing.T, cfg node.Config, dispatchers ...grpc.ClientConnInterface) *world {
	t.Helper()
	w := &world{
		t: t, registry: sourcetest.NewMemory(), there: make(map[string]*resourcev1.Endpoint), gone: make(map[string]source.Reason),
		ends: make(map[string]int), change: make(chan struct{}),
	}
	if len(dispatchers) == 0 {
		d, _ := startDispatcher(t, w.registry)
		dispatchers = append(dispatchers, d)
	}
	cfg.Dispatchers = dispatchers
	return w.with(cfg)
}

func (w *world) with(cfg node.Config) *world {
	t := w.t
	cfg.Log = slog.New(slog.DiscardHandler)
	var err error
	if w.service, err = node.New(cfg); err != nil {
		t.Fatal(err)
	}
	w.pilot, _ = serve(t, w.service.Register)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { w.service.Run(ctx) })
	wg.Go(func() { _ = w.registry.Watch(ctx, cart, w.hear) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return w
}

func (w *world) hear(e source.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range e.Endpoints {
		w.there[p.GetInstance()] = p
	}
	for _, r := range e.Removed {
		delete(w.there, r.Instance)
		w.gone[r.Instance] = r.Reason
		w.ends[r.Instance]++
	}
	close(w.change)
	w.change = make(chan struct{})
}

// has waits until the registry has these "instance incarnation address".
func (w *world) has(want ...string) {
	w.t.Helper()
	late := time.After(long)
	for {
		w.mu.Lock()
		var got []string
		for _, p := range w.there {
			got = append(got, fmt.Sprint(p.GetInstance(), " ", p.GetIncarnation(), " ", p.GetMeshAddress()))
		}
		change := w.change
		w.mu.Unlock()
		if slices.Sort(got); slices.Equal(got, want) {
			return
		}
		select {
		case <-change:
		case <-late:
			w.t.Fatalf("the registry has %v, want %v", got, want)
		}
	}
}

// went tells why an instance went last, and how often it did.
func (w *world) went(instance string) (source.Reason, int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.gone[instance], w.ends[instance]
}

// proxy is one that speaks to the Pilot.
type proxy struct {
	t *testing.T
	grpc.BidiStreamingClient[controlv1.ConnectRequest, controlv1.ConnectResponse]
	leave  context.CancelFunc
	states []*controlv1.RegistrationState
}

func (w *world) proxy(instance string) *proxy {
	w.t.Helper()
	p := w.connect(&controlv1.Introduction{Environment: "test", Instance: instance, Incarnation: 1})
	return p
}

func (w *world) connect(in *controlv1.Introduction) *proxy {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*long)
	w.t.Cleanup(cancel)
	s, err := controlv1.NewNodeClient(w.pilot).Connect(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	p := &proxy{t: w.t, BidiStreamingClient: s, leave: cancel}
	if in != nil {
		p.say(&controlv1.ConnectRequest{Word: &controlv1.ConnectRequest_Introduction{Introduction: in}})
	}
	return p
}

func (p *proxy) say(r *controlv1.ConnectRequest) {
	p.t.Helper()
	if err := p.Send(r); err != nil {
		p.t.Fatal(err)
	}
}

func (p *proxy) register(instance string, incarnation uint64, address string) {
	p.t.Helper()
	p.say(&controlv1.ConnectRequest{Word: &controlv1.ConnectRequest_Register{Register: &controlv1.Registration{
		Application: "cart", Endpoint: &resourcev1.Endpoint{Target: "cart", Instance: instance, Incarnation: incarnation, MeshAddress: address},
	}}})
}

func (p *proxy) withdraw(instance string, incarnation uint64, address string) {
	p.t.Helper()
	p.say(&controlv1.ConnectRequest{Word: &controlv1.ConnectRequest_Withdraw{Withdraw: &controlv1.Withdrawal{
		Target: "cart", Instance: instance, Incarnation: incarnation, MeshAddress: address, Reason: controlv1.Withdrawal_REASON_LOST,
	}}})
}

// await waits until an incarnation of an instance has a state.
func (p *proxy) await(instance string, incarnation uint64, want controlv1.RegistrationState_State) *controlv1.RegistrationState {
	p.t.Helper()
	for {
		for i, s := range p.states {
			if s.Instance == instance && s.Incarnation == incarnation && s.State == want {
				p.states = slices.Delete(p.states, i, i+1)
				return s
			}
		}
		r, err := p.Recv()
		if err != nil {
			p.t.Fatalf("%s never is %v: %v", instance, want, err)
		}
		if s := r.GetRegistration(); s != nil {
			p.states = append(p.states, s)
		}
	}
}

func TestWhatAProxyRegistersIsInTheRegistry(t *testing.T) {
	t.Parallel()
	w := start(t, node.Config{})
	p := w.proxy("p1")
	p.register("a", 7, "h:1")
	p.await("a", 7, published)
	p.register("b", 7, "h:1")
	p.register("bad", 7, "nowhere")
	if s := p.await("bad", 7, refused); s.Reason == "" {
		t.Error("a refusal says no reason")
	}
	w.has("a 7 h:1", "b 7 h:1")
	p.register("a", 7, "h:2") // it has moved
	w.has("a 7 h:2", "b 7 h:1")
	p.withdraw("b", 7, "h:1")
	p.await("b", 7, withdrawn)
	p.withdraw("a", 7, "h:2")
	w.has()
	if why, _ := w.went("a"); why != source.Deregistered {
		t.Errorf("who left went for %v", why)
	}
	if st := w.service.Stats(); st.Nodes != 1 || st.Words != 6 || !st.Connected {
		t.Errorf("%+v", st)
	}
}

func TestALostProxysInstancesStayForAWhile(t *testing.T) {
	t.Parallel()
	w := start(t, node.Config{Keep: 300 * time.Millisecond})
	p := w.proxy("p1")
	p.register("back", 7, "h:1")
	p.register("gone", 7, "h:1")
	w.has("back 7 h:1", "gone 7 h:1")
	p.leave()
	again := w.proxy("p1")
	again.register("back", 7, "h:1")
	again.await("back", 7, published)
	w.has("back 7 h:1")
	if why, _ := w.went("gone"); why != source.Expired {
		t.Errorf("who was lost went for %v", why)
	}
	if _, times := w.went("back"); times > 0 {
		t.Error("who came back was gone")
	}
}

func TestThatMostProxiesAreLostIsDoubted(t *testing.T) {
	t.Parallel()
	w := start(t, node.Config{Keep: 50 * time.Millisecond, KeepMany: time.Hour})
	var all []*proxy
	var want []string
	for i := range 6 {
		p := w.proxy(fmt.Sprint("p", i))
		p.register(fmt.Sprint("i", i), 7, "h:1")
		p.await(fmt.Sprint("i", i), 7, published)
		all = append(all, p)
		want = append(want, fmt.Sprint("i", i, " 7 h:1"))
	}
	w.has(want...)
	for _, p := range all[:5] {
		p.leave()
	}
	for late := time.Now().Add(long); w.service.Stats().Orphans < 5 && time.Now().Before(late); {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(200 * time.Millisecond) // four times as long as one alone would be kept
	w.has(want...)
	for i := range 4 { // it was not the Pilot
		w.proxy(fmt.Sprint("p", i)).register("other", 7, "h:1")
	}
	w.has("i5 7 h:1", "other 7 h:1")
}

func TestTheNewestIncarnationWins(t *testing.T) {
	t.Parallel()
	w := start(t, node.Config{})
	first, second := w.proxy("p1"), w.proxy("p2")
	first.register("a", 5, "h:1")
	first.await("a", 5, published)
	second.register("a", 4, "h:2")
	second.await("a", 4, superseded)
	second.register("a", 5, "h:2") // the same process, by another proxy
	second.await("a", 5, published)
	first.await("a", 5, superseded)
	first.withdraw("a", 5, "h:1")
	first.await("a", 5, withdrawn)
	w.has("a 5 h:2")
	if _, times := w.went("a"); times > 0 {
		t.Error("it was gone in between")
	}
}

func TestDispatchersAreTriedInTurnWithoutAGap(t *testing.T) {
	t.Parallel()
	registry := sourcetest.NewMemory()
	one, kill := startDispatcher(t, registry)
	two, killTwo := startDispatcher(t, registry)
	w := (&world{
		t: t, registry: registry, there: make(map[string]*resourcev1.Endpoint), gone: make(map[string]source.Reason),
		ends: make(map[string]int), change: make(chan struct{}),
	}).with(node.Config{Dispatchers: []grpc.ClientConnInterface{one, two}})
	p := w.proxy("p1")
	for i := range 20 {
		p.register(fmt.Sprintf("i%02d", i), 7, "h:1")
	}
	for i := range 20 {
		p.await(fmt.Sprintf("i%02d", i), 7, published)
	}
	kill()
	p.withdraw("i00", 7, "h:1") // whoever hears it did not register it
	p.await("i00", 7, withdrawn)
	var want []string
	for i := 1; i < 20; i++ {
		want = append(want, fmt.Sprintf("i%02d 7 h:1", i))
	}
	w.has(want...)
	killTwo()
	p.register("late", 7, "h:1")
	if s := p.await("late", 7, pending); s.Reason == "" {
		t.Error("what waits says no reason")
	}
	for i := 1; i < 20; i++ {
		if _, times := w.went(fmt.Sprintf("i%02d", i)); times > 0 {
			t.Errorf("i%02d was gone", i)
		}
	}
	if why, _ := w.went("i00"); why != source.Deregistered {
		t.Errorf("who left went for %v", why)
	}
}

func TestIntroductionsAreChecked(t *testing.T) {
	t.Parallel()
	w := start(t, node.Config{Admit: func(_ context.Context, in *controlv1.Introduction) (func(), error) {
		if in.Instance == "stranger" {
			return nil, status.Error(codes.PermissionDenied, "unknown")
		}
		return func() {}, nil
	}})
	for what, c := range map[string]struct {
		in   *controlv1.Introduction
		want codes.Code
	}{
		"no environment": {&controlv1.Introduction{Instance: "p"}, codes.InvalidArgument},
		"a bad name":     {&controlv1.Introduction{Environment: "test", Instance: "p q"}, codes.InvalidArgument},
		"a bad zone":     {&controlv1.Introduction{Environment: "test", Instance: "p", Zone: "\n"}, codes.InvalidArgument},
		"a stranger":     {&controlv1.Introduction{Environment: "test", Instance: "stranger"}, codes.PermissionDenied},
	} {
		if _, err := w.connect(c.in).Recv(); status.Code(err) != c.want {
			t.Errorf("%s: %v", what, err)
		}
	}
	p := w.connect(nil)
	p.register("a", 1, "h:1")
	if _, err := p.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("without an introduction: %v", err)
	}
	p = w.proxy("p")
	p.say(&controlv1.ConnectRequest{Word: &controlv1.ConnectRequest_Introduction{Introduction: &controlv1.Introduction{Environment: "test", Instance: "q"}}})
	if _, err := p.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("with two: %v", err)
	}
}

func TestTooManyInstancesAreRefused(t *testing.T) {
	t.Parallel()
	w := start(t, node.Config{MaxInstances: 2, MaxAll: 3})
	first, second := w.proxy("p1"), w.proxy("p2")
	for _, name := range []string{"a", "b", "c"} {
		first.register(name, 1, "h:1")
	}
	first.await("c", 1, refused)
	first.await("b", 1, published)
	second.register("d", 1, "h:2")
	second.await("d", 1, published)
	second.register("e", 1, "h:2")
	second.await("e", 1, refused)
	w.has("a 1 h:1", "b 1 h:1", "d 1 h:2")
}

func TestWhatProxiesSayBesideIsToldAndKept(t *testing.T) {
	t.Parallel()
	anomalies := make(chan string, 10)
	who := fleet.NewRoster()
	w := start(t, node.Config{
		Roster:  who,
		Anomaly: func(n node.Info, a *controlv1.Anomaly) { anomalies <- n.Instance + " " + a.GetInstance() },
		Report: func(n node.Info, r *directoryv1.ReportRequest) *directoryv1.ReportResponse {
			return &directoryv1.ReportResponse{IntervalMs: 7}
		},
	})
	p := w.connect(&controlv1.Introduction{Environment: "test", Instance: "p1", Incarnation: 3, SoftwareVersion: "1.2", Zone: "z"})
	p.register("a", 1, "h:1")
	p.say(&controlv1.ConnectRequest{Word: &controlv1.ConnectRequest_Applied{Applied: &controlv1.Applied{Generation: 12, Hash: "abc"}}})
	p.say(&controlv1.ConnectRequest{Word: &controlv1.ConnectRequest_Anomaly{Anomaly: &controlv1.Anomaly{
		Target: "stock", Instance: "s1", Kind: controlv1.Anomaly_KIND_EJECTED, Count: 5, Text: "500",
	}}})
	p.say(&controlv1.ConnectRequest{Word: &controlv1.ConnectRequest_Attendance{Attendance: &controlv1.Attendance{
		Here: []*controlv1.Process{{Application: "web", Instance: "w1"}, {Application: "web", Instance: "w2"}},
	}}})
	p.say(&controlv1.ConnectRequest{Word: &controlv1.ConnectRequest_Attendance{Attendance: &controlv1.Attendance{
		Gone: []*controlv1.Process{{Application: "web", Instance: "w1"}},
	}}})
	p.say(&controlv1.ConnectRequest{Word: &controlv1.ConnectRequest_Condition{Condition: &controlv1.Condition{Degraded: true}}})
	p.say(&controlv1.ConnectRequest{Word: &controlv1.ConnectRequest_Report{Report: &directoryv1.ReportRequest{Environment: "test"}}})
	for {
		r, err := p.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if report := r.GetReport(); report != nil {
			if report.IntervalMs != 7 {
				t.Errorf("the answer is %v", report)
			}
			break
		}
	}
	if a := <-anomalies; a != "p1 s1" {
		t.Errorf("told of %s", a)
	}
	nodes := w.service.Nodes()
	if len(nodes) != 1 {
		t.Fatal(nodes)
	}
	n := nodes[0]
	if n.Instance != "p1" || n.Version != "1.2" || n.Zone != "z" || n.Generation != 12 || n.Hash != "abc" || n.Instances != 1 {
		t.Errorf("%+v", n)
	}
	seen := who.Seen("test", "web")
	if len(seen) != 1 || seen[0].GetProcess().GetInstance() != "w2" || seen[0].GetProxy().GetSoftwareVersion() != "1.2" || !seen[0].GetProxy().GetCondition().GetDegraded() {
		t.Error(seen)
	}
	defer func() { // who is beside a proxy is known while its stream stands
		p.leave()
		for late := time.Now().Add(long); who.Stats() != (fleet.Stats{}); time.Sleep(time.Millisecond) {
			if time.Now().After(late) {
				t.Fatal(who.Stats())
			}
		}
	}()
	if st := w.service.Stats(); st.Ejected != 5 || st.Reports != 1 {
		t.Errorf("%+v", st)
	}
}

func TestAProxyThatSaysTooMuchWaits(t *testing.T) {
	t.Parallel()
	w := start(t, node.Config{WordsPerSecond: 50})
	p := w.proxy("p1")
	const n = 270 // the pause before lets 251 through
	for i := range n {
		p.say(&controlv1.ConnectRequest{Word: &controlv1.ConnectRequest_Applied{Applied: &controlv1.Applied{Generation: uint64(i)}}})
	}
	p.register("a", 1, "h:1")
	p.await("a", 1, published)
	if st := w.service.Stats(); st.Slowed == 0 || st.Words != n+1 {
		t.Errorf("%+v", st)
	}
}
