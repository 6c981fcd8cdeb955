package meshtest

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/proxy/store"
	"github.com/octomesh/octomesh/core/transport"
)

// Environment is that of every end here.
const Environment = "test"

// Proxy is a proxy in the process, with a Unix socket and a TCP port of its own. End it with Drain or Close.
type Proxy struct {
	*proxy.Proxy
	// Socket is where its applications come in, Address where other proxies do.
	Socket, Address string

	source source
}

// StartProxy starts a proxy whose socket lies in dir. Of cfg, listeners are set here, and what is zero gets a
// default that suits tests: nothing is logged, and the source is what Publish is given.
func StartProxy(dir string, cfg proxy.Config) (*Proxy, error) {
	p := &Proxy{Socket: filepath.Join(dir, "o.sock"), source: source{make(chan push)}}
	var err error
	if cfg.Outbound, err = transport.ListenUnix(p.Socket, 0o600); err != nil {
		return nil, err
	}
	if cfg.Inbound, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		_ = cfg.Outbound.Close()
		return nil, err
	}
	p.Address = cfg.Inbound.Addr().String()
	cfg.Environment = Environment
	if cfg.Source == nil {
		cfg.Source = &p.source
	}
	if cfg.Instance == "" {
		cfg.Instance = "proxy@" + p.Address
	}
	if cfg.DrainDeadline == 0 {
		cfg.DrainDeadline = 10 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	p.Proxy, err = proxy.Start(context.Background(), cfg)
	return p, err
}

// Endpoints publishes targets with the mesh addresses of their instances, in place of what was there. It
// returns when new calls see them.
func (p *Proxy) Endpoints(addresses map[string][]string) error {
	snap := &resourcev1.Snapshot{}
	for target, all := range addresses {
		snap.Policies = append(snap.Policies, &resourcev1.ServicePolicy{Target: target})
		for i, a := range all {
			snap.Endpoints = append(snap.Endpoints, &resourcev1.Endpoint{
				Target: target, Instance: fmt.Sprintf("%s-%d", target, i), MeshAddress: a,
			})
		}
	}
	return p.Publish(snap)
}

// Publish applies a snapshot and returns when new calls see it, or why it was refused.
func (p *Proxy) Publish(snap *resourcev1.Snapshot) error {
	answer := make(chan error, 1)
	select {
	case p.source.pushes <- push{snap, answer}:
		return <-answer
	case <-time.After(5 * time.Second):
		return fmt.Errorf("proxy %s takes no configuration", p.Address)
	}
}

// source is a configuration that a test sets.
type source struct{ pushes chan push }

type push struct {
	snap   *resourcev1.Snapshot
	answer chan error
}

func (s *source) Name() string { return "test" }

func (s *source) Run(ctx context.Context, apply func(store.Update) error) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case p := <-s.pushes:
			p.answer <- apply(store.Whole(p.snap))
		}
	}
}
