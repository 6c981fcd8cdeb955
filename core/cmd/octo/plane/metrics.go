package plane

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/octomesh/octomesh/core/directory"
	"github.com/octomesh/octomesh/core/dispatcher"
	"github.com/octomesh/octomesh/core/dispatcher/hub"
	"github.com/octomesh/octomesh/core/dispatcher/registrar"
	"github.com/octomesh/octomesh/core/pilot"
)

// family is the metrics of one part, whose counts are read once for each scrape.
type family[S any] struct {
	read   func() S
	values []value[S]
}

// value is one metric.
type value[S any] struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(S) float64
}

// Describe implements prometheus.Collector.
func (f family[S]) Describe(out chan<- *prometheus.Desc) {
	for _, v := range f.values {
		out <- v.desc
	}
}

// Collect implements prometheus.Collector.
func (f family[S]) Collect(out chan<- prometheus.Metric) {
	s := f.read()
	for _, v := range f.values {
		out <- prometheus.MustNewConstMetric(v.desc, v.kind, v.of(s))
	}
}

// named makes metrics whose names begin alike.
func named[S any, N int | uint64](prefix string) (gauge, counter func(name, help string, of func(S) N) value[S]) {
	add := func(name, help string, kind prometheus.ValueType, of func(S) N) value[S] {
		return value[S]{prometheus.NewDesc(prefix+name, help, nil, nil), kind, func(s S) float64 { return float64(of(s)) }}
	}
	gauge = func(name, help string, of func(S) N) value[S] { return add(name, help, prometheus.GaugeValue, of) }
	counter = func(name, help string, of func(S) N) value[S] {
		return add(name+"_total", help, prometheus.CounterValue, of)
	}
	return gauge, counter
}

func registrationMetrics(d *dispatcher.Server) prometheus.Collector {
	gauge, _ := named[registrar.Stats, int]("octo_dispatcher_")
	_, counter := named[registrar.Stats, uint64]("octo_dispatcher_")
	return family[registrar.Stats]{d.Registrations, []value[registrar.Stats]{
		gauge("instances", "Instances that are registered here.", func(s registrar.Stats) int { return s.Instances }),
		gauge("instances_orphaned", "Those of them whose Pilot was lost and that nobody has taken over yet.", func(s registrar.Stats) int { return s.Orphans }),
		gauge("publish_streams", "Pilots that register instances here.", func(s registrar.Stats) int { return s.Streams }),
		gauge("registrations_waiting", "Changes that registries have yet to take.", func(s registrar.Stats) int { return s.Waiting }),
		counter("registrations", "Registrations that registries took, and changes of them.", func(s registrar.Stats) uint64 { return s.Registered }),
		counter("registrations_ended", "Registrations that ended.", func(s registrar.Stats) uint64 { return s.Ended }),
		counter("registrations_superseded", "Registrations that a newer or later one ended.", func(s registrar.Stats) uint64 { return s.Superseded }),
		counter("registrations_lost", "Registrations that a registry lost, or that somebody else took.", func(s registrar.Stats) uint64 { return s.Lost }),
		counter("registrations_failed", "Changes that a registry did not take.", func(s registrar.Stats) uint64 { return s.Failures }),
	}}
}

func hubMetrics(h *hub.Hub) prometheus.Collector {
	gauge, counter := named[hub.Stats, int]("octo_dispatcher_")
	return family[hub.Stats]{h.Stats, []value[hub.Stats]{
		gauge("keys", "Targets that are followed, or were until a moment ago.", func(s hub.Stats) int { return s.Keys }),
		gauge("subscriptions", "Followings of targets by Pilots.", func(s hub.Stats) int { return s.Subscriptions }),
		gauge("watches", "Watches that registries were asked for and that have not ended.", func(s hub.Stats) int { return s.Watches }),
		gauge("watches_of_one_key_max", "Watches of one key at once, ever; more than 1 is a bug.", func(s hub.Stats) int { return s.MostOfOneKey }),
		gauge("watches_waiting", "Watches that may not begin yet.", func(s hub.Stats) int { return s.Waiting }),
		gauge("watches_starting", "Watches that wait for their first full set.", func(s hub.Stats) int { return s.Starting }),
		gauge("breakers_open", "Registries whose breaker is open.", func(s hub.Stats) int { return s.OpenBreakers }),
		counter("watches_started", "Watches begun.", func(s hub.Stats) int { return s.Starts }),
		counter("watches_failed", "Watches that ended before their first full set.", func(s hub.Stats) int { return s.Failures }),
		counter("watches_lost", "Watches that ended after it.", func(s hub.Stats) int { return s.Losses }),
		counter("removals_held", "Removals that the shrink guard held.", func(s hub.Stats) int { return s.Held }),
		counter("entries_refused", "Entries of registries that could not be used.", func(s hub.Stats) int { return s.Refused }),
		counter("breaker_opens", "Times that a registry's breaker opened.", func(s hub.Stats) int { return s.BreakerOpens }),
	}}
}

func pilotMetrics(p *pilot.Pilot) prometheus.Collector {
	gauge, counter := named[pilot.Stats, uint64]("octo_pilot_")
	return family[pilot.Stats]{p.Stats, []value[pilot.Stats]{
		gauge("nodes", "Proxies that have a control stream.", func(s pilot.Stats) uint64 { return uint64(s.Node.Nodes) }),
		gauge("instances", "Instances that proxies have registered here.", func(s pilot.Stats) uint64 { return uint64(s.Node.Instances) }),
		gauge("instances_orphaned", "Those of them whose proxy is not heard of.", func(s pilot.Stats) uint64 { return uint64(s.Node.Orphans) }),
		gauge("registrations_waiting", "Instances of which the Dispatcher is yet to be told.", func(s pilot.Stats) uint64 { return uint64(s.Node.Waiting) }),
		counter("node_words", "What proxies have said on control streams.", func(s pilot.Stats) uint64 { return s.Node.Words }),
		counter("node_words_slowed", "Of that, what had to wait because a proxy said too much.", func(s pilot.Stats) uint64 { return s.Node.Slowed }),
		counter("registrations_superseded", "Registrations that another proxy's has ended.", func(s pilot.Stats) uint64 { return s.Node.Superseded }),
		counter("registrations_silent", "Registrations that ended because their proxy was not heard of any more.", func(s pilot.Stats) uint64 { return s.Node.Silent }),
		counter("reports", "Reports of SDKs.", func(s pilot.Stats) uint64 { return s.Node.Reports }),
		counter("anomalies_unreachable", "Times that proxies could not connect to an endpoint.", func(s pilot.Stats) uint64 { return s.Node.Unreachable }),
		counter("anomalies_ejected", "Times that proxies ejected an endpoint.", func(s pilot.Stats) uint64 { return s.Node.Ejected }),
		counter("anomalies_identity", "Times that somebody else answered at an endpoint's address.", func(s pilot.Stats) uint64 { return s.Node.Identity }),
		gauge("streams", "Proxies' discovery streams that are open.", func(s pilot.Stats) uint64 { return uint64(s.Push.Streams) }),
		gauge("stock_streams", "Those of them that are of stock xDS clients.", func(s pilot.Stats) uint64 { return uint64(s.Push.Stock) }),
		gauge("derived", "Topics that are derived for stock xDS clients.", func(s pilot.Stats) uint64 { return uint64(s.Derive.Topics) }),
		counter("derivations", "Times that one of them was made.", func(s pilot.Stats) uint64 { return s.Derive.Times }),
		gauge("topics", "Topics that are kept.", func(s pilot.Stats) uint64 { return uint64(s.Topics) }),
		gauge("followings", "Followings of topics by proxies.", func(s pilot.Stats) uint64 { return uint64(s.Followings) }),
		gauge("targets", "Targets that are followed at the Dispatcher.", func(s pilot.Stats) uint64 { return uint64(s.Targets) }),
		counter("responses", "Responses sent.", func(s pilot.Stats) uint64 { return s.Push.Responses }),
		counter("resources", "Resources in them.", func(s pilot.Stats) uint64 { return s.Push.Resources }),
		counter("removals", "Removals in them.", func(s pilot.Stats) uint64 { return s.Push.Removed }),
		counter("bytes", "Bytes of them.", func(s pilot.Stats) uint64 { return s.Push.Bytes }),
		counter("refusals", "Responses that a proxy did not take.", func(s pilot.Stats) uint64 { return s.Push.Refusals }),
		counter("stock_refusals", "Those of them that were of stock xDS clients.", func(s pilot.Stats) uint64 { return s.Push.StockRefusals }),
		counter("turned_away", "Streams that were not admitted.", func(s pilot.Stats) uint64 { return s.Push.TurnedAway }),
		gauge("streams_behind", "Streams whose proxy has not acknowledged all that it is to be told.", func(s pilot.Stats) uint64 { return uint64(s.Push.Behind) }),
		gauge("unacknowledged_bytes", "Bytes of responses that are not acknowledged. Streams share them where they are told the same.", func(s pilot.Stats) uint64 { return uint64(s.Push.OpenBytes) }),
		gauge("unacknowledged_bytes_of_one_max", "The most of them that ever waited for one stream; more than 1 MiB only for one resource that has more.", func(s pilot.Stats) uint64 { return uint64(s.Push.Largest) }),
		gauge("changes_merged", "Changes that the open streams were not told, since a newer one of the same resource came before.", func(s pilot.Stats) uint64 { return s.Push.Coalesced }),
		gauge("callers", "Proxies that have streams, or had some a moment ago.", func(s pilot.Stats) uint64 { return uint64(s.Callers.Known) }),
		counter("strangers", "Streams whose caller was not whom it said to be.", func(s pilot.Stats) uint64 { return s.Callers.Strangers }),
		counter("callers_limited", "Streams that were refused for a limit of their caller's.", func(s pilot.Stats) uint64 { return s.Callers.Turned }),
		counter("overdue", "Streams that were ended for their silence.", func(s pilot.Stats) uint64 { return s.Push.Overdue }),
	}}
}

func directoryMetrics(d *directories) prometheus.Collector {
	gauge, _ := named[directory.Stats, int]("octo_directory_")
	_, counter := named[directory.Stats, uint64]("octo_directory_")
	return family[directory.Stats]{d.stats, []value[directory.Stats]{
		gauge("watches", "Streams that follow a target.", func(s directory.Stats) int { return int(s.Watches) }),
		gauge("registrations", "Streams that register an instance.", func(s directory.Stats) int { return int(s.Registrations) }),
		counter("snapshots", "Snapshots sent.", func(s directory.Stats) uint64 { return s.Snapshots }),
		counter("reports", "Reports of SDKs.", func(s directory.Stats) uint64 { return s.Reports }),
		counter("turned_away", "Calls that a limit turned away.", func(s directory.Stats) uint64 { return s.TurnedAway }),
		counter("refused", "Calls that asked for what cannot be.", func(s directory.Stats) uint64 { return s.Refused }),
	}}
}
