package grpc_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	bridge "github.com/octomesh/octomesh/bridge/grpc"
	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/proxy/session"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type msg = wrapperspb.BytesValue

func text(s string) *msg { return wrapperspb.Bytes([]byte(s)) }

const (
	service = "octo.test.v1.Thing"
	target  = "thing"
)

var quiet = octomesh.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))

// thing is a service of the Go SDK's with a method of each kind. What is nil echoes.
type thing struct {
	do   func(context.Context, *msg) (*msg, error)
	chat func(context.Context, *octomesh.ServerStream[msg, msg]) error
}

func (h thing) desc() octomesh.ServiceDesc {
	if h.do == nil {
		h.do = func(_ context.Context, m *msg) (*msg, error) { return m, nil }
	}
	if h.chat == nil {
		h.chat = echoAll
	}
	method := func(name string, kind octomesh.Kind) octomesh.Method {
		return octomesh.Method{Service: service, Name: name, Kind: kind}
	}
	return octomesh.ServiceDesc{Name: service, Methods: []octomesh.MethodDesc{
		{Method: method("Do", octomesh.Unary), Handler: octomesh.UnaryHandler(h.do)},
		{Method: method("Watch", octomesh.ServerStreaming), Handler: octomesh.ServerStreamHandler(watchBytes)},
		{Method: method("Collect", octomesh.ClientStreaming), Handler: octomesh.ClientStreamHandler(collectBytes)},
		{Method: method("Chat", octomesh.BidiStreaming), Handler: octomesh.BidiStreamHandler(h.chat)},
	}}
}

func echoAll(_ context.Context, s *octomesh.ServerStream[msg, msg]) error {
	for m, err := range s.All() {
		if err != nil {
			return err
		}
		if err := s.Send(m); err != nil {
			return err
		}
	}
	return nil
}

func watchBytes(_ context.Context, m *msg, out *octomesh.ServerSender[msg]) error {
	for _, b := range m.Value {
		if err := out.Send(text(string([]byte{b}))); err != nil {
			return err
		}
	}
	return nil
}

func collectBytes(_ context.Context, in *octomesh.ServerReceiver[msg]) (*msg, error) {
	all := &msg{}
	for m, err := range in.All() {
		if err != nil {
			return nil, err
		}
		all.Value = append(all.Value, m.Value...)
	}
	return all, nil
}

// mesh is a client's proxy that speaks gRPC too, and a server's.
type mesh struct {
	client, server *meshtest.Proxy
	tcp            string // where gRPC clients come in, beside the client's socket
}

// protocol is gRPC as the tests' proxies speak it.
func protocol() *bridge.Protocol {
	return &bridge.Protocol{Config: bridge.Config{
		Environment: meshtest.Environment, Application: "stock",
		Target: func(_, service string) string {
			if service == "octo.test.v1.Nobody" {
				return "nobody"
			}
			return target
		},
	}}
}

func startMesh(t testing.TB, secure *tls.Config) *mesh {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := protocol()
	m := &mesh{tcp: l.Addr().String()}
	m.client = startProxy(t, proxy.Config{
		Protocols: []session.Protocol{p},
		Entrances: []proxy.Entrance{{Listener: l, Protocols: []session.Protocol{p}, TLS: secure}},
	})
	m.server = startProxy(t, proxy.Config{})
	if err := m.client.Endpoints(map[string][]string{target: {m.server.Address}}); err != nil {
		t.Fatal(err)
	}
	if err := m.server.Endpoints(nil); err != nil {
		t.Fatal(err)
	}
	return m
}

func startProxy(t testing.TB, cfg proxy.Config) *meshtest.Proxy {
	t.Helper()
	p, err := meshtest.StartProxy(t.TempDir(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// serve attaches a service of the Go SDK's to the server's proxy.
func (m *mesh) serve(t testing.TB, h thing) {
	t.Helper()
	s := octomesh.NewServer(target, octomesh.WithApplication(target), octomesh.WithEnvironment(meshtest.Environment), quiet,
		octomesh.WithMode("on"), octomesh.WithSocket(m.server.Socket))
	s.RegisterService(h.desc())
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background()) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if err := s.Ready(within(t)); err != nil {
		t.Fatal(err)
	}
}

// dial is a stock gRPC client.
func dial(t testing.TB, address string, creds credentials.TransportCredentials) *grpc.ClientConn {
	t.Helper()
	if creds == nil {
		creds = insecure.NewCredentials()
	}
	cc, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return cc
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func path(method string) string { return "/" + service + "/" + method }

// do makes a unary call.
func do(ctx context.Context, cc *grpc.ClientConn, body []byte, opts ...grpc.CallOption) ([]byte, error) {
	out := &msg{}
	err := cc.Invoke(ctx, path("Do"), &msg{Value: body}, out, opts...)
	return out.Value, err
}

// stream opens a call of another kind.
func stream(t testing.TB, ctx context.Context, cc *grpc.ClientConn, method string) grpc.ClientStream {
	t.Helper()
	s, err := cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, path(method))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func want(t testing.TB, err error, code codes.Code) {
	t.Helper()
	if status.Code(err) != code {
		t.Fatalf("the call ended %v, want %v", err, code)
	}
}

func receive(t testing.TB, s grpc.ClientStream) string {
	t.Helper()
	m := &msg{}
	if err := s.RecvMsg(m); err != nil {
		t.Fatal(err)
	}
	return string(m.Value)
}

func send(t testing.TB, s grpc.ClientStream, body []byte) {
	t.Helper()
	if err := s.SendMsg(&msg{Value: body}); err != nil {
		t.Fatal(err)
	}
}

func ended(t testing.TB, s grpc.ClientStream) {
	t.Helper()
	if err := s.RecvMsg(&msg{}); err != io.EOF {
		t.Fatal(fmt.Errorf("the stream ended: %w", err))
	}
}
