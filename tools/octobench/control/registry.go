package control

import (
	"fmt"
	"time"
)

// registries measures a large registry: loading it, what it takes, and how long a change is under way.
func registries(o *options) ([]Table, error) {
	d, first, err := o.started(setup{Kind: "dispatcher", Targets: o.targets, Total: o.total, StartsPerSecond: o.startsPerSecond}, "dispatcher")
	if err != nil {
		return nil, err
	}
	defer d.stop()
	p, pilot, err := o.started(setup{Kind: "registry-pilot", Address: first.Address, Targets: o.targets, Total: o.total}, "registry-pilot")
	if err != nil {
		return nil, err
	}
	defer p.stop()
	o.say("  the Pilot asks for %d targets of %d instances", o.targets, o.total)
	loaded, err := p.do(order{Do: "load"})
	if err != nil {
		return nil, err
	}
	load, err := o.loadTable(d, p, loaded)
	if err != nil {
		return nil, err
	}
	o.say("  %d streams follow targets that change", o.watchers)
	change, err := o.underWay(d, p, pilot.Address)
	return []Table{load, change}, err
}

func (o *options) loadTable(d, p *child, loaded report) (Table, error) {
	t := Table{
		Title: fmt.Sprintf("A registry of %d targets with %d instances", o.targets, o.total),
		Notes: []string{
			"a Dispatcher over a registry that makes up what it has, and a Pilot that asks it for all targets at once: two processes, over TCP",
			fmt.Sprintf("the largest target has %d instances, the median one %d", sizes(o.targets, o.total)[0], sizes(o.targets, o.total)[o.targets/2]),
			fmt.Sprintf("the Dispatcher may begin %.0f watches a second here; it ships with 1,000, to spare registries: so many targets take %.0f s at least then", o.startsPerSecond, float64(o.targets)/1000),
			"watches are counted in the registry",
		},
		Heads: []string{"process", "loaded after s", "CPU s", "resident MiB", "peak MiB", "collected MiB", "bytes an instance", "watches", "of one key at most"},
	}
	for _, c := range []*child{d, p} {
		r, err := c.do(order{Do: "look"})
		if err != nil {
			return t, err
		}
		collected, err := c.do(order{Do: "collected"})
		if err != nil {
			return t, err
		}
		row := []any{"Dispatcher", loaded.Elapsed.Seconds(), r.CPU.Seconds(), mb(r.Memory.Resident), mb(r.Memory.Peak), mb(collected.Memory.Resident),
			float64(collected.Memory.Resident) / float64(o.total), r.Counts["watches"], r.Counts["most of one key"]}
		if c == p {
			row[0], row[7], row[8] = "Pilot", "", ""
		} else {
			t.gate(float64(r.Counts["most of one key"]), 1, "watches of one key")
			t.gate(float64(r.Counts["starts"]), float64(o.targets), "watches for %d targets", o.targets)
		}
		t.Rows = append(t.Rows, row)
		o.say("  %s: %.0f MiB, %.0f at the peak, %.0f collected", row[0], mb(r.Memory.Resident), mb(r.Memory.Peak), mb(collected.Memory.Resident))
	}
	return t, nil
}

// underWay measures from a registry's change to the last of many subscribers.
func (o *options) underWay(d, p *child, address string) (Table, error) {
	t := Table{
		Title: fmt.Sprintf("From a registry's change to the last of its subscribers, among %d instances", o.total),
		Notes: []string{
			fmt.Sprintf("%d changes, one after the other, of one instance each: from the registry's event through Dispatcher, Pilot and the network to a client that has decoded it; each subscriber has its connection", o.changes),
		},
		Heads: []string{"target's instances", "subscribers", "p50 ms", "p90 ms", "p99 ms", "last ms, median", "last ms, at most"},
	}
	all := sizes(o.targets, o.total)
	for _, target := range []follow{{registryTarget(o.targets / 2), o.watchers, all[o.targets/2]}, {registryTarget(0), max(1, o.watchers/10), all[0]}} {
		client, _, err := o.started(setup{Kind: "client", Address: address, Streams: target.Streams, Connections: target.Streams, Topics: []follow{target}}, "client")
		if err != nil {
			return t, err
		}
		row, err := o.changeEach(d, p, client, target)
		client.stop()
		if err != nil {
			return t, err
		}
		t.Rows = append(t.Rows, row)
	}
	return t, nil
}

func (o *options) changeEach(d, p, client *child, target follow) ([]any, error) {
	var last, each latencies
	for range o.changes {
		if _, err := p.do(order{Do: "expect", Wait: target.Streams}); err != nil {
			return nil, err
		}
		if _, err := d.do(order{Do: "change", Target: target.Target}); err != nil {
			return nil, err
		}
		if _, err := p.do(order{Do: "await"}); err != nil {
			return nil, err
		}
		seen, err := client.do(order{Do: "each"})
		if err != nil {
			return nil, err
		}
		if seen.Times != target.Streams {
			return nil, fmt.Errorf("a change came to %d of %d subscribers", seen.Times, target.Streams)
		}
		last, each = append(last, seen.Max), append(each, seen.Each...)
	}
	var r, l report
	r.quantiles(each)
	l.quantiles(last)
	return []any{target.Instances, target.Streams, ms(r.P50), ms(r.P90), ms(r.P99), ms(l.P50), ms(l.Max)}, nil
}

type latencies []time.Duration
