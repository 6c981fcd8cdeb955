package plane

import (
	"context"
	"net"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/test/bufconn"

	"github.com/octomesh/octomesh/core/cmd/octo/plane/rendezvous"
	"github.com/octomesh/octomesh/core/pilot"
	"github.com/octomesh/octomesh/core/pilot/callers"
)

const (
	// silence is after how long without a byte a peer is asked whether it lives, and how long it may take to say so.
	silence = 10 * time.Second
	// least is the shortest time between two such questions that we take from others.
	least = 5 * time.Second
	// memoryBuffer is how much may be on its way between two roles of this process, in bytes.
	memoryBuffer = 1 << 20
	// spread has streams begin at all members of a role in turn, and at none that cannot be reached.
	spread = `{"loadBalancingConfig":[{"round_robin":{}}]}`
)

// serverOptions are what all gRPC servers of the process have in common.
func serverOptions() []grpc.ServerOption {
	return append(pilot.ServerOptions(),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 3 * silence, Timeout: silence}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: least, PermitWithoutStream: true}),
	)
}

// memory is a gRPC server that only this process reaches. Who speaks there is one of us, and needs to prove nothing.
type memory struct {
	server   *grpc.Server
	listener *bufconn.Listener
}

func newMemory() *memory {
	own := func(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
		return handle(srv, &ownStream{s})
	}
	return &memory{grpc.NewServer(append(pilot.ServerOptions(), grpc.ChainStreamInterceptor(own))...), bufconn.Listen(memoryBuffer)}
}

// ownStream is one of this process.
type ownStream struct{ grpc.ServerStream }

// Context implements grpc.ServerStream.
func (s *ownStream) Context() context.Context { return callers.Own(s.ServerStream.Context()) }

func (m *memory) serve() { _ = m.server.Serve(m.listener) }

// conn is a connection to whoever has a role: this process if it does, else one of those that say so in etcd.
func (p *Plane) conn(role string) (*grpc.ClientConn, error) {
	if c := p.conns[role]; c != nil {
		return c, nil
	}
	var c *grpc.ClientConn
	var err error
	if slices.Contains(p.cfg.Roles, role) {
		c, err = grpc.NewClient("passthrough:"+role, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return p.inner.listener.DialContext(ctx) }))
	} else {
		secrets := insecure.NewCredentials()
		if p.id != nil {
			secrets = credentials.NewTLS(p.id.Client(p.id.HasRole(role)))
		}
		slow := backoff.DefaultConfig
		slow.BaseDelay, slow.MaxDelay = 200*time.Millisecond, 3*time.Second
		c, err = grpc.NewClient(rendezvous.Scheme+":///"+role, grpc.WithTransportCredentials(secrets), grpc.WithResolvers(p.rendezvous.Resolver()),
			grpc.WithDefaultServiceConfig(spread), grpc.WithConnectParams(grpc.ConnectParams{Backoff: slow, MinConnectTimeout: dialPatience}),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: silence, Timeout: silence / 2, PermitWithoutStream: true}))
	}
	if err != nil {
		return nil, err
	}
	c.Connect()
	p.conns[role] = c
	p.closers = append(p.closers, func() { _ = c.Close() })
	return c, nil
}
