package main

import (
	"slices"

	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
)

// lane is the one that there is, and inLane ends the names of its instances.
const (
	lane   = "gray"
	inLane = "-" + lane
)

// serveLane starts the instance of an end that carries the lane, if the world has one.
func (w *world) serveLane(name string, e *end, binary string) (err error) {
	if !w.hasLane(name) {
		return nil
	}
	i := &instance{}
	e.lane = i
	if e.proxy != nil {
		if i.proxy, err = startProxy(w.dir, name+inLane+"-proxy", binary, proxyOptions{bootstrap: w.proxyLines(name, name+inLane)}); err != nil {
			return err
		}
	}
	i.address, err = w.serve(name+inLane, name, e.testee, i.proxy)
	return err
}

func (w *world) hasLane(name string) bool {
	s := conformancev1.Side_SIDE_CLIENT
	if name == serverEnd {
		s = conformancev1.Side_SIDE_SERVER
	}
	return slices.Contains(w.lanes, s)
}

// server is the instance that a call from an end reaches: only a proxy knows of lanes.
func (w *world) server(caller, tag string) string {
	callee := other(caller)
	if tag == lane && meshed(w.topology, caller) && w.hasLane(callee) {
		return callee + inLane
	}
	return callee
}

// laneOf is what the baggage of a call says.
func laneOf(c *conformancev1.Case) string {
	for _, e := range c.Options.GetBaggage() {
		if e.Key == "lane" {
			return string(e.Value)
		}
	}
	return ""
}

// proxies are those of an end that run.
func (e *end) proxies() []*proxy {
	var all []*proxy
	if e.proxy != nil {
		all = append(all, e.proxy)
	}
	if e.lane != nil && e.lane.proxy != nil {
		all = append(all, e.lane.proxy)
	}
	return all
}

// reachedAt is where proxies find an instance.
func (w *world) reachedAt(name string, p *proxy, address string) string {
	if p != nil {
		return w.tap(p.inbound, "to "+p.name)
	}
	return w.tap(address, "to "+name)
}
