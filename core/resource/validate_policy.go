package resource

import (
	"fmt"
	"maps"
	"slices"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
	"google.golang.org/protobuf/types/known/durationpb"
)

// defaultRoute is what metrics call the route that no policy names.
const defaultRoute = "default"

func (v *validator) checkPolicies(policies []*resourcev1.ServicePolicy) {
	first := make(map[string]int)
	for i, p := range policies {
		at := fmt.Sprintf("policies[%d]", i)
		v.resource = PolicyLabel(p.GetTarget())
		if j, dup := first[p.GetTarget()]; dup {
			v.bad(at+".target", "is the target of policies[%d] too: a target has one policy", j)
		} else {
			first[p.GetTarget()] = i
		}
		v.policy(at, p)
	}
}

// policy checks one policy by itself.
func (v *validator) policy(at string, p *resourcev1.ServicePolicy) {
	v.resource = PolicyLabel(p.GetTarget())
	v.target(at+".target", p.GetTarget())
	v.duration(at+".default_timeout", p.GetDefaultTimeout(), maxTimeout)
	v.duration(at+".max_timeout", p.GetMaxTimeout(), maxTimeout)
	v.exceeds(at+".default_timeout", p.GetDefaultTimeout(), p.GetMaxTimeout())
	v.limits(at+".limits", p.GetLimits())
	v.balancing(at+".balancing", p.GetBalancing())
	v.outlierEjection(at+".outlier_ejection", p.GetOutlierEjection())
	v.protection(at, p)
	v.patterns(at+".identities", p.GetIdentities(), identityForm)
	v.retries(at+".retries", p.GetRetries())
	v.retryBudget(at+".retry_budget", p.GetRetryBudget())
	v.routes(at+".routes", p)
}

// exceeds warns of a budget that max_timeout would cut.
func (v *validator) exceeds(field string, timeout, limit *durationpb.Duration) {
	if limit.AsDuration() > 0 && timeout.AsDuration() > limit.AsDuration() {
		v.warn(field, "%s is over max_timeout, which cuts it to %s", timeout.AsDuration(), limit.AsDuration())
	}
}

func (v *validator) limits(at string, l *resourcev1.Limits) {
	if l.GetMaxOpenCalls() > maxCalls {
		v.bad(at+".max_open_calls", "%d is more than %d", l.GetMaxOpenCalls(), maxCalls)
	}
	if l.GetMaxParkedCalls() > maxCalls {
		v.bad(at+".max_parked_calls", "%d is more than %d", l.GetMaxParkedCalls(), maxCalls)
	}
	v.duration(at+".max_park", l.GetMaxPark(), maxPark)
}

func (v *validator) routes(at string, p *resourcev1.ServicePolicy) {
	if len(p.GetRoutes()) > maxRoutes {
		v.bad(at, "holds more than %d routes", maxRoutes)
		return
	}
	first := make(map[string]int)
	catchAll := -1
	for i, r := range p.GetRoutes() {
		at := fmt.Sprintf("%s[%d]", at, i)
		if v.name(at+".name", r.GetName(), nameForm) && r.GetName() == defaultRoute {
			v.bad(at+".name", "%q is the name of the route that calls take where none matches", defaultRoute)
		}
		if j, dup := first[r.GetName()]; dup {
			v.bad(at+".name", "is the name of routes[%d] too: names are unique within a policy", j)
		} else {
			first[r.GetName()] = i
		}
		if catchAll >= 0 {
			v.warn(at, "is never reached: routes[%d] matches every call", catchAll)
		} else if matchesAll(r.GetMatch()) {
			catchAll = i
		}
		v.match(at+".match", r.GetMatch())
		v.duration(at+".timeout", r.GetTimeout(), maxTimeout)
		v.exceeds(at+".timeout", r.GetTimeout(), p.GetMaxTimeout())
		v.retries(at+".retries", r.GetRetries())
		v.mirror(at+".mirror", p.GetTarget(), r.GetMirror())
		v.destinations(at+".destinations", p.GetTarget(), r.GetDestinations())
	}
}

func matchesAll(m *resourcev1.Match) bool {
	return m.GetService() == "" && m.GetMethod() == "" && m.GetCaller() == "" && len(m.GetMetadata()) == 0 && len(m.GetBaggage()) == 0
}

func (v *validator) match(at string, m *resourcev1.Match) {
	v.optional(at+".service", m.GetService(), serviceForm)
	v.optional(at+".method", m.GetMethod(), methodForm)
	v.optional(at+".caller", m.GetCaller(), nameForm)
	v.entries(at+".metadata", m.GetMetadata())
	v.entries(at+".baggage", m.GetBaggage())
}

func (v *validator) entries(at string, entries []*resourcev1.EntryMatch) {
	if len(entries) > maxConditions {
		v.bad(at, "holds more than %d conditions", maxConditions)
		return
	}
	for i, e := range entries {
		at := fmt.Sprintf("%s[%d]", at, i)
		v.name(at+".key", e.GetKey(), keyForm)
		switch value := e.GetValue().(type) {
		case nil:
			v.bad(at, "says nothing of the value: give exact, prefix or present")
		case *resourcev1.EntryMatch_Prefix:
			if value.Prefix == "" {
				v.bad(at+".prefix", "is empty: every value begins so; write present: true")
			}
		}
	}
}

func (v *validator) destinations(at, own string, destinations []*resourcev1.Destination) {
	switch n := len(destinations); {
	case n == 0:
		v.bad(at, "is empty: name at least one destination")
	case n > maxDestinations:
		v.bad(at, "holds more than %d destinations", maxDestinations)
		return
	}
	var total uint64
	for i, d := range destinations {
		at := fmt.Sprintf("%s[%d]", at, i)
		weight := uint32(1)
		if d.Weight != nil {
			weight = d.GetWeight()
		}
		total += uint64(weight)
		if weight > maxWeight {
			v.bad(at+".weight", "%d is more than %d", weight, maxWeight)
		}
		v.tags(at+".subset", d.GetSubset())
		v.destination(at, own, d)
	}
	if total == 0 && len(destinations) > 0 {
		v.bad(at, "have weights that are all 0")
	}
}

// destination checks that a destination leads somewhere. That it selects no endpoint now is a warning only:
// instances come and go, and calls to it are refused NO_ENDPOINT until one comes.
func (v *validator) destination(at, own string, d *resourcev1.Destination) {
	target := d.GetTarget()
	if target == "" {
		target = own
	} else if !v.name(at+".target", target, nameForm) {
		return
	}
	if !v.has(target) && v.elsewhere {
		v.warn(at+".target", "no application and no policy has the name %q: calls are refused unless a registry knows it", shorten(target))
		v.problems[len(v.problems)-1].Target = target
	} else if !v.has(target) {
		v.bad(at+".target", "%q is unknown: no endpoint and no policy has this target", shorten(target))
		return
	}
	if len(d.GetSubset()) == 0 || v.elsewhere {
		return
	}
	all := v.endpoints(target)
	for _, e := range all {
		if hasAll(e.GetTags(), d.GetSubset()) {
			return
		}
	}
	v.warn(at+".subset", "selects none of the %d endpoints of %s", len(all), target)
}

func hasAll(tags, subset map[string]string) bool {
	for k, want := range subset {
		if got, ok := tags[k]; !ok || got != want {
			return false
		}
	}
	return true
}

func sorted(tags map[string]string) []string { return slices.Sorted(maps.Keys(tags)) }
