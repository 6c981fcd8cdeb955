package directory

import "github.com/prometheus/client_golang/prometheus"

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, labels, nil)
}

var (
	streamsOpen   = desc("octo_directory_streams_open", "Streams that are open, by kind: watch or register.", "kind")
	snapshotsSent = desc("octo_directory_snapshots_total", "Snapshots of targets that were sent.")
	reportsTaken  = desc("octo_directory_reports_total", "Reports of SDKs that were taken.")
	turnedAway    = desc("octo_directory_turned_away_total", "Streams that were refused with a time after which to come again.")
	wrongCalls    = desc("octo_directory_refused_total", "Calls that were refused for what they ask.")
)

// Describe implements prometheus.Collector.
func (s *Service) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		streamsOpen, snapshotsSent, reportsTaken, turnedAway, wrongCalls,
	} {
		out <- d
	}
	if s.ownBook {
		s.cfg.Book.Describe(out)
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
	if s.ownBook {
		s.cfg.Book.Collect(out)
	}
}
