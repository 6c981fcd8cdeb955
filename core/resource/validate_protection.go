package resource

import (
	"fmt"
	"strings"
	"time"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// Bounds of octo.resource.v1.RateLimit, CircuitBreaker, Fault and AuthPolicy.
const (
	maxRules      = 100 // rate limits and faults of a policy, each
	maxPerSecond  = 1_000_000_000
	maxCallers    = 100_000
	maxProbes     = 1000
	maxDelay      = 10 * time.Minute
	maxAccess     = 1000 // rules of deny and of allow, each
	maxAccessName = 1000 // names in a part of a rule
)

func (v *validator) protection(at string, p *resourcev1.ServicePolicy) {
	v.rateLimits(at+".rate_limits", p)
	v.circuitBreaker(at+".circuit_breaker", p.GetCircuitBreaker())
	v.faults(at+".faults", p.GetFaults())
}

// unique checks names that must differ within a list.
func (v *validator) unique(at, list string, i int, name string, first map[string]int) {
	if !v.name(at+".name", name, nameForm) {
		return
	}
	if j, dup := first[name]; dup {
		v.bad(at+".name", "is the name of %s[%d] too: names are unique within the list", list, j)
		return
	}
	first[name] = i
}

func (v *validator) rateLimits(at string, p *resourcev1.ServicePolicy) {
	if len(p.GetRateLimits()) > maxRules {
		v.bad(at, "holds more than %d limits", maxRules)
		return
	}
	first := make(map[string]int)
	for i, l := range p.GetRateLimits() {
		at := fmt.Sprintf("%s[%d]", at, i)
		v.unique(at, "rate_limits", i, l.GetName(), first)
		v.match(at+".match", l.GetMatch())
		known(v, at+".side", l.GetSide())
		v.limitRoute(at, p, l)
		v.duration(at+".per", l.GetPer(), maxTimeout)
		per := l.GetPer().AsDuration()
		if l.GetPer() == nil || per == 0 {
			per = time.Second
		}
		v.limitCalls(at, l.GetCalls(), per, l.GetGlobal() != nil)
		if l.GetGlobal() != nil {
			v.global(at, l)
			continue
		}
		if l.GetMaxCallers() > maxCallers {
			v.bad(at+".max_callers", "%d is more than %d", l.GetMaxCallers(), maxCallers)
		}
		if l.GetMaxCallers() > 0 && !l.GetPerCaller() {
			v.warn(at+".max_callers", "does nothing without per_caller")
		}
	}
}

// limitCalls checks how many calls may begin in a time. They may be left to somebody else.
func (v *validator) limitCalls(at string, calls uint32, per time.Duration, elsewhere bool) {
	switch {
	case calls == 0 && !elsewhere:
		v.bad(at+".calls", "is missing: to refuse all calls use an auth policy or a fault")
	case per > 0 && float64(calls)/per.Seconds() > maxPerSecond:
		v.bad(at+".calls", "%d in %s is more than %d a second", calls, per, maxPerSecond)
	}
}

func (v *validator) limitRoute(at string, p *resourcev1.ServicePolicy, l *resourcev1.RateLimit) {
	if l.GetRoute() == "" {
		return
	}
	if l.GetSide() != resourcev1.Side_SIDE_CLIENT {
		v.bad(at+".route", "needs side: SIDE_CLIENT, since routes are the caller's proxy's")
	}
	if l.GetRoute() == defaultRoute {
		return
	}
	for _, r := range p.GetRoutes() {
		if r.GetName() == l.GetRoute() {
			return
		}
	}
	v.bad(at+".route", "%q is no route of the policy", shorten(l.GetRoute()))
}

func (v *validator) circuitBreaker(at string, b *resourcev1.CircuitBreaker) {
	if b == nil {
		return
	}
	v.duration(at+".window", b.GetWindow(), maxWindow)
	v.permille(at+".failure_permille", b.GetFailurePermille())
	v.codes(at+".failure_codes", b.GetFailureCodes())
	v.duration(at+".slow_call", b.GetSlowCall(), maxTimeout)
	v.permille(at+".slow_permille", b.GetSlowPermille())
	v.duration(at+".open_time", b.GetOpenTime(), maxWindow)
	if b.GetProbes() > maxProbes {
		v.bad(at+".probes", "%d is more than %d", b.GetProbes(), maxProbes)
	}
	slow := b.GetSlowCall().AsDuration() > 0
	if b.GetSlowPermille() > 0 && !slow {
		v.warn(at+".slow_permille", "does nothing without slow_call")
	}
	if b.FailurePermille != nil && b.GetFailurePermille() == 0 && !slow {
		v.warn(at, "never opens: failure_permille is 0 and slow_call is not set")
	}
}

func (v *validator) faults(at string, faults []*resourcev1.Fault) {
	if len(faults) > maxRules {
		v.bad(at, "holds more than %d faults", maxRules)
		return
	}
	first := make(map[string]int)
	for i, f := range faults {
		at := fmt.Sprintf("%s[%d]", at, i)
		v.unique(at, "faults", i, f.GetName(), first)
		v.match(at+".match", f.GetMatch())
		v.permille(at+".delay_permille", f.GetDelayPermille())
		v.duration(at+".delay", f.GetDelay(), maxDelay)
		v.permille(at+".abort_permille", f.GetAbortPermille())
		if f.GetAbortCode() > lastCode {
			v.bad(at+".abort_code", "%d is no code from 1 to %d", f.GetAbortCode(), lastCode)
		}
		delays := f.GetDelayPermille() > 0
		if delays != (f.GetDelay().AsDuration() != 0) {
			v.bad(at, "needs both delay and delay_permille, or neither")
		}
		if !delays && f.GetAbortPermille() == 0 {
			v.warn(at, "does nothing: delay_permille and abort_permille are 0")
		}
	}
}

func (v *validator) checkAuthPolicies(policies []*resourcev1.AuthPolicy) {
	first := make(map[string]int)
	for i, p := range policies {
		at := fmt.Sprintf("auth_policies[%d]", i)
		v.resource = AuthPolicyLabel(p.GetTarget())
		if j, dup := first[p.GetTarget()]; dup {
			v.bad(at+".target", "is the target of auth_policies[%d] too: a target has one", j)
		} else {
			first[p.GetTarget()] = i
		}
		v.authPolicy(at, p)
	}
}

// authPolicy checks one auth policy by itself.
func (v *validator) authPolicy(at string, p *resourcev1.AuthPolicy) {
	v.resource = AuthPolicyLabel(p.GetTarget())
	v.target(at+".target", p.GetTarget())
	if len(p.GetDeny()) == 0 && len(p.GetAllow()) == 0 {
		v.warn(at, "lets every call in: it has no rule")
	}
	v.access(at, "deny", p.GetDeny())
	v.access(at, "allow", p.GetAllow())
}

func (v *validator) access(at, list string, rules []*resourcev1.AccessRule) {
	at += "." + list
	if len(rules) > maxAccess {
		v.bad(at, "holds more than %d rules", maxAccess)
		return
	}
	first := make(map[string]int)
	for i, r := range rules {
		at := fmt.Sprintf("%s[%d]", at, i)
		v.unique(at, list, i, r.GetName(), first)
		v.patterns(at+".callers", r.GetCallers(), nameForm)
		v.patterns(at+".identities", r.GetIdentities(), identityForm)
		v.patterns(at+".services", r.GetServices(), serviceForm)
		v.patterns(at+".methods", r.GetMethods(), methodForm)
	}
}

// patterns checks names of which each may end in "*".
func (v *validator) patterns(at string, names []string, f form) {
	if len(names) > maxAccessName {
		v.bad(at, "holds more than %d names", maxAccessName)
		return
	}
	for i, n := range names {
		v.pattern(fmt.Sprintf("%s[%d]", at, i), n, f)
	}
}

// pattern checks a name that may end in "*".
func (v *validator) pattern(at, name string, f form) {
	begin, any := strings.CutSuffix(name, "*")
	begin = strings.TrimSuffix(strings.TrimSuffix(begin, "."), "/")
	switch {
	case !any:
		v.name(at, name, f)
	case begin != "" && !strings.HasPrefix("spiffe:/", begin):
		v.name(at, begin, f)
	}
}
