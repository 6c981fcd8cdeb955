package route

import (
	"slices"
	"strings"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/proxy/cluster"
	"github.com/octomesh/octomesh/core/resource"
)

// unit is all that a table has of one target: the resources, and what they were compiled to. A table's units are
// immutable, and shared with the next table as long as nothing about the target changes.
type unit struct {
	name      string
	members   []member // sorted by instance
	policy    *resourcev1.ServicePolicy
	access    *resourcev1.AuthPolicy
	referrers []string // other targets whose policies lead here, sorted

	endpoints         []*cluster.Endpoint // of members; nil: to be made
	clusters          map[string]*cluster.Cluster
	sharing           *sharing
	outbound, inbound *Target   // nil: there is nothing but referrers
	begun             [2]*state // of targets in the making, by direction
}

// member is one endpoint.
type member struct {
	resource *resourcev1.Endpoint
	endpoint *cluster.Endpoint // nil: not compiled yet
}

// known tells whether there is any resource of the target.
func (u *unit) known() bool { return len(u.members) > 0 || u.policy != nil || u.access != nil }

// resource finds an endpoint's; nil: there is none.
func (u *unit) resource(instance string) *resourcev1.Endpoint {
	if u == nil {
		return nil
	}
	at, ok := slices.BinarySearchFunc(u.members, instance, func(m member, name string) int {
		return strings.Compare(m.resource.GetInstance(), name)
	})
	if !ok {
		return nil
	}
	return u.members[at].resource
}

// Endpoints implements resource.View.
func (v view) Endpoints(target string) []*resourcev1.Endpoint {
	u := v.units.get(target)
	if u == nil {
		return nil
	}
	out := make([]*resourcev1.Endpoint, len(u.members))
	for i := range u.members {
		out[i] = u.members[i].resource
	}
	return out
}

// view is a table as validation sees it.
type view struct{ *Table }

// View is the table's resources.
func (t *Table) View() resource.View { return view{t} }

// Policy is a target's; nil: it has none.
func (t *Table) Policy(target string) *resourcev1.ServicePolicy {
	if u := t.units.get(target); u != nil {
		return u.policy
	}
	return nil
}

// AuthPolicy is a target's; nil: it has none.
func (t *Table) AuthPolicy(target string) *resourcev1.AuthPolicy {
	if u := t.units.get(target); u != nil {
		return u.access
	}
	return nil
}

// Names are the targets of which there is any resource, sorted.
func (t *Table) Names() []string {
	var out []string
	for u := range t.units.all {
		if u.known() {
			out = append(out, u.name)
		}
	}
	slices.Sort(out)
	return out
}

// Hash is the content hash of the resources, equal for equal ones: resource.Hash of Snapshot.
func (t *Table) Hash() string { return t.sum.String() }

// Snapshot is the resources that the table was made of, sorted by name. They are not to be changed.
func (t *Table) Snapshot() *resourcev1.Snapshot {
	out := &resourcev1.Snapshot{Environment: t.environment}
	for _, name := range t.Names() {
		u := t.units.get(name)
		for _, m := range u.members {
			out.Endpoints = append(out.Endpoints, m.resource)
		}
		if u.policy != nil {
			out.Policies = append(out.Policies, u.policy)
		}
		if u.access != nil {
			out.AuthPolicies = append(out.AuthPolicies, u.access)
		}
	}
	return out
}
