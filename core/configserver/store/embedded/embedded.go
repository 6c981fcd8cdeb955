// Package embedded runs an etcd of one member within the process, so that a small mesh needs nothing installed.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// Config is a server's.
type Config struct {
	// Dir is where it keeps its data; it is made if it is not there. Required.
	Dir string
	// Unsafe leaves out waiting for the disk, for tests: what was committed may be lost with the machine.
	Unsafe bool
}

const (
	// quota is how large the data may grow before etcd takes no more writes.
	quota = 2 << 30
	// retention is for how long a watch can go on from an old revision. History is kept in keys of its own.
	retention = time.Hour
)

// Server is a running etcd. It listens on loopback only, on a port of its own choice.
type Server struct{ etcd *embed.Etcd }

// Start runs a server, and returns when it serves.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Dir == "" {
		return nil, errors.New("embedded etcd: no directory for its data is given")
	}
	any := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	c := embed.NewConfig()
	c.Name, c.Dir = "octo", cfg.Dir
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{any}, []url.URL{any}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{any}, []url.URL{any}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.UnsafeNoFsync = cfg.Unsafe
	c.QuotaBackendBytes = quota
	c.AutoCompactionMode, c.AutoCompactionRetention = embed.CompactorModePeriodic, retention.String()
	c.TickMs, c.ElectionMs = 10, 100 // there is nobody to agree with
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	e, err := embed.StartEtcd(c)
	if err != nil {
		return nil, fmt.Errorf("embedded etcd in %s: %w", cfg.Dir, err)
	}
	select {
	case <-e.Server.ReadyNotify():
		return &Server{e}, nil
	case err := <-e.Err():
		e.Close()
		return nil, fmt.Errorf("embedded etcd in %s: %w", cfg.Dir, err)
	case <-ctx.Done():
		e.Close()
		return nil, fmt.Errorf("embedded etcd in %s: %w", cfg.Dir, ctx.Err())
	}
}

// Endpoint is the address for clients, "host:port".
func (s *Server) Endpoint() string { return s.etcd.Clients[0].Addr().String() }

// Client connects to the server, over loopback: the client that skips the network deadlocks where many watches come
// and go (etcd's issues 18879 and 20716). The caller closes it before the server.
func (s *Server) Client() (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: []string{s.Endpoint()}, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
}

// Failed tells when the server has ended by itself.
func (s *Server) Failed() <-chan error { return s.etcd.Err() }

// Close ends the server.
func (s *Server) Close() { s.etcd.Close() }
