package admin

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/octomesh/octomesh/core/proxy/register"
	"github.com/octomesh/octomesh/core/proxy/tap"
)

var (
	spans       = desc("octo_spans_total", "Spans of sampled calls, by result: exported, failed (the collector did not take them), dropped (the queue was full).", "result")
	spansQueued = desc("octo_spans_queued", "Spans that wait to be exported.")
	lines       = desc("octo_access_log_lines_total",
		"Calls chosen for the access log, by result: written, lost (the file did not take them), dropped (the queue was full), suppressed (failures beyond the rate).", "result")
	linesQueued = desc("octo_access_log_lines_queued", "Lines that wait to be written to the access log.")
)

// telemetryCollector says what telemetry itself has done. What is off is absent.
type telemetryCollector struct{ status func() tap.Status }

// NewTelemetryCollector returns the collector of what a tap has done.
func NewTelemetryCollector(status func() tap.Status) prometheus.Collector {
	return telemetryCollector{status}
}

// Describe implements [prometheus.Collector].
func (telemetryCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{spans, spansQueued, lines, linesQueued} {
		out <- d
	}
}

// Collect implements [prometheus.Collector].
func (c telemetryCollector) Collect(out chan<- prometheus.Metric) {
	s := c.status()
	if e := s.Spans; e != nil {
		counter(out, spans, e.Exported, "exported")
		counter(out, spans, e.Failed, "failed")
		counter(out, spans, e.Dropped, "dropped")
		gauge(out, spansQueued, float64(e.Queued))
	}
	if l := s.AccessLog; l != nil {
		counter(out, lines, l.Written, "written")
		counter(out, lines, l.Lost, "lost")
		counter(out, lines, l.Dropped, "dropped")
		counter(out, lines, l.Suppressed, "suppressed")
		gauge(out, linesQueued, float64(l.Queued))
	}
}

func (a *handler) telemetry(w http.ResponseWriter, _ *http.Request) {
	status := tap.Status{}
	if a.cfg.Telemetry != nil {
		status = a.cfg.Telemetry()
	}
	reply(w, http.StatusOK, status)
}

func (a *handler) registrations(w http.ResponseWriter, _ *http.Request) {
	status := register.Report{Registrations: []register.Registered{}}
	if a.cfg.Registrations != nil {
		if status = a.cfg.Registrations(); status.Registrations == nil {
			status.Registrations = []register.Registered{}
		}
	}
	reply(w, http.StatusOK, status)
}
