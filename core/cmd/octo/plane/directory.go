package plane

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/octomesh/octomesh/core/cmd/octo/mount"
	"github.com/octomesh/octomesh/core/directory"
	"github.com/octomesh/octomesh/core/directory/cached"
	"github.com/octomesh/octomesh/core/fleet"
	"github.com/octomesh/octomesh/core/pilot/ingest"
	"github.com/octomesh/octomesh/core/pilot/snapshot"
	"github.com/octomesh/octomesh/core/proxy/register"
	"github.com/octomesh/octomesh/core/transport/identity"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// Directory is where SDKs without a proxy ask about one environment. They speak the wire protocol there, and not gRPC.
type Directory struct {
	Environment string
	Listen      string // "host:port"; beyond loopback only with TLS
}

// ParseDirectory reads "ENVIRONMENT=HOST:PORT".
func ParseDirectory(text string) (Directory, error) {
	environment, address, ok := strings.Cut(text, "=")
	if !ok || environment == "" || address == "" {
		return Directory{}, usage("--directory %q: want ENVIRONMENT=HOST:PORT", text)
	}
	return Directory{environment, address}, nil
}

// directories are the services of the role, one for each environment, and what they know.
type directories struct {
	heard     *fleet.Service
	knowledge *cached.Knowledge
	ingest    *ingest.Ingest
	services  []*directory.Service
	registers []*register.Client
	servers   []*octomesh.Server
	addresses []Directory
}

// startDirectory opens the addresses of the role. What it knows comes to it as to a Pilot, but only of targets that are asked for.
func (p *Plane) startDirectory() (*role, error) {
	if len(p.cfg.Directories) == 0 {
		return nil, usage("--roles: directory needs --directory ENVIRONMENT=HOST:PORT, where SDKs without a proxy ask about an environment")
	}
	d, err := p.conn(RoleDispatcher)
	if err != nil {
		return nil, err
	}
	c, err := p.conn(RoleConfig)
	if err != nil {
		return nil, err
	}
	pilots, err := p.conn(RolePilot)
	if err != nil {
		return nil, err
	}
	cache := snapshot.NewCache()
	all := &directories{ingest: ingest.New(ingest.Config{
		Cache: cache, Dispatchers: []grpc.ClientConnInterface{d}, ConfigServers: []grpc.ClientConnInterface{c}, Log: p.cfg.Log,
	})}
	all.knowledge = cached.New(cached.Config{Cache: cache, Freshness: all.ingest, Node: "directory/" + p.cfg.Name, Log: p.cfg.Log})
	r := &role{}
	all.heard = p.heard(r)
	for _, at := range p.cfg.Directories {
		if err := p.addDirectory(all, at, pilots); err != nil {
			return nil, err
		}
	}
	p.directories = all.addresses
	r.run, r.metrics = func(ctx context.Context) { all.run(ctx, p.fail) }, append(r.metrics, directoryMetrics(all))
	r.ready = func(context.Context) error {
		if err := reached(d, "Dispatcher"); err != nil {
			return err
		}
		return reached(c, "Config Server")
	}
	return r, nil
}

// addDirectory opens one address.
func (p *Plane) addDirectory(all *directories, at Directory, pilots grpc.ClientConnInterface) error {
	address, err := net.ResolveTCPAddr("tcp", at.Listen)
	if err != nil {
		return usage("--directory %s=%s: %v", at.Environment, at.Listen, err)
	}
	if p.id == nil && !address.IP.IsLoopback() {
		return usage("--directory %s=%s is not loopback: without TLS anybody could register there. Give --certificate, --key and --authorities", at.Environment, at.Listen)
	}
	if p.id != nil && p.id.ID().Environment != at.Environment {
		return usage("--directory %s=%s: the certificate is of environment %q", at.Environment, at.Listen, p.id.ID().Environment)
	}
	if slices.ContainsFunc(all.addresses, func(o Directory) bool { return o.Environment == at.Environment }) {
		return usage("--directory: environment %s stands there twice", at.Environment)
	}
	// What SDKs register goes to a Pilot, as if a proxy said it that nobody can call through.
	r := register.New(register.Config{
		Environment: at.Environment, Instance: "directory/" + p.cfg.Name, Incarnation: uint64(time.Now().UnixNano()), Version: Version,
		Pilots: []grpc.ClientConnInterface{pilots}, Log: p.cfg.Log,
	})
	s, err := directory.New(directory.Config{
		Environment: at.Environment, Source: directoryv1.WatchResponse_SOURCE_CONTROL_PLANE, Targets: all.knowledge.In(at.Environment),
		Registrar: r, Book: all.heard.Book, Presence: presence(all.heard, at.Environment), Log: p.cfg.Log,
	})
	if err != nil {
		return usage("--directory %s=%s: %v", at.Environment, at.Listen, err)
	}
	l, err := net.ListenTCP("tcp", address)
	if err != nil {
		return busy("--directory", at.Listen, err)
	}
	p.closers = append(p.closers, func() { _ = l.Close() })
	options := []octomesh.ServerOption{
		octomesh.WithMode("off"), octomesh.WithListener(l), octomesh.WithEnvironment(at.Environment), octomesh.WithApplication(directory.Target),
		octomesh.WithDrainTimeout(leave), octomesh.WithLogger(p.cfg.Log),
	}
	if f := p.cfg.TLS; f != (identity.Files{}) {
		options = append(options, octomesh.WithTLS(octomesh.TLS{Certificate: f.Certificate, Key: f.Key, Authorities: f.Authorities}))
	}
	server := octomesh.NewServer(directory.Target, options...)
	mount.Directory(server, s)
	all.services, all.servers, all.registers = append(all.services, s), append(all.servers, server), append(all.registers, r)
	all.addresses = append(all.addresses, Directory{at.Environment, l.Addr().String()})
	return nil
}

// run serves until ctx is done.
func (d *directories) run(ctx context.Context, failed func(error)) {
	var wg sync.WaitGroup
	wg.Go(func() { d.ingest.Run(ctx) })
	wg.Go(func() { d.knowledge.Run(ctx) })
	for _, r := range d.registers {
		wg.Go(func() { r.Run(ctx) })
	}
	for i, s := range d.servers {
		wg.Go(func() {
			if err := s.Serve(ctx); err != nil && ctx.Err() == nil {
				failed(fmt.Errorf("the Directory at %s: %w", d.addresses[i].Listen, err))
			}
			d.services[i].Wait()
		})
	}
	wg.Wait()
}

// stats are the sums over all environments.
func (d *directories) stats() directory.Stats {
	var sum directory.Stats
	for _, s := range d.services {
		one := s.Stats()
		sum.Watches += one.Watches
		sum.Registrations += one.Registrations
		sum.Snapshots += one.Snapshots
		sum.Reports += one.Reports
		sum.TurnedAway += one.TurnedAway
		sum.Refused += one.Refused
	}
	return sum
}

// Directories are the addresses where SDKs without a proxy ask.
func (p *Plane) Directories() []Directory { return p.directories }
