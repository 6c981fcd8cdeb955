package resource

import (
	"maps"
	"slices"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// Change is what becomes of resources: those that are named here are as it says from now on, and gone where it says nil;
// all others stay.
type Change struct {
	Endpoints    map[string]map[string]*resourcev1.Endpoint // by target and instance
	Policies     map[string]*resourcev1.ServicePolicy       // by target
	AuthPolicies map[string]*resourcev1.AuthPolicy          // by target
}

// SetEndpoint says what becomes of an endpoint; nil: it goes.
func (c *Change) SetEndpoint(target, instance string, e *resourcev1.Endpoint) {
	if c.Endpoints == nil {
		c.Endpoints = make(map[string]map[string]*resourcev1.Endpoint)
	}
	if c.Endpoints[target] == nil {
		c.Endpoints[target] = make(map[string]*resourcev1.Endpoint)
	}
	c.Endpoints[target][instance] = e
}

// SetPolicy says what becomes of a service policy; nil: it goes.
func (c *Change) SetPolicy(target string, p *resourcev1.ServicePolicy) {
	if c.Policies == nil {
		c.Policies = make(map[string]*resourcev1.ServicePolicy)
	}
	c.Policies[target] = p
}

// SetAuthPolicy says what becomes of an auth policy; nil: it goes.
func (c *Change) SetAuthPolicy(target string, p *resourcev1.AuthPolicy) {
	if c.AuthPolicies == nil {
		c.AuthPolicies = make(map[string]*resourcev1.AuthPolicy)
	}
	c.AuthPolicies[target] = p
}

// Empty tells that nothing is named.
func (c *Change) Empty() bool {
	return len(c.Endpoints) == 0 && len(c.Policies) == 0 && len(c.AuthPolicies) == 0
}

// Targets are the targets of what is named, sorted.
func (c *Change) Targets() []string {
	all := make(map[string]bool)
	for t := range c.Endpoints {
		all[t] = true
	}
	for t := range c.Policies {
		all[t] = true
	}
	for t := range c.AuthPolicies {
		all[t] = true
	}
	return slices.Sorted(maps.Keys(all))
}

// EndpointLabel, PolicyLabel and AuthPolicyLabel are how [Problem.Resource] names resources.
func EndpointLabel(target, instance string) string { return "endpoint " + target + "/" + instance }

// PolicyLabel names a service policy.
func PolicyLabel(target string) string { return "policy " + target }

// AuthPolicyLabel names an auth policy.
func AuthPolicyLabel(target string) string { return "auth policy " + target }

// View is what resources a change meets.
type View interface {
	// Endpoints of a target, in no order.
	Endpoints(target string) []*resourcev1.Endpoint
	// Policy and AuthPolicy of a target; nil: it has none.
	Policy(target string) *resourcev1.ServicePolicy
	AuthPolicy(target string) *resourcev1.AuthPolicy
}

// Has tells whether a view has anything of a target.
func Has(v View, target string) bool {
	return v.Policy(target) != nil || v.AuthPolicy(target) != nil || len(v.Endpoints(target)) > 0
}

// changed is a view with a change.
type changed struct {
	View
	*Change
}

func (c changed) Endpoints(target string) []*resourcev1.Endpoint {
	set, before := c.Change.Endpoints[target], c.View.Endpoints(target)
	if len(set) == 0 {
		return before
	}
	out := make([]*resourcev1.Endpoint, 0, len(before)+len(set))
	for _, e := range before {
		if _, touched := set[e.GetInstance()]; !touched {
			out = append(out, e)
		}
	}
	for _, e := range set {
		if e != nil {
			out = append(out, e)
		}
	}
	return out
}

func (c changed) Policy(target string) *resourcev1.ServicePolicy {
	if p, touched := c.Policies[target]; touched {
		return p
	}
	return c.View.Policy(target)
}

func (c changed) AuthPolicy(target string) *resourcev1.AuthPolicy {
	if p, touched := c.AuthPolicies[target]; touched {
		return p
	}
	return c.View.AuthPolicy(target)
}

// viewing is a validator of resources that stand in a view and have passed in parts: fields are named from their
// resources on, not by their place in a snapshot.
func viewing(view View) *validator {
	return &validator{
		has: func(target string) bool { return Has(view, target) }, endpoints: view.Endpoints, ours: true,
	}
}

// References are the other targets to which a policy's routes lead.
func References(p *resourcev1.ServicePolicy) (out []string) {
	add := func(d *resourcev1.Destination) {
		if to := d.GetTarget(); to != "" && to != p.GetTarget() && !slices.Contains(out, to) {
			out = append(out, to)
		}
	}
	for _, r := range p.GetRoutes() {
		for _, d := range r.GetDestinations() {
			add(d)
		}
		add(r.GetMirror().GetDestination())
	}
	return out
}

// ValidateChange returns what is wrong with the resources that a change brings to a view, errors alone. What it leaves as
// it is is sound already. Each problem says its resource. A policy may lead to targets of which nothing is known yet: a
// change is a part of what there is, and the others come by themselves.
func ValidateChange(c *Change, before View) []Problem {
	v := viewing(changed{before, c})
	v.elsewhere = true
	for _, target := range slices.Sorted(maps.Keys(c.Endpoints)) {
		for _, instance := range slices.Sorted(maps.Keys(c.Endpoints[target])) {
			if e := c.Endpoints[target][instance]; e != nil {
				v.resource = EndpointLabel(target, instance)
				v.endpoint("", e)
			}
		}
	}
	for _, target := range slices.Sorted(maps.Keys(c.Policies)) {
		if p := c.Policies[target]; p != nil {
			v.policy("", p)
		}
	}
	for _, target := range slices.Sorted(maps.Keys(c.AuthPolicies)) {
		if p := c.AuthPolicies[target]; p != nil {
			v.authPolicy("", p)
		}
	}
	return filter(v.problems, false)
}

// TargetWarnings returns what is odd about a target of a view, of which each part has passed. That it refers to a target
// of which there is nothing any more is odd, and no more: targets come and go.
func TargetWarnings(view View, target string) []Problem {
	v := viewing(view)
	all := view.Endpoints(target)
	if len(all) > 0 && !slices.ContainsFunc(all, weighted) {
		v.resource = "target " + target
		v.warn("", "every endpoint of the target has weight 0: none gets calls")
	}
	if p := view.Policy(target); p != nil {
		v.policy("", p)
	}
	if p := view.AuthPolicy(target); p != nil {
		v.authPolicy("", p)
	}
	for i := range v.problems {
		v.problems[i].Warning = true
	}
	return v.problems
}

func weighted(e *resourcev1.Endpoint) bool { return e.Weight == nil || e.GetWeight() > 0 }

// Without returns a change without the resources that problems name.
func (c *Change) Without(problems []Problem) *Change {
	bad := make(map[string]bool)
	for _, p := range problems {
		bad[p.Resource] = true
	}
	out := &Change{}
	for target, set := range c.Endpoints {
		for instance, e := range set {
			if !bad[EndpointLabel(target, instance)] {
				out.SetEndpoint(target, instance, e)
			}
		}
	}
	for target, p := range c.Policies {
		if !bad[PolicyLabel(target)] {
			out.SetPolicy(target, p)
		}
	}
	for target, p := range c.AuthPolicies {
		if !bad[AuthPolicyLabel(target)] {
			out.SetAuthPolicy(target, p)
		}
	}
	return out
}
