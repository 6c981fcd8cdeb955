// Package etcd is the registry in etcd: the built-in one, and any etcd cluster of version 3.4 or later.
//
// An instance is a key, <prefix>/<environment>/<target>/<instance> as [source.Layout] writes it, with the endpoint as
// JSON. Who deregisters first writes an empty value, which says that it left on purpose, and then deletes the key.
//
// Beside it are two small places: <prefix>~leases/ has a record of each lease that registrations share, which names the
// process that holds it, and <prefix>~attending/ a key of each process that attends ([Source.Attend]).
package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	"github.com/octomesh/octomesh/core/lifecycle"
)

// DefaultPrefix is where the registry is unless told otherwise.
const DefaultPrefix = "/octo/registry"

// Config says which etcd and where in it.
type Config struct {
	// Endpoints are the cluster's client URLs or "host:port". At least one.
	Endpoints []string
	// Prefix is what all keys begin with. Empty: [DefaultPrefix].
	Prefix             string
	Username, Password string
	// TLS of the connection. Nil: none.
	TLS *tls.Config
	// KeepAlive is how often a quiet connection is tried. One that does not answer for half of it is lost. 0: 10 s,
	// which is also the least.
	KeepAlive time.Duration
	// Abandoned is how long what a process has registered stays after the process has ceased to attend, for its
	// instances to be registered again by another. 0: [DefaultAbandoned].
	Abandoned time.Duration
	// Log gets what an operator should know. Nil: nothing.
	Log *slog.Logger
}

// Source is an etcd. Its methods are safe for concurrent use.
type Source struct {
	client *clientv3.Client
	layout source.Layout
	group  *lifecycle.Group
	link   link
	log    *slog.Logger

	leases     *leases
	attendance attendance
	abandoned  time.Duration
}

// New makes a source; it connects when it is used, and again whenever it must.
func New(c Config) (*Source, error) {
	layout := source.Layout{Prefix: c.Prefix}
	if c.Prefix == "" {
		layout.Prefix = DefaultPrefix
	}
	if err := layout.Check(); err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	every := max(c.KeepAlive, 10*time.Second)
	client, err := clientv3.New(clientv3.Config{
		Endpoints: c.Endpoints, Username: c.Username, Password: c.Password, TLS: c.TLS,
		DialKeepAliveTime: every, DialKeepAliveTimeout: every / 2, PermitWithoutStream: true,
		Logger: zap.NewNop(), // what it would say is in the errors
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: reconnect, MinConnectTimeout: 5 * time.Second,
		})},
	})
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	s := &Source{client: client, layout: layout, group: lifecycle.New(context.Background()), log: c.Log, abandoned: c.Abandoned}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.abandoned == 0 {
		s.abandoned = DefaultAbandoned
	}
	s.leases = newLeases(s)
	s.attendance.change = make(chan struct{}, 1)
	s.link.change = make(chan struct{})
	s.group.Go(s.observe)
	return s, nil
}

// Close ends all watches, and without deregistering them all registrations.
func (s *Source) Close() error {
	s.group.Stop()
	return s.client.Close()
}

// Name implements [source.Source].
func (s *Source) Name() string { return "etcd" }

// observe notes whether the connection stands. etcd's client keeps silent of it: a watch that is cut off waits.
func (s *Source) observe(ctx context.Context) {
	c := s.client.ActiveConnection()
	for {
		state := c.GetState()
		s.link.set(state == connectivity.Ready)
		if state == connectivity.Idle {
			c.Connect()
		}
		if !c.WaitForStateChange(ctx, state) {
			return
		}
	}
}

// fail makes an error of what etcd said.
func (s *Source) fail(op string, key source.Key, err error) error {
	var typed *source.Error
	if errors.As(err, &typed) || errors.Is(err, context.Canceled) {
		return err
	}
	kind := source.Unavailable
	code := status.Code(err)
	var etcdErr rpctypes.EtcdError
	if errors.As(err, &etcdErr) {
		code = etcdErr.Code()
	}
	switch {
	case errors.Is(err, rpctypes.ErrCompacted), errors.Is(err, rpctypes.ErrLeaseNotFound):
		kind = source.Lost
	case code == codes.PermissionDenied, code == codes.Unauthenticated, errors.Is(err, rpctypes.ErrAuthFailed):
		kind = source.Denied
	}
	return &source.Error{Kind: kind, Source: s.Name(), Op: op, Key: key, Err: err}
}
