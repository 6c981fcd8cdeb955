// Package plane runs roles of the control plane in one process: all of them on an etcd of its own, or some of them apart
// on a cluster. Roles speak gRPC to each other, in one process over connections in memory, and apart by the addresses that
// they leave in etcd.
package plane

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/octomesh/octomesh/core/cmd/octo/plane/registries"
	"github.com/octomesh/octomesh/core/cmd/octo/plane/rendezvous"
	"github.com/octomesh/octomesh/core/configserver/store/embedded"
	"github.com/octomesh/octomesh/core/fleet"
	"github.com/octomesh/octomesh/core/lifecycle"
	"github.com/octomesh/octomesh/core/transport/identity"
)

const (
	// Prefix is what all keys of the control plane begin with in etcd, but for the registry's.
	Prefix = "/octomesh/"
	// Version of the program, for others of the control plane and for metrics.
	Version = "0.1.0"

	// leave is how long calls that are open may go on when the process ends. Streams do not end by themselves.
	leave = time.Second
)

// Config is what a process of the control plane needs.
type Config struct {
	// Roles that run here, see [ParseRoles]. At least one.
	Roles []string
	// Name tells this process from others of its roles. Empty: the host's name with something that nobody else has.
	Name string
	// Store is where the control plane's data are.
	Store Store
	// Listen is where to listen for proxies, operators and other roles: "host:port" or "unix:/path". Beyond loopback only
	// with TLS.
	Listen string
	// Advertise is where other processes reach Listen. Empty: what it is; then it must not be "every address".
	Advertise string
	// Metrics is where metrics and the health of the roles are served over HTTP, "host:port". Empty: nowhere.
	Metrics string
	// TLS of the gRPC address and between roles. Empty: none.
	TLS identity.Files
	// Writers are, with TLS, SPIFFE ids of those who may change configurations; each may end in "*".
	Writers []string
	// Directories are the addresses of the role directory, at most one for each environment.
	Directories []Directory
	// Registries beside the control plane's own.
	Registries []registries.Spec
	// RateLimits are counted by the Dispatcher.
	RateLimits RateLimits
	// Limits of proxies at the Pilot.
	Limits Limits
	Log    *slog.Logger
	// Unsafe has the embedded etcd not wait for the disk, for tests.
	Unsafe bool
}

// Limits are what proxies may have of a Pilot. What is 0 takes its default.
type Limits struct {
	// StreamsPerSecond is how many streams may begin in all; twice as many at once after a pause. 0: 2000.
	StreamsPerSecond int
	// Streams that one identity may have open. 0: 8.
	Streams int
	// OpensPerMinute is how many streams one identity may begin in a minute. 0: 120.
	OpensPerMinute int
	// Stock and StockOpensPerMinute are the same for stock xDS clients. 0: 100 and 600.
	Stock, StockOpensPerMinute int
	// Topics that one stream may follow. 0: 65536.
	Topics int
}

// UsageError is a mistake in a Config.
type UsageError struct{ text string }

// Error says what is wrong and what to do.
func (e *UsageError) Error() string { return e.text }

func usage(format string, args ...any) error { return &UsageError{fmt.Sprintf(format, args...)} }

// Plane is a running process of the control plane.
type Plane struct {
	cfg      Config
	listener net.Listener
	address  string
	id       *identity.Source // nil: no TLS
	group    *lifecycle.Group // of servers
	work     *lifecycle.Group // of roles, which end before what they ask
	announce *lifecycle.Group // of the addresses in etcd, which go first
	failed   chan error

	etcd       *clientv3.Client
	own        *embedded.Server // nil: etcd is elsewhere
	rendezvous *rendezvous.Rendezvous

	fleet *fleet.Service // nil: no role here hears of it

	roles       []*role
	directories []Directory
	inner       *memory      // for the roles here
	outer       *grpc.Server // for everybody else
	conns       map[string]*grpc.ClientConn
	health      *healthServer
	// closers run in the reverse order.
	closers []func()
}

// Start starts the roles, and returns when they serve. What needs etcd or another role may not be ready yet if those are
// elsewhere: see [Plane.Ready].
func Start(ctx context.Context, cfg Config) (*Plane, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Name == "" {
		cfg.Name = uniqueName()
	}
	p := &Plane{
		cfg: cfg, group: lifecycle.New(context.Background()), work: lifecycle.New(context.Background()), announce: lifecycle.New(context.Background()),
		failed: make(chan error, 4), conns: make(map[string]*grpc.ClientConn),
	}
	if err := p.start(ctx); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

func (p *Plane) start(ctx context.Context) error {
	if err := check(&p.cfg); err != nil {
		return err
	}
	options, err := p.secure()
	if err != nil {
		return err
	}
	if err := p.listen(); err != nil {
		return err
	}
	if p.health, err = p.openHealth(); err != nil {
		return err
	}
	if err := p.connect(ctx); err != nil {
		return err
	}
	p.inner, p.outer = newMemory(), grpc.NewServer(append(serverOptions(), options...)...)
	for _, name := range p.cfg.Roles {
		r, err := p.startRole(name)
		if err != nil {
			return err
		}
		r.name = name
		p.roles = append(p.roles, r)
		if r.close != nil {
			p.closers = append(p.closers, r.close)
		}
		if r.register != nil {
			r.register(p.inner.server)
			r.register(p.outer)
		}
	}
	p.run()
	return nil
}

// run lets all begin that was put together.
func (p *Plane) run() {
	p.group.Go(func(context.Context) { p.inner.serve() })
	p.group.Go(func(context.Context) {
		if err := p.outer.Serve(p.listener); err != nil {
			p.fail(fmt.Errorf("listening on %s: %w", p.address, err))
		}
	})
	for _, r := range p.roles {
		if r.run != nil {
			p.work.Go(r.run)
		}
		if p.own == nil {
			m := rendezvous.Member{ID: p.cfg.Name, Address: p.advertised(), Version: Version}
			p.announce.Go(func(ctx context.Context) { p.rendezvous.Announce(ctx, r.name, m) })
		}
	}
	p.serveHealth()
}

// fail notes why the process cannot go on.
func (p *Plane) fail(err error) {
	select {
	case p.failed <- err:
	default:
	}
}

// Failed tells why the control plane cannot go on: end it.
func (p *Plane) Failed() <-chan error { return p.failed }

// Address is where proxies, operators and other roles reach it.
func (p *Plane) Address() string { return p.address }

// Close ends all. Others are told first that this process does not have its roles any more.
func (p *Plane) Close() {
	p.announce.Stop()
	p.stopOuter()
	p.work.Stop()
	if p.inner != nil {
		p.inner.server.Stop()
	}
	p.group.Stop()
	for _, c := range slices.Backward(p.closers) {
		c()
	}
	p.closers = nil
}

// stopOuter ends what others have open here.
func (p *Plane) stopOuter() {
	if p.outer != nil {
		cut := time.AfterFunc(leave, p.outer.Stop)
		p.outer.GracefulStop()
		cut.Stop()
	}
	if p.health != nil && p.health.server != nil {
		_ = p.health.server.Close()
	}
}

func check(c *Config) error {
	if len(c.Roles) == 0 {
		return usage("--roles is empty: %s are there", strings.Join(Roles(), ", "))
	}
	if len(c.Directories) == 0 && len(c.Roles) == len(Roles()) { // "all" are those for which all is said
		c.Roles = slices.DeleteFunc(slices.Clone(c.Roles), func(name string) bool { return name == RoleDirectory })
	}
	if len(c.Directories) > 0 && !slices.Contains(c.Roles, RoleDirectory) {
		return usage("--directory is of the role directory: add it to --roles")
	}
	if l := c.Limits; min(l.StreamsPerSecond, l.Streams, l.OpensPerMinute, l.Stock, l.StockOpensPerMinute, l.Topics) < 0 {
		return usage("a limit of streams or topics is negative: 0 takes its default")
	}
	if (len(c.Store.Endpoints) == 0) == (c.Store.Data == "") {
		return usage("give --data, a directory for an embedded etcd, or --etcd, the endpoints of another one")
	}
	if c.Store.Data == "" {
		return nil
	}
	for _, name := range c.Roles {
		for _, needed := range needs(name) {
			if !slices.Contains(c.Roles, needed) {
				return usage("--roles: %s needs %s, and with --data all is in this one process: add it, or give --etcd", name, needed)
			}
		}
	}
	return nil
}

// uniqueName is one that no other process has, and that tells people which host it is on.
func uniqueName() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "host"
	}
	return fmt.Sprintf("%s-%d-%x", host, os.Getpid(), time.Now().UnixNano())
}
