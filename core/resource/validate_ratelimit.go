package resource

import (
	"fmt"
	"slices"
	"time"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Bounds of octo.resource.v1.GlobalRateLimit, RateLimitServices and RateLimitTable.
const (
	maxEntries     = 16 // of a descriptor
	maxValue       = 256
	maxLimitWait   = time.Second
	maxServices    = 16
	maxDomains     = 1000
	maxDomainRules = 10_000
)

// units are the times that the rate limit service's protocol knows.
var units = []time.Duration{time.Second, time.Minute, time.Hour, 24 * time.Hour}

// global checks a limit that a service counts.
func (v *validator) global(at string, l *resourcev1.RateLimit) {
	g := l.GetGlobal()
	switch {
	case l.GetCalls() == 0 && l.GetPer() != nil:
		v.bad(at+".per", "needs calls: without them the rate limit service has the figures")
	default:
		v.unit(at+".per", l.GetPer())
	}
	if l.GetBurst() > 0 {
		v.bad(at+".burst", "is for limits of one proxy: a global one lets calls begin at once in each window")
	}
	if l.GetMaxCallers() > 0 {
		v.bad(at+".max_callers", "is for limits of one proxy: use global.max_counters")
	}
	if l.GetPerCaller() && len(g.GetEntries()) > 0 {
		v.bad(at+".per_caller", "is for the default entries: put {property: CALL_PROPERTY_CALLER} into global.entries")
	}
	at += ".global"
	v.optional(at+".domain", g.GetDomain(), nameForm)
	known(v, at+".failure_mode", g.GetFailureMode())
	v.duration(at+".timeout", g.GetTimeout(), maxLimitWait)
	if g.GetMaxCounters() > maxCallers {
		v.bad(at+".max_counters", "%d is more than %d", g.GetMaxCounters(), maxCallers)
	}
	if len(g.GetEntries()) > maxEntries {
		v.bad(at+".entries", "holds more than %d entries", maxEntries)
		return
	}
	for i, e := range g.GetEntries() {
		v.descriptorEntry(fmt.Sprintf("%s.entries[%d]", at, i), l, e)
	}
}

// unit checks a time that the protocol must be able to say.
func (v *validator) unit(field string, d *durationpb.Duration) {
	if d != nil && d.AsDuration() != 0 && d.CheckValid() == nil && !slices.Contains(units, d.AsDuration()) {
		v.bad(field, "%s is none of 1s, 60s, 3600s and 86400s, the only times that a rate limit service knows", d.AsDuration())
	}
}

func (v *validator) descriptorEntry(at string, l *resourcev1.RateLimit, e *resourcev1.DescriptorEntry) {
	v.optional(at+".key", e.GetKey(), nameForm)
	switch value := e.GetValue().(type) {
	case nil:
		v.bad(at, "says nothing of the value: give fixed, property, metadata or baggage")
	case *resourcev1.DescriptorEntry_Fixed:
		if e.GetKey() == "" {
			v.bad(at+".key", "is missing: a fixed value needs one")
		}
		if value.Fixed == "" || len(value.Fixed) > maxValue {
			v.bad(at+".fixed", "has %d bytes: it needs 1 to %d", len(value.Fixed), maxValue)
		}
	case *resourcev1.DescriptorEntry_Property:
		known(v, at+".property", value.Property)
		if value.Property == resourcev1.CallProperty_CALL_PROPERTY_UNSPECIFIED {
			v.bad(at+".property", "is missing")
		}
		if value.Property == resourcev1.CallProperty_CALL_PROPERTY_ROUTE && l.GetSide() != resourcev1.Side_SIDE_CLIENT {
			v.bad(at+".property", "the route needs side: SIDE_CLIENT, since routes are the caller's proxy's")
		}
	case *resourcev1.DescriptorEntry_Metadata:
		v.name(at+".metadata", value.Metadata, keyForm)
	case *resourcev1.DescriptorEntry_Baggage:
		v.name(at+".baggage", value.Baggage, keyForm)
	}
}

// rateLimitServices checks who is asked.
func (v *validator) rateLimitServices(s *resourcev1.RateLimitServices) {
	if s == nil {
		return
	}
	const at = "rate_limit_services.addresses"
	switch n := len(s.GetAddresses()); {
	case n == 0:
		v.bad(at, "is missing")
	case n > maxServices:
		v.bad(at, "holds more than %d", maxServices)
	}
	for i, address := range s.GetAddresses() {
		v.service(fmt.Sprintf("%s[%d]", at, i), address)
	}
}

// service checks an address that may be a Unix socket's.
func (v *validator) service(at, address string) {
	if path, ok := SocketPath(address); ok {
		v.present(at, path)
		v.socket(at, path)
		return
	}
	v.present(at, address)
	v.address(at, address, false)
}

// ValidateRateLimits returns what is wrong with a rate limit service's own limits.
func ValidateRateLimits(t *resourcev1.RateLimitTable) []Problem {
	v := &validator{}
	if len(t.GetDomains()) > maxDomains {
		v.bad("domains", "holds more than %d", maxDomains)
		return v.problems
	}
	first := make(map[string]int)
	for i, d := range t.GetDomains() {
		at := fmt.Sprintf("domains[%d]", i)
		v.resource = "rate limit domain " + d.GetDomain()
		if v.name(at+".domain", d.GetDomain(), nameForm) {
			if j, dup := first[d.GetDomain()]; dup {
				v.bad(at+".domain", "is that of domains[%d] too: domains are unique", j)
			}
			first[d.GetDomain()] = i
		}
		v.rateLimitRules(at+".limits", d.GetLimits())
	}
	return v.problems
}

func (v *validator) rateLimitRules(at string, rules []*resourcev1.RateLimitRule) {
	if len(rules) > maxDomainRules {
		v.bad(at, "holds more than %d limits", maxDomainRules)
		return
	}
	first, shapes := make(map[string]int), make(map[string]int)
	for i, r := range rules {
		at := fmt.Sprintf("%s[%d]", at, i)
		v.unique(at, "limits", i, r.GetName(), first)
		v.unit(at+".per", r.GetPer())
		per := max(r.GetPer().AsDuration(), time.Second)
		if v.limitCalls(at, r.GetCalls(), per, r.GetUnlimited()); r.GetUnlimited() && r.GetCalls() > 0 {
			v.bad(at+".calls", "stands beside unlimited")
		}
		if n := len(r.GetEntries()); n == 0 || n > maxEntries {
			v.bad(at+".entries", "has %d entries: it needs 1 to %d", n, maxEntries)
		}
		shape := ""
		for j, k := range r.GetEntries() {
			at := fmt.Sprintf("%s.entries[%d]", at, j)
			v.present(at+".key", k.GetKey())
			if len(k.GetKey()) > maxValue || len(k.GetValue()) > maxValue {
				v.bad(at, "is longer than %d bytes", maxValue)
			}
			shape += fmt.Sprintf("%q", k.GetKey())
			if k.Value != nil {
				shape += fmt.Sprintf("=%q", k.GetValue())
			}
		}
		if j, dup := shapes[shape]; dup {
			v.bad(at+".entries", "is that of limits[%d] too", j)
		} else {
			shapes[shape] = i
		}
	}
}
