package route

import (
	"math/rand/v2"
	"time"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/proxy/policy"
	"github.com/octomesh/octomesh/core/wire"
)

// Defaults of octo.resource.v1.RateLimit, CircuitBreaker and Fault.
const (
	DefaultPer             = time.Second
	DefaultMaxCallers      = 1000
	DefaultBreakerWindow   = 10 * time.Second
	DefaultBreakerMinCalls = 20
	DefaultFailurePermille = 500
	DefaultSlowPermille    = 500
	DefaultOpenTime        = 5 * time.Second
	DefaultProbes          = 3
	maxDelayedCalls        = 65536 // of one fault at once: those beyond are refused, since memory is bounded
	defaultAbort           = wire.Unavailable
	defaultSide            = resourcev1.Side_SIDE_SERVER
)

// chain returns the policies of a target's calls in the order in which they are asked: who may call, how often, how
// many at once, whether the target is well, and last what is done to calls that would pass. What is not configured is
// not in it, but for the bound of open calls.
func (c *compiler) chain(t *Target, p *resourcev1.ServicePolicy) (out []policy.Policy) {
	if auth := c.units.get(t.Name).access; auth != nil && t.Direction == Inbound {
		out = append(out, access(t, auth))
	}
	out = append(out, limits(t, p.GetRateLimits())...)
	out = append(out, c.globals(t, p.GetRateLimits())...)
	out = append(out, policy.NewMaxOpenCalls(&t.state.slots, orDefault(p.GetLimits().GetMaxOpenCalls(), DefaultMaxOpenCalls), t.Direction.Origin()))
	if t.Direction == Inbound {
		return out
	}
	if b := p.GetCircuitBreaker(); b != nil {
		out = append(out, policy.NewBreaker(breaker(b), &t.state.circuit, t.Direction.Origin()))
	}
	if len(p.GetFaults()) > 0 {
		out = append(out, faults(t, p.GetFaults()))
	}
	return out
}

func access(t *Target, p *resourcev1.AuthPolicy) policy.Policy {
	rules := func(list []*resourcev1.AccessRule) (out []policy.AccessRule) {
		for _, r := range list {
			out = append(out, policy.AccessRule{
				Name: r.GetName(), Callers: policy.NamesOf(r.GetCallers()), Identities: policy.NamesOf(r.GetIdentities()),
				Services: policy.NamesOf(r.GetServices()), Methods: policy.NamesOf(r.GetMethods()),
			})
		}
		return out
	}
	return policy.NewAccess(rules(p.GetDeny()), rules(p.GetAllow()), p.GetDryRun(), &t.state.access, t.Direction.Origin())
}

// sideOf is the direction of calls that a limit is for.
func sideOf(l *resourcev1.RateLimit) Direction {
	if orDefault(l.GetSide(), defaultSide) == resourcev1.Side_SIDE_CLIENT {
		return Outbound
	}
	return Inbound
}

// limits makes the rate limits of the target's direction that hold in this proxy. A bucket goes on as long as its name does.
func limits(t *Target, list []*resourcev1.RateLimit) (out []policy.Policy) {
	buckets := make(map[string]*policy.Buckets)
	for _, l := range list {
		if l.GetGlobal() != nil || sideOf(l) != t.Direction {
			continue
		}
		b := t.state.buckets[l.GetName()]
		if b == nil {
			b = &policy.Buckets{}
		}
		buckets[l.GetName()] = b
		rules := policy.LimitRules{
			Name: l.GetName(), Condition: condition(l.GetMatch()), Route: l.GetRoute(), Calls: l.GetCalls(),
			Per: orDefault(duration(l.GetPer()), DefaultPer), Burst: orDefault(l.GetBurst(), l.GetCalls()), Origin: t.Direction.Origin(),
			DryRun: l.GetDryRun(),
		}
		if l.GetPerCaller() {
			rules.MaxCallers = int(orDefault(l.GetMaxCallers(), DefaultMaxCallers))
		}
		out = append(out, policy.NewRateLimit(rules, b))
	}
	t.state.buckets = buckets
	return out
}

func breaker(b *resourcev1.CircuitBreaker) policy.BreakerRules {
	rules := policy.BreakerRules{
		Window: int64(orDefault(duration(b.GetWindow()), DefaultBreakerWindow)), MinCalls: orDefault(b.GetMinCalls(), DefaultBreakerMinCalls),
		Permille: DefaultFailurePermille, Codes: policy.CodesOf(b.GetFailureCodes()), SlowCall: duration(b.GetSlowCall()),
		OpenTime: int64(orDefault(duration(b.GetOpenTime()), DefaultOpenTime)), Probes: orDefault(b.GetProbes(), DefaultProbes),
	}
	if b.FailurePermille != nil {
		rules.Permille = b.GetFailurePermille()
	}
	if rules.SlowCall > 0 {
		rules.SlowPermille = orDefault(b.GetSlowPermille(), DefaultSlowPermille)
	}
	return rules
}

func faults(t *Target, list []*resourcev1.Fault) policy.Policy {
	var rules []policy.FaultRules
	var counts []*policy.FaultCounts
	byName := make(map[string]*policy.FaultCounts)
	for _, f := range list {
		n := t.state.faults[f.GetName()]
		if n == nil {
			n = &policy.FaultCounts{}
		}
		byName[f.GetName()] = n
		counts = append(counts, n)
		rules = append(rules, policy.FaultRules{
			Name: f.GetName(), Condition: condition(f.GetMatch()), DelayPermille: f.GetDelayPermille(), Delay: duration(f.GetDelay()),
			AbortPermille: f.GetAbortPermille(), AbortCode: orDefault(wire.Code(f.GetAbortCode()), defaultAbort),
		})
	}
	t.state.faults = byName
	return policy.NewFaults(rules, counts, maxDelayedCalls, t.Direction.Origin(), rand.Uint32N)
}
