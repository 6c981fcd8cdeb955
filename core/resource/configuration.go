package resource

import (
	"fmt"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// Bounds of octo.resource.v1.Configuration.
const (
	maxText  = 1000 // bytes of a description
	maxNodes = 1000 // of a mesh switch
)

// ValidateConfiguration returns what is wrong with a configuration that is to join another one in the environment, in
// the order of its fields. Endpoints are not known here: that a destination leads nowhere is odd, and no more.
// An empty environment stands for any; whole may be nil.
func ValidateConfiguration(c, whole *resourcev1.Configuration, environment string) []Problem {
	targets := make(map[string]bool)
	v := &validator{has: func(target string) bool { return targets[target] }, applications: make(map[string]bool), elsewhere: true}
	if c.GetEnvironment() != "" && v.name("environment", c.GetEnvironment(), environmentForm) &&
		environment != "" && c.GetEnvironment() != environment {
		v.bad("environment", "the file is for %q, and is applied to %q", c.GetEnvironment(), environment)
	}
	for _, each := range []*resourcev1.Configuration{c, whole} {
		for _, a := range each.GetApplications() {
			targets[a.GetName()] = true
			v.applications[a.GetName()] = true
		}
		for _, s := range each.GetSchemas() {
			targets[s.GetTarget()] = true
		}
		for _, p := range each.GetPolicies() {
			targets[p.GetTarget()] = true
		}
		for _, p := range each.GetAuthPolicies() {
			targets[p.GetTarget()] = true
		}
	}
	v.checkApplications(c.GetApplications())
	v.checkPolicies(c.GetPolicies())
	v.checkAuthPolicies(c.GetAuthPolicies())
	v.checkMeshSwitches(c.GetMeshSwitches())
	v.checkOverrides(c.GetInstances())
	v.checkSchemas(c.GetSchemas())
	v.checkSizes(c)
	v.checkCircles(c.GetPolicies(), whole.GetPolicies())
	return v.problems
}

func (v *validator) checkApplications(applications []*resourcev1.Application) {
	first := make(map[string]int)
	for i, a := range applications {
		at := fmt.Sprintf("applications[%d]", i)
		v.resource = "application " + a.GetName()
		v.unique(at, "applications", i, a.GetName(), first)
		switch {
		case a.GetOwner() == "":
			v.bad(at+".owner", "is missing: say who answers for the application")
		case len(a.GetOwner()) > maxName:
			v.bad(at+".owner", "is longer than %d bytes", maxName)
		}
		v.optional(at+".business_group", a.GetBusinessGroup(), nameForm)
		if a.GetTier() == resourcev1.Tier_TIER_UNSPECIFIED {
			v.bad(at+".tier", "is missing: one of TIER_CRITICAL, TIER_IMPORTANT, TIER_STANDARD, TIER_INTERNAL")
		}
		known(v, at+".tier", a.GetTier())
		if len(a.GetDescription()) > maxText {
			v.bad(at+".description", "is longer than %d bytes", maxText)
		}
	}
}

func (v *validator) checkMeshSwitches(switches []*resourcev1.MeshSwitch) {
	type key struct{ application, target string }
	first := make(map[key]int)
	for i, s := range switches {
		at := fmt.Sprintf("mesh_switches[%d]", i)
		v.resource = "switch " + s.GetApplication() + "," + s.GetTarget()
		v.optional(at+".application", s.GetApplication(), nameForm)
		v.target(at+".target", s.GetTarget())
		if a := s.GetApplication(); a != "" && len(v.applications) > 0 && !v.applications[a] {
			v.warn(at+".application", "no application has the name %q: the switch holds for nobody, unless a caller without a resource is called so", shorten(a))
		}
		k := key{s.GetApplication(), s.GetTarget()}
		if j, dup := first[k]; dup {
			v.bad(at+".target", "mesh_switches[%d] is of the same application and target: write one", j)
		} else {
			first[k] = i
		}
		v.permille(at+".permille", s.GetPermille())
		if s.GetRevision() != 0 {
			v.bad(at+".revision", "is the Config Server's to set: leave it out")
		}
		if len(s.GetNodes()) > maxNodes {
			v.bad(at+".nodes", "holds more than %d nodes: use permille", maxNodes)
			continue
		}
		for j, n := range s.GetNodes() {
			v.name(fmt.Sprintf("%s.nodes[%d]", at, j), n, nameForm)
		}
	}
}

func (v *validator) checkOverrides(overrides []*resourcev1.InstanceOverride) {
	type key struct{ target, instance string }
	first := make(map[key]int)
	for i, o := range overrides {
		at := fmt.Sprintf("instances[%d]", i)
		v.resource = "instance " + o.GetTarget() + "," + o.GetInstance()
		v.target(at+".target", o.GetTarget())
		v.name(at+".instance", o.GetInstance(), nameForm)
		k := key{o.GetTarget(), o.GetInstance()}
		if j, dup := first[k]; dup {
			v.bad(at+".instance", "instances[%d] is of the same target and instance: write one", j)
		} else {
			first[k] = i
		}
		if o.Disabled == nil && o.Weight == nil {
			v.bad(at, "says nothing: give disabled, weight or both, or delete it")
		}
		if o.GetWeight() > maxWeight {
			v.bad(at+".weight", "%d is more than %d", o.GetWeight(), maxWeight)
		}
	}
}
