package plane

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"github.com/octomesh/octomesh/core/cmd/octo/plane/registries"
	"github.com/octomesh/octomesh/core/configserver"
	"github.com/octomesh/octomesh/core/configserver/store/etcd"
	"github.com/octomesh/octomesh/core/dispatcher"
	"github.com/octomesh/octomesh/core/dispatcher/hub"
	"github.com/octomesh/octomesh/core/pilot"
	"github.com/octomesh/octomesh/core/pilot/callers"
	"github.com/octomesh/octomesh/core/pilot/push"
	"github.com/octomesh/octomesh/core/transport/identity"
	dispatchv1 "github.com/octomesh/octomesh/gen/control/octo/dispatch/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// Names of roles.
const (
	RoleConfig     = "config"
	RoleDispatcher = "dispatcher"
	RolePilot      = "pilot"
	RoleDirectory  = "directory"
)

// Roles are all that there are, in the order in which they start.
func Roles() []string { return []string{RoleConfig, RoleDispatcher, RolePilot, RoleDirectory} }

// later are roles that the design has and the program has not.
func later() []string { return []string{"health", "inspect", "meta"} }

// needs are roles that a role asks.
func needs(role string) []string {
	if role == RolePilot || role == RoleDirectory {
		return []string{RoleDispatcher, RoleConfig}
	}
	return nil
}

// ParseRoles reads names parted by commas; "all" is every role.
func ParseRoles(text string) ([]string, error) {
	if text == "all" {
		return Roles(), nil
	}
	asked := make(map[string]bool)
	for name := range strings.SplitSeq(text, ",") {
		switch name = strings.TrimSpace(name); {
		case slices.Contains(Roles(), name):
			asked[name] = true
		case slices.Contains(later(), name):
			return nil, usage("--roles: %s comes later; %s are there", name, strings.Join(Roles(), ", "))
		default:
			return nil, usage("--roles: %q is no role; %s are, and all", name, strings.Join(Roles(), ", "))
		}
	}
	return slices.DeleteFunc(Roles(), func(name string) bool { return !asked[name] }), nil
}

// role is one that runs here.
type role struct {
	name string
	// register adds its services to a gRPC server. It is called for the roles here, and for everybody else.
	register func(grpc.ServiceRegistrar)
	// run works until ctx is done. nil: it only answers.
	run func(ctx context.Context)
	// ready tells what it lacks; nil: nothing.
	ready func(ctx context.Context) error
	close func()
	// metrics are read at each scrape.
	metrics []prometheus.Collector
}

// startRole puts a role together. It begins to work when all are.
func (p *Plane) startRole(name string) (*role, error) {
	switch name {
	case RoleConfig:
		return p.startConfig()
	case RoleDispatcher:
		return p.startDispatcher()
	case RolePilot:
		return p.startPilot()
	case RoleDirectory:
		return p.startDirectory()
	}
	return nil, usage("--roles: %q is no role", name)
}

func (p *Plane) startConfig() (*role, error) {
	c := configserver.Config{
		Store: etcd.New(p.etcd, Prefix), Log: p.cfg.Log,
		Election: &etcd.Election{Client: p.etcd, Prefix: Prefix + "config/leader", Name: p.cfg.Name, Log: p.cfg.Log},
	}
	if p.id != nil {
		c.MayWrite = p.mayWrite
		c.MayObserve = func(peer identity.ID) error { return identity.MayBe(peer, RolePilot) }
	}
	if p.cfg.Store.Data == "" || slices.Contains(p.cfg.Roles, RoleDispatcher) { // else there is none
		d, err := p.conn(RoleDispatcher)
		if err != nil {
			return nil, err
		}
		c.Registries = inRegistry(d)
	}
	var err error
	if c.Fleet, err = p.parts(); err != nil {
		return nil, err
	}
	s := configserver.New(c)
	return &role{register: s.Register, run: s.Run, ready: p.etcdAnswers}, nil
}

// inRegistry asks the Dispatcher whether a registry knows instances of a target.
func inRegistry(d grpc.ClientConnInterface) func(ctx context.Context, environment, target string) (bool, error) {
	return func(ctx context.Context, environment, target string) (bool, error) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		s, err := dispatchv1.NewDispatchClient(d).Watch(ctx)
		if err != nil {
			return false, err
		}
		err = s.Send(&dispatchv1.WatchRequest{Follow: []*dispatchv1.Key{{Environment: environment, Target: target}}})
		if err != nil && !errors.Is(err, io.EOF) {
			return false, err
		}
		r, err := s.Recv()
		switch {
		case err != nil:
			return false, err
		case r.GetRefused() != "":
			return false, errors.New(r.GetRefused())
		case len(r.GetEndpoints()) == 0 && r.GetDegraded():
			return false, errors.New("the registry is not heard")
		}
		return slices.ContainsFunc(r.GetEndpoints(), func(e *resourcev1.Endpoint) bool {
			return e.GetStanding() != resourcev1.Standing_STANDING_LEFT
		}), nil
	}
}

// etcdAnswers asks etcd something that a majority of its members has to agree on.
func (p *Plane) etcdAnswers(ctx context.Context) error {
	if _, err := p.etcd.Get(ctx, Prefix); err != nil {
		return errors.New("etcd at " + p.StoreName() + " does not answer: " + err.Error())
	}
	return nil
}

func (p *Plane) startDispatcher() (*role, error) {
	limits, err := p.limits()
	if err != nil {
		return nil, err
	}
	own, err := p.registry()
	if err != nil {
		return nil, err
	}
	set, err := registries.Open(p.cfg.Registries, own, p.cfg.Log)
	if err != nil {
		return nil, usage("--registry: %v", err)
	}
	h, err := hub.New(hub.Config{Registries: set.Registries, Pick: set.Pick, Log: p.cfg.Log})
	if err != nil {
		set.Close()
		return nil, err
	}
	c := dispatcher.Config{Hub: h, Log: p.cfg.Log}
	if p.id != nil {
		c.MayConfirm = p.mayWrite
		c.MayPublish = func(peer identity.ID) error { return identity.MayBe(peer, RolePilot) }
	}
	d := dispatcher.New(c)
	r := &role{
		register: d.Register, metrics: []prometheus.Collector{hubMetrics(h), registrationMetrics(d)},
		ready: func(ctx context.Context) error {
			if err := p.etcdAnswers(ctx); err != nil { // its own registry
				return err
			}
			if n := h.Stats().OpenBreakers; n == len(set.Registries) {
				return errors.New("no registry answers")
			}
			return nil
		},
		close: func() { d.Close(); h.Close(); set.Close() },
	}
	if limits != nil {
		p.addLimits(r, limits)
	}
	return r, nil
}

func (p *Plane) startPilot() (*role, error) {
	d, err := p.conn(RoleDispatcher)
	if err != nil {
		return nil, err
	}
	c, err := p.conn(RoleConfig)
	if err != nil {
		return nil, err
	}
	r := &role{}
	running, err := pilot.New(pilot.Config{
		Node: hears(p.heard(r)), Name: p.cfg.Name, Dispatchers: []grpc.ClientConnInterface{d}, ConfigServers: []grpc.ClientConnInterface{c}, Log: p.cfg.Log,
		Push: push.Config{Topics: p.cfg.Limits.Topics, StreamsPerSecond: p.cfg.Limits.StreamsPerSecond},
		Callers: callers.Config{
			Prove: p.id != nil, Streams: p.cfg.Limits.Streams, OpensPerMinute: p.cfg.Limits.OpensPerMinute,
			Stock: p.cfg.Limits.Stock, StockOpensPerMinute: p.cfg.Limits.StockOpensPerMinute,
			MaySpeakForAll: func(id identity.ID) error { return identity.MayBe(id, RoleDirectory) },
		},
	})
	if err != nil {
		return nil, err
	}
	serve := r.register // nil: another role here does
	r.register = func(g grpc.ServiceRegistrar) {
		if running.Register(g); serve != nil {
			serve(g)
		}
	}
	r.run, r.metrics = running.Run, append(r.metrics, pilotMetrics(running))
	r.ready = func(context.Context) error {
		if err := reached(d, "Dispatcher"); err != nil {
			return err
		}
		return reached(c, "Config Server")
	}
	return r, nil
}

// reached tells whether a connection stands.
func reached(c *grpc.ClientConn, who string) error {
	if s := c.GetState(); s != connectivity.Ready {
		return errors.New("no " + who + " is reached: the connection is " + strings.ToLower(s.String()))
	}
	return nil
}

// patience is how long a question about readiness may take.
const patience = 2 * time.Second

// Ready tells what each role that is not ready lacks, by its name.
func (p *Plane) Ready(ctx context.Context) map[string]error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	lacking := make(map[string]error)
	for _, r := range p.roles {
		if r.ready == nil {
			continue
		}
		if err := r.ready(ctx); err != nil {
			lacking[r.name] = err
		}
	}
	return lacking
}

// lookEvery is how often readiness is looked at while something is missing.
const lookEvery = 50 * time.Millisecond

// AwaitReady waits until all roles are ready, or some seconds. It returns what each of the others lacks.
func (p *Plane) AwaitReady(ctx context.Context) map[string]error {
	late := time.Now().Add(2 * patience)
	for {
		lacking := p.Ready(ctx)
		if len(lacking) == 0 || time.Now().After(late) {
			return lacking
		}
		select {
		case <-ctx.Done():
			return lacking
		case <-time.After(lookEvery):
		}
	}
}
