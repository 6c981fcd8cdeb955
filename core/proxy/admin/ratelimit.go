package admin

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/octomesh/octomesh/core/proxy/ratelimit"
)

var (
	limiterRequests = desc("octo_rate_limit_requests_total", "Requests to rate limit services, by result: answered, failed.", "result")
	limiterCalls    = desc("octo_rate_limit_calls_total", "Calls that rate limit services were asked for, by result: granted, over (the limit).", "result")
	limiterAnswers  = desc("octo_rate_limit_service_answers", "1: calls wait for the rate limit service. 0: it does not answer, and calls do as their limits' failure_mode says.")
)

// limiterCollector says what became of questions to rate limit services.
type limiterCollector struct{ status func() ratelimit.Status }

// NewLimiterCollector returns the collector of what a rate limit client has done.
func NewLimiterCollector(status func() ratelimit.Status) prometheus.Collector {
	return limiterCollector{status}
}

// Describe implements [prometheus.Collector].
func (limiterCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{limiterRequests, limiterCalls, limiterAnswers} {
		out <- d
	}
}

// Collect implements [prometheus.Collector].
func (c limiterCollector) Collect(out chan<- prometheus.Metric) {
	s := c.status()
	counter(out, limiterRequests, s.Requests, "answered")
	counter(out, limiterRequests, s.Failed, "failed")
	counter(out, limiterCalls, s.Granted, "granted")
	counter(out, limiterCalls, s.Over, "over")
	answers := 0.0
	if s.Answers {
		answers = 1
	}
	gauge(out, limiterAnswers, answers)
}
