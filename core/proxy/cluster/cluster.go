// Package cluster is the set of endpoints that one destination of a route has: values, and the counters
// that balancing reads. It opens no socket; whoever does stands behind [Peer].
package cluster

import (
	"slices"
	"strings"
	"sync/atomic"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// Place is where an endpoint is reached: at its proxy, or directly.
type Place struct {
	Address string // "host:port"
	// Direct: the instance itself listens there, and not its proxy.
	Direct bool
	// Identity is the SPIFFE id that TLS must prove whoever answers at an instance's own address to have; empty: it is
	// called without TLS. Of a proxy's address nothing is said here: that is [Endpoint.Expects].
	Identity string
	// Protocol is what an instance speaks at its own address.
	Protocol resourcev1.Protocol
	// ServerName is the name of a host that the certificate must have of whoever answers at an instance's own address, where
	// Protocol is by TLS.
	ServerName string
}

// Peer is how a place is reached: its connections. Endpoints with one place share a peer.
type Peer interface {
	// Address is "host:port".
	Address() string
	// Ready tells whether a call that is handed over now will leave soon: a connection stands and its peer is not silent, or none
	// was tried yet. A peer whose dial failed or hangs is not ready until its next dial is due; one that
	// was never asked must be ready, else balancing would never ask it.
	Ready() bool
	// Answers tells whether whoever is there answers, as far as is known: a connection stands and its peer is not silent, or
	// the last dial did not fail and does not take long. A peer that was never asked answers.
	Answers() bool
}

// State is what changes about an endpoint. It outlives generations: the same instance keeps its state
// when its weight or tags change.
type State struct {
	// Open is the calls in flight from this proxy: the data path adds 1 when it hands a call to the
	// endpoint, and takes it off when the call has ended.
	Open atomic.Int64
	// Calls is the calls handed to it, attempts included; Failures those of them that ended otherwise
	// than by a word of the application.
	Calls, Failures atomic.Uint64
	// Directs is those of the calls that went to the instance's own address.
	Directs atomic.Uint64
	// Strangers is the calls that were not handed to it since somebody else answers at its address.
	Strangers atomic.Uint64
	Health
}

// Endpoint is one instance of a target. Only its State changes.
type Endpoint struct {
	Target, Instance string
	Incarnation      uint64
	MeshAddress      string // "host:port" of its proxy; empty: not in the mesh
	// DirectAddress is the "host:port" of the instance itself where calls go while its proxy does not answer; empty: they may
	// not, or there is none.
	DirectAddress  string
	DirectIdentity string // see Place
	DirectProtocol resourcev1.Protocol
	DirectName     string // see Place.ServerName
	Zone           string
	Weight         uint32 // share of calls relative to the others; 0: none
	Tags           map[string]string
	Disabled       bool // an operator took it out of rotation
	Backup         bool // for calls only while no other one is usable
	Held           bool // the control plane has it no more, and that may be a mistake
	// Identities is whom TLS must prove the endpoint's proxy to be, one of: SPIFFE URIs of which each may end in
	// "*". None: the proxy's own rule for all peers holds alone.
	Identities []string
	// Peer is behind MeshAddress, Direct behind DirectAddress; nil where there is no such address, or the endpoint is not in
	// rotation.
	Peer, Direct Peer
	*State
}

// InRotation tells whether the endpoint may get calls at all.
func (e *Endpoint) InRotation() bool {
	return !e.Disabled && e.Weight > 0 && (e.MeshAddress != "" || e.DirectAddress != "")
}

// Places yields where the endpoint is reached.
func (e *Endpoint) Places(yield func(Place) bool) {
	if e.MeshAddress != "" && !yield(Place{Address: e.MeshAddress}) {
		return
	}
	if e.DirectAddress != "" {
		yield(Place{e.DirectAddress, true, e.DirectIdentity, e.DirectProtocol, e.DirectName})
	}
}

// Ready tells whether one of the endpoint's peers is ready. An endpoint without a peer, as in tests, is.
func (e *Endpoint) Ready() bool {
	if e.Direct == nil {
		return e.Peer == nil || e.Peer.Ready()
	}
	return e.Peer != nil && e.Peer.Ready() || e.Direct.Ready()
}

// Way returns by which peer a call goes to the endpoint now, and whether that is the instance itself: its proxy, unless that
// does not answer, or said a moment ago that it cannot reach the instance (S-CALLEE-1).
func (e *Endpoint) Way(now int64) (p Peer, direct bool) {
	switch {
	case e.Direct == nil:
		return e.Peer, false
	case e.Peer == nil:
		return e.Direct, true
	case e.Peer.Answers() && e.unreached.Load() <= now, !e.Direct.Ready():
		return e.Peer, false
	}
	return e.Direct, true
}

// Expects tells whether a peer of a proved identity, or of none, may answer for the endpoint.
func (e *Endpoint) Expects(identity string) bool {
	if len(e.Identities) == 0 {
		return true
	}
	for _, want := range e.Identities {
		begin, any := strings.CutSuffix(want, "*")
		if identity == want || any && identity != "" && strings.HasPrefix(identity, begin) {
			return true
		}
	}
	return false
}

// Has tells whether the endpoint carries all of the tags.
func (e *Endpoint) Has(tags map[string]string) bool {
	for k, v := range tags {
		if got, ok := e.Tags[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// Cluster is the endpoints of a target, or of a subset of it. It is immutable: a change makes a new one.
type Cluster struct {
	// Name says target and subset, such as "shop.cart" or "shop.cart{version=v2}".
	Name   string
	Target string
	Subset map[string]string
	// Endpoints are those in rotation: enabled, with a weight above 0 and an address.
	Endpoints []*Endpoint
	// Places counts the addresses at which they are reached.
	Places int
	// Known counts the target's endpoints in the subset, in rotation or not.
	Known int

	base  []*Group            // the baseline; where there are no lanes, all endpoints
	lanes map[string][]*Group // nil where no endpoint has the tag, or the subset names it
}

// LaneTag is the tag, and the key of baggage, that names a lane.
const LaneTag = "lane"

// New makes the cluster of those endpoints that carry the subset's tags and are in rotation.
func New(target string, subset map[string]string, endpoints []*Endpoint, rules Rules) *Cluster {
	c := &Cluster{Name: Name(target, subset), Target: target, Subset: subset, Endpoints: make([]*Endpoint, 0, len(endpoints))}
	inLanes := false
	for _, e := range endpoints {
		if !e.Has(subset) {
			continue
		}
		c.Known++
		if e.InRotation() {
			c.Endpoints = append(c.Endpoints, e)
			for range e.Places {
				c.Places++
			}
			inLanes = inLanes || e.Tags[LaneTag] != ""
		}
	}
	c.Endpoints = slices.Clip(c.Endpoints)
	byLane := map[string][]*Endpoint{}
	if _, own := subset[LaneTag]; !own && inLanes {
		for _, e := range c.Endpoints {
			byLane[e.Tags[LaneTag]] = append(byLane[e.Tags[LaneTag]], e)
		}
	} else {
		byLane[""] = c.Endpoints
	}
	c.base = group(byLane[""], rules)
	delete(byLane, "")
	if len(byLane) > 0 {
		c.lanes = make(map[string][]*Group, len(byLane))
		for lane, members := range byLane {
			c.lanes[lane] = group(members, rules)
		}
	}
	return c
}

// HasLanes tells whether a call's lane matters.
func (c *Cluster) HasLanes() bool { return c.lanes != nil }

// Groups returns the groups that take calls of the lane, in the order in which they are to be asked: the
// lane's, if it has endpoints, else the baseline's. There may be none.
func (c *Cluster) Groups(lane []byte) []*Group {
	if len(lane) > 0 && c.lanes != nil {
		if g := c.lanes[string(lane)]; g != nil {
			return g
		}
	}
	return c.base
}

// Name returns the name of a target's subset: equal sets have equal names.
func Name(target string, subset map[string]string) string {
	if len(subset) == 0 {
		return target
	}
	tags := make([]string, 0, len(subset))
	for k, v := range subset {
		tags = append(tags, k+"="+v)
	}
	slices.Sort(tags)
	return target + "{" + strings.Join(tags, ",") + "}"
}
