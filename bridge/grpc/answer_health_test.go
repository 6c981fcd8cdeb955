package grpc_test

import (
	"context"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	bridge "github.com/octomesh/octomesh/bridge/grpc"
	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/meshtest/loopback"
	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/proxy/session"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

const (
	serving        = grpc_health_v1.HealthCheckResponse_SERVING
	notServing     = grpc_health_v1.HealthCheckResponse_NOT_SERVING
	serviceUnknown = grpc_health_v1.HealthCheckResponse_SERVICE_UNKNOWN
)

// asked is a client's proxy that answers questions, and a stock client of it.
type asked struct {
	*meshtest.Proxy
	cc     *grpc.ClientConn
	health grpc_health_v1.HealthClient
}

// startAsked starts a proxy with the target "thing" for the tests' service, and for the authority "things.example". Every other service
// is its own target.
func startAsked(t testing.TB, change func(*bridge.Answers)) *asked {
	t.Helper()
	p := &bridge.Protocol{Config: bridge.Config{
		Environment: meshtest.Environment, Application: "stock",
		Target: bridge.NewTargets(map[string]string{service: target}, map[string]string{"things.example": target}).Of,
	}}
	a := &bridge.Answers{Config: &p.Config, Services: []string{service}}
	if change != nil {
		change(a)
	}
	m := &asked{Proxy: startProxy(t, proxy.Config{
		Protocols: []session.Protocol{p}, Answers: map[string]proxy.Answerer{p.Name(): a},
		Dials: map[resourcev1.Protocol]session.Protocol{resourcev1.Protocol_PROTOCOL_GRPC: &bridge.Protocol{}},
	})}
	m.cc = dial(t, "unix:"+m.Socket, nil)
	m.health = grpc_health_v1.NewHealthClient(m.cc)
	return m
}

func (m *asked) publish(t testing.TB, addresses map[string][]string) {
	t.Helper()
	if err := m.Endpoints(addresses); err != nil {
		t.Fatal(err)
	}
}

func (m *asked) check(t testing.TB, name string) (grpc_health_v1.HealthCheckResponse_ServingStatus, codes.Code) {
	t.Helper()
	r, err := m.health.Check(within(t), &grpc_health_v1.HealthCheckRequest{Service: name})
	return r.GetStatus(), status.Code(err)
}

func (m *asked) wantCheck(t testing.TB, name string, want grpc_health_v1.HealthCheckResponse_ServingStatus, code codes.Code) {
	t.Helper()
	if got, err := m.check(t, name); got != want || err != code {
		t.Errorf("%q is %v, %v; want %v, %v", name, got, err, want, code)
	}
}

type healthWatch = grpc.ServerStreamingClient[grpc_health_v1.HealthCheckResponse]

func (m *asked) watch(t testing.TB, name string) healthWatch {
	t.Helper()
	w, err := m.health.Watch(within(t), &grpc_health_v1.HealthCheckRequest{Service: name})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func wantNext(t testing.TB, w healthWatch, want grpc_health_v1.HealthCheckResponse_ServingStatus) {
	t.Helper()
	if r, err := w.Recv(); err != nil || r.GetStatus() != want {
		t.Fatalf("the watch tells %v, %v; want %v", r.GetStatus(), err, want)
	}
}

func TestHealthIsWhatTheProxyKnows(t *testing.T) {
	m := startAsked(t, nil)
	m.wantCheck(t, "", notServing, codes.OK) // without a configuration
	m.publish(t, map[string][]string{target: {loopback.Free(t)}, "bare": nil})
	m.wantCheck(t, "", serving, codes.OK)
	m.wantCheck(t, service, serving, codes.OK)
	m.wantCheck(t, target, serving, codes.OK)
	m.wantCheck(t, "bare", notServing, codes.OK)
	m.wantCheck(t, "no.such.Service", 0, codes.NotFound)
	m.wantCheck(t, "no name at all", 0, codes.NotFound)
	for name, one := range map[string]*resourcev1.Endpoint{"disabled": {Disabled: true}, "without weight": {Weight: new(uint32)}} {
		one.Target, one.Instance, one.MeshAddress = target, "thing-0", loopback.Free(t)
		if err := m.Publish(&resourcev1.Snapshot{Endpoints: []*resourcev1.Endpoint{one}}); err != nil {
			t.Fatal(err)
		}
		t.Log(name)
		m.wantCheck(t, service, notServing, codes.OK)
	}
}

func TestATargetIsAsWellAsThoseWhoGetItsCalls(t *testing.T) {
	m := startAsked(t, nil)
	for to, want := range map[string]grpc_health_v1.HealthCheckResponse_ServingStatus{"full": serving, "bare": notServing} {
		if err := m.Publish(&resourcev1.Snapshot{
			Policies: []*resourcev1.ServicePolicy{
				{Target: target, Routes: []*resourcev1.Route{{Name: "away", Destinations: []*resourcev1.Destination{{Target: to}}}}}, {Target: "bare"},
			},
			Endpoints: []*resourcev1.Endpoint{
				{Target: target, Instance: "thing-0", MeshAddress: loopback.Free(t), Disabled: to == "full"}, {Target: "full", Instance: "f", MeshAddress: loopback.Free(t)},
			},
		}); err != nil {
			t.Fatal(err)
		}
		m.wantCheck(t, service, want, codes.OK)
	}
}

func TestHealthIsListed(t *testing.T) {
	m := startAsked(t, func(a *bridge.Answers) { a.Services = []string{service, "gone.Service"} })
	m.publish(t, map[string][]string{target: nil})
	r, err := m.health.List(within(t), &grpc_health_v1.HealthListRequest{})
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]grpc_health_v1.HealthCheckResponse_ServingStatus)
	for name, is := range r.GetStatuses() {
		got[name] = is.GetStatus()
	}
	want := map[string]grpc_health_v1.HealthCheckResponse_ServingStatus{"": serving, service: notServing, "gone.Service": serviceUnknown}
	if !maps.Equal(got, want) {
		t.Errorf("listed are %v, want %v", got, want)
	}
	many := startAsked(t, func(a *bridge.Answers) { a.Services = make([]string, 100) })
	many.publish(t, nil)
	_, err = many.health.List(within(t), &grpc_health_v1.HealthListRequest{})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a list of too many ends %v", err)
	}
}

func TestHealthIsToldWhenItChanges(t *testing.T) {
	m := startAsked(t, nil)
	m.publish(t, nil)
	one, later := m.watch(t, service), m.watch(t, "later.Service")
	wantNext(t, one, serviceUnknown)
	wantNext(t, later, serviceUnknown)
	at := loopback.Free(t)
	m.publish(t, map[string][]string{target: {at}})
	wantNext(t, one, serving)
	m.publish(t, map[string][]string{target: {at}, "unrelated": {at}}) // nothing is said of it
	m.publish(t, map[string][]string{target: nil, "later.Service": {at}})
	wantNext(t, one, notServing)
	wantNext(t, later, serving)
}

func TestHealthGoesByTheAuthority(t *testing.T) {
	m := startAsked(t, nil)
	m.publish(t, map[string][]string{target: nil})
	cc, err := grpc.NewClient("unix:"+m.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("things.example:443"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cc.Close() }()
	r, err := grpc_health_v1.NewHealthClient(cc).Check(within(t), &grpc_health_v1.HealthCheckRequest{})
	if err != nil || r.GetStatus() != notServing {
		t.Errorf("the target that the authority means is %v, %v", r.GetStatus(), err)
	}
	m.wantCheck(t, "", serving, codes.OK)
}

func TestALeavingProxySaysSo(t *testing.T) {
	m := startAsked(t, nil)
	m.publish(t, nil)
	w := m.watch(t, "")
	wantNext(t, w, serving)
	left := make(chan struct{})
	go func() { m.Drain(context.Background()); close(left) }()
	wantNext(t, w, notServing)
	if _, err := w.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the watch ends %v", err)
	}
	<-left
}

// relay passes what comes on an address to another one, as long as it is open.
type relay struct {
	l  net.Listener
	wg sync.WaitGroup
	mu sync.Mutex
	cs []net.Conn
}

func openRelay(t testing.TB, at, to string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{l: l}
	r.wg.Go(func() {
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", to)
			if err != nil {
				_ = a.Close()
				continue
			}
			r.mu.Lock()
			r.cs = append(r.cs, a, b)
			r.mu.Unlock()
			r.wg.Go(func() { _, _ = io.Copy(a, b); _ = a.Close() })
			r.wg.Go(func() { _, _ = io.Copy(b, a); _ = b.Close() })
		}
	})
	return r
}

func (r *relay) close() {
	_ = r.l.Close()
	r.mu.Lock()
	for _, c := range r.cs {
		_ = c.Close()
	}
	r.mu.Unlock()
	r.wg.Wait()
}

// Clients that check health call nobody who is not serving: the proxy itself finds out when somebody answers again.
func TestATargetWhereNobodyAnswersIsNotServingUntilSomebodyDoes(t *testing.T) {
	server := startProxy(t, proxy.Config{})
	if err := server.Endpoints(nil); err != nil {
		t.Fatal(err)
	}
	m, at := startAsked(t, nil), loopback.Free(t)
	m.publish(t, map[string][]string{target: {at}})
	w := m.watch(t, service)
	wantNext(t, w, serving) // nobody has asked there yet
	if _, err := do(within(t), m.cc, nil); status.Code(err) != codes.Unavailable {
		t.Fatalf("the call ended %v", err)
	}
	wantNext(t, w, notServing)
	r := openRelay(t, at, server.Address)
	defer r.close()
	wantNext(t, w, serving)
}

func TestHealthOfAServersOwnIsPassedOnWhenItIsNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, own := grpc.NewServer(), health.NewServer()
	own.SetServingStatus("its.Own", notServing)
	grpc_health_v1.RegisterHealthServer(s, own)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	m := startAsked(t, func(a *bridge.Answers) { a.Passed = func(name string) bool { return name == "grpc.health.v1.Health" } })
	if err := m.Publish(&resourcev1.Snapshot{Endpoints: []*resourcev1.Endpoint{{
		Target: "grpc.health.v1.Health", Instance: "h", DirectAddress: l.Addr().String(), DirectProtocol: resourcev1.Protocol_PROTOCOL_GRPC,
	}}}); err != nil {
		t.Fatal(err)
	}
	m.wantCheck(t, "its.Own", notServing, codes.OK)
	m.wantCheck(t, service, 0, codes.NotFound)
}

func TestStrangeQuestionsAboutHealthAreAnswered(t *testing.T) {
	m := startAsked(t, nil)
	m.publish(t, nil)
	for method, want := range map[string]codes.Code{"Nothing": codes.Unimplemented, "Check": codes.InvalidArgument} {
		s, err := m.cc.NewStream(within(t), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/grpc.health.v1.Health/"+method)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if err := s.RecvMsg(&msg{}); status.Code(err) != want {
			t.Errorf("%s without a request ends %v, want %v", method, err, want)
		}
	}
	var bad msg
	if err := m.cc.Invoke(within(t), "/grpc.health.v1.Health/Check", &msg{Value: []byte{0xff}}, &bad); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a request that is none ends %v", err)
	}
	big := slices.Repeat([]byte("x"), session.MaxLocal+1)
	if err := m.cc.Invoke(within(t), "/grpc.health.v1.Health/Check", &msg{Value: big}, &bad); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a request of %d bytes ends %v", len(big), err)
	}
}

// More watches than one connection may have are refused, and the others go on.
func TestWatchesOfOneConnectionAreBounded(t *testing.T) {
	m := startAsked(t, nil)
	m.publish(t, nil)
	first := m.watch(t, "")
	wantNext(t, first, serving)
	for range 255 {
		wantNext(t, m.watch(t, "a.Service"), serviceUnknown)
	}
	if _, err := m.watch(t, "a.Service").Recv(); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one too many ends %v", err)
	}
}
