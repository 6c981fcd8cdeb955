package telemetry

import (
	"encoding/hex"
	"net/http"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/octomesh/octomesh/core/telemetry/meter"
)

// Metrics gathers what a process exposes.
type Metrics struct{ registry *prometheus.Registry }

// NewMetrics returns metrics that hold the Go runtime's and the process' own, and octo_build_info with the
// program's name and version.
func NewMetrics(program, version string) *Metrics {
	m := &Metrics{prometheus.NewRegistry()}
	m.Add(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "octo_build_info", Help: "Program and version; always 1.",
			ConstLabels: prometheus.Labels{"program": program, "version": version},
		}, func() float64 { return 1 }))
	return m
}

// Add adds collectors. A name that is there already is a mistake in the program, and panics.
func (m *Metrics) Add(c ...prometheus.Collector) { m.registry.MustRegister(c...) }

// Gauge adds a value that is read at each scrape, and may go up and down.
func (m *Metrics) Gauge(name, help string, value func() float64) {
	m.Add(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value))
}

// Counter adds a value that is read at each scrape, and only grows.
func (m *Metrics) Counter(name, help string, value func() float64) {
	m.Add(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, value))
}

// Handler serves the metrics: in Prometheus' text format, or in OpenMetrics' where the Accept header asks for
// it. Only OpenMetrics has room for exemplars.
func (m *Metrics) Handler() http.Handler {
	plain := promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
	open := promhttp.HandlerFor(prometheus.GathererFunc(m.gatherOpen), promhttp.HandlerOpts{EnableOpenMetrics: true})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if expfmt.NegotiateIncludingOpenMetrics(r.Header).FormatType() == expfmt.TypeOpenMetrics {
			open.ServeHTTP(w, r)
			return
		}
		plain.ServeHTTP(w, r)
	})
}

// gatherOpen gathers what OpenMetrics can say. There a counter's family goes without its "_total", so that one of
// Go's own would be the family of a gauge again, and a strict parser would refuse all of it.
func (m *Metrics) gatherOpen() ([]*dto.MetricFamily, error) {
	all, err := m.registry.Gather()
	return slices.DeleteFunc(all, func(f *dto.MetricFamily) bool { return f.GetName() == "go_memstats_alloc_bytes_total" }), err
}

// Histogram makes a metric of a meter's histogram, in seconds, with the histogram's exemplars.
func Histogram(desc *prometheus.Desc, h *meter.Histogram, labels ...string) prometheus.Metric {
	counts, sum := h.Read()
	buckets := make(map[float64]uint64, meter.Buckets-1)
	var total uint64
	for i, n := range counts {
		total += n
		if bound := meter.Bound(i); bound > 0 {
			buckets[bound.Seconds()] = total
		}
	}
	m := prometheus.MustNewConstHistogram(desc, total, sum.Seconds(), buckets, labels...)
	var exemplars []prometheus.Exemplar
	for _, e := range h.Exemplars() {
		exemplars = append(exemplars, prometheus.Exemplar{
			Value: e.Took.Seconds(), Timestamp: e.At,
			Labels: prometheus.Labels{"trace_id": hex.EncodeToString(e.Trace[:]), "span_id": hex.EncodeToString(e.Span[:])},
		})
	}
	if len(exemplars) == 0 {
		return m
	}
	return prometheus.MustNewMetricWithExemplars(m, exemplars...)
}
