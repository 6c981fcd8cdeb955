package route

import (
	"time"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/proxy/policy"
)

// Defaults of octo.resource.v1.GlobalRateLimit.
const (
	DefaultLimitDomain  = "octo"
	DefaultLimitTimeout = 50 * time.Millisecond
	DefaultMaxCounters  = 1000
)

// globals makes the rate limits of the target's direction that hold over all proxies. What was granted goes on as long as a
// limit has its name and counts the same.
func (c *compiler) globals(t *Target, list []*resourcev1.RateLimit) (out []policy.Policy) {
	counters := make(map[string]*policy.Counters)
	for _, l := range list {
		if l.GetGlobal() == nil || sideOf(l) != t.Direction {
			continue
		}
		n := t.state.counters[l.GetName()]
		if n == nil {
			n = &policy.Counters{}
		}
		counters[l.GetName()] = n
		g := l.GetGlobal()
		rules := policy.GlobalRules{
			Name: l.GetName(), Condition: condition(l.GetMatch()), Route: l.GetRoute(),
			Domain: orDefault(g.GetDomain(), DefaultLimitDomain), Parts: c.parts(t, l), Calls: l.GetCalls(),
			Deny: g.GetFailureMode() == resourcev1.FailureMode_FAILURE_MODE_DENY, DryRun: l.GetDryRun(),
			Timeout:     orDefault(duration(g.GetTimeout()), DefaultLimitTimeout),
			MaxCounters: int(orDefault(g.GetMaxCounters(), DefaultMaxCounters)), Origin: t.Direction.Origin(),
		}
		if rules.Calls > 0 {
			rules.Per = orDefault(duration(l.GetPer()), DefaultPer)
		}
		out = append(out, policy.NewGlobalLimit(rules, c.Asker, n))
	}
	t.state.counters = counters
	return out
}

// parts are the entries of a limit's descriptor.
func (c *compiler) parts(t *Target, l *resourcev1.RateLimit) (out []policy.Part) {
	entries := l.GetGlobal().GetEntries()
	if len(entries) == 0 {
		out = []policy.Part{
			{Key: "environment", From: c.Environment}, {Key: "target", From: t.Name}, {Key: "limit", From: l.GetName()},
		}
		if l.GetPerCaller() {
			out = append(out, policy.Part{Key: "caller", Property: policy.Caller})
		}
		return out
	}
	for _, e := range entries {
		part := policy.Part{Key: e.GetKey()}
		name := ""
		switch v := e.GetValue().(type) {
		case *resourcev1.DescriptorEntry_Fixed:
			part.From = v.Fixed
		case *resourcev1.DescriptorEntry_Metadata:
			part.Property, part.From, name = policy.Metadata, v.Metadata, v.Metadata
		case *resourcev1.DescriptorEntry_Baggage:
			part.Property, part.From, name = policy.Baggage, v.Baggage, v.Baggage
		case *resourcev1.DescriptorEntry_Property:
			part.Property, part.From, name = c.property(t, v.Property)
		}
		part.Key = orDefault(part.Key, name)
		out = append(out, part)
	}
	return out
}

// property returns where a property has its value from, and its name.
func (c *compiler) property(t *Target, p resourcev1.CallProperty) (is policy.Property, value, name string) {
	switch p {
	case resourcev1.CallProperty_CALL_PROPERTY_ENVIRONMENT:
		return policy.Fixed, c.Environment, "environment"
	case resourcev1.CallProperty_CALL_PROPERTY_TARGET:
		return policy.Fixed, t.Name, "target"
	case resourcev1.CallProperty_CALL_PROPERTY_SERVICE:
		return policy.Service, "", "service"
	case resourcev1.CallProperty_CALL_PROPERTY_METHOD:
		return policy.Method, "", "method"
	case resourcev1.CallProperty_CALL_PROPERTY_CALLER:
		return policy.Caller, "", "caller"
	case resourcev1.CallProperty_CALL_PROPERTY_ROUTE:
		return policy.Route, "", "route"
	}
	return policy.Fixed, c.Zone, "zone"
}
