package main

import (
	"fmt"
	"log/slog"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/proxy/control"
	"github.com/octomesh/octomesh/core/proxy/store"
	"github.com/octomesh/octomesh/core/transport/identity"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

const (
	// pilotSilence is after how long without a byte from a Pilot it is asked whether it lives, and how long it may take
	// to say so: a half-open connection is found within twice that.
	pilotSilence = 10 * time.Second
	// pilotDial is how long a connection to a Pilot may take.
	pilotDial = 5 * time.Second
)

// sourceOf is where the proxy's resources come from: a file, or the control plane.
func sourceOf(b *resourcev1.Bootstrap, id *identity.Source, reload <-chan os.Signal, log *slog.Logger) (store.Source, error) {
	c := b.GetControl()
	if c == nil {
		return &store.File{Path: b.GetResourcesFile(), Reload: reload, Log: log}, nil
	}
	secrets := insecure.NewCredentials()
	if id != nil {
		secrets = credentials.NewTLS(id.Client(id.HasRole("pilot")))
	}
	var pilots []grpc.ClientConnInterface
	for _, address := range c.GetPilots() {
		conn, err := grpc.NewClient("dns:///"+address, grpc.WithTransportCredentials(secrets),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pilotSilence, Timeout: pilotSilence}),
			grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: pilotDial}))
		if err != nil {
			return nil, fmt.Errorf("control.pilots: %s: %w", address, err)
		}
		pilots = append(pilots, conn)
	}
	client := control.New(control.Config{
		Environment: b.GetEnvironment(), Instance: b.GetInstance(), Pilots: pilots, Dir: c.GetDirectory(), Targets: c.GetTargets(),
		Software: proxy.Version, Log: log,
	})
	if err := client.CatchCrashes(); err != nil {
		log.Error("crashes are not noted: a configuration that crashes the proxy is not put into quarantine", "error", err)
	}
	return client, nil
}
