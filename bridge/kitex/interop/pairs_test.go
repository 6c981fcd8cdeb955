package interop

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/pkg/endpoint"
	"github.com/cloudwego/kitex/server"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/types/known/wrapperspb"

	bridge "github.com/octomesh/octomesh/bridge/grpc"
	"github.com/octomesh/octomesh/bridge/kitex"
	"github.com/octomesh/octomesh/bridge/message"
	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/proxy/session"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

type value = wrapperspb.BytesValue

// dials are the protocols of servers that do not dial.
func dials() map[resourcev1.Protocol]session.Protocol {
	return map[resourcev1.Protocol]session.Protocol{
		resourcev1.Protocol_PROTOCOL_KITEX: &message.Protocol{Config: message.Config{Codec: &kitex.Codec{}}},
		resourcev1.Protocol_PROTOCOL_GRPC:  &bridge.Protocol{},
	}
}

// grpcServer is a stock server with the method; it counts all that comes.
func grpcServer(t *testing.T, seen *atomic.Int64) (address string) {
	t.Helper()
	l := listen(t)
	s := grpc.NewServer(grpc.InTapHandle(func(ctx context.Context, _ *tap.Info) (context.Context, error) { seen.Add(1); return ctx, nil }))
	s.RegisterService(&grpc.ServiceDesc{ServiceName: idlService, HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
		MethodName: "Charge", Handler: func(_ any, _ context.Context, read func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			in := &value{}
			return in, read(in)
		},
	}}}, nil)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return l.Addr().String()
}

var quiet = octomesh.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))

var chargeMethod = octomesh.Method{Service: idlService, Name: "Charge", Kind: octomesh.Unary}

// sdkServer attaches a server of the Go SDK's.
func sdkServer(t *testing.T, p *meshtest.Proxy, seen *atomic.Int64) {
	t.Helper()
	s := octomesh.NewServer("sdk", octomesh.WithApplication("sdk"), octomesh.WithEnvironment(meshtest.Environment), quiet,
		octomesh.WithMode("on"), octomesh.WithSocket(p.Socket))
	s.RegisterService(octomesh.ServiceDesc{Name: idlService, Methods: []octomesh.MethodDesc{{
		Method:  chargeMethod,
		Handler: octomesh.UnaryHandler(func(_ context.Context, m *value) (*value, error) { seen.Add(1); return m, nil }),
	}}})
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background()) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		<-done
	})
}

// callers make a call to a target, each in its protocol.
func callers(t *testing.T, p *meshtest.Proxy, at string) map[string]func(ctx context.Context, target string) error {
	t.Helper()
	return map[string]func(ctx context.Context, target string) error{
		"kitex": func(ctx context.Context, target string) error {
			_, err := charge(ctx, newClient(t, at, client.WithDestService(target), client.WithShortConnection()), "x")
			return err
		},
		"grpc": func(ctx context.Context, target string) error {
			cc, err := grpc.NewClient(at, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority(target))
			if err != nil {
				return err
			}
			defer func() { _ = cc.Close() }()
			return cc.Invoke(ctx, "/Billing/Charge", wrapperspb.Bytes([]byte("x")), &value{})
		},
		"sdk": func(ctx context.Context, target string) error {
			ch, err := octomesh.Dial(target, octomesh.WithApplication("web"), octomesh.WithEnvironment(meshtest.Environment), octomesh.WithInstance("web@"+t.Name()), quiet,
				octomesh.WithMode("on"), octomesh.WithSocket(p.Socket))
			if err != nil {
				return err
			}
			defer func() { _ = ch.Close() }()
			_, err = octomesh.CallUnary[value, value](ctx, ch, &chargeMethod, wrapperspb.Bytes([]byte("x")), nil)
			return err
		},
	}
}

// TestEveryPairOfProtocolsWorksOrSaysWhyNot has each kind of client call each kind of server, behind its proxy and without one. What
// does not work is refused before the server has seen anything of it.
func TestEveryPairOfProtocolsWorksOrSaysWhyNot(t *testing.T) {
	pass := map[string]bool{"kitex-kitex": true, "grpc-grpc": true, "grpc-sdk": true, "sdk-grpc": true, "sdk-sdk": true}
	says := map[string]string{"kitex": "speaks kitex", "grpc": "speaks grpc", "sdk": "want none, application/grpc"}
	for _, direct := range []bool{false, true} {
		t.Run(fmt.Sprintf("direct=%v", direct), func(t *testing.T) {
			seen := map[string]*atomic.Int64{"kitex": {}, "grpc": {}, "sdk": {}}
			own := map[string]string{"grpc": grpcServer(t, seen["grpc"]), "kitex": startServer(t, newBilling(), server.WithMiddleware(
				func(next endpoint.Endpoint) endpoint.Endpoint {
					return func(ctx context.Context, req, resp any) error { seen["kitex"].Add(1); return next(ctx, req, resp) }
				}))}
			speaks := map[string]resourcev1.Protocol{"grpc": resourcev1.Protocol_PROTOCOL_GRPC, "kitex": resourcev1.Protocol_PROTOCOL_KITEX}
			snap := &resourcev1.Snapshot{}
			var servers []proxy.Server
			for name, address := range own {
				servers = append(servers, proxy.Server{Application: name, Instance: name + "-1", Targets: []string{name}, Address: address, Protocol: speaks[name]})
			}
			behind := start(t, proxy.Config{Dials: dials(), Servers: servers}, nil)
			sdkServer(t, behind, seen["sdk"])
			for name := range says {
				e := &resourcev1.Endpoint{Target: name, Instance: name + "-1", MeshAddress: behind.Address}
				if address, ok := own[name]; ok && direct {
					e.MeshAddress, e.DirectAddress, e.DirectProtocol = "", address, speaks[name]
				}
				snap.Policies, snap.Endpoints = append(snap.Policies, &resourcev1.ServicePolicy{Target: name}), append(snap.Endpoints, e)
			}
			l := listen(t)
			p := startPairsClient(t, l, snap)
			calls := callers(t, p, l.Addr().String())
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			for pair := range pass {
				of, to, _ := strings.Cut(pair, "-")
				for err := calls[of](ctx, to); err != nil; err = calls[of](ctx, to) { // until the server is an instance
					if ctx.Err() != nil {
						t.Fatalf("%s: %v", pair, err)
					}
					time.Sleep(time.Millisecond)
				}
			}
			for of, call := range calls {
				for to, why := range says {
					if pass[of+"-"+to] {
						continue
					}
					before := seen[to].Load()
					err := call(ctx, to)
					if err == nil || !strings.Contains(err.Error(), why) {
						t.Errorf("%s calls %s: %v", of, to, err)
					}
					if seen[to].Load() != before {
						t.Errorf("%s calls %s, and the server has seen it", of, to)
					}
					t.Logf("%s calls %s: %v", of, to, err)
				}
			}
		})
	}
}

// startPairsClient is a proxy of clients of all protocols.
func startPairsClient(t *testing.T, l net.Listener, snap *resourcev1.Snapshot) *meshtest.Proxy {
	t.Helper()
	k := &message.Protocol{Config: message.Config{Codec: &kitex.Codec{Multiplexed: true}, Environment: meshtest.Environment, Application: "shops"}}
	g := &bridge.Protocol{Config: bridge.Config{
		Environment: meshtest.Environment, Application: "shops", Target: func(authority, _ string) string { return authority },
	}}
	p := start(t, proxy.Config{Dials: dials(), Entrances: []proxy.Entrance{{Listener: l, Protocols: []session.Protocol{k, g}}}}, nil)
	if err := p.Publish(snap); err != nil {
		t.Fatal(err)
	}
	return p
}
