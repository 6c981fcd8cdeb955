package route

import (
	"maps"
	"slices"
	"time"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/octomesh/octomesh/core/proxy/cluster"
	"github.com/octomesh/octomesh/core/proxy/policy"
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

type endpointKey struct{ target, instance string }

// compiler holds what one Compile has made so far.
type compiler struct {
	Options
	previous *Table
	table    *Table
	byTarget map[string][]*cluster.Endpoint
	policies map[string]*resourcev1.ServicePolicy
	access   map[string]*resourcev1.AuthPolicy
	sharing  map[string]*sharing
	states   map[stateKey]*state
}

type stateKey struct {
	direction Direction
	target    string
}

// Options is what a table takes from its proxy.
type Options struct {
	// Peer gives the peer of an address, and is asked once for each endpoint in rotation; nil: endpoints get
	// none.
	Peer func(address string) cluster.Peer
	// Zone is where the proxy stands; empty: nowhere.
	Zone string
}

// Compile makes the table of a valid snapshot (see resource.Validate). Counters, open calls and parked
// calls of what the previous table, or nil, knew too go on.
func Compile(s *resourcev1.Snapshot, previous *Table, o Options) *Table {
	if previous == nil {
		previous = &Table{}
	}
	c := compiler{
		previous: previous, Options: o,
		table: &Table{
			outbound: make(map[string]*Target), inbound: make(map[string]*Target),
			endpoints: make(map[endpointKey]*cluster.Endpoint, len(s.GetEndpoints())),
			clusters:  make(map[string]*cluster.Cluster),
		},
		byTarget: make(map[string][]*cluster.Endpoint),
		policies: make(map[string]*resourcev1.ServicePolicy, len(s.GetPolicies())),
		access:   make(map[string]*resourcev1.AuthPolicy, len(s.GetAuthPolicies())),
		sharing:  make(map[string]*sharing), states: make(map[stateKey]*state),
	}
	for _, p := range s.GetPolicies() {
		c.policies[p.GetTarget()] = p
	}
	for _, p := range s.GetAuthPolicies() {
		c.access[p.GetTarget()] = p
	}
	for _, e := range s.GetEndpoints() {
		c.addEndpoint(e)
	}
	for _, p := range s.GetPolicies() {
		c.addTarget(p)
	}
	for name := range c.byTarget {
		c.addDefault(name)
	}
	for name := range c.access {
		c.addDefault(name)
	}
	return c.table
}

// NewTarget returns a target with default limits, for a local instance's target of which no generation says
// anything.
func NewTarget(d Direction, name string) *Target {
	c := compiler{previous: &Table{}, sharing: make(map[string]*sharing), states: make(map[stateKey]*state), table: &Table{clusters: make(map[string]*cluster.Cluster)}}
	return c.target(d, &resourcev1.ServicePolicy{Target: name})
}

// addEndpoint takes over an endpoint that did not change as it is, and the state of one that did.
func (c *compiler) addEndpoint(r *resourcev1.Endpoint) {
	e := &cluster.Endpoint{
		Target: r.GetTarget(), Instance: r.GetInstance(), Incarnation: r.GetIncarnation(),
		MeshAddress: r.GetMeshAddress(), DirectAddress: r.GetDirectAddress(), Zone: r.GetZone(),
		Weight: DefaultEndpointWeight, Tags: r.GetTags(), Disabled: r.GetDisabled(), Backup: r.GetBackup(),
	}
	e.Identities = c.policies[e.Target].GetIdentities()
	if r.GetIdentity() != "" {
		e.Identities = []string{r.GetIdentity()}
	}
	if r.Weight != nil {
		e.Weight = r.GetWeight()
	}
	if c.Peer != nil && e.InRotation() {
		e.Peer = c.Peer(e.MeshAddress)
	}
	key := endpointKey{e.Target, e.Instance}
	switch old := c.previous.endpoints[key]; {
	case old == nil || old.Incarnation != e.Incarnation:
		e.State = &cluster.State{}
	case same(old, e):
		e = old
	default:
		e.State = old.State
		if e.InRotation() && !old.InRotation() {
			e.Return()
		}
	}
	c.table.endpoints[key] = e
	c.byTarget[e.Target] = append(c.byTarget[e.Target], e)
}

func same(a, b *cluster.Endpoint) bool {
	return a.MeshAddress == b.MeshAddress && a.DirectAddress == b.DirectAddress && a.Zone == b.Zone &&
		a.Weight == b.Weight && a.Disabled == b.Disabled && a.Backup == b.Backup && a.Peer == b.Peer && maps.Equal(a.Tags, b.Tags) &&
		slices.Equal(a.Identities, b.Identities)
}

// addDefault adds a target that no policy speaks of.
func (c *compiler) addDefault(target string) {
	if c.table.outbound[target] == nil {
		c.addTarget(&resourcev1.ServicePolicy{Target: target})
	}
}

func (c *compiler) addTarget(p *resourcev1.ServicePolicy) {
	c.table.outbound[p.GetTarget()] = c.target(Outbound, p)
	c.table.inbound[p.GetTarget()] = c.target(Inbound, p)
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
	key := stateKey{d, target}
	if c.states[key] == nil {
		c.states[key] = &state{}
		if old := c.previous.Target(d, target); old != nil {
			c.states[key] = old.state
		}
	}
	return c.states[key]
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
	name := cluster.Name(target, subset)
	if c.table.clusters[name] == nil {
		c.table.clusters[name] = cluster.New(target, subset, c.byTarget[target], c.share(target).rules)
	}
	return c.table.clusters[name]
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
