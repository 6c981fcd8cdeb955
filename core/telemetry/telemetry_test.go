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

func scrapeOpen(t *testing.T, m *telemetry.Metrics) string {
	t.Helper()
	w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/metrics", nil)
	r.Header.Set("Accept", "application/openmetrics-text; version=1.0.0; q=0.9, text/plain; q=0.5")
	m.Handler().ServeHTTP(w, r)
	if got := w.Header().Get("Content-Type"); !strings.HasPrefix(got, "application/openmetrics-text; version=1.0.0") {
		t.Fatalf("content type %s", got)
	}
	return w.Body.String()
}

// TestExemplarsStandInOpenMetrics: beside the bucket that counts their call, and not in Prometheus' own format.
func TestExemplarsStandInOpenMetrics(t *testing.T) {
	l := &latency{}
	at := time.Unix(1_700_000_000, 500_000_000)
	for i, took := range []time.Duration{3 * time.Millisecond, 3500 * time.Microsecond, time.Hour} {
		l.h.Observe(took)
		l.h.Exemplify(meter.Exemplar{Took: took, At: at, Trace: [16]byte{15: byte(i + 1)}, Span: [8]byte{7: byte(i + 1)}})
	}
	m := telemetry.NewMetrics("p", "v")
	m.Add(l)
	text := scrapeOpen(t, m)
	for _, want := range []struct{ bucket, trace, span, value string }{
		{`le="0.004096"} 2`, `trace_id="00000000000000000000000000000002"`, `span_id="0000000000000002"`, "0.0035 1.7000000005e+09"},
		{`le="+Inf"} 3`, `trace_id="00000000000000000000000000000003"`, `span_id="0000000000000003"`, "3600.0 1.7000000005e+09"},
	} {
		found := false
		for line := range strings.Lines(text) { // the labels of an exemplar come in any order
			found = found || strings.HasPrefix(line, `octo_test_seconds_bucket{target="cart",`+want.bucket+" # {") && strings.Contains(line, want.trace) &&
				strings.Contains(line, want.span) && strings.HasSuffix(line, "} "+want.value+"\n")
		}
		if !found {
			t.Errorf("no %v in:\n%s", want, text)
		}
	}
	if strings.Contains(scrape(m), "trace_id") {
		t.Error("exemplars stand in the plain format too")
	}
}

// TestOpenMetricsNamesEachFamilyOnce, as its specification wants: with all samples behind the family's own
// lines.
func TestOpenMetricsNamesEachFamilyOnce(t *testing.T) {
	text, seen := scrapeOpen(t, telemetry.NewMetrics("p", "v")), map[string]bool{}
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(line, "# TYPE "); ok {
			name, _, _ = strings.Cut(name, " ")
			if seen[name] {
				t.Errorf("family %s comes twice", name)
			}
			seen[name] = true
		}
	}
	if len(seen) < 10 || !strings.HasSuffix(text, "# EOF\n") {
		t.Errorf("%d families, and the end is %q", len(seen), text[len(text)-20:])
	}
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
