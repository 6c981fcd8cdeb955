package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	bridge "github.com/octomesh/octomesh/bridge/grpc"
	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/proxy/session"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// target is what all calls go to.
const target = "interop"

// mesh is a client's proxy, where gRPC comes in, and a server's.
type mesh struct {
	Address        string // where gRPC's clients come in
	folder         string
	caller, callee *meshtest.Proxy
	tls            *secured // nil: plain
}

// startMesh starts both proxies. The callee's dials a stock server at the address; without one it waits for an SDK at its socket.
func startMesh(ctx context.Context, server string) (*mesh, error) {
	return startMeshBy(ctx, server, nil)
}

// startMeshBy starts them with TLS towards clients and the stock server; nil: without.
func startMeshBy(ctx context.Context, server string, by *secured) (m *mesh, err error) {
	m = &mesh{tls: by}
	defer func() {
		if err != nil {
			m.Close()
		}
	}()
	if m.folder, err = os.MkdirTemp("", "mesh"); err != nil {
		return m, err
	}
	cfg := proxy.Config{}
	if server != "" {
		cfg.Dials = map[resourcev1.Protocol]session.Protocol{resourcev1.Protocol_PROTOCOL_GRPC: &bridge.Protocol{}}
		cfg.Servers = []proxy.Server{{
			Application: target, Instance: "interop-1", Targets: []string{target}, Address: server, Protocol: resourcev1.Protocol_PROTOCOL_GRPC,
			Watch: bridge.WatchHealth,
		}}
		by.dial(&cfg)
	}
	if m.callee, err = m.proxy("callee", cfg); err != nil {
		return m, err
	}
	if err = m.callee.Endpoints(nil); err != nil {
		return m, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return m, err
	}
	m.Address = l.Addr().String()
	in := []session.Protocol{&bridge.Protocol{Config: bridge.Config{
		Environment: meshtest.Environment, Application: "interop-client", Target: func(string, string) string { return target },
	}}}
	if m.caller, err = m.proxy("caller", proxy.Config{Entrances: []proxy.Entrance{{Listener: l, Protocols: in, TLS: by.entrance()}}}); err != nil {
		return m, err
	}
	return m, m.caller.Endpoints(map[string][]string{target: {m.callee.Address}})
}

func (m *mesh) proxy(name string, cfg proxy.Config) (*meshtest.Proxy, error) {
	dir := m.folder + "/" + name
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	return meshtest.StartProxy(dir, cfg)
}

// Ready returns when calls that come in reach the server.
func (m *mesh) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cc, err := grpc.NewClient(m.Address, grpc.WithTransportCredentials(m.tls.credentials()))
	if err != nil {
		return err
	}
	defer func() { _ = cc.Close() }()
	for {
		// No server has this service, and the mesh says UNAVAILABLE as long as there is none.
		err := cc.Invoke(ctx, "/octo.interop.v1.Nobody/Ready", &emptypb.Empty{}, &emptypb.Empty{})
		if code := status.Code(err); code != codes.Unavailable && code != codes.DeadlineExceeded {
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("the server is not reached through the mesh: %w", errors.Join(err, ctx.Err()))
		}
	}
}

// Close ends both proxies, and the calls through them.
func (m *mesh) Close() {
	for _, p := range []*meshtest.Proxy{m.caller, m.callee} {
		if p != nil {
			p.Close()
		}
	}
	if m.folder != "" {
		_ = os.RemoveAll(m.folder)
	}
}
