package admin

import (
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/octomesh/octomesh/core/proxy/cluster"
	"github.com/octomesh/octomesh/core/proxy/route"
	"github.com/octomesh/octomesh/core/proxy/store"
	"github.com/octomesh/octomesh/core/telemetry"
	"github.com/octomesh/octomesh/core/telemetry/meter"
	"github.com/octomesh/octomesh/core/wire"
)

// maxEndpoints bounds the endpoints that have metrics of their own; beyond it only the sums per target are
// exposed. A target of 10,000 instances would drown everything else.
const maxEndpoints = 1000

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	callsOpen       = desc("octo_calls_open", "Calls that a route took and that have not ended.", "direction", "target", "route")
	callsTotal      = desc("octo_calls_total", "Calls that ended, by status code.", "direction", "target", "route", "code")
	callsRefused    = desc("octo_calls_refused_total", "Statuses that this proxy itself concluded, by reason.", "direction", "target", "route", "reason")
	callSeconds     = desc("octo_call_seconds", "Time from a call's arrival to its end.", "direction", "target", "route")
	callsParked     = desc("octo_calls_parked", "Calls that wait for an instance, a connection or a stream.", "direction", "target")
	endpoints       = desc("octo_endpoints", "Endpoints of a target: ready, not_ready, or out (disabled, weight 0 or no address).", "target", "state")
	endpointOpen    = desc("octo_endpoint_calls_open", "Calls in flight to an endpoint from this proxy.", "target", "instance")
	endpointCalls   = desc("octo_endpoint_calls_total", "Calls handed to an endpoint, attempts included.", "target", "instance")
	endpointDirects = desc("octo_endpoint_direct_calls_total", "Calls that went to an instance itself, since it has no proxy or that did not answer.", "target", "instance")
	endpointFails   = desc("octo_endpoint_failures_total", "Calls to an endpoint that ended otherwise than by the application's word.", "target", "instance")
	generation      = desc("octo_generation", "Number of the current configuration; 0: none yet.")
	loadedAt        = desc("octo_generation_loaded_timestamp_seconds", "When the current configuration was loaded.")
	policyCalls     = desc("octo_policy_calls_total", "What a policy did, by its rule: refused, would_refuse (a dry run), waited and unanswered_allowed or unanswered_refused (a global rate limit), denied, would_deny (a dry run), delayed, aborted, opened.",
		"direction", "target", "policy", "rule", "outcome")
	breakerState = desc("octo_circuit_breaker_state", "0: closed, 1: open, 2: half open.", "target")
	ejections    = desc("octo_endpoint_ejections_total", "How often an endpoint of the target was ejected.", "target")
	ejected      = desc("octo_endpoints_ejected", "Endpoints of the target that are ejected now.", "target")
	retries      = desc("octo_retries_total", "Attempts beyond a call's first: sent, succeeded (calls that one of them saved), or not made: over_budget, not_kept (the request was too large, or too much is kept), too_late.",
		"target", "outcome")
	mirrored = desc("octo_mirrored_calls_total", "Copies of calls: sent, and of those answered, failed or expired; or not made: unsuited (the request is not one frame), too_many, no_endpoint, not_connected, busy.",
		"target", "route", "outcome")
	strangers = desc("octo_identity_mismatches_total", "Calls that were not handed to an endpoint since who answers there is not whom the target's configuration expects.", "target")
	snapshots = desc("octo_snapshots_total", "Snapshots that came, by result: applied or refused.", "result")
)

// Collector reads the counters of the current generation when a scrape asks for them.
type Collector struct {
	store *store.Store
	extra func(yield func(*route.Target) bool)
	now   func() int64 // nil: unknown
}

// NewCollector returns the collector of a store's counters. Extra yields targets that stand in no
// generation, such as those that local instances serve without a resource; nil: none.
func NewCollector(s *store.Store, extra func(yield func(*route.Target) bool)) *Collector {
	return &Collector{store: s, extra: extra}
}

// Clock sets the proxy's monotonic clock, without which octo_endpoints_ejected is not exposed.
func (c *Collector) Clock(now func() int64) *Collector {
	c.now = now
	return c
}

// Describe implements [prometheus.Collector].
func (c *Collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		callsOpen, callsTotal, callsRefused, callSeconds, callsParked, endpoints, endpointOpen, endpointCalls,
		endpointFails, endpointDirects, generation, loadedAt, snapshots, policyCalls, breakerState, ejections, ejected, retries, mirrored, strangers,
	} {
		out <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	g := c.store.Current()
	gauge(out, generation, float64(g.Number))
	if g.Number > 0 {
		gauge(out, loadedAt, float64(g.Loaded.UnixMilli())/1000)
	}
	applied, refused := c.store.Totals()
	counter(out, snapshots, applied, "applied")
	counter(out, snapshots, refused, "refused")
	collectRoute(out, route.Outbound.String(), "", "", &c.store.Unmatched)
	for t := range g.Table.Targets() {
		collectTarget(out, t)
		c.collectPolicies(out, t)
	}
	if c.extra != nil {
		c.extra(func(t *route.Target) bool {
			// A resource may name it by now, and one metric twice, or one that is not UTF-8, fails the scrape.
			if g.Table.Target(t.Direction, t.Name) == nil && utf8.ValidString(t.Name) {
				collectTarget(out, t)
			}
			return true
		})
	}
	collectEndpoints(out, g.Table)
}

func gauge(out chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func counter(out chan<- prometheus.Metric, d *prometheus.Desc, v uint64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

// collectTarget skips what never counted anything: a proxy knows many targets that it does not call, and
// each has an inbound side that it does not serve.
func collectTarget(out chan<- prometheus.Metric, t *route.Target) {
	direction, used := t.Direction.String(), false
	for _, routes := range [][]*route.Route{t.Routes, t.Former} {
		for _, r := range routes {
			used = collectRoute(out, direction, t.Name, r.Name, r.Calls) || used
		}
	}
	if used {
		gauge(out, callsParked, float64(t.Lot.Len()), direction, t.Name)
	}
}

func collectRoute(out chan<- prometheus.Metric, direction, target, route string, c *meter.Calls) (used bool) {
	var ended uint64
	for code := range int32(meter.Codes) {
		n := c.Ended(code)
		if n == 0 {
			continue
		}
		ended += n
		name := "OTHER"
		if code <= int32(wire.Unauthenticated) {
			name = wire.Code(code).String()
		}
		counter(out, callsTotal, n, direction, target, route, name)
	}
	for reason := range uint32(meter.Reasons) {
		if n := c.Refused(reason); n > 0 {
			counter(out, callsRefused, n, direction, target, route, wire.Reason(reason).String())
			used = true
		}
	}
	if ended == 0 && c.Open() == 0 {
		return used
	}
	gauge(out, callsOpen, float64(c.Open()), direction, target, route)
	out <- telemetry.Histogram(callSeconds, &c.Latency, direction, target, route)
	return true
}

// tally is what octo_endpoints says of one target.
type tally struct {
	ready, notReady, out float64
	strangers            uint64
}

func collectEndpoints(out chan<- prometheus.Metric, table *route.Table) {
	tallies, n := make(map[string]*tally), 0
	for e := range table.Endpoints() {
		t := tallies[e.Target]
		if t == nil {
			t = &tally{}
			tallies[e.Target] = t
		}
		t.count(e)
		if calls := e.Calls.Load(); calls > 0 && n < maxEndpoints {
			n++
			counter(out, endpointCalls, calls, e.Target, e.Instance)
			counter(out, endpointFails, e.Failures.Load(), e.Target, e.Instance)
			if directs := e.Directs.Load(); directs > 0 {
				counter(out, endpointDirects, directs, e.Target, e.Instance)
			}
			gauge(out, endpointOpen, float64(e.Open.Load()), e.Target, e.Instance)
		}
	}
	for target, t := range tallies {
		gauge(out, endpoints, t.ready, target, "ready")
		gauge(out, endpoints, t.notReady, target, "not_ready")
		gauge(out, endpoints, t.out, target, "out")
		if t.strangers > 0 {
			counter(out, strangers, t.strangers, target)
		}
	}
}

func (t *tally) count(e *cluster.Endpoint) {
	t.strangers += e.Strangers.Load()
	switch {
	case !e.InRotation():
		t.out++
	case e.Ready():
		t.ready++
	default:
		t.notReady++
	}
}
