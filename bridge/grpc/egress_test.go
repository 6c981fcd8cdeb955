package grpc_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	bridge "github.com/octomesh/octomesh/bridge/grpc"
	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/proxy/session"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// stock is a stock gRPC server with a method of each kind, which echoes.
type stock struct {
	*grpc.Server
	address string
	health  *health.Server
	calls   atomic.Int64
	// do is the unary method. nil: it echoes.
	do func(context.Context, *msg) (*msg, error)
}

func startStock(t testing.TB, do func(context.Context, *msg) (*msg, error)) *stock {
	t.Helper()
	return startStockAt(t, "127.0.0.1:0", do)
}

// startStockAt starts it at an address, or at a path with "unix:" before it.
func startStockAt(t testing.TB, address string, do func(context.Context, *msg) (*msg, error), opts ...grpc.ServerOption) *stock {
	t.Helper()
	network, at := "tcp", address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, at = "unix", path
	}
	l, err := net.Listen(network, at)
	if err != nil {
		t.Fatal(err)
	}
	s := &stock{Server: grpc.NewServer(opts...), address: address, health: health.NewServer(), do: do}
	if network == "tcp" {
		s.address = l.Addr().String()
	}
	grpc_health_v1.RegisterHealthServer(s, s.health)
	s.RegisterService(&grpc.ServiceDesc{
		ServiceName: service, HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Do", Handler: func(_ any, ctx context.Context, read func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			in := &msg{}
			if err := read(in); err != nil {
				return nil, err
			}
			s.calls.Add(1)
			if s.do != nil {
				return s.do(ctx, in)
			}
			return in, nil
		}}},
		Streams: []grpc.StreamDesc{
			{StreamName: "Watch", ServerStreams: true, Handler: serveWatch},
			{StreamName: "Collect", ClientStreams: true, Handler: serveCollect},
			{StreamName: "Chat", ServerStreams: true, ClientStreams: true, Handler: serveChat},
		},
	}, nil)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

func serveWatch(_ any, s grpc.ServerStream) error {
	in := &msg{}
	if err := s.RecvMsg(in); err != nil {
		return err
	}
	for _, b := range in.Value {
		if err := s.SendMsg(&msg{Value: []byte{b}}); err != nil {
			return err
		}
	}
	return nil
}

func serveCollect(_ any, s grpc.ServerStream) error {
	all := &msg{}
	for {
		in := &msg{}
		if err := s.RecvMsg(in); errors.Is(err, io.EOF) {
			return s.SendMsg(all)
		} else if err != nil {
			return err
		}
		all.Value = append(all.Value, in.Value...)
	}
}

func serveChat(_ any, s grpc.ServerStream) error {
	for {
		in := &msg{}
		if err := s.RecvMsg(in); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := s.SendMsg(in); err != nil {
			return err
		}
	}
}

// startOut is a proxy whose target is a stock server, by its resources.
func startOut(t testing.TB, addresses ...string) *meshtest.Proxy {
	t.Helper()
	p := startProxy(t, proxy.Config{
		Protocols: []session.Protocol{protocol()},
		Dials:     map[resourcev1.Protocol]session.Protocol{resourcev1.Protocol_PROTOCOL_GRPC: &bridge.Protocol{}},
	})
	snap := &resourcev1.Snapshot{}
	for _, a := range addresses {
		snap.Endpoints = append(snap.Endpoints, &resourcev1.Endpoint{
			Target: target, Instance: a, DirectAddress: a, DirectProtocol: resourcev1.Protocol_PROTOCOL_GRPC,
		})
	}
	if err := p.Publish(snap); err != nil {
		t.Fatal(err)
	}
	return p
}

// sdk is a channel of the Go SDK's through a proxy.
func sdk(t testing.TB, p *meshtest.Proxy) *octomesh.Channel {
	t.Helper()
	ch, err := octomesh.Dial(target, octomesh.WithApplication("web"), octomesh.WithEnvironment(meshtest.Environment), octomesh.WithInstance("web@"+t.Name()), quiet,
		octomesh.WithMode("on"), octomesh.WithSocket(p.Socket))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ch.Close() })
	return ch
}

var unary = &octomesh.Method{Service: service, Name: "Do", Kind: octomesh.Unary}

func TestTheSDKReachesAStockServer(t *testing.T) {
	s := startStock(t, func(ctx context.Context, in *msg) (*msg, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		if end, ok := ctx.Deadline(); !ok || time.Until(end) > 20*time.Second || md.Get("asked")[0] != "one" || md.Get("asked-bin")[0] != "\x00\xff" {
			return nil, status.Errorf(codes.DataLoss, "deadline %v, metadata %v", ok, md)
		}
		if string(in.Value) == "fail" {
			return nil, status.Error(codes.OutOfRange, "zu weit: 100 % ü")
		}
		return in, nil
	})
	ch := sdk(t, startOut(t, s.address))
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, size := range []int{0, 5, 70 << 10, 1 << 20} {
		body := bytes.Repeat([]byte("x"), size)
		got, err := octomesh.CallUnary[msg, msg](ctx, ch, unary, &msg{Value: body}, []octomesh.CallOption{octomesh.Header("asked", "one"), octomesh.Header("asked-bin", "\x00\xff")})
		if err != nil || !bytes.Equal(got.Value, body) {
			t.Fatalf("%d bytes: %v", size, err)
		}
	}
	_, err := octomesh.CallUnary[msg, msg](ctx, ch, unary, text("fail"), []octomesh.CallOption{octomesh.Header("asked", "one"), octomesh.Header("asked-bin", "\x00\xff")})
	var e *octomesh.Error
	if !errors.As(err, &e) || e.Code != octomesh.OutOfRange || e.Message != "zu weit: 100 % ü" || e.Origin != octomesh.OriginApplication {
		t.Fatalf("%v", err)
	}
}

func TestStockClientReachesAStockServerThroughAProxy(t *testing.T) {
	s := startStock(t, nil)
	p := startOut(t, s.address)
	cc := dial(t, "unix:"+p.Socket, nil)
	everyKind(t, cc)
	body := make([]byte, 3<<20)
	got, err := do(within(t), cc, body)
	if err != nil || len(got) != len(body) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	err = cc.Invoke(within(t), path("Never"), &msg{}, &msg{})
	want(t, err, codes.Unimplemented)
}

func TestCancellationReachesAStockServer(t *testing.T) {
	in, over := make(chan struct{}), make(chan struct{})
	s := startStock(t, func(ctx context.Context, _ *msg) (*msg, error) {
		close(in)
		<-ctx.Done()
		close(over)
		return nil, ctx.Err()
	})
	cc := dial(t, "unix:"+startOut(t, s.address).Socket, nil)
	ctx, cancel := context.WithCancel(within(t))
	done := make(chan error, 1)
	go func() { _, err := do(ctx, cc, nil); done <- err }()
	<-in
	cancel()
	want(t, <-done, codes.Canceled)
	<-over
}

func TestAStockServerThatLeavesFailsNoCall(t *testing.T) {
	first, second := startStock(t, nil), startStock(t, nil)
	cc := dial(t, "unix:"+startOut(t, first.address, second.address).Socket, nil)
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if _, err := do(within(t), cc, []byte("x")); err != nil {
				done <- err
				return
			}
		}
	}()
	for first.calls.Load() < 20 || second.calls.Load() < 20 {
		select {
		case err := <-done:
			t.Fatal(err)
		case <-time.After(time.Millisecond):
		}
	}
	first.GracefulStop()
	for until := second.calls.Load() + 50; second.calls.Load() < until; {
		select {
		case err := <-done:
			t.Fatal(err)
		case <-time.After(time.Millisecond):
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
