// Package pilot is the Pilot, the part of the control plane that faces the proxies: it learns what they ask for, and
// nothing else, and pushes it to them. Its parts are in the packages below; here they are put together.
package pilot

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/octomesh/octomesh/core/pilot/callers"
	"github.com/octomesh/octomesh/core/pilot/derive"
	"github.com/octomesh/octomesh/core/pilot/ingest"
	"github.com/octomesh/octomesh/core/pilot/node"
	"github.com/octomesh/octomesh/core/pilot/push"
	"github.com/octomesh/octomesh/core/pilot/rollout"
	"github.com/octomesh/octomesh/core/pilot/snapshot"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
)

// Config is a Pilot's.
type Config struct {
	// Name is the Pilot's, unique among Pilots. Empty: one made up.
	Name string
	// Dispatchers are connections to Dispatchers, tried in turn. At least one; one that finds several by itself will do.
	Dispatchers []grpc.ClientConnInterface
	// ConfigServers are connections to Config Servers, tried in turn. None: nothing is configured for any target.
	ConfigServers []grpc.ClientConnInterface
	// Linger is how long a target is followed on after its last proxy has left. 0: 1 min.
	Linger time.Duration
	// Push has the limits of the discovery streams. Its Cache, Observer and Log are the Pilot's affair.
	Push push.Config
	// Callers are who may have streams here, and how many.
	Callers callers.Config
	// Observers learn what proxies apply and refuse.
	Observers []push.Observer
	// Node has the limits of what proxies say of themselves, and who is told of it. Its Dispatchers and Log are the Pilot's
	// affair.
	Node node.Config
	Log  *slog.Logger
}

// Part is what runs in a Pilot beside discovery: a service for proxies, work in the background, or both.
type Part interface {
	// Register adds its services to a gRPC server. It is called once for each server of the Pilot.
	Register(grpc.ServiceRegistrar)
	// Run works until ctx is done.
	Run(ctx context.Context)
}

// Pilot is one Pilot. Its methods are safe for concurrent use, but for Add.
type Pilot struct {
	cache   *snapshot.Cache
	ingest  *ingest.Ingest
	derive  *derive.Deriver
	push    *push.Server
	callers *callers.Callers
	// rollouts tells the Config Server what becomes of changes that go in waves.
	rollouts *rollout.Observer
	node     *node.Service
	parts    []Part
}

// Stats are a Pilot's counts.
type Stats struct {
	Push    push.Stats
	Derive  derive.Stats
	Callers callers.Stats
	Node    node.Stats
	// Topics that are kept, and how many followings of them there are.
	Topics, Followings int
	// Targets that are followed at the Dispatcher.
	Targets int
}

// New makes a Pilot that does nothing before Run.
func New(cfg Config) (*Pilot, error) {
	if len(cfg.Dispatchers) == 0 {
		return nil, errors.New("pilot: there is no Dispatcher: give at least one connection")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Name == "" {
		cfg.Name = rand.Text()
	}
	p := &Pilot{cache: snapshot.NewCache(), callers: callers.New(cfg.Callers)}
	p.rollouts = rollout.New(rollout.Config{Pilot: cfg.Name, Cache: p.cache, ConfigServers: cfg.ConfigServers, Log: cfg.Log})
	p.ingest = ingest.New(ingest.Config{
		Cache: p.cache, Dispatchers: cfg.Dispatchers, ConfigServers: cfg.ConfigServers, Candidates: p.rollouts, Linger: cfg.Linger, Log: cfg.Log,
	})
	p.derive = derive.New(p.cache, cfg.Log) // after the ingest, of which it asks for what it needs
	c := cfg.Push
	c.Cache, c.Log, c.Observer = p.cache, cfg.Log, append(observers{p.rollouts}, cfg.Observers...)
	c.Admit = func(ctx context.Context, n push.Node, stock bool) (func(), error) {
		if stock {
			return p.callers.EnterStock(ctx, n.Environment, n.ID)
		}
		return p.Enter(ctx, n.Environment, n.ID)
	}
	p.push = push.New(c)
	n := cfg.Node
	n.Dispatchers, n.Log = cfg.Dispatchers, cfg.Log
	n.Admit = func(ctx context.Context, in *controlv1.Introduction) (func(), error) {
		return p.Enter(ctx, in.GetEnvironment(), in.GetInstance())
	}
	n.Introduced = func(who node.Info, in *controlv1.Introduction) {
		p.Suspects(push.Node{ID: who.Instance, Environment: who.Environment}, who.Incarnation, in.GetSuspects())
		if cfg.Node.Introduced != nil {
			cfg.Node.Introduced(who, in)
		}
	}
	var err error
	if p.node, err = node.New(n); err != nil {
		return nil, err
	}
	p.Add(p.node)
	return p, nil
}

// Add adds a part. Call it before Register and Run.
func (p *Pilot) Add(part Part) { p.parts = append(p.parts, part) }

// Cache is what the Pilot knows, for its parts.
func (p *Pilot) Cache() *snapshot.Cache { return p.cache }

// Suspects takes what an incarnation of a proxy that introduces itself suspects to have crashed it: all of it.
func (p *Pilot) Suspects(n push.Node, incarnation uint64, all []*controlv1.Suspect) {
	p.rollouts.Suspects(n, incarnation, all)
}

// Nodes are the proxies that are connected.
func (p *Pilot) Nodes() []node.Info { return p.node.Nodes() }

// Enter lets a stream in that says to be of a proxy's instance, for services of the parts; leave must be called at its end.
// The error is what to end the stream with.
func (p *Pilot) Enter(ctx context.Context, environment, instance string) (leave func(), err error) {
	return p.callers.Enter(ctx, environment, instance)
}

// ServerOptions are what a gRPC server needs on which a Pilot is registered. They do for other services, too.
func ServerOptions() []grpc.ServerOption { return push.ServerOptions() }

// Register adds the Pilot's services to a gRPC server that was made with [ServerOptions].
func (p *Pilot) Register(g grpc.ServiceRegistrar) {
	p.push.Register(g)
	for _, part := range p.parts {
		part.Register(g)
	}
}

// Run works until ctx is done. Streams of proxies end with their gRPC server.
func (p *Pilot) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { p.ingest.Run(ctx) })
	wg.Go(func() { p.derive.Run(ctx) })
	wg.Go(func() { p.push.Run(ctx) })
	wg.Go(func() { p.rollouts.Run(ctx) })
	for _, part := range p.parts {
		wg.Go(func() { part.Run(ctx) })
	}
	wg.Wait()
}

// Stats returns the counts.
func (p *Pilot) Stats() Stats {
	s := Stats{Push: p.push.Stats(), Derive: p.derive.Stats(), Callers: p.callers.Stats(), Node: p.node.Stats(), Targets: p.ingest.Followed()}
	s.Topics, s.Followings = p.cache.Topics()
	return s
}

// observers tells several what one would be told.
type observers []push.Observer

// Applied implements push.Observer.
func (all observers) Applied(n push.Node, u snapshot.Update) {
	for _, o := range all {
		o.Applied(n, u)
	}
}

// Refused implements push.Observer.
func (all observers) Refused(n push.Node, u snapshot.Update, why string) {
	for _, o := range all {
		o.Refused(n, u, why)
	}
}
