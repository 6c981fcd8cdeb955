package directory

import (
	"strconv"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/octomesh/octomesh/core/wire"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	streamsOpen   = desc("octo_directory_streams_open", "Streams that are open, by kind: watch or register.", "kind")
	snapshotsSent = desc("octo_directory_snapshots_total", "Snapshots of targets that were sent.")
	reportsTaken  = desc("octo_directory_reports_total", "Reports of SDKs that were taken.")
	turnedAway    = desc("octo_directory_turned_away_total", "Streams that were refused with a time after which to come again.")
	wrongCalls    = desc("octo_directory_refused_total", "Calls that were refused for what they ask.")
	reported      = desc("octo_reported_calls_total", "Calls as SDKs counted them, by path: mesh or direct.", "application", "target", "path")
	saved         = desc("octo_reported_saved_calls_total", "Calls that a fallback saved: failures of the path that they left.", "application", "target", "path")
	failed        = desc("octo_reported_errors_total", "Calls that ended with an error, as SDKs counted them, by code and by who concluded it.", "application", "target", "path", "code", "origin")
	took          = desc("octo_reported_call_seconds", "How long calls took, as SDKs measured it.", "application", "target", "path")
	unsummed      = desc("octo_reported_dropped_calls_total", "Calls that are in no sum: too many applications and targets were reported.")
)

// Describe implements prometheus.Collector.
func (s *Service) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		streamsOpen, snapshotsSent, reportsTaken, turnedAway, wrongCalls, reported, saved, failed, took, unsummed,
	} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (s *Service) Collect(out chan<- prometheus.Metric) {
	st := s.Stats()
	gauge := func(d *prometheus.Desc, v int64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(streamsOpen, st.Watches, "watch")
	gauge(streamsOpen, st.Registrations, "register")
	count(snapshotsSent, st.Snapshots)
	count(reportsTaken, st.Reports)
	count(turnedAway, st.TurnedAway)
	count(wrongCalls, st.Refused)
	s.sums.mu.Lock()
	defer s.sums.mu.Unlock()
	count(unsummed, s.sums.dropped)
	for k, t := range s.sums.all {
		if !utf8.ValidString(k.application) || !utf8.ValidString(k.target) {
			continue
		}
		path := pathName(k.path)
		count(reported, t.calls, k.application, k.target, path)
		count(saved, t.saved, k.application, k.target, path)
		for e, n := range t.errors {
			count(failed, n, k.application, k.target, path, wire.Code(e.code).String(), originName(e.origin))
		}
		out <- t.histogram(k, path)
	}
}

func pathName(p directoryv1.PathReport_Path) string {
	switch p {
	case directoryv1.PathReport_PATH_MESH:
		return "mesh"
	case directoryv1.PathReport_PATH_DIRECT:
		return "direct"
	}
	return strconv.Itoa(int(p))
}

func originName(o int32) string {
	if o < 0 || o > 255 {
		return strconv.Itoa(int(o))
	}
	return wire.Origin(o).String()
}

// histogram is the latency. The sum of times is not reported; the middles of the buckets stand in for it.
func (t *sum) histogram(k sumKey, path string) prometheus.Metric {
	buckets := make(map[float64]uint64, latencyBuckets)
	var n uint64
	var seconds float64
	for i, c := range t.latency {
		n += c
		upper := float64(uint64(1)<<i) / 1e6
		seconds += float64(c) * upper * 0.75
		if i < latencyBuckets-1 {
			buckets[upper] = n
		}
	}
	return prometheus.MustNewConstHistogram(took, n, seconds, buckets, k.application, k.target, path)
}
