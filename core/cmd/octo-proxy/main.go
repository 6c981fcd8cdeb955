// Command octo-proxy is the sidecar: it carries the calls of the applications beside it.
//
//	octo-proxy --config proxy.yaml
//
// The file is an octo.resource.v1.Bootstrap in YAML. SIGHUP reads the resources and the telemetry section again, SIGTERM and SIGINT
// drain, a second one ends at once.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/lifecycle"
	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/proxy/admin"
	"github.com/octomesh/octomesh/core/proxy/ratelimit"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/proxy/tap"
	"github.com/octomesh/octomesh/core/resource"
	"github.com/octomesh/octomesh/core/telemetry"
	"github.com/octomesh/octomesh/core/transport"
	"github.com/octomesh/octomesh/core/transport/identity"
	"github.com/octomesh/octomesh/core/wire"
)

func main() {
	config := flag.String("config", "", "the proxy's bootstrap file (YAML, octo.resource.v1.Bootstrap)")
	level := flag.String("log", "info", "log level: debug, info, warn, error")
	version := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	if *version {
		fmt.Println("octo-proxy", proxy.Version)
		return
	}
	log, err := telemetry.NewLogger(os.Stderr, *level)
	if err == nil {
		err = run(*config, log)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "octo-proxy:", err)
		os.Exit(1)
	}
}

func run(path string, log *slog.Logger) error {
	if path == "" {
		return errors.New("--config is missing: give the proxy's bootstrap file")
	}
	b, err := resource.ReadBootstrap(path, os.Getenv)
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)

	ops := lifecycle.New(context.Background())
	defer ops.Stop()
	id, err := loadIdentity(ops, b, log)
	if err != nil {
		return err
	}
	told, err := loadTelemetry(ops, path, b, log)
	if err != nil {
		return err
	}
	defer told.Close(ended) // it has told all, unless something failed before
	limiter, err := limiterOf(b, id, log)
	if err != nil {
		return err
	}
	p, err := start(b, id, told, limiter, reload, log)
	if err != nil {
		return err
	}
	leave := make(chan struct{}, 1)
	if err := serveAdmin(ops, b, p, told, limiter, leave); err != nil {
		p.Close()
		return err
	}
	select {
	case <-stop:
	case <-leave:
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() { // a second signal cuts the drain short
		<-stop
		cancel()
	}()
	begun := time.Now()
	cut := p.Drain(ctx)
	endTelemetry(ctx, told, b.GetDrainDeadline().AsDuration()-time.Since(begun))
	log.Info("left", "calls_cut_off", cut)
	return nil
}

// loadIdentity reads the proxy's certificate, if it has one, and reads it again on SIGHUP.
func loadIdentity(ops *lifecycle.Group, b *resourcev1.Bootstrap, log *slog.Logger) (*identity.Source, error) {
	t := b.GetTls()
	if t == nil {
		return nil, nil
	}
	id, err := identity.Load(identity.Files{
		Certificate: t.GetCertificateFile(), Key: t.GetKeyFile(), Authorities: t.GetAuthoritiesFile(),
	})
	if err != nil {
		return nil, err
	}
	if own := id.ID(); own.Environment != b.GetEnvironment() {
		return nil, fmt.Errorf("certificate %s is of environment %q, the proxy of %q", t.GetCertificateFile(), own.Environment, b.GetEnvironment())
	}
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGHUP)
	ops.Go(func(ctx context.Context) {
		for {
			select {
			case <-ctx.Done():
				return
			case <-again:
			}
			if err := id.Reload(); err != nil {
				log.Error("the certificate was not read again; the last good one stays", "error", err)
				continue
			}
			log.Info("certificate read again", "identity", id.ID().String())
		}
	})
	return id, nil
}

// start opens the listeners and runs the proxy on them.
func start(b *resourcev1.Bootstrap, id *identity.Source, told *tap.Tap, limiter *ratelimit.Client, reload <-chan os.Signal, log *slog.Logger) (*proxy.Proxy, error) {
	outbound, err := transport.ListenUnix(b.GetOutboundSocket(), 0o660)
	if err != nil {
		return nil, err
	}
	var inbound net.Listener // none: no calls from other proxies
	reached := ""
	if address := b.GetInboundAddress(); address != "" {
		if inbound, err = net.Listen("tcp", address); err != nil {
			_ = outbound.Close()
			return nil, err
		}
		reached = inbound.Addr().String()
	}
	source, err := sourceOf(b, id, reload, log)
	if err != nil {
		return nil, err
	}
	l := b.GetLimits()
	cfg := proxy.Config{
		TLS: id, Tap: told, Environment: b.GetEnvironment(), Instance: b.GetInstance(), Zone: b.GetZone(), Outbound: outbound, Inbound: inbound, Source: source,
		Limits:        wire.Limits{MaxStreams: l.GetMaxStreams(), StreamWindow: l.GetStreamWindow(), MaxFrameBody: l.GetMaxFrameBody()},
		DrainDeadline: b.GetDrainDeadline().AsDuration(), MaxQueue: int(l.GetMaxQueuedBytes()), Log: log,
		AdmitHello: func(p *session.Peer) error { return admit(b, p) },
	}
	if limiter != nil {
		cfg.Limiter = limiter
	}
	p, err := proxy.Start(context.Background(), cfg)
	if err != nil {
		return nil, err
	}
	log.Info("octo-proxy runs", "version", proxy.Version, "environment", b.GetEnvironment(), "instance", b.GetInstance(),
		"outbound", b.GetOutboundSocket(), "inbound", reached)
	return p, nil
}

// admit matches what a local process says it is to the user that the kernel says it runs as.
func admit(b *resourcev1.Bootstrap, p *session.Peer) error {
	if p.UID < 0 || !resource.MayConnect(b, uint32(os.Getuid()), uint32(p.UID), p.Application) {
		return fmt.Errorf("user %d may not connect as application %q: see socket_users in the proxy's configuration", p.UID, p.Application)
	}
	return nil
}

// serveAdmin opens the operator's socket, if one is configured.
func serveAdmin(ops *lifecycle.Group, b *resourcev1.Bootstrap, p *proxy.Proxy, told *tap.Tap, limiter *ratelimit.Client, leave chan<- struct{}) error {
	if b.GetAdminSocket() == "" {
		return nil
	}
	l, err := transport.ListenUnix(b.GetAdminSocket(), 0o600)
	if err != nil {
		return err
	}
	metrics := telemetry.NewMetrics("octo-proxy", proxy.Version)
	metrics.Add(admin.NewCollector(p.Store(), p.InboundTargets).Clock(p.Now), admin.NewTelemetryCollector(told.Status))
	if limiter != nil {
		metrics.Add(admin.NewLimiterCollector(limiter.Status))
	}
	for kind := range p.Sessions() {
		metrics.Gauge("octo_sessions_"+kind, "Connections of the kind "+kind+".", func() float64 { return float64(p.Sessions()[kind]) })
	}
	h := admin.Handler(admin.Config{
		Store: p.Store(), NotReady: p.NotReady, Now: p.Now, Metrics: metrics.Handler(), Telemetry: told.Status,
		Calls: func(yield func(admin.Call) bool) { openCalls(p, yield) },
		Drain: func() {
			select {
			case leave <- struct{}{}:
			default: // it leaves already
			}
		},
	})
	ops.Go(func(ctx context.Context) { _ = admin.Serve(ctx, l, h) })
	return nil
}

func openCalls(p *proxy.Proxy, yield func(admin.Call) bool) {
	for _, c := range p.OpenCalls() {
		call := admin.Call{
			Direction: c.Direction.String(), Target: c.Target, Service: c.Service, Method: c.Method, Caller: c.Caller,
			Endpoint: c.Instance, State: "open", Seconds: c.Age.Seconds(), LeftSec: c.Left.Seconds(),
		}
		if c.Parked {
			call.State = "parked"
		}
		if !yield(call) {
			return
		}
	}
}
