package report

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/octomesh/octomesh/core/wire"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	calls    = desc("octo_reported_calls_total", "Calls as SDKs counted them, by path: mesh or direct.", "environment", "application", "target", "path")
	saved    = desc("octo_reported_saved_calls_total", "Calls that a fallback saved: failures of the path that they left.", "environment", "application", "target", "path")
	failed   = desc("octo_reported_errors_total", "Calls that ended with an error, as SDKs counted them, by code and by who concluded it.", "environment", "application", "target", "path", "code", "origin")
	took     = desc("octo_reported_call_seconds", "How long calls took, as SDKs measured it.", "environment", "application", "target", "path")
	unsummed = desc("octo_reported_dropped_calls_total", "Calls that are in no sum: too many applications and targets were reported.")
)

// Describe implements prometheus.Collector.
func (b *Book) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{calls, saved, failed, took, unsummed} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (b *Book) Collect(out chan<- prometheus.Metric) {
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	all, dropped := b.Sums()
	count(unsummed, dropped)
	for k, c := range all {
		of := []string{k.Environment, k.Application, k.Target, PathName(k.Path)}
		count(calls, c.Calls, of...)
		count(saved, c.Saved, of...)
		for _, e := range c.Errors {
			count(failed, e.Count, append(of, wire.Code(e.Code).String(), OriginName(e.Origin))...)
		}
		out <- c.histogram(of)
	}
}

// PathName is how people write a path.
func PathName(p directoryv1.PathReport_Path) string {
	switch p {
	case directoryv1.PathReport_PATH_MESH:
		return "mesh"
	case directoryv1.PathReport_PATH_DIRECT:
		return "direct"
	}
	return strconv.Itoa(int(p))
}

// OriginName is who concluded an error.
func OriginName(o int32) string {
	if o < 0 || o > 255 {
		return strconv.Itoa(int(o))
	}
	return wire.Origin(o).String()
}

// histogram is the latency. The sum of times is not reported; the middles of the buckets stand in for it.
func (c *Cell) histogram(labels []string) prometheus.Metric {
	buckets := make(map[float64]uint64, Buckets)
	var n uint64
	var seconds float64
	for i, count := range c.Latency {
		n += count
		upper := Upper(i).Seconds()
		seconds += float64(count) * upper * 0.75
		if i < Buckets-1 {
			buckets[upper] = n
		}
	}
	return prometheus.MustNewConstHistogram(took, n, seconds, buckets, labels...)
}
