package grpc_test

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	bridge "github.com/octomesh/octomesh/bridge/grpc"
	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/meshtest/loopback"
	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/proxy/register"
	"github.com/octomesh/octomesh/core/proxy/session"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// served is a client's proxy, and a server's proxy for each address of a stock server.
type served struct {
	client  *meshtest.Proxy
	servers []*meshtest.Proxy
}

func startServed(t testing.TB, addresses ...string) *served {
	t.Helper()
	m := &served{client: startProxy(t, proxy.Config{Protocols: []session.Protocol{protocol()}})}
	var inbound []string
	for _, a := range addresses {
		p := startProxy(t, proxy.Config{
			Dials:    map[resourcev1.Protocol]session.Protocol{resourcev1.Protocol_PROTOCOL_GRPC: &bridge.Protocol{}},
			Register: register.New(register.Config{MeshAddress: "here:1"}),
			Servers: []proxy.Server{{
				Application: "stocks", Instance: "stock-1", Targets: []string{target}, Address: a,
				Protocol: resourcev1.Protocol_PROTOCOL_GRPC, Watch: bridge.WatchHealth,
			}},
		})
		if err := p.Endpoints(nil); err != nil {
			t.Fatal(err)
		}
		m.servers, inbound = append(m.servers, p), append(inbound, p.Address)
	}
	if err := m.client.Endpoints(map[string][]string{target: inbound}); err != nil {
		t.Fatal(err)
	}
	return m
}

// registered waits until the server's proxy has registered the instance, or has not.
func (m *served) registered(t testing.TB, want bool) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		all := m.servers[0].Registrations().Registrations
		is := len(all) == 1 && all[0].Instance == "stock-1" && all[0].Target == target && all[0].State != "withdrawing"
		if is == want {
			return
		}
		if time.Now().After(until) {
			t.Fatalf("registered are %+v", all)
		}
	}
}

func TestStockServersAreInstancesOfTheirProxy(t *testing.T) {
	for name, address := range map[string]string{"tcp": loopback.Free(t), "unix": "unix:" + filepath.Join(t.TempDir(), "s")} {
		t.Run(name, func(t *testing.T) {
			var met atomic.Pointer[metadata.MD]
			startStockAt(t, address, func(ctx context.Context, in *msg) (*msg, error) {
				md, _ := metadata.FromIncomingContext(ctx)
				met.Store(&md)
				if string(in.Value) == "fail" {
					return nil, status.Error(codes.OutOfRange, "zu weit: 100 % ü")
				}
				return in, nil
			})
			m := startServed(t, address)
			cc := dial(t, "unix:"+m.client.Socket, nil)
			everyKind(t, cc)
			for _, size := range []int{1, 70 << 10, 3 << 20} {
				body := bytes.Repeat([]byte("x"), size)
				if got, err := do(metadata.AppendToOutgoingContext(within(t), "asked-bin", "\x00\xff", "octo-origin", "forged"), cc, body); err != nil || !bytes.Equal(got, body) {
					t.Fatalf("%d bytes: got %d, %v", size, len(got), err)
				}
			}
			if md := *met.Load(); md.Get("asked-bin")[0] != "\x00\xff" || md.Get("octo-origin") != nil {
				t.Errorf("it came with %v", md)
			}
			ch := sdk(t, m.client)
			got, err := octomesh.CallUnary[msg, msg](within(t), ch, unary, text("hello"), nil)
			if err != nil || string(got.Value) != "hello" {
				t.Errorf("the SDK: %v, %v", got, err)
			}
			_, err = do(within(t), cc, []byte("fail"))
			if s := status.Convert(err); s.Code() != codes.OutOfRange || s.Message() != "zu weit: 100 % ü" {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestTheServersProxyAppliesItsPolicies(t *testing.T) {
	s := startStock(t, nil)
	m := startServed(t, s.address)
	two := uint32(2)
	if err := m.servers[0].Publish(&resourcev1.Snapshot{Policies: []*resourcev1.ServicePolicy{{
		Target:     target,
		RateLimits: []*resourcev1.RateLimit{{Name: "few", Calls: 1, Per: durationpb.New(time.Hour), Burst: two}},
	}}}); err != nil {
		t.Fatal(err)
	}
	cc := dial(t, "unix:"+m.client.Socket, nil)
	for range two {
		if _, err := do(within(t), cc, nil); err != nil {
			t.Fatal(err)
		}
	}
	var trailer metadata.MD
	_, err := do(within(t), cc, nil, grpc.Trailer(&trailer))
	want(t, err, codes.ResourceExhausted)
	if got := trailer.Get("octo-origin"); len(got) != 1 || got[0] != "server-proxy" || s.calls.Load() != int64(two) {
		t.Errorf("refused by %v after %d calls", got, s.calls.Load())
	}
}

func TestAStockServerMayComeLateAndReturn(t *testing.T) {
	at := loopback.Free(t)
	m := startServed(t, at)
	cc := dial(t, "unix:"+m.client.Socket, nil)
	_, err := do(within(t), cc, nil)
	want(t, err, codes.Unavailable)
	if !strings.Contains(status.Convert(err).Message(), "no connection to the instance at "+at) {
		t.Errorf("%v", err)
	}
	m.registered(t, false)
	for range 3 {
		s := startStockAt(t, at, nil)
		m.registered(t, true)
		if _, err := do(within(t), cc, nil); err != nil {
			t.Fatal(err)
		}
		s.Stop()
		m.registered(t, false)
	}
}

func TestHealthOfAStockServerTakesItOutAndIn(t *testing.T) {
	s := startStock(t, nil)
	m := startServed(t, s.address)
	cc := dial(t, "unix:"+m.client.Socket, nil)
	for range 2 {
		m.registered(t, true)
		if _, err := do(within(t), cc, nil); err != nil {
			t.Fatal(err)
		}
		s.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
		m.registered(t, false)
		_, err := do(within(t), cc, nil)
		want(t, err, codes.Unavailable)
		if !strings.Contains(status.Convert(err).Message(), "says that it does not serve") {
			t.Errorf("%v", err)
		}
		s.health.SetServingStatus("", grpc_health_v1.HealthCheckResponse_SERVING)
	}
	m.registered(t, true)
}

// load calls without a pause until stop, which returns how many calls there were, and why one failed.
func load(t testing.TB, cc *grpc.ClientConn) (n *atomic.Int64, stop func()) {
	t.Helper()
	n = &atomic.Int64{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if _, err := do(within(t), cc, []byte("x")); err != nil {
				t.Errorf("call %d: %v", n.Load(), err)
				return
			}
			n.Add(1)
		}
	}()
	return n, func() { cancel(); <-done }
}

// passes waits for so many more calls.
func passes(t testing.TB, n *atomic.Int64, more int64) {
	t.Helper()
	for until, late := n.Load()+more, time.Now().Add(20*time.Second); n.Load() < until; time.Sleep(time.Millisecond) {
		if t.Failed() || time.Now().After(late) {
			t.Fatalf("%d calls were answered", n.Load())
		}
	}
}

func TestAStockServerThatMovesItsConnectionsFailsNoCall(t *testing.T) {
	s := startStockAt(t, "127.0.0.1:0", nil, grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: 50 * time.Millisecond}))
	m := startServed(t, s.address)
	n, stop := load(t, dial(t, "unix:"+m.client.Socket, nil))
	defer stop()
	for until := time.Now().Add(time.Second); time.Now().Before(until); {
		passes(t, n, 10)
	}
	m.registered(t, true)
}

func TestStockServersLeaveOneAfterTheOtherAndNoCallFails(t *testing.T) {
	first, second := startStock(t, nil), startStock(t, nil)
	m := startServed(t, first.address, second.address)
	n, stop := load(t, dial(t, "unix:"+m.client.Socket, nil))
	defer stop()
	passes(t, n, 100)
	first.GracefulStop()
	m.registered(t, false)
	passes(t, n, 100)
	startStockAt(t, first.address, nil)
	m.registered(t, true)
	second.GracefulStop()
	passes(t, n, 100)
}

func TestAServersProxyLeavesAndNoCallFails(t *testing.T) {
	first, second := startStock(t, nil), startStock(t, nil)
	m := startServed(t, first.address, second.address)
	n, stop := load(t, dial(t, "unix:"+m.client.Socket, nil))
	defer stop()
	passes(t, n, 100)
	if cut := m.servers[0].Drain(context.Background()); cut != 0 {
		t.Errorf("%d calls were cut off", cut)
	}
	passes(t, n, 100)
}
