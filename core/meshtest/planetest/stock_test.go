package planetest_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/octomesh/octomesh/core/meshtest/loopback"
	"github.com/octomesh/octomesh/core/meshtest/planetest"
)

const stockTarget, stockMethod = "stock.v1.Echo", "/stock.v1.Echo/Say"

// stockServer is a server of gRPC's own, which answers whatever it is asked with its name.
func stockServer(t *testing.T, address, name string) *grpc.Server {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		if err := s.RecvMsg(&wrapperspb.StringValue{}); err != nil {
			return err
		}
		return s.SendMsg(wrapperspb.String(name))
	}))
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

// TestStockServersRegisterAndAreCalled: what a proxy's file names is in the registry while its server runs, and a stock client
// of another proxy finds it there, with nothing else said anywhere.
func TestStockServersRegisterAndAreCalled(t *testing.T) {
	t.Parallel()
	p := programs.Up(t)
	at := loopback.Free(t)
	s := stockServer(t, at, "first")
	programs.Proxy(t, "server-1", p.PilotAddresses(), fmt.Sprintf("grpc: {servers: [{targets: [%s], instance: echo-1, address: %q}]}\n", stockTarget, at))
	client := programs.Proxy(t, "caller-1", p.PilotAddresses(), "grpc: {application: web}\n")
	cc, err := grpc.NewClient("unix:"+client.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	answers := func(name string) func() error {
		return func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			got := &wrapperspb.StringValue{}
			if err := cc.Invoke(ctx, stockMethod, wrapperspb.String("who"), got); err != nil {
				return err
			}
			if got.Value != name {
				return fmt.Errorf("%q answers", got.Value)
			}
			return nil
		}
	}
	listed := func(want bool) func() error {
		return func() error {
			out, err := p.Octo(p.Pilots[0], "", "instance", "list", stockTarget)
			if is := row(out, "echo-1") != ""; err != nil || is != want {
				return fmt.Errorf("%v: %s", err, out)
			}
			return nil
		}
	}
	planetest.Await(t, "the registration", listed(true))
	planetest.Await(t, "a call", answers("first"))
	s.GracefulStop()
	planetest.Await(t, "the withdrawal", listed(false))
	planetest.Await(t, "the end of calls", func() error {
		if answers("first")() == nil {
			return errors.New("it is answered")
		}
		return nil
	})
	stockServer(t, at, "second")
	planetest.Await(t, "the registration anew", listed(true))
	planetest.Await(t, "a call to who came", answers("second"))
}
