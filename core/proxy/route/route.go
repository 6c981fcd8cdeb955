// Package route maps a call to where it goes. A [Table] is compiled once from a snapshot and never changes;
// what counts calls hangs below it and outlives it.
//
// The life of a call here: [Table.Match] finds the target by name, then the first route that holds, then
// draws one of the route's weighted destinations. Nothing is allocated on the way.
package route

import (
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/octomesh/octomesh/core/proxy/balancer"
	"github.com/octomesh/octomesh/core/proxy/cluster"
	"github.com/octomesh/octomesh/core/proxy/policy"
	"github.com/octomesh/octomesh/core/resource"
	"github.com/octomesh/octomesh/core/telemetry/meter"
	"github.com/octomesh/octomesh/core/wire"
)

// DefaultRoute is the name of the route that a call takes where no other one matches.
const DefaultRoute = "default"

// Table is one generation's answer to "where does this call go".
type Table struct {
	units       index
	sum         resource.Sum
	environment string
}

// Direction is that of a call, as the workload beside the proxy sees it.
type Direction uint8

// The directions.
const (
	Outbound Direction = iota
	Inbound
)

// String returns "outbound" or "inbound".
func (d Direction) String() string {
	if d == Inbound {
		return "inbound"
	}
	return "outbound"
}

// Origin is who concludes a status for calls of the direction.
func (d Direction) Origin() wire.Origin {
	if d == Inbound {
		return wire.OriginServerProxy
	}
	return wire.OriginClientProxy
}

// Target is what one generation says of calls to one target in one direction.
type Target struct {
	Name      string
	Direction Direction
	// Routes in the order in which they are asked. The last one, the default, matches every call.
	Routes []*Route
	// Former is routes of earlier generations, so that what a target counted never grows less: the latest of them.
	Former []*Route
	// Policies is what each call to the target passes.
	Policies policy.Chain
	// Rules is how endpoints of the target are chosen; outbound.
	Rules cluster.Rules
	// Lot is where calls to the target wait for an instance, a connection or a stream.
	Lot *policy.Bounded
	// Outlier ejects the target's own endpoints; nil: nothing does, or inbound.
	Outlier *policy.Outlier
	state   *state
}

// state is what outlives generations of a target.
type state struct {
	slots     policy.Slots
	lot       policy.Lot
	ejections policy.Ejections
	circuit   policy.Circuit
	access    policy.AccessCounts
	tokens    policy.Tokens
	retries   policy.RetryCounts
	copies    map[string]*policy.Copies      // by the route's name
	buckets   map[string]*policy.Buckets     // by the limit's name
	counters  map[string]*policy.Counters    // by the global limit's name
	faults    map[string]*policy.FaultCounts // by the fault's name
}

// Retried yields what retries of calls to the target came to.
func (t *Target) Retried(yield func(outcome string, n uint64)) { t.state.retries.Counts(yield) }

// succeeded counts the calls to the target that ended well.
func (t *Target) succeeded() (n uint64) {
	for _, routes := range [][]*Route{t.Routes, t.Former} {
		for _, r := range routes {
			n += r.Calls.Ended(int32(wire.OK))
		}
	}
	return n
}

// Open returns the calls to the target that are open.
func (t *Target) Open() int64 { return t.state.slots.Open() }

// Route is where matching calls go, and their counters.
type Route struct {
	Name   string
	Target string
	// Timeout is the budget of a call that names none; 0: none.
	Timeout time.Duration
	// MaxTimeout bounds every call's budget; 0: unbounded.
	MaxTimeout time.Duration
	// Destinations with a weight above 0. None on inbound routes: there calls go to attached instances.
	Destinations []Destination
	// Retries says which calls go again; nil inbound.
	Retries *policy.Retries
	// Idempotent: calls may run twice whatever their heads say.
	Idempotent bool
	// Mirror is where copies of calls go; nil: nowhere.
	Mirror *Mirror
	// Calls outlives generations, as long as the target has a route of this name.
	Calls *meter.Calls

	match   matcher
	weights uint64
}

// Destination is one of a route's weighted destinations.
type Destination struct {
	Cluster *cluster.Cluster
	// Balancer and Outlier are those of the cluster's target.
	Balancer balancer.Balancer
	Outlier  *policy.Outlier // nil: nothing is ejected
	Weight   uint32
}

// Decision is what the table says of one call.
type Decision struct {
	Target *Target
	Route  *Route
	// Cluster is that of the destination that was drawn; nil inbound.
	Cluster  *cluster.Cluster
	Balancer balancer.Balancer
	Outlier  *policy.Outlier
	// Timeout and MaxTimeout are the route's.
	Timeout, MaxTimeout time.Duration
}

// Match decides where an outbound call goes. The caller is the application that makes it. False: the target
// is unknown to this generation.
func (t *Table) Match(h *wire.RequestHead, caller []byte) (Decision, bool) {
	u := t.units.find(h.Target)
	if u == nil || u.outbound == nil {
		return Decision{}, false
	}
	return u.outbound.Match(h, caller), true
}

// Inbound decides about a call that came from another proxy for an instance beside this one. False: the
// generation says nothing of the target; calls may still come for it, see [NewTarget].
func (t *Table) Inbound(h *wire.RequestHead, caller []byte) (Decision, bool) {
	u := t.units.find(h.Target)
	if u == nil || u.inbound == nil {
		return Decision{}, false
	}
	return u.inbound.Match(h, caller), true
}

// Match decides about a call to this target.
func (t *Target) Match(h *wire.RequestHead, caller []byte) Decision {
	for _, r := range t.Routes {
		if r.match.holds(h, caller) {
			return t.decide(r)
		}
	}
	return Decision{Target: t} // not reached: the default route holds for every call
}

func (t *Target) decide(r *Route) Decision {
	d := Decision{Target: t, Route: r, Timeout: r.Timeout, MaxTimeout: r.MaxTimeout}
	if to := r.draw(); to != nil {
		d.Cluster, d.Balancer, d.Outlier = to.Cluster, to.Balancer, to.Outlier
	}
	return d
}

// draw chooses a destination by weight.
func (r *Route) draw() *Destination {
	switch len(r.Destinations) {
	case 0:
		return nil
	case 1:
		return &r.Destinations[0]
	}
	at := rand.Uint64N(r.weights)
	for i := range r.Destinations {
		to := &r.Destinations[i]
		if at < uint64(to.Weight) {
			return to
		}
		at -= uint64(to.Weight)
	}
	return nil // not reached: weights is the sum
}

// Budget returns what a call may take that came with so much time left; 0 stands for "no deadline", in the
// argument and in the result.
func (d *Decision) Budget(left time.Duration) time.Duration {
	if left == 0 {
		left = d.Timeout
	}
	if d.MaxTimeout > 0 && (left == 0 || left > d.MaxTimeout) {
		left = d.MaxTimeout
	}
	return left
}

// Pick chooses the endpoint for a call at the proxy's monotonic time, or nil if there is none but the one to
// avoid.
func (d *Decision) Pick(h *wire.RequestHead, now int64, avoid *cluster.Endpoint) *cluster.Endpoint {
	if d.Cluster == nil {
		return nil
	}
	return pick(d.Cluster, d.Balancer, h, now, avoid)
}

func pick(c *cluster.Cluster, b balancer.Balancer, h *wire.RequestHead, now int64, avoid *cluster.Endpoint) *cluster.Endpoint {
	var lane []byte
	if c.HasLanes() {
		lane = LaneOf(h)
	}
	return balancer.Choose(b, c.Groups(lane), balancer.Request{HashKey: h.HashKey, Now: now, Avoid: avoid})
}

// LaneOf returns the lane that a call asks for: the last hop's word, else the baggage's.
func LaneOf(h *wire.RequestHead) []byte {
	if len(h.Lane) > 0 {
		return h.Lane
	}
	for i := range h.Baggage {
		if string(h.Baggage[i].Key) == cluster.LaneTag {
			return h.Baggage[i].Value
		}
	}
	return nil
}

// Ended tells what a call to an endpoint that was picked came to.
func (d *Decision) Ended(e *cluster.Endpoint, st *wire.Status, now int64) (ejected bool) {
	return d.Outlier != nil && d.Outlier.Done(e, st, now)
}

// Target returns what the table says of a target, or nil.
func (t *Table) Target(d Direction, name string) *Target {
	switch u := t.units.get(name); {
	case u == nil:
		return nil
	case d == Inbound:
		return u.inbound
	default:
		return u.outbound
	}
}

// Targets yields the targets of both directions, in no order.
func (t *Table) Targets() iter.Seq[*Target] {
	return func(yield func(*Target) bool) {
		for u := range t.units.all {
			if u.outbound != nil && (!yield(u.outbound) || !yield(u.inbound)) {
				return
			}
		}
	}
}

// Endpoints yields every endpoint that the generation names, those out of rotation too, in no order.
func (t *Table) Endpoints() iter.Seq[*cluster.Endpoint] {
	return func(yield func(*cluster.Endpoint) bool) {
		for u := range t.units.all {
			for _, e := range u.endpoints {
				if !yield(e) {
					return
				}
			}
		}
	}
}

// Endpoint finds one; nil: the generation does not name it.
func (t *Table) Endpoint(target, instance string) *cluster.Endpoint {
	u := t.units.get(target)
	if u == nil {
		return nil
	}
	at, ok := slices.BinarySearchFunc(u.endpoints, instance, func(e *cluster.Endpoint, name string) int {
		return strings.Compare(e.Instance, name)
	})
	if !ok {
		return nil
	}
	return u.endpoints[at]
}
