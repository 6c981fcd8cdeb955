package resource

import (
	"fmt"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// maxText bounds a description, in bytes.
const maxText = 1000

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
