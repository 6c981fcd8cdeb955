package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/octomesh/octomesh/core/configserver"
	"github.com/octomesh/octomesh/core/configserver/store/embedded"
	"github.com/octomesh/octomesh/core/configserver/store/etcd"
	"github.com/octomesh/octomesh/core/telemetry"
	"github.com/octomesh/octomesh/core/transport"
	"github.com/octomesh/octomesh/core/transport/identity"
)

const (
	storePrefix = "/octomesh/" // of all keys in etcd
	leave       = 5 * time.Second
)

// control is what `octo control` runs with.
type control struct {
	roles, listen, etcd, data, writers, level string
	tls                                       identity.Files
}

func runControl(ctx context.Context, t *terminal, args []string) error {
	c := &control{}
	f := flag.NewFlagSet("control", flag.ContinueOnError)
	f.SetOutput(t.err)
	f.Usage = func() {
		fmt.Fprint(t.err, "octo control [flags]\n\nRuns roles of the control plane until SIGTERM or SIGINT.\n\nFlags:\n")
		f.PrintDefaults()
	}
	f.StringVar(&c.roles, "roles", "config", "roles to run, by commas: config")
	f.StringVar(&c.listen, "listen", defaultServer, "where to listen: host:port or unix:/path. Beyond loopback only with TLS")
	f.StringVar(&c.etcd, "etcd", "", "endpoints of an etcd cluster, by commas; empty: an embedded one, in --data")
	f.StringVar(&c.data, "data", "", "directory of the embedded etcd")
	f.StringVar(&c.tls.Certificate, "certificate", "", "own certificate (PEM file); with --key and --authorities: speak TLS")
	f.StringVar(&c.tls.Key, "key", "", "its key (PEM file)")
	f.StringVar(&c.tls.Authorities, "authorities", "", "authorities that callers' certificates must be of (PEM file)")
	f.StringVar(&c.writers, "writers", "", "with TLS: SPIFFE ids that may change configurations, by commas; each may end in *")
	f.StringVar(&c.level, "log", "info", "log level: debug, info, warn, error")
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return nil
	case err != nil:
		return &exit{exitUsage, ""}
	case f.NArg() > 0:
		return usage("%q is no flag", f.Arg(0))
	case c.roles != "config":
		return usage("--roles %s: only config is there", c.roles)
	case (c.etcd == "") == (c.data == ""):
		return usage("give --data, a directory for an embedded etcd, or --etcd, the endpoints of another one")
	}
	log, err := telemetry.NewLogger(t.err, c.level)
	if err != nil {
		return usage("%v", err)
	}
	return c.run(ctx, log)
}

func (c *control) run(ctx context.Context, log *slog.Logger) error {
	options, may, err := c.secure(log)
	if err != nil {
		return err
	}
	listener, err := c.open(len(options) > 0)
	if err != nil {
		return err
	}
	defer listener.Close()
	client, failed, done, err := c.connect(ctx)
	if err != nil {
		return &exit{exitFailed, err.Error()}
	}
	defer done()
	server := grpc.NewServer(options...)
	configserver.New(configserver.Config{Store: etcd.New(client, storePrefix), Log: log, MayWrite: may}).Register(server)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	address := c.listen // a socket's own name is from before it was moved to its place
	if listener.Addr().Network() == "tcp" {
		address = listener.Addr().String()
	}
	log.Info("octo control runs", "roles", c.roles, "listen", address, "tls", len(options) > 0)
	select {
	case <-ctx.Done():
	case err = <-failed:
		err = &exit{exitFailed, fmt.Sprintf("the embedded etcd has ended: %v", err)}
	case err = <-ended:
		return &exit{exitFailed, err.Error()}
	}
	cut := time.AfterFunc(leave, server.Stop) // watches do not end by themselves
	server.GracefulStop()
	cut.Stop()
	<-ended
	log.Info("left")
	return err
}

// secure makes the server's TLS, if files for it are given, and who may write then.
func (c *control) secure(log *slog.Logger) ([]grpc.ServerOption, func(identity.ID) error, error) {
	if c.tls == (identity.Files{}) {
		if c.writers != "" {
			return nil, nil, usage("--writers is for TLS: give --certificate, --key and --authorities too")
		}
		return nil, nil, nil
	}
	if c.writers == "" {
		return nil, nil, usage("--writers is missing: with TLS say who may change configurations")
	}
	id, err := identity.Follow(c.tls, func(err error) {
		log.Error("the certificate was not read again; the last good one stays", "error", err)
	})
	if err != nil {
		return nil, nil, usage("%v", err)
	}
	patterns := strings.Split(c.writers, ",")
	may := func(peer identity.ID) error {
		for _, p := range patterns {
			if begin, any := strings.CutSuffix(p, "*"); p == peer.String() || any && strings.HasPrefix(peer.String(), begin) {
				return nil
			}
		}
		return errors.New("it is none of --writers")
	}
	return []grpc.ServerOption{grpc.Creds(credentials.NewTLS(id.Server(id.SameEnvironment)))}, may, nil
}

// open listens. What is not encrypted stays on the machine.
func (c *control) open(tls bool) (net.Listener, error) {
	if path, ok := strings.CutPrefix(c.listen, "unix:"); ok {
		l, err := transport.ListenUnix(path, 0o600)
		if err != nil {
			return nil, &exit{exitFailed, err.Error()}
		}
		return l, nil
	}
	address, err := net.ResolveTCPAddr("tcp", c.listen)
	if err != nil {
		return nil, usage("--listen %s: %v", c.listen, err)
	}
	if !tls && !address.IP.IsLoopback() {
		return nil, usage("--listen %s is not loopback: without TLS anybody could change the configuration. Give --certificate, --key and --authorities", c.listen)
	}
	l, err := net.ListenTCP("tcp", address)
	if err != nil {
		return nil, &exit{exitFailed, err.Error()}
	}
	return l, nil
}

// connect connects to etcd, one of its own or another one.
func (c *control) connect(ctx context.Context) (client *clientv3.Client, failed <-chan error, done func(), err error) {
	if c.etcd != "" {
		client, err = clientv3.New(clientv3.Config{Endpoints: strings.Split(c.etcd, ","), DialTimeout: leave, Logger: zap.NewNop()})
		if err != nil {
			return nil, nil, nil, fmt.Errorf("etcd at %s: %w", c.etcd, err)
		}
		return client, nil, func() { _ = client.Close() }, nil
	}
	server, err := embedded.Start(ctx, embedded.Config{Dir: c.data})
	if err != nil {
		return nil, nil, nil, err
	}
	if client, err = server.Client(); err != nil {
		server.Close()
		return nil, nil, nil, err
	}
	return client, server.Failed(), func() {
		_ = client.Close()
		server.Close()
	}, nil
}
