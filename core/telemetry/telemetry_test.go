package telemetry_test

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/octomesh/octomesh/core/telemetry"
	"github.com/octomesh/octomesh/core/telemetry/meter"
)

func TestLogIsOneJSONObjectALine(t *testing.T) {
	var b bytes.Buffer
	log, err := telemetry.NewLogger(&b, "warn")
	if err != nil {
		t.Fatal(err)
	}
	log.Info("hidden")
	log.Warn("shown", "target", "cart")
	var line map[string]any
	if err := json.Unmarshal(b.Bytes(), &line); err != nil || line["msg"] != "shown" || line["target"] != "cart" || line["level"] != "WARN" {
		t.Errorf("%s: %v", b.String(), err)
	}
	for _, level := range []string{"loud", "info+1"} {
		if _, err := telemetry.NewLogger(&b, level); err == nil {
			t.Errorf("level %q was taken", level)
		}
	}
}

func scrape(m *telemetry.Metrics) string {
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

func TestMetricsHoldProcessAndOwnValues(t *testing.T) {
	m := telemetry.NewMetrics("octo-proxy", "0.1.0")
	n := 1.0
	m.Gauge("octo_connections", "Connections.", func() float64 { return n })
	m.Counter("octo_frames_total", "Frames.", func() float64 { return 2 * n })
	n = 7
	text := scrape(m)
	for _, want := range []string{
		`octo_build_info{program="octo-proxy",version="0.1.0"} 1`, "octo_connections 7", "octo_frames_total 14",
		"go_goroutines ", "process_resident_memory_bytes ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in:\n%s", want, text)
		}
	}
}

// latency is a collector of one histogram.
type latency struct{ h meter.Histogram }

var latencyDesc = prometheus.NewDesc("octo_test_seconds", "Test.", []string{"target"}, nil)

func (l *latency) Describe(out chan<- *prometheus.Desc) { out <- latencyDesc }
func (l *latency) Collect(out chan<- prometheus.Metric) {
	out <- telemetry.Histogram(latencyDesc, &l.h, "cart")
}

func TestHistogramIsCumulativeAndInSeconds(t *testing.T) {
	l := &latency{}
	for _, d := range []time.Duration{0, time.Microsecond, 3 * time.Millisecond, time.Hour} {
		l.h.Observe(d)
	}
	m := telemetry.NewMetrics("p", "v")
	m.Add(l)
	text := scrape(m)
	for _, want := range []string{
		`octo_test_seconds_bucket{target="cart",le="1e-06"} 1`, `octo_test_seconds_bucket{target="cart",le="2e-06"} 2`,
		`octo_test_seconds_bucket{target="cart",le="0.002048"} 2`, `octo_test_seconds_bucket{target="cart",le="0.004096"} 3`,
		`octo_test_seconds_bucket{target="cart",le="67.108864"} 3`, `octo_test_seconds_bucket{target="cart",le="+Inf"} 4`,
		`octo_test_seconds_sum{target="cart"} 3600.003001`, `octo_test_seconds_count{target="cart"} 4`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s in:\n%s", want, text)
		}
	}
}
