package configserver_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/octomesh/octomesh/core/configserver"
	"github.com/octomesh/octomesh/core/configserver/store"
	"github.com/octomesh/octomesh/core/pilot"
	"github.com/octomesh/octomesh/core/pilot/snapshot"
	"github.com/octomesh/octomesh/core/proxy/control"
	proxystore "github.com/octomesh/octomesh/core/proxy/store"
	"github.com/octomesh/octomesh/core/resource"
	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
	dispatchv1 "github.com/octomesh/octomesh/gen/control/octo/dispatch/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// long is for what must come.
const long = 60 * time.Second

// brisk has roll-outs looked at as often as a test wants.
var brisk = configserver.Pace{
	Tick: 5 * time.Millisecond, Settle: time.Millisecond, Repeat: 50 * time.Millisecond, Stale: 5 * time.Second, Absence: 10 * time.Second,
}

// serve runs gRPC services in the process until they are stopped, and returns how one reaches them.
func serve(t *testing.T, register func(grpc.ServiceRegistrar), options ...grpc.ServerOption) (conn *grpc.ClientConn, stop func()) {
	t.Helper()
	l, g := bufconn.Listen(1<<20), grpc.NewServer(options...)
	register(g)
	var served sync.WaitGroup
	served.Go(func() { _ = g.Serve(l) })
	conn, err := grpc.NewClient("passthrough:here", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() { g.Stop(); served.Wait() })
	t.Cleanup(func() { _ = conn.Close(); stop() })
	return conn, stop
}

// registry is a Dispatcher that knows no instances.
type registry struct {
	dispatchv1.UnimplementedDispatchServer
}

// Watch implements the service.
func (registry) Watch(s grpc.BidiStreamingServer[dispatchv1.WatchRequest, dispatchv1.WatchResponse]) error {
	for {
		r, err := s.Recv()
		if err != nil {
			return err
		}
		for _, k := range r.Follow {
			if err := s.Send(&dispatchv1.WatchResponse{Key: k, Full: true}); err != nil {
				return err
			}
		}
	}
}

// mesh is a control plane with proxies, in one process.
type mesh struct {
	t     *testing.T
	store store.Store
	pace  configserver.Pace
	conns []grpc.ClientConnInterface
	stops []func()

	mu      sync.Mutex
	proxies map[string]*proxy
	news    chan struct{} // holds one element while something has changed
}

// proxy is one that goes by whatever it is told, or not.
type proxy struct {
	name string
	mesh *mesh
	stop func()
	gone <-chan struct{}
	mute atomic.Bool     // what it says goes nowhere any more
	has  uint32          // max_open_calls of shop.cart; 0: none
	told map[uint32]bool // what it was ever told
	bad  func(p *proxy, calls uint32) error
}

// configServer adds a Config Server; stop takes it away again.
func (m *mesh) configServer() (s *configserver.Service, conn grpc.ClientConnInterface, stop func()) {
	s = configserver.New(configserver.Config{Store: m.store, Log: slog.New(slog.DiscardHandler), Pace: m.pace})
	c, end := serve(m.t, s.Register)
	ctx, cancel := context.WithCancel(context.Background())
	var runs sync.WaitGroup
	runs.Go(func() { s.Run(ctx) })
	stop = sync.OnceFunc(func() { cancel(); runs.Wait(); end() })
	m.t.Cleanup(stop)
	return s, c, stop
}

// addPilot adds a Pilot that asks these Config Servers.
func (m *mesh) addPilot(servers ...grpc.ClientConnInterface) {
	m.t.Helper()
	d, _ := serve(m.t, func(g grpc.ServiceRegistrar) { dispatchv1.RegisterDispatchServer(g, registry{}) })
	p, err := pilot.New(pilot.Config{Dispatchers: []grpc.ClientConnInterface{d}, ConfigServers: servers})
	if err != nil {
		m.t.Fatal(err)
	}
	conn, end := serve(m.t, p.Register, pilot.ServerOptions()...)
	ctx, cancel := context.WithCancel(context.Background())
	var runs sync.WaitGroup
	runs.Go(func() { p.Run(ctx) })
	stop := sync.OnceFunc(func() { cancel(); end(); runs.Wait() })
	m.t.Cleanup(stop)
	m.conns, m.stops = append(m.conns, conn), append(m.stops, stop)
}

func newMesh(t *testing.T) *mesh {
	return &mesh{t: t, store: store.NewMemory(0), pace: brisk, proxies: make(map[string]*proxy), news: make(chan struct{}, 1)}
}

func (m *mesh) changed() {
	select {
	case m.news <- struct{}{}:
	default:
	}
}

// start runs a proxy. bad says what it does not go by.
func (m *mesh) start(name string, bad func(*proxy, uint32) error) *proxy {
	p := &proxy{name: name, mesh: m, told: make(map[uint32]bool), bad: bad}
	m.mu.Lock()
	m.proxies[name] = p
	m.mu.Unlock()
	p.run()
	return p
}

func (p *proxy) run() {
	p.mute.Store(false)
	c := control.New(control.Config{
		Environment: "prod", Instance: p.name, Pilots: p.pilots(), Targets: []string{"shop.cart"}, Log: slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(context.Background())
	var runs sync.WaitGroup
	p.gone = ctx.Done()
	runs.Go(func() { _ = c.Run(ctx, proxystore.Snapshots(p.apply)) })
	p.stop = sync.OnceFunc(func() { cancel(); runs.Wait() })
	p.mesh.t.Cleanup(p.stop)
}

// pilots are the connections to Pilots, over which a mute proxy says nothing.
func (p *proxy) pilots() []grpc.ClientConnInterface {
	conns := make([]grpc.ClientConnInterface, 0, len(p.mesh.conns))
	for _, c := range p.mesh.conns {
		conns = append(conns, mutable{c, p})
	}
	return conns
}

type mutable struct {
	grpc.ClientConnInterface

	by *proxy
}

func (m mutable) NewStream(ctx context.Context, d *grpc.StreamDesc, method string, o ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := m.ClientConnInterface.NewStream(ctx, d, method, o...)
	return mutableStream{s, m.by}, err
}

type mutableStream struct {
	grpc.ClientStream

	by *proxy
}

func (s mutableStream) SendMsg(m any) error {
	if s.by.mute.Load() {
		return io.EOF
	}
	return s.ClientStream.SendMsg(m)
}

func (p *proxy) apply(s *resourcev1.Snapshot) error {
	calls := uint32(0)
	for _, policy := range s.GetPolicies() {
		calls = policy.GetLimits().GetMaxOpenCalls()
	}
	p.mesh.mu.Lock()
	defer p.mesh.mu.Unlock()
	defer p.mesh.changed()
	p.told[calls] = true
	if p.bad != nil {
		if err := p.bad(p, calls); err != nil {
			return err
		}
	}
	p.has = calls
	return nil
}

// with are the proxies that go by a value, told those that were ever told it.
func (m *mesh) with(calls uint32) (with, told []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(m.proxies)) {
		if m.proxies[name].has == calls {
			with = append(with, name)
		}
		if m.proxies[name].told[calls] {
			told = append(told, name)
		}
	}
	return with, told
}

// all waits until all proxies go by a value.
func (m *mesh) all(calls uint32) {
	m.t.Helper()
	late := time.After(long)
	for {
		with, _ := m.with(calls)
		if len(with) == len(m.proxies) {
			return
		}
		select {
		case <-m.news:
		case <-late:
			m.t.Fatalf("%d of %d proxies go by %d", len(with), len(m.proxies), calls)
		}
	}
}

// until waits until a roll-out is as a test wants it. It looks whenever the store has changed.
func (m *mesh) until(s *configserver.Service, id uint64, what string, is func(*configv1.Rollout) bool) *configv1.Rollout {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), long)
	defer cancel()
	var last *configv1.Rollout
	look := func() bool {
		r, err := s.Rollouts(ctx, &configv1.RolloutsRequest{Environment: "prod", Id: id})
		if err != nil {
			return false
		}
		last = r.GetRollouts()[0]
		return is(last)
	}
	_, at, err := m.store.List(ctx, "")
	if err == nil && !look() {
		err = m.store.Watch(ctx, "", at, func(store.Batch) error {
			if look() {
				return errFound
			}
			return nil
		})
	}
	if err != nil && !errors.Is(err, errFound) {
		m.t.Fatalf("roll-out %d is never %s, but %v: %v", id, what, last, err)
	}
	return last
}

var errFound = errors.New("found")

func limit(calls int) string {
	return fmt.Sprintf("policies: [{target: shop.cart, limits: {max_open_calls: %d}}]\n", calls)
}

func put(s *configserver.Service, content string, waves *configv1.Waves, force bool) (*configv1.ApplyResponse, error) {
	return s.Apply(context.Background(), &configv1.ApplyRequest{
		Environment: "prod", Files: file(content), Why: why("a test"), Waves: waves, Force: force,
	})
}

func (m *mesh) put(s *configserver.Service, content string, waves *configv1.Waves) uint64 {
	m.t.Helper()
	r, err := put(s, content, waves, false)
	if err != nil {
		m.t.Fatal(err)
	}
	return r.GetRollout()
}

func soak(d time.Duration) *configv1.Waves { return &configv1.Waves{Soak: durationpb.New(d)} }

// shop is a mesh with 200 proxies that go by 100 calls.
func shop200(t *testing.T, bad func(*proxy, uint32) error) (*mesh, *configserver.Service) {
	t.Helper()
	m := newMesh(t)
	s, conn, _ := m.configServer()
	m.addPilot(conn)
	m.put(s, limit(100), nil)
	for i := range 200 {
		m.start(fmt.Sprintf("p%03d", i), bad)
	}
	m.all(100)
	return m, s
}

func phase(p configv1.Rollout_Phase) func(*configv1.Rollout) bool {
	return func(r *configv1.Rollout) bool { return r.GetPhase() == p }
}

// settled tells whether all that are to have it have it, at a stage.
func settled(stage uint32) func(*configv1.Rollout) bool {
	return func(r *configv1.Rollout) bool {
		p := r.GetProgress()
		return r.GetStage() == stage && r.GetSince() != nil && p.GetWaiting() == 0 && p.GetChosen() > 0 && p.GetApplied() == p.GetChosen()
	}
}

func (m *mesh) steer(s *configserver.Service, id uint64, a configv1.SteerRequest_Action) error {
	_, err := s.Steer(context.Background(), &configv1.SteerRequest{Environment: "prod", Id: id, Action: a, Why: why("go on")})
	return err
}

func TestAGoodChangeReachesAllStageByStage(t *testing.T) {
	t.Parallel()
	m, s := shop200(t, nil)
	id := m.put(s, limit(200), soak(time.Hour))
	var before []string
	for stage, bounds := range [][2]int{{1, 1}, {1, 8}, {8, 40}, {70, 130}, {200, 200}} {
		if stage > 0 {
			if err := m.steer(s, id, configv1.SteerRequest_ACTION_ADVANCE); err != nil {
				t.Fatal(err)
			}
		}
		m.until(s, id, fmt.Sprintf("settled at stage %d", stage), func(r *configv1.Rollout) bool {
			with, _ := m.with(200)
			return settled(uint32(stage))(r) && int(r.GetProgress().GetApplied()) == len(with)
		})
		with, told := m.with(200)
		if len(with) < bounds[0] || len(with) > bounds[1] || len(told) != len(with) {
			t.Errorf("at stage %d, %d proxies have it, and %d were told; want %d to %d", stage, len(with), len(told), bounds[0], bounds[1])
		}
		for _, p := range before {
			if !slices.Contains(with, p) {
				t.Errorf("stage %d takes it from %s", stage, p)
			}
		}
		t.Logf("stage %d: %d proxies", stage, len(with))
		before = with
	}
	if err := m.steer(s, id, configv1.SteerRequest_ACTION_ADVANCE); err != nil {
		t.Fatal(err)
	}
	r, err := s.Get(t.Context(), &configv1.GetRequest{Environment: "prod", Name: "policy/shop.cart"})
	if err != nil || r.GetVersion().GetRevision() != 2 || r.GetVersion().GetCandidate() != nil || r.GetVersion().GetRollout() != id {
		t.Errorf("after its end: %v, %v", r, err)
	}
}

func TestARollOutGoesOnByItself(t *testing.T) {
	t.Parallel()
	m, s := shop200(t, nil)
	id := m.put(s, limit(200), soak(20*time.Millisecond))
	r := m.until(s, id, "done", phase(configv1.Rollout_PHASE_DONE))
	m.all(200)
	var events []string
	for _, e := range r.GetEvents() {
		events = append(events, e.GetText())
	}
	first := r.GetFirst()
	equal(t, "events", strings.Join(events, "; "),
		"begun: a test; "+first+" is the first; "+first+" goes by it; at 1 %; at 10 %; at 50 %; at 100 %; done")
}

var errPoison = errors.New("limits.max_open_calls: 666 is of the beast")

// poisoned refuses 666.
func poisoned(_ *proxy, calls uint32) error {
	if calls == 666 {
		return errPoison
	}
	return nil
}

func TestAPoisonPushTouchesOneProxyAndIsTakenBack(t *testing.T) {
	t.Parallel()
	m, s := shop200(t, poisoned)
	id := m.put(s, limit(666), soak(10*time.Millisecond))
	r := m.until(s, id, "reverted", phase(configv1.Rollout_PHASE_REVERTED))
	if _, told := m.with(666); len(told) != 1 || told[0] != r.GetFirst() {
		t.Errorf("%d of 200 proxies were told, want the first, %s: %v", len(told), r.GetFirst(), told)
	}
	says := r.GetFirst() + " refused it at 1 proxy: ServicePolicy shop.cart: " + errPoison.Error()
	if r.GetWhy() != says {
		t.Errorf("why: %q, want %q", r.GetWhy(), says)
	}
	h, err := s.History(t.Context(), &configv1.HistoryRequest{Environment: "prod", Name: "policy/shop.cart"})
	if err != nil {
		t.Fatal(err)
	}
	v := h.GetVersions()
	if len(v) != 3 || v[0].GetReason() != says || v[0].GetAction() != "revert of roll-out 1" || v[0].GetRevision() != 3 ||
		v[0].GetResource().GetPolicies()[0].GetLimits().GetMaxOpenCalls() != 100 || v[1].GetAction() != "apply in waves" {
		t.Errorf("history: %v", v)
	}
	f := &fixture{t: t}
	_, err = put(s, limit(666), nil, false)
	f.code(err, codes.FailedPrecondition, "this is what revision 2 was, and roll-out 1 was reverted: "+says)
	_, err = s.Rollback(t.Context(), &configv1.RollbackRequest{Environment: "prod", Name: "policy/shop.cart", To: 2, Why: why("again")})
	f.code(err, codes.FailedPrecondition, "say --force")
	again, err := put(s, limit(666), soak(time.Hour), true)
	if err != nil || again.GetRollout() != 2 {
		t.Fatal(again, err)
	}
	m.until(s, 2, "reverted", phase(configv1.Rollout_PHASE_REVERTED))
	m.put(s, limit(150), nil) // another content may go at once
	m.all(150)
}

// TestARefusalAtTenPercentIsTakenBackFromAll has a candidate that most proxies take.
func TestARefusalAtTenPercentIsTakenBackFromAll(t *testing.T) {
	t.Parallel()
	m, s := shop200(t, nil)
	id := m.put(s, limit(667), soak(time.Hour))
	m.until(s, id, "settled", settled(0))
	m.mu.Lock()
	for _, p := range m.proxies {
		if p.has != 667 {
			p.bad = func(_ *proxy, calls uint32) error {
				if calls == 667 {
					return errPoison
				}
				return nil
			}
		}
	}
	m.mu.Unlock()
	for range 2 { // at 1 % there may be none but the first
		if err := m.steer(s, id, configv1.SteerRequest_ACTION_ADVANCE); err != nil {
			break // it was reverted already
		}
	}
	m.until(s, id, "reverted", phase(configv1.Rollout_PHASE_REVERTED))
	m.all(100)
	if _, told := m.with(667); len(told) > 40 {
		t.Errorf("%d proxies were told", len(told))
	}
}

// introduce has a proxy introduce itself to the first Pilot.
func (m *mesh) introduce(name string, suspect *controlv1.Suspect) {
	m.t.Helper()
	s, err := controlv1.NewNodeClient(m.conns[0]).Connect(m.t.Context())
	if err == nil {
		err = s.Send(&controlv1.ConnectRequest{Word: &controlv1.ConnectRequest_Introduction{Introduction: &controlv1.Introduction{
			Environment: "prod", Instance: name, Incarnation: uint64(suspect.GetCrashes()), Suspects: []*controlv1.Suspect{suspect},
		}}})
	}
	if err != nil {
		m.t.Error(err)
	}
}

// TestACrashLoopIsTakenBack has proxies that crash with a candidate before they answer. What they suspect they say when
// they introduce themselves again.
func TestACrashLoopIsTakenBack(t *testing.T) {
	t.Parallel()
	m, s := shop200(t, nil)
	crashed := make(chan *proxy, 200)
	m.mu.Lock()
	for _, p := range m.proxies {
		p.bad = func(p *proxy, calls uint32) error {
			if calls != 777 {
				return nil
			}
			p.mute.Store(true) // a stream goes on for a moment after its context has ended, and would bring a refusal
			crashed <- p
			p.mesh.mu.Unlock()
			<-p.gone
			p.mesh.mu.Lock()
			return errors.New("it is gone before anybody hears this")
		}
	}
	m.mu.Unlock()
	topic := resource.Topic{Kind: resource.KindServicePolicy, Environment: "prod", Target: "shop.cart"}
	candidate, err := snapshot.New(topic, "", &resourcev1.ServicePolicy{Limits: &resourcev1.Limits{MaxOpenCalls: 777}})
	if err != nil {
		t.Fatal(err)
	}
	id := m.put(s, limit(777), soak(10*time.Millisecond))
	names := make(map[string]uint32)
	for range 2 {
		select {
		case p := <-crashed:
			p.stop()
			names[p.name]++
			p.run()
			m.introduce(p.name, &controlv1.Suspect{
				TypeUrl: topic.Kind.TypeURL(), Name: topic.FullName(""), Version: candidate.Version, Crashes: names[p.name],
			})
		case <-time.After(long):
			r, err := s.Rollouts(t.Context(), &configv1.RolloutsRequest{Environment: "prod", Id: id})
			t.Fatal("nobody crashes after ", names, r, err)
		}
	}
	r := m.until(s, id, "reverted", phase(configv1.Rollout_PHASE_REVERTED))
	if want := r.GetFirst() + " crashed 2 times with it at 1 proxy"; len(names) != 1 || !strings.HasPrefix(r.GetWhy(), want) {
		t.Errorf("%v crashed; why: %q", names, r.GetWhy())
	}
	f := &fixture{t: t}
	_, err = put(s, limit(777), nil, false)
	f.code(err, codes.FailedPrecondition, "say --force")
}

// TestARollOutOutlivesConfigServersAndPilots replaces both in the middle.
func TestARollOutOutlivesConfigServersAndPilots(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	a, first, stopA := m.configServer()
	b, second, _ := m.configServer()
	m.addPilot(first, second)
	m.addPilot(second)
	m.put(a, limit(100), nil)
	for i := range 50 {
		m.start(fmt.Sprintf("p%03d", i), nil)
	}
	m.all(100)
	id := m.put(a, limit(200), soak(time.Hour))
	m.until(a, id, "settled", settled(0))
	for range 2 {
		if err := m.steer(a, id, configv1.SteerRequest_ACTION_ADVANCE); err != nil {
			t.Fatal(err)
		}
	}
	m.until(a, id, "settled at 10 %", settled(2))
	before, _ := m.with(200)
	stopA() // the first Pilot goes on with the other one
	m.stops[0]()
	r := m.until(b, id, "seen by the other Pilot", func(r *configv1.Rollout) bool {
		return settled(2)(r) && r.GetProgress().GetPilots() == 1 && r.GetProgress().GetConnected() == 50
	})
	if with, _ := m.with(200); !slices.Equal(with, before) || r.GetStage() != 2 {
		t.Errorf("after the change %v have it at stage %d, before %v", with, r.GetStage(), before)
	}
	for range 2 {
		if err := m.steer(b, id, configv1.SteerRequest_ACTION_ADVANCE); err != nil {
			t.Fatal(err)
		}
	}
	m.all(200)
}

// TestAPilotThatIsGoneForGoodIsNotWaitedFor has the word of one that did not end its stream, nor did the Config Server that
// heard it.
func TestAPilotThatIsGoneForGoodIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	m.pace.Stale = 200 * time.Millisecond
	s, conn, _ := m.configServer()
	m.addPilot(conn)
	m.put(s, limit(100), nil)
	m.start("p1", nil)
	m.all(100)
	const ghost = "config/observed/prod/00000000000000000001/ghost"
	word, err := proto.Marshal(&configv1.Observation{Environment: "prod", Rollout: 1, Connected: 5, Waiting: 5})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.store.Commit(t.Context(), store.Op{Key: ghost, Value: word}); err != nil {
		t.Fatal(err)
	}
	_, at, err := m.store.List(t.Context(), ghost)
	if err != nil {
		t.Fatal(err)
	}
	id := m.put(s, limit(200), soak(2*time.Second))
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	err = m.store.Watch(ctx, ghost, at, func(store.Batch) error { return errFound })
	if !errors.Is(err, errFound) {
		t.Fatal("what the ghost said is kept as long as the roll-out lasts:", err)
	}
	if r := m.until(s, id, "settled", settled(0)); r.GetProgress().GetPilots() != 1 {
		t.Error(r)
	}
	m.until(s, id, "at 1 %", func(r *configv1.Rollout) bool { return r.GetStage() == 1 })
}

func TestWhileAChangeIsRolledOutNobodyOverwritesIt(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	s, conn, _ := m.configServer()
	m.addPilot(conn)
	f := &fixture{t: t}
	m.put(s, limit(100), nil)
	id := m.put(s, limit(200), soak(time.Hour))
	busy := "policy/shop.cart in prod is being rolled out (roll-out 1): end that first"
	_, err := put(s, limit(300), nil, true)
	f.code(err, codes.FailedPrecondition, busy)
	_, err = put(s, limit(200), soak(time.Hour), false)
	f.code(err, codes.FailedPrecondition, busy)
	_, err = s.Delete(t.Context(), &configv1.DeleteRequest{Environment: "prod", Names: []string{"policy/shop.cart"}, Why: why("x")})
	f.code(err, codes.FailedPrecondition, busy)
	_, err = put(s, "policies: [{target: shop.order}]\n", nil, false) // others may change
	f.code(err, codes.OK, "")
	if err := m.steer(s, id, configv1.SteerRequest_ACTION_PAUSE); err != nil {
		t.Fatal(err)
	}
	m.until(s, id, "paused", phase(configv1.Rollout_PHASE_PAUSED))
	if err := m.steer(s, id, configv1.SteerRequest_ACTION_REVERT); err != nil {
		t.Fatal(err)
	}
	f.code(m.steer(s, id, configv1.SteerRequest_ACTION_FINISH), codes.FailedPrecondition, "roll-out 1 is over: reverted: go on")
	f.code(m.steer(s, 9, configv1.SteerRequest_ACTION_FINISH), codes.NotFound, "there is no roll-out 9")
	id = m.put(s, limit(200), soak(time.Hour)) // an operator's word is no proof that it is bad
	if err := m.steer(s, id, configv1.SteerRequest_ACTION_FINISH); err != nil {
		t.Fatal(err)
	}
	// Deletions and what is new go in waves too.
	d, err := s.Delete(t.Context(), &configv1.DeleteRequest{Environment: "prod", Names: []string{"policy/shop.cart"}, Why: why("x"), Waves: soak(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.steer(s, d.GetRollout(), configv1.SteerRequest_ACTION_FINISH); err != nil {
		t.Fatal(err)
	}
	_, err = s.Get(t.Context(), &configv1.GetRequest{Environment: "prod", Name: "policy/shop.cart"})
	f.code(err, codes.NotFound, "was deleted as revision 5")
	id = m.put(s, "auth_policies: [{target: shop.cart}]\ninstances: [{target: shop.cart, instance: i, weight: 1}]\n", soak(time.Hour))
	_, err = s.Get(t.Context(), &configv1.GetRequest{Environment: "prod", Name: "auth/shop.cart"})
	f.code(err, codes.NotFound, fmt.Sprintf("roll-out %d brings it", id))
	_, err = s.Get(t.Context(), &configv1.GetRequest{Environment: "prod", Name: "instance/shop.cart,i"})
	f.code(err, codes.OK, "")
	if err := m.steer(s, id, configv1.SteerRequest_ACTION_REVERT); err != nil {
		t.Fatal(err)
	}
	_, err = s.Get(t.Context(), &configv1.GetRequest{Environment: "prod", Name: "auth/shop.cart"})
	f.code(err, codes.NotFound, "was deleted as revision 2")
}
