package proxyd

import (
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/octomesh/octomesh/core/proxy/ratelimit"
	"github.com/octomesh/octomesh/core/resource"
	"github.com/octomesh/octomesh/core/transport/identity"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// limiterBackoff is how often a service is dialed that cannot be reached: calls go by without it meanwhile.
var limiterBackoff = backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second}

// limiterOf is who asks about global rate limits; nil: the bootstrap names nobody to ask. Nobody is connected to before the
// first question.
func limiterOf(b *resourcev1.Bootstrap, id *identity.Source, log *slog.Logger) (*ratelimit.Client, error) {
	addresses, field := b.GetRateLimitServices().GetAddresses(), "rate_limit_services.addresses"
	if len(addresses) == 0 {
		addresses, field = b.GetControl().GetPilots(), "control.pilots"
	}
	if len(addresses) == 0 {
		return nil, nil
	}
	secrets := insecure.NewCredentials()
	if id != nil && !b.GetRateLimitServices().GetPlaintext() {
		secrets = credentials.NewTLS(id.Client(id.SameEnvironment))
	}
	var services []ratelimit.Service
	for _, address := range addresses {
		name := "dns:///" + address
		if path, ok := resource.SocketPath(address); ok {
			name = "unix:" + path
		}
		conn, err := grpc.NewClient(name, grpc.WithTransportCredentials(secrets),
			// What is not acknowledged for so long has its connection closed, also where no question is open long enough for a ping.
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pilotSilence, Timeout: pilotDial}),
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: limiterBackoff, MinConnectTimeout: pilotDial}))
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", field, address, err)
		}
		services = append(services, ratelimit.Service{Address: address, Conn: conn})
	}
	return ratelimit.New(ratelimit.Config{Services: services, Log: log}), nil
}
