package grpc

import (
	"context"
	"crypto/tls"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/octomesh/octomesh/core/resource"
)

const (
	// hearHealth is how long a server may take for its first word about itself.
	hearHealth = 2 * time.Second
	// askAgain is when it is asked again that did not finish.
	askAgain = 5 * time.Second
)

// WatchHealth tells by grpc.health.v1 whether a stock server serves, until ctx ends. Only its own NOT_SERVING says that it does
// not: a server that has no such service, or keeps it from strangers, serves as long as it can be reached.
func WatchHealth(ctx context.Context, address string, told func(serving bool)) {
	watchHealth(ctx, address, insecure.NewCredentials(), told)
}

// WatchHealthByTLS is WatchHealth of a server that is called by TLS, for which secure gives the configuration of a handshake.
func WatchHealthByTLS(secure func() *tls.Config) func(ctx context.Context, address string, told func(serving bool)) {
	return func(ctx context.Context, address string, told func(serving bool)) {
		watchHealth(ctx, address, renewed{credentials.NewTLS(secure()), secure}, told)
	}
}

// renewed shakes hands by what its files hold at the time.
type renewed struct {
	credentials.TransportCredentials
	secure func() *tls.Config
}

// ClientHandshake implements credentials.TransportCredentials.
func (r renewed) ClientHandshake(ctx context.Context, authority string, nc net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return credentials.NewTLS(r.secure()).ClientHandshake(ctx, authority, nc)
}

// Clone implements credentials.TransportCredentials.
func (r renewed) Clone() credentials.TransportCredentials {
	return renewed{r.TransportCredentials.Clone(), r.secure}
}

func watchHealth(ctx context.Context, address string, by credentials.TransportCredentials, told func(serving bool)) {
	if _, ok := resource.SocketPath(address); !ok {
		address = "passthrough:///" + address
	}
	cc, err := grpc.NewClient(address, grpc.WithTransportCredentials(by))
	if err != nil { // the address is none, and then no connection stands either
		told(true)
		return
	}
	defer func() { _ = cc.Close() }()
	var mu sync.Mutex // told is called by one at a time, and not for silence once something was said
	said := false
	late := time.AfterFunc(hearHealth, func() {
		mu.Lock()
		defer mu.Unlock()
		if !said {
			told(true)
		}
	})
	defer late.Stop()
	heard := func(serving bool) {
		mu.Lock()
		defer mu.Unlock()
		said = true
		told(serving)
	}
	for {
		err := watchOnce(ctx, cc, heard)
		if ctx.Err() != nil {
			return
		}
		heard(true)
		if status.Code(err) == codes.Unimplemented {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(askAgain):
		}
	}
}

// watchOnce tells what the server says until its stream ends.
func watchOnce(ctx context.Context, cc *grpc.ClientConn, told func(serving bool)) error {
	s, err := grpc_health_v1.NewHealthClient(cc).Watch(ctx, &grpc_health_v1.HealthCheckRequest{})
	if err != nil {
		return err
	}
	for {
		m, err := s.Recv()
		if err != nil {
			return err
		}
		told(m.GetStatus() != grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	}
}
