package route

import (
	"maps"
	"slices"
	"time"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/octomesh/octomesh/core/proxy/cluster"
	"github.com/octomesh/octomesh/core/proxy/policy"
	"github.com/octomesh/octomesh/core/resource"
	"github.com/octomesh/octomesh/core/telemetry/meter"
)

// Defaults of octo.resource.v1, for what a resource leaves out.
const (
	DefaultEndpointWeight    = 100
	DefaultDestinationWeight = 1
	DefaultMaxOpenCalls      = 65536
	DefaultMaxParkedCalls    = 1024
	DefaultMaxPark           = 5 * time.Second
)

// compiler holds what one change has made so far.
type compiler struct {
	Options
	previous *Table
	sum      resource.Sum
	units    *editing
	again    map[string]bool                            // targets to compile again
	before   map[*resourcev1.Endpoint]*cluster.Endpoint // what an endpoint that is not compiled yet was; nil: new
	delta    Delta
}

// Options is what a table takes from its proxy.
type Options struct {
	// Peer gives the peer of a place, and is asked once for each that an endpoint in rotation has; nil: endpoints get
	// none.
	Peer func(cluster.Place) cluster.Peer
	// Secure says that the proxy speaks TLS: to instances' own addresses too, or not at all.
	Secure bool
	// Speaks tells which foreign protocols the proxy calls instances by. nil: none.
	Speaks func(resourcev1.Protocol) bool
	// Zone is where the proxy stands; empty: nowhere.
	Zone string
	// Environment is where all names live.
	Environment string
	// Asker asks about global rate limits; nil: nobody does, and they do as they do without an answer.
	Asker policy.Asker
}

// Compile makes the table of a valid snapshot (see resource.Validate). Counters, open calls and parked
// calls of what the previous table, or nil, knew too go on, and what did not change is shared with it.
func Compile(s *resourcev1.Snapshot, previous *Table, o Options) *Table {
	t, _ := previous.Replace(s, o)
	return t
}

// Replace makes the table of a valid snapshot, and says by what it differs from t, which may be nil.
func (t *Table) Replace(s *resourcev1.Snapshot, o Options) (*Table, Delta) {
	if t == nil {
		t = &Table{}
	}
	named := &Table{units: t.units, sum: t.sum, environment: s.GetEnvironment()}
	if t.environment != named.environment {
		named.sum = named.sum.Minus(resource.SumOf(&resourcev1.Snapshot{Environment: t.environment})).
			Plus(resource.SumOf(&resourcev1.Snapshot{Environment: named.environment}))
	}
	return named.Change(named.Diff(s), o)
}

// NewTarget returns a target with default limits, for a local instance's target of which no generation says
// anything.
func NewTarget(d Direction, name string) *Target {
	c := compiler{previous: &Table{}, units: edit(&index{})}
	c.units.edit(name).clusters = make(map[string]*cluster.Cluster)
	return c.target(d, &resourcev1.ServicePolicy{Target: name})
}

// endpoint takes over an endpoint that did not change as it is, and the state of one that did.
func (c *compiler) endpoint(r *resourcev1.Endpoint, p *resourcev1.ServicePolicy, old *cluster.Endpoint) *cluster.Endpoint {
	e := &cluster.Endpoint{
		Target: r.GetTarget(), Instance: r.GetInstance(), Incarnation: r.GetIncarnation(),
		MeshAddress: r.GetMeshAddress(), Zone: r.GetZone(),
		Weight: DefaultEndpointWeight, Tags: r.GetTags(), Disabled: r.GetDisabled(), Backup: r.GetBackup(),
		Identities: p.GetIdentities(), Held: r.GetStanding() == resourcev1.Standing_STANDING_HELD,
	}
	if r.GetIdentity() != "" {
		e.Identities = []string{r.GetIdentity()}
	}
	if r.Weight != nil {
		e.Weight = r.GetWeight()
	}
	if c.direct(r, p) {
		e.DirectAddress, e.DirectIdentity, e.DirectProtocol = r.GetDirectAddress(), r.GetDirectIdentity(), r.GetDirectProtocol()
		e.DirectName = resource.ServerName(r)
	}
	if c.Peer != nil && e.InRotation() {
		for at := range e.Places {
			if at.Direct {
				e.Direct = c.Peer(at)
			} else {
				e.Peer = c.Peer(at)
			}
		}
	}
	switch {
	case old == nil || old.Incarnation != e.Incarnation:
		e.State = &cluster.State{}
	case same(old, e):
		return old
	default:
		e.State = old.State
		if e.InRotation() && !old.InRotation() {
			e.Return()
		}
	}
	return e
}

// direct tells whether calls may go to an instance's own address (S-CALLEE-2).
func (c *compiler) direct(r *resourcev1.Endpoint, p *resourcev1.ServicePolicy) bool {
	if r.GetDirectAddress() == "" || p.GetDirectForbidden() {
		return false
	}
	if foreign := r.GetDirectProtocol(); foreign != resourcev1.Protocol_PROTOCOL_UNSPECIFIED {
		// A proxy that speaks TLS to all others uses what is spoken without it on its own host alone.
		return c.Speaks != nil && c.Speaks(foreign) && r.GetDirectIdentity() == "" &&
			(!c.Secure || resource.ByTLS(foreign) || resource.OnLoopback(r.GetDirectAddress()))
	}
	return (r.GetDirectIdentity() != "") == c.Secure
}

func same(a, b *cluster.Endpoint) bool {
	return a.MeshAddress == b.MeshAddress && a.DirectAddress == b.DirectAddress && a.DirectIdentity == b.DirectIdentity && a.DirectProtocol == b.DirectProtocol &&
		a.DirectName == b.DirectName && a.Zone == b.Zone &&
		a.Weight == b.Weight && a.Disabled == b.Disabled && a.Backup == b.Backup && a.Held == b.Held && a.Peer == b.Peer && a.Direct == b.Direct &&
		maps.Equal(a.Tags, b.Tags) && slices.Equal(a.Identities, b.Identities)
}

// addTarget compiles what is said of a target; without a policy the defaults hold.
func (c *compiler) addTarget(u *unit) {
	p := u.policy
	if p == nil {
		p = &resourcev1.ServicePolicy{Target: u.name}
	}
	u.outbound, u.inbound = c.target(Outbound, p), c.target(Inbound, p)
}

func (c *compiler) target(d Direction, p *resourcev1.ServicePolicy) *Target {
	old := c.previous.Target(d, p.GetTarget())
	t := &Target{Name: p.GetTarget(), Direction: d, state: c.state(d, p.GetTarget())}
	l := p.GetLimits()
	t.Policies = policy.NewChain(c.chain(t, p)...)
	t.Lot = policy.NewBounded(&t.state.lot, orDefault(l.GetMaxParkedCalls(), DefaultMaxParkedCalls),
		orDefault(l.GetMaxPark().AsDuration(), DefaultMaxPark), d.Origin())
	if d == Outbound {
		t.Outlier, t.Rules = c.share(t.Name).outlier, c.share(t.Name).rules
		for _, r := range p.GetRoutes() {
			t.Routes = append(t.Routes, c.route(t, p, r, old))
		}
	}
	t.Routes = append(t.Routes, c.route(t, p, &resourcev1.Route{
		Name: DefaultRoute, Destinations: []*resourcev1.Destination{{}},
	}, old))
	t.Former = former(t, old)
	return t
}

// maxFormer bounds the former routes of a target; the first that went are forgotten first.
const maxFormer = 100

// former returns the routes that the target had and has no more.
func former(t, old *Target) (gone []*Route) {
	if old == nil {
		return nil
	}
	for _, r := range slices.Concat(old.Former, old.Routes) {
		if !slices.ContainsFunc(t.Routes, func(now *Route) bool { return now.Name == r.Name }) {
			gone = append(gone, &Route{Name: r.Name, Target: r.Target, Calls: r.Calls}) // what it led to may go
		}
	}
	return gone[max(0, len(gone)-maxFormer):]
}

// state returns what goes on of a target, or begins it.
func (c *compiler) state(d Direction, target string) *state {
	if old := c.previous.Target(d, target); old != nil {
		return old.state
	}
	u := c.units.edit(target)
	if u.begun[d] == nil {
		u.begun[d] = &state{}
	}
	return u.begun[d]
}

func (c *compiler) route(t *Target, p *resourcev1.ServicePolicy, r *resourcev1.Route, old *Target) *Route {
	out := &Route{
		Name: r.GetName(), Target: t.Name, match: compileMatch(r.GetMatch()),
		Timeout: duration(p.GetDefaultTimeout()), MaxTimeout: duration(p.GetMaxTimeout()),
		Calls: calls(old, r.GetName()),
	}
	if r.GetTimeout() != nil {
		out.Timeout = duration(r.GetTimeout())
	}
	if t.Direction == Inbound {
		return out
	}
	out.Mirror = c.mirror(t, r)
	out.Retries, out.Idempotent = retries(t, p, r), r.GetIdempotent()
	for _, d := range r.GetDestinations() {
		weight := uint32(DefaultDestinationWeight)
		if d.Weight != nil {
			weight = d.GetWeight()
		}
		if weight == 0 {
			continue
		}
		out.weights += uint64(weight)
		to := orDefault(d.GetTarget(), t.Name)
		out.Destinations = append(out.Destinations, Destination{
			Cluster: c.cluster(to, d.GetSubset()), Balancer: c.share(to).balancer, Outlier: c.share(to).outlier, Weight: weight,
		})
	}
	return out
}

// cluster returns the one cluster of a target's subset.
func (c *compiler) cluster(target string, subset map[string]string) *cluster.Cluster {
	u, name := c.units.get(target), cluster.Name(target, subset)
	if u.clusters[name] == nil {
		// The target is compiled again just now: what leads to it has not changed otherwise.
		u.clusters[name] = cluster.New(target, subset, u.endpoints, c.share(target).rules)
	}
	return u.clusters[name]
}

// calls returns the counters of the route's namesake before, or new ones.
func calls(old *Target, name string) *meter.Calls {
	if old != nil {
		for _, r := range slices.Concat(old.Former, old.Routes) {
			if r.Name == name {
				return r.Calls
			}
		}
	}
	return &meter.Calls{}
}

func duration(d *durationpb.Duration) time.Duration { return d.AsDuration() }

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}
