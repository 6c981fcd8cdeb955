package route

import (
	"time"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/proxy/policy"
)

// Defaults of octo.resource.v1.RetryPolicy and RetryBudget.
const (
	DefaultMaxAttempts     = 2
	DefaultBackoff         = 25 * time.Millisecond
	DefaultMaxBackoff      = time.Second
	DefaultMaxKeptBytes    = 64 << 10
	DefaultSuccessPermille = 100
	DefaultMinPerSecond    = 10
	DefaultBurst           = 100
)

// retries returns what a route says of calls that go again: its own policy, the target's, or the default.
func retries(t *Target, p *resourcev1.ServicePolicy, route *resourcev1.Route) *policy.Retries {
	r := route.GetRetries()
	if r == nil {
		r = p.GetRetries()
	}
	rules := policy.RetryRules{
		MaxAttempts: int(orDefault(r.GetMaxAttempts(), DefaultMaxAttempts)), Codes: policy.CodesOf(r.GetCodes()),
		AttemptTimeout: int64(duration(r.GetAttemptTimeout())), Backoff: int64(orDefault(duration(r.GetBackoff()), DefaultBackoff)),
		MaxKept: int(orDefault(r.GetMaxKeptBytes(), DefaultMaxKeptBytes)), ElsewhereOnly: r == nil,
	}
	rules.MaxBackoff = max(int64(orDefault(duration(r.GetMaxBackoff()), DefaultMaxBackoff)), rules.Backoff)
	b := p.GetRetryBudget()
	budget := policy.BudgetRules{SuccessPermille: DefaultSuccessPermille, MinPerSecond: DefaultMinPerSecond, Burst: int64(orDefault(b.GetBurst(), DefaultBurst))}
	if b != nil && b.SuccessPermille != nil {
		budget.SuccessPermille = uint64(b.GetSuccessPermille())
	}
	if b != nil && b.MinPerSecond != nil {
		budget.MinPerSecond = int64(b.GetMinPerSecond())
	}
	return policy.NewRetries(rules, policy.NewBudget(budget, &t.state.tokens, t.succeeded), &t.state.retries)
}
