package proxyd

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/proxy/control"
	"github.com/octomesh/octomesh/core/proxy/register"
	"github.com/octomesh/octomesh/core/proxy/store"
	"github.com/octomesh/octomesh/core/transport/identity"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

const (
	// pilotSilence is after how long without a byte from a Pilot it is asked whether it lives, and how long it may take
	// to say so: a half-open connection is found within twice that.
	pilotSilence = 10 * time.Second
	// pilotDial is how long a connection to a Pilot may take.
	pilotDial = 5 * time.Second
)

// sourceOf is where the proxy's resources come from: a file, or the control plane by Pilots.
func sourceOf(b *resourcev1.Bootstrap, pilots []grpc.ClientConnInterface, reload <-chan os.Signal, log *slog.Logger) store.Source {
	c := b.GetControl()
	if c == nil {
		return &store.File{Path: b.GetResourcesFile(), Reload: reload, Log: log}
	}
	client := control.New(control.Config{
		Environment: b.GetEnvironment(), Instance: b.GetInstance(), Pilots: pilots, Dir: c.GetDirectory(), Targets: c.GetTargets(),
		Software: proxy.Version, Log: log,
	})
	if err := client.CatchCrashes(); err != nil {
		log.Error("crashes are not noted: a configuration that crashes the proxy is not put into quarantine", "error", err)
	}
	return followed(client)
}

// pilotsOf are connections to the proxy's Pilots, the best first; none without a control plane.
func pilotsOf(b *resourcev1.Bootstrap, id *identity.Source) (pilots []grpc.ClientConnInterface, err error) {
	secrets := insecure.NewCredentials()
	if id != nil {
		secrets = credentials.NewTLS(id.Client(id.HasRole("pilot")))
	}
	for _, address := range b.GetControl().GetPilots() {
		conn, err := grpc.NewClient("dns:///"+address, grpc.WithTransportCredentials(secrets),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pilotSilence, Timeout: pilotSilence}),
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: pilotDial}))
		if err != nil {
			return nil, fmt.Errorf("control.pilots: %s: %w", address, err)
		}
		pilots = append(pilots, conn)
	}
	return pilots, nil
}

// registers tells whether instances that attach are registered.
func registers(c *resourcev1.ControlPlane) bool {
	return c != nil && (c.Register == nil || c.GetRegister())
}

// registerOf speaks for the proxy, which follows source, to its Pilots; nil: there are none.
func registerOf(b *resourcev1.Bootstrap, id *identity.Source, pilots []grpc.ClientConnInterface, source store.Source, log *slog.Logger) *register.Client {
	c := b.GetControl()
	if c == nil {
		return nil
	}
	cfg := register.Config{
		Environment: b.GetEnvironment(), Instance: b.GetInstance(), Incarnation: uint64(time.Now().UnixNano()),
		Version: proxy.Version, Zone: b.GetZone(), Pilots: pilots, Silent: !registers(c), Log: log,
	}
	if s, ok := source.(interface {
		Suspects() []*controlv1.Suspect
		Condition() (degraded bool, quarantined uint32)
	}); ok {
		cfg.Suspects, cfg.Condition = s.Suspects, s.Condition
	}
	if id != nil {
		cfg.Identity = id.ID().String()
	}
	return register.New(cfg)
}

// advertised is where other proxies reach the bound address.
func advertised(b *resourcev1.Bootstrap, bound string) (string, error) {
	advertise := b.GetAdvertiseAddress()
	host, port, err := net.SplitHostPort(bound)
	if err != nil {
		return "", err
	}
	if advertise == "" {
		if ip := net.ParseIP(host); registers(b.GetControl()) && (host == "" || ip != nil && ip.IsUnspecified()) {
			return "", fmt.Errorf("advertise_address is missing: inbound_address is every address of the host (%s), and nobody can be told that; "+
				"or set control.register to false", bound)
		}
		return bound, nil
	}
	if h, p, err := net.SplitHostPort(advertise); err == nil && p == "0" {
		return net.JoinHostPort(h, port), nil
	}
	return advertise, nil
}
