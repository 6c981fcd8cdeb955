package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/octomesh/octomesh/core/proxy/policy"
	"github.com/octomesh/octomesh/core/proxy/route"
)

// collectPolicies says what the policies of a target have done. Who did nothing yet is left out, but for a circuit
// breaker's state and the ejections of a target where endpoints may be ejected.
func (c *Collector) collectPolicies(out chan<- prometheus.Metric, t *route.Target) {
	for _, p := range t.Policies.Policies() {
		if counted, ok := p.(policy.Counted); ok {
			counted.Counts(func(rule, outcome string, n uint64) {
				if n > 0 {
					counter(out, policyCalls, n, t.Direction.String(), t.Name, p.Name(), rule, outcome)
				}
			})
		}
		if b, ok := p.(*policy.Breaker); ok {
			gauge(out, breakerState, float64(b.State()), t.Name)
		}
	}
	t.Retried(func(outcome string, n uint64) {
		if n > 0 {
			counter(out, retries, n, t.Name, outcome)
		}
	})
	for _, r := range t.Routes {
		if r.Mirror == nil {
			continue
		}
		r.Mirror.Copies.Counts(func(outcome string, n uint64) {
			if n > 0 {
				counter(out, mirrored, n, t.Name, r.Name, outcome)
			}
		})
	}
	if t.Outlier == nil {
		return
	}
	counter(out, ejections, t.Outlier.Total(), t.Name)
	if c.now != nil {
		gauge(out, ejected, float64(t.Outlier.Ejected(c.now())), t.Name)
	}
}
