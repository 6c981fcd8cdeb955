// Package embedded runs an etcd of one member within the process, so that a small mesh needs nothing installed.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/octomesh/octomesh/core/lifecycle"
)

// Config is a server's.
type Config struct {
	// Dir is where it keeps its data; it is made if it is not there, for its owner alone. Required.
	Dir string
	// Quota is how large the data may grow, in bytes, before etcd takes no more writes. 0: 2 GiB.
	Quota int64
	// Every is how often the server looks after itself: alarms, and room that can be given back. 0: 10 min.
	Every time.Duration
	// Unsafe leaves out waiting for the disk, for tests: what was committed may be lost with the machine.
	Unsafe bool
	// Log gets what an operator should know. Nil: nothing.
	Log *slog.Logger
}

const (
	defaultQuota = 2 << 30
	defaultEvery = 10 * time.Minute
	// startWithin is how long a start may take; one reads some 100 MB a second.
	startWithin = time.Minute
	// retention is for how long a watch can go on from an old revision. History is kept in keys of its own.
	retention = time.Hour
	// maxSocket is how long the path of a socket may be.
	maxSocket = 100
)

// Server is a running etcd. Only the owner of its directory can connect: clients come by a Unix socket in it, and for
// other members of a cluster, which there are none of, it wants a certificate that nobody has.
type Server struct {
	etcd   *embed.Etcd
	lock   *lock
	words  *words
	socket string
	beside string // a directory to remove at the end; empty: none
	group  *lifecycle.Group
}

// Start runs a server, and returns when it serves.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Dir == "" {
		return nil, errors.New("embedded etcd: no directory for its data is given")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Quota == 0 {
		cfg.Quota = defaultQuota
	}
	if cfg.Every == 0 {
		cfg.Every = defaultEvery
	}
	s := &Server{group: lifecycle.New(context.Background())}
	if err := s.start(ctx, cfg); err != nil {
		s.Close()
		return nil, fmt.Errorf("embedded etcd in %s: %w", cfg.Dir, err)
	}
	return s, nil
}

func (s *Server) start(ctx context.Context, cfg Config) (err error) {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return err
	}
	if s.lock, err = lockDir(cfg.Dir); err != nil {
		return err
	}
	if err := s.place(cfg.Dir); err != nil {
		return err
	}
	if err := begin(cfg.Dir); err != nil {
		return err
	}
	c, err := s.config(cfg)
	if err != nil {
		return err
	}
	s.words = newWords(cfg.Log)
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(s.words))
	if s.etcd, err = embed.StartEtcd(c); err != nil {
		return err
	}
	if err := s.await(ctx); err != nil {
		err = s.words.because(err)
		s.words.over.Store(true)
		s.etcd.Server.HardStop() // Close waits for what begins when it is ready, or stops
		return err
	}
	if err := begun(cfg.Dir); err != nil {
		return err
	}
	client, err := s.Client()
	if err != nil {
		return err
	}
	k := &keeper{client: client, endpoint: s.Endpoint(), quota: cfg.Quota, log: cfg.Log}
	s.group.Go(func(ctx context.Context) {
		defer client.Close()
		k.run(ctx, cfg.Every)
	})
	return nil
}

// await waits until the server serves.
func (s *Server) await(ctx context.Context) error {
	late := time.NewTimer(startWithin)
	defer late.Stop()
	select {
	case <-s.etcd.Server.ReadyNotify():
		return nil
	case err := <-s.etcd.Err():
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-late.C:
		return fmt.Errorf("it does not serve within %v: are the data of another version of etcd, or damaged?", startWithin)
	}
}

// place finds a place for the socket: in the data directory, or where that has too long a name, in one that only we may enter.
func (s *Server) place(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if s.socket = filepath.Join(dir, "etcd.sock"); len(s.socket) <= maxSocket {
		return nil
	}
	if s.beside, err = os.MkdirTemp("", "octo-etcd-"); err != nil {
		return err
	}
	s.socket = filepath.Join(s.beside, "etcd.sock")
	return nil
}

func (s *Server) config(cfg Config) (*embed.Config, error) {
	client, peer := url.URL{Scheme: "unix", Path: s.socket}, url.URL{Scheme: "https", Host: "127.0.0.1:0"}
	c := embed.NewConfig()
	c.Name, c.Dir = "octo", cfg.Dir
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{peer}, []url.URL{peer}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	c.UnsafeNoFsync = cfg.Unsafe
	c.QuotaBackendBytes = cfg.Quota
	c.AutoCompactionMode, c.AutoCompactionRetention = embed.CompactorModePeriodic, retention.String()
	c.TickMs, c.ElectionMs = 10, 100 // there is nobody to agree with
	self, err := transport.SelfCert(zap.NewNop(), filepath.Join(cfg.Dir, "peer"), []string{peer.Host}, 1)
	if err != nil {
		return nil, err
	}
	self.ClientCertAuth, self.TrustedCAFile = true, self.CertFile
	c.PeerTLSInfo = self
	return c, nil
}

// Endpoint is the address for clients of etcd, "unix:///path".
func (s *Server) Endpoint() string { return "unix://" + s.socket }

// Client connects to the server, by its socket: the client that skips it deadlocks where many watches come and go
// (etcd's issues 18879 and 20716). The caller closes it before the server.
func (s *Server) Client() (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{Endpoints: []string{s.Endpoint()}, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
}

// Failed tells when the server has ended by itself.
func (s *Server) Failed() <-chan error { return s.etcd.Err() }

// Close ends the server.
func (s *Server) Close() {
	s.group.Stop()
	if s.etcd != nil {
		s.words.over.Store(true)
		s.etcd.Close()
	}
	if s.beside != "" {
		_ = os.RemoveAll(s.beside)
	}
	s.lock.release()
}
