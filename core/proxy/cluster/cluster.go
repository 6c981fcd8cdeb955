// Package cluster is the set of endpoints that one destination of a route has: values, and the counters
// that balancing reads. It opens no socket; whoever does stands behind [Peer].
package cluster

import (
	"slices"
	"strings"
	"sync/atomic"
)

// Peer is how an endpoint's proxy is reached: its connections. Endpoints with one address share a peer.
type Peer interface {
	// Address is "host:port".
	Address() string
	// Ready tells whether a call that is handed over now will leave soon: a connection stands, or none
	// was tried yet. A peer whose dial failed or hangs is not ready until its next dial is due; one that
	// was never asked must be ready, else balancing would never ask it.
	Ready() bool
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
}

// Endpoint is one instance of a target. Only its State changes.
type Endpoint struct {
	Target, Instance string
	Incarnation      uint64
	MeshAddress      string // "host:port" of its proxy; empty: not in the mesh
	DirectAddress    string // "host:port" of the instance itself; empty: none
	Zone             string
	Weight           uint32 // share of calls relative to the others; 0: none
	Tags             map[string]string
	Disabled         bool // an operator took it out of rotation
	Peer             Peer // behind MeshAddress; nil where the endpoint is not in rotation
	*State
}

// InRotation tells whether the endpoint may get calls at all.
func (e *Endpoint) InRotation() bool { return !e.Disabled && e.Weight > 0 && e.MeshAddress != "" }

// Ready tells whether the endpoint's peer is ready. An endpoint without a peer, as in tests, is.
func (e *Endpoint) Ready() bool { return e.Peer == nil || e.Peer.Ready() }

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
	// Endpoints are those in rotation: enabled, with a weight above 0 and a mesh address.
	Endpoints []*Endpoint
	// Known counts the target's endpoints in the subset, in rotation or not.
	Known int

	slots []slot // nil where all weights are equal
}

// New makes the cluster of those endpoints that carry the subset's tags and are in rotation.
func New(target string, subset map[string]string, endpoints []*Endpoint) *Cluster {
	c := &Cluster{Name: Name(target, subset), Target: target, Subset: subset}
	for _, e := range endpoints {
		if !e.Has(subset) {
			continue
		}
		c.Known++
		if e.InRotation() {
			c.Endpoints = append(c.Endpoints, e)
		}
	}
	c.slots = weigh(c.Endpoints)
	return c
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
