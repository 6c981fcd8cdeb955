package route

import (
	"cmp"
	"maps"
	"slices"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/proxy/cluster"
	"github.com/octomesh/octomesh/core/resource"
)

// Delta is by what a table differs from the one before.
type Delta struct {
	// Came are endpoints of the new table, Gone those of the old one that are not in it. An endpoint that is otherwise now
	// is in both, with two values.
	Came, Gone []*cluster.Endpoint
	// Targets are what may be otherwise now, sorted: what the change names, and what leads there.
	Targets []string
}

// Change makes the table of what a valid change (see resource.ValidateChange) makes of a table's resources. Whatever the
// change does not touch is shared with it, and counters, open calls and parked calls go on.
func (t *Table) Change(ch *resource.Change, o Options) (*Table, Delta) {
	c := compiler{
		Options: o, previous: t, sum: t.sum, units: edit(&t.units), again: make(map[string]bool),
		before: make(map[*resourcev1.Endpoint]*cluster.Endpoint),
	}
	for target, set := range ch.Endpoints {
		c.setEndpoints(target, set)
	}
	for target, p := range ch.Policies {
		c.setPolicy(target, p)
	}
	for target, p := range ch.AuthPolicies {
		c.setAuthPolicy(target, p)
	}
	c.addReferrers()
	c.clean()
	c.compile()
	return &Table{units: c.units.index, sum: c.sum, environment: t.environment}, c.delta
}

// setEndpoints merges what becomes of a target's endpoints with what there was.
func (c *compiler) setEndpoints(target string, set map[string]*resourcev1.Endpoint) {
	u := c.touch(target)
	fresh := slices.Sorted(maps.Keys(set))
	out := make([]member, 0, len(u.members)+len(fresh))
	old := u.members
	for len(old) > 0 || len(fresh) > 0 {
		order := -1 // of the next old one to the next fresh one
		if len(old) == 0 {
			order = 1
		} else if len(fresh) > 0 {
			order = cmp.Compare(old[0].resource.GetInstance(), fresh[0])
		}
		if order < 0 {
			out, old = append(out, old[0]), old[1:]
			continue
		}
		r := set[fresh[0]]
		fresh = fresh[1:]
		var before *cluster.Endpoint
		if order == 0 {
			before = old[0].endpoint
			c.sum = c.sum.Minus(resource.SumOfEndpoint(old[0].resource))
			old = old[1:]
		}
		if r != nil {
			c.sum = c.sum.Plus(resource.SumOfEndpoint(r))
			c.before[r] = before
			out = append(out, member{resource: r})
		} else if before != nil {
			c.delta.Gone = append(c.delta.Gone, before)
		}
	}
	u.members, u.endpoints = out, nil
}

// setPolicy notes a target's policy, and where it leads.
func (c *compiler) setPolicy(target string, p *resourcev1.ServicePolicy) {
	u := c.touch(target)
	before := resource.References(u.policy)
	if u.policy != nil {
		c.sum = c.sum.Minus(resource.SumOfPolicy(u.policy))
	}
	if p != nil {
		c.sum = c.sum.Plus(resource.SumOfPolicy(p))
	}
	if !slices.Equal(u.policy.GetIdentities(), p.GetIdentities()) || u.policy.GetDirectForbidden() != p.GetDirectForbidden() {
		u.members, u.endpoints = slices.Clone(u.members), nil
		for i := range u.members { // they are part of each endpoint
			if m := &u.members[i]; m.endpoint != nil {
				c.before[m.resource], m.endpoint = m.endpoint, nil
			}
		}
	}
	u.policy = p
	now := resource.References(p)
	for _, to := range before {
		if !slices.Contains(now, to) {
			r := c.touch(to)
			r.referrers = slices.DeleteFunc(slices.Clone(r.referrers), func(name string) bool { return name == target })
		}
	}
	for _, to := range now {
		r := c.touch(to)
		if at, has := slices.BinarySearch(r.referrers, target); !has {
			r.referrers = slices.Insert(slices.Clone(r.referrers), at, target)
		}
	}
}

func (c *compiler) setAuthPolicy(target string, p *resourcev1.AuthPolicy) {
	u := c.touch(target)
	if u.access != nil {
		c.sum = c.sum.Minus(resource.SumOfAuthPolicy(u.access))
	}
	if p != nil {
		c.sum = c.sum.Plus(resource.SumOfAuthPolicy(p))
	}
	u.access = p
}

// touch has a target compiled again.
func (c *compiler) touch(target string) *unit {
	c.again[target] = true
	return c.units.edit(target)
}

// addReferrers has whatever leads to a touched target compiled again: it holds the target's clusters.
func (c *compiler) addReferrers() {
	for _, target := range slices.Collect(maps.Keys(c.again)) {
		for _, from := range c.units.get(target).referrers {
			c.touch(from)
		}
	}
}

// clean drops units of which there is nothing any more.
func (c *compiler) clean() {
	for target := range c.again {
		u := c.units.own[target]
		if u.known() {
			continue
		}
		u.outbound, u.inbound, u.members, u.endpoints = nil, nil, nil, nil
		if len(u.referrers) == 0 {
			c.units.remove(target)
		}
	}
}

// compile makes anew what has to be: endpoints, then how calls are shared out among them, then targets, whose routes lead
// to each other's clusters.
func (c *compiler) compile() {
	for target := range c.again {
		u := c.units.own[target]
		if u == nil {
			continue
		}
		u.clusters, u.sharing = make(map[string]*cluster.Cluster), nil
		if u.endpoints == nil {
			c.make(u)
		}
	}
	for target := range c.again {
		if u := c.units.own[target]; u != nil && u.known() {
			c.addTarget(u)
		}
	}
	c.delta.Targets = slices.Sorted(maps.Keys(c.again))
}

// make compiles a unit's endpoints, of which those that did not change stay.
func (c *compiler) make(u *unit) {
	u.endpoints = make([]*cluster.Endpoint, len(u.members))
	for i := range u.members {
		m := &u.members[i]
		if m.endpoint == nil {
			before := c.before[m.resource]
			if m.endpoint = c.endpoint(m.resource, u.policy, before); m.endpoint != before {
				c.delta.Came = append(c.delta.Came, m.endpoint)
				if before != nil {
					c.delta.Gone = append(c.delta.Gone, before)
				}
			}
		}
		u.endpoints[i] = m.endpoint
	}
}

// Diff is the change that makes a table's resources those of a snapshot.
func (t *Table) Diff(s *resourcev1.Snapshot) *resource.Change {
	c := &resource.Change{}
	there := make(map[string]map[string]bool)
	policies, access := make(map[string]bool), make(map[string]bool)
	for _, e := range s.GetEndpoints() {
		target, instance := e.GetTarget(), e.GetInstance()
		if there[target] == nil {
			there[target] = make(map[string]bool)
		}
		there[target][instance] = true
		if old := t.units.get(target).resource(instance); old == nil || old != e && !proto.Equal(old, e) {
			c.SetEndpoint(target, instance, e)
		}
	}
	for _, p := range s.GetPolicies() {
		policies[p.GetTarget()] = true
		if old := t.Policy(p.GetTarget()); old == nil || old != p && !proto.Equal(old, p) {
			c.SetPolicy(p.GetTarget(), p)
		}
	}
	for _, p := range s.GetAuthPolicies() {
		access[p.GetTarget()] = true
		if old := t.AuthPolicy(p.GetTarget()); old == nil || old != p && !proto.Equal(old, p) {
			c.SetAuthPolicy(p.GetTarget(), p)
		}
	}
	for u := range t.units.all {
		for _, m := range u.members {
			if !there[u.name][m.resource.GetInstance()] {
				c.SetEndpoint(u.name, m.resource.GetInstance(), nil)
			}
		}
		if u.policy != nil && !policies[u.name] {
			c.SetPolicy(u.name, nil)
		}
		if u.access != nil && !access[u.name] {
			c.SetAuthPolicy(u.name, nil)
		}
	}
	return c
}
