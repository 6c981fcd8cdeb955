// Package proxyd runs a proxy as a process. octo-proxy and octo-gateway are its mains: the one has applications beside it, the other
// none. What they are told by their files is all in which they differ.
//
// SIGHUP reads the resources and the telemetry section again, SIGTERM and SIGINT
// drain, a second one ends at once, SIGUSR2 starts a successor with the same arguments (renew.go). With --takeover it takes the sockets
// of the proxy that runs there, which then leaves, without a call that notices (docs/guides/hot-restart.md); where none runs it starts as always.
//
// It ends with 0 when it has left, with 78 when its configuration is wrong, so that another start needs another configuration, and
// with 1 when anything else has failed.
package proxyd

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/lifecycle"
	"github.com/octomesh/octomesh/core/lifecycle/pidfd"
	"github.com/octomesh/octomesh/core/lifecycle/systemd"
	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/proxy/admin"
	"github.com/octomesh/octomesh/core/proxy/handover"
	"github.com/octomesh/octomesh/core/proxy/ratelimit"
	"github.com/octomesh/octomesh/core/proxy/register"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/proxy/tap"
	"github.com/octomesh/octomesh/core/resource"
	"github.com/octomesh/octomesh/core/telemetry"
	"github.com/octomesh/octomesh/core/transport/identity"
	"github.com/octomesh/octomesh/core/wire"
)

// Main is the main function of a program of the name.
func Main(name string, is resource.Program) {
	config := flag.String("config", "", "the proxy's bootstrap file (YAML, octo.resource.v1.Bootstrap)")
	level := flag.String("log", "info", "log level: debug, info, warn, error")
	takeover := flag.Bool("takeover", false, "take over from the proxy that runs with this bootstrap file's takeover_socket, if one does")
	version := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	if *version {
		fmt.Println(name, proxy.Version)
		return
	}
	log, err := telemetry.NewLogger(os.Stderr, *level)
	if err == nil {
		err = run(program{name, is, *config}, *takeover, log)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, name+":", err)
		systemd.Notify(systemd.Status("%v", err))
		os.Exit(codeOf(err))
	}
}

// Exit codes.
const (
	exitFailed = 1
	exitConfig = 78 // EX_CONFIG, as systemd knows it too
)

// configError says that the proxy's own configuration is wrong: another start with the same would fail the same way.
type configError struct{ error }

func (e configError) Unwrap() error { return e.error }

func codeOf(err error) int {
	if errors.As(err, new(configError)) {
		return exitConfig
	}
	return exitFailed
}

// program is which program runs, and by which file.
type program struct {
	name string
	is   resource.Program
	path string
}

// read reads the bootstrap file.
func (p program) read() (*resourcev1.Bootstrap, error) {
	return resource.ReadBootstrap(p.path, p.is, os.Getenv)
}

func run(of program, takeover bool, log *slog.Logger) error {
	if of.path == "" {
		return configError{errors.New("--config is missing: give the proxy's bootstrap file")}
	}
	b, err := of.read()
	if err != nil {
		return configError{err}
	}
	sockets, err := systemd.Sockets()
	if err != nil {
		return configError{err}
	}
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGUSR2)

	ops := lifecycle.New(context.Background())
	defer ops.Stop()
	starting, begun := untilStopped(ops, stop)
	next, err := predecessor(starting, b, takeover, log)
	if err != nil {
		return err
	}
	r := &running{program: of, b: b, ops: ops, log: log, given: &given{sockets: sockets, log: log}}
	if err := r.start(starting, next, reload); err != nil {
		if next != nil {
			next.Refuse(err)
			next.Close()
		}
		return err
	}
	begun()
	r.serve(stop, again)
	return nil
}

// untilStopped returns a context for the start: it ends with the first signal. What has begun is ended by a signal in another way.
func untilStopped(ops *lifecycle.Group, stop chan os.Signal) (ctx context.Context, begun func()) {
	ctx, cancel := context.WithCancelCause(ops.Context())
	done := make(chan struct{})
	ops.Go(func(ctx context.Context) {
		select {
		case s := <-stop:
			cancel(fmt.Errorf("it is stopped while it starts: %v", s))
			stop <- s // it may have begun
		case <-done:
		case <-ctx.Done():
		}
	})
	return ctx, func() { close(done) }
}

// running is a proxy that runs, and what is around it.
type running struct {
	program
	b    *resourcev1.Bootstrap
	p    *proxy.Proxy
	told *tap.Tap
	ops  *lifecycle.Group
	log  *slog.Logger

	byName byName   // gRPC's own servers by TLS
	bridge *bridged // nil: gRPC is not spoken
	given  *given   // by systemd

	register *register.Client // nil: there is no control plane

	limiter *ratelimit.Client // nil: nobody counts global rate limits

	admin  *lifecycle.Group // of the operator's socket
	heirs  *lifecycle.Group // of those who want to take over
	heir   *handover.Server // nil: nobody can
	leave  chan struct{}    // an operator wants it to
	handed chan struct{}    // a successor serves

	renewing atomic.Bool // a successor was started that does not serve yet
	yields   atomic.Bool // a successor serves
}

// start runs the proxy, in the place of its predecessor if there is one.
func (r *running) start(ctx context.Context, next *handover.Successor, reload <-chan os.Signal) error {
	id, err := loadIdentity(r.ops, r.b, r.log)
	if err != nil {
		return configError{err}
	}
	if r.byName, err = loadServerTLS(r.b, r.log); err != nil {
		return configError{err}
	}
	if r.bridge, err = loadBridge(r.b, r.byName, r.log); err != nil {
		return configError{err}
	}
	if r.told, err = loadTelemetry(r.ops, r.program, r.b, r.log); err != nil {
		return configError{err}
	}
	if err = r.prepare(id, reload); err == nil {
		if err = r.listen(ctx, next); err != nil {
			r.p.Close()
		}
	}
	if err != nil {
		r.told.Close(ended)
	}
	return err
}

// listen opens the proxy to everybody, where its predecessor was if there is one.
func (r *running) listen(ctx context.Context, next *handover.Successor) error {
	s, err := openSockets(ctx, r.b, r.p, next, r.given)
	if err != nil {
		return err
	}
	if s.taken {
		r.p.Inherit(s.attached, s.complete)
	}
	if s.inbound != nil {
		address, err := advertised(r.b, s.inbound.Addr().String())
		if err != nil {
			return configError{err}
		}
		r.register.Reached(address)
	}
	r.p.Listen(s.outbound, s.inbound, r.bridge.entrances(s.grpc, s.kitex)...)
	if s.taken {
		next.Serving()
		r.ops.Go(func(ctx context.Context) { follow(ctx, r.p, next, r.log) })
	}
	r.leave, r.handed = make(chan struct{}, 1), make(chan struct{}, 1)
	r.admin, r.heirs = lifecycle.New(r.ops.Context()), lifecycle.New(r.ops.Context())
	r.serveAdmin(s.admin)
	r.heir = s.offer(r.heirs, r.b, r.p, r.handed, r.log)
	r.log.Info(r.name+" runs", "version", proxy.Version, "environment", r.b.GetEnvironment(), "instance", r.b.GetInstance(),
		"outbound", r.b.GetOutboundSocket(), "inbound", addressOf(s.inbound), "grpc", addressOf(s.grpc), "taken_over", s.taken)
	// Who takes over becomes the service's process.
	systemd.Notify(systemd.Main(os.Getpid()), systemd.Ready, systemd.Status("version %s serves as %s", proxy.Version, r.b.GetInstance()))
	if !s.taken {
		s.keep(r.log)
	}
	r.ops.Go(systemd.Watch)
	return nil
}

// addressOf is where a socket listens; empty: there is none.
func addressOf(l net.Listener) string {
	if l == nil {
		return ""
	}
	return l.Addr().String()
}

// serve runs the proxy until it is asked to leave, or has been taken over, and has left.
func (r *running) serve(stop, again <-chan os.Signal) {
	drain := r.p.Drain
	enough := 1 // signals that cut a drain short
	defer r.admin.Stop()
	defer r.heirs.Stop()
	for leaves := false; !leaves; {
		leaves = true
		select {
		case <-stop:
			r.heirs.Stop()
		case <-r.leave:
			r.heirs.Stop()
		case <-r.handed:
			drain = r.p.Yield
			enough = 2 // the first asks for what it does already
			r.yields.Store(true)
			r.admin.Stop()
		case <-again:
			r.renew()
			leaves = false
		}
	}
	if !r.yields.Load() { // else the service goes on
		systemd.Notify(systemd.Stopping, systemd.Status("leaves"))
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r.ops.Go(func(ops context.Context) {
		for ; enough > 0; enough-- {
			select {
			case <-stop:
			case <-ops.Done():
				return
			}
		}
		cancel()
	})
	begun := time.Now()
	cut := drain(ctx)
	if r.heir != nil {
		r.heir.Left(cut)
	}
	endTelemetry(ctx, r.told, r.b.GetDrainDeadline().AsDuration()-time.Since(begun))
	r.log.Info("left", "calls_cut_off", cut)
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

// prepare runs a proxy that does not listen yet.
func (r *running) prepare(id *identity.Source, reload <-chan os.Signal) (err error) {
	b := r.b
	if r.limiter, err = limiterOf(b, id, r.log); err != nil {
		return err
	}
	pilots, err := pilotsOf(b, id)
	if err != nil {
		return err
	}
	source := sourceOf(b, pilots, reload, r.log)
	r.bridge.follow(source)
	r.register = registerOf(b, id, pilots, source, r.log)
	l := b.GetLimits()
	cfg := proxy.Config{
		TLS: id, Tap: r.told, Environment: b.GetEnvironment(), Instance: b.GetInstance(), Zone: b.GetZone(),
		Source: source, Register: r.register,
		Limits:        wire.Limits{MaxStreams: l.GetMaxStreams(), StreamWindow: l.GetStreamWindow(), MaxFrameBody: l.GetMaxFrameBody()},
		DrainDeadline: b.GetDrainDeadline().AsDuration(), MaxQueue: int(l.GetMaxQueuedBytes()), MaxWaiting: proxy.MaxWaiting(), Log: r.log,
		AdmitHello: func(p *session.Peer) error { return admit(b, p) }, Protocols: r.bridge.protocols(), Answers: r.bridge.answerers(), Dials: dials(), ServerTLS: r.byName,
		Servers: r.bridge.instances(),
	}
	if r.limiter != nil {
		cfg.Limiter = r.limiter
	}
	r.p, err = proxy.Start(context.Background(), cfg)
	return err
}

// admit matches what a local process says it is to the user that the kernel says it runs as.
func admit(b *resourcev1.Bootstrap, p *session.Peer) error {
	if p.UID < 0 || !resource.MayConnect(b, uint32(os.Getuid()), uint32(p.UID), p.Application) {
		return fmt.Errorf("user %d may not connect as application %q: see socket_users in the proxy's configuration", p.UID, p.Application)
	}
	return nil
}

// serveAdmin answers the operator, if there is a socket for that.
func (r *running) serveAdmin(l net.Listener) {
	if l == nil {
		return
	}
	p, told := r.p, r.told
	metrics := telemetry.NewMetrics(r.name, proxy.Version)
	metrics.Add(admin.NewCollector(p.Store(), p.InboundTargets).Clock(p.Now), admin.NewTelemetryCollector(told.Status), p.Directory())
	if r.limiter != nil {
		metrics.Add(admin.NewLimiterCollector(r.limiter.Status))
	}
	for kind := range p.Sessions() {
		metrics.Gauge("octo_sessions_"+kind, "Connections of the kind "+kind+".", func() float64 { return float64(p.Sessions()[kind]) })
	}
	addWaiting(metrics, p.Waiting)
	cfg := admin.Config{
		Store: p.Store(), NotReady: p.NotReady, Process: r.process, Registrations: p.Registrations, Now: p.Now, Metrics: metrics.Handler(), Telemetry: told.Status,
		Calls: func(yield func(admin.Call) bool) { openCalls(p, yield) },
		Drain: func() {
			select {
			case r.leave <- struct{}{}:
			default: // it leaves already
			}
		},
	}
	if source, ok := p.Source().(admin.Control); ok {
		cfg.Control = source
		metrics.Add(admin.ControlCollector{Control: source})
	}
	h := admin.Handler(cfg)
	r.admin.Go(func(ctx context.Context) { _ = admin.Serve(ctx, l, h) })
}

// addWaiting adds how much waits in the proxy.
func addWaiting(m *telemetry.Metrics, load func() session.Load) {
	m.Gauge("octo_waiting_limit_bytes", "Bytes that may wait for peers and calls: a quarter of GOMEMLIMIT; 0: no limit is set.",
		func() float64 { return float64(load().Limit) })
	m.Gauge("octo_waiting_bytes", "Bytes that wait for peers and calls.", func() float64 { return float64(load().Bytes) })
	m.Counter("octo_waiting_ended_calls_total", "Calls that ended because too much waited.", func() float64 { return float64(load().Ended) })
}

// process says who this is.
func (r *running) process() admin.Process {
	pid := os.Getpid()
	start, err := pidfd.StartOf(pid)
	if err != nil {
		r.log.Error("it is not known when this process started", "error", err)
	}
	return admin.Process{
		PID: pid, Start: start, Version: proxy.Version, Environment: r.b.GetEnvironment(), Instance: r.b.GetInstance(), Sessions: r.p.Sessions(),
	}
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
