package route_test

import (
	"testing"

	"github.com/octomesh/octomesh/core/proxy/route"
	"github.com/octomesh/octomesh/core/wire"
)

const laned = `
endpoints:
- {target: cart, instance: base1, mesh_address: "h:1"}
- {target: cart, instance: base2, mesh_address: "h:2", tags: {version: "2"}}
- {target: cart, instance: blue1, mesh_address: "h:3", tags: {lane: blue}}
- {target: cart, instance: blue2, mesh_address: "h:4", tags: {lane: blue, version: "2"}}
- {target: cart, instance: green, mesh_address: "h:5", tags: {lane: green}}
- {target: cart, instance: red, mesh_address: "h:6", tags: {lane: red}, disabled: true}
- {target: stock, instance: s1, mesh_address: "h:7"}
- {target: only, instance: o1, mesh_address: "h:8", tags: {lane: blue}}
policies:
- target: cart
  routes:
  - {name: two, match: {method: Two}, destinations: [{subset: {version: "2"}}]}
  - {name: told, match: {method: Told}, destinations: [{subset: {lane: green}}]}
`

func TestCallsStayInTheirLaneWhereItExists(t *testing.T) {
	table := compile(t, nil, laned)
	for _, c := range []struct{ target, method, baggage, hop, want string }{
		{"cart", "Get", "", "", "base1 base2"},
		{"cart", "Get", "blue", "", "blue1 blue2"},
		{"cart", "Get", "green", "", "green"},
		{"cart", "Get", "", "green", "green"},
		{"cart", "Get", "blue", "green", "green"}, // a hop's word is the last
		{"cart", "Get", "red", "", "base1 base2"}, // out of rotation
		{"cart", "Get", "yellow", "", "base1 base2"},
		{"cart", "Two", "", "", "base2"},
		{"cart", "Two", "blue", "", "blue2"},
		{"cart", "Two", "green", "", "base2"},
		{"cart", "Told", "blue", "", "green"},
		{"cart", "Told", "", "", "green"},
		{"stock", "Get", "blue", "", "s1"},
		{"only", "Get", "blue", "", "o1"},
		{"only", "Get", "green", "", ""},
		{"only", "Get", "", "", ""},
	} {
		h := head(c.target, "s", c.method)
		h.Lane = []byte(c.hop)
		if c.baggage != "" {
			h = tagged(h, "user", "7", "lane", c.baggage)
		}
		d, _ := table.Match(h, nil)
		got := map[string]bool{}
		for range 100 {
			if e := d.Pick(h, 1, nil); e != nil {
				got[e.Instance] = true
			}
		}
		if names := sortedNames(got); names != c.want {
			t.Errorf("%s/%s lane %q, hop %q: went to %q, want %q", c.target, c.method, c.baggage, c.hop, names, c.want)
		}
	}
}

const shared = `
endpoints:
- {target: cart, instance: a, mesh_address: "h:1", zone: near}
- {target: cart, instance: b, mesh_address: "h:2", zone: far}
- {target: front, instance: f, mesh_address: "h:3"}
policies:
- target: cart
  balancing: {locality_first: true}
  outlier_ejection: {consecutive_failures: 1, max_ejected_percent: 50}
- target: front
  routes: [{name: on, destinations: [{target: cart}]}]
`

func TestSharingIsTheDestinationsWhoeverRoutesThere(t *testing.T) {
	table := compileIn(t, "near", nil, shared)
	h := head("front", "s", "m")
	d, _ := table.Match(h, nil)
	for range 100 {
		if e := d.Pick(h, 1, nil); e.Instance != "a" {
			t.Fatalf("picked %s, not the one of the zone", e.Instance)
		}
	}
	lost := wire.Refuse(wire.ReasonConnectionLost, wire.OriginClientProxy, "")
	d.Ended(find(table, "a"), &lost, 1)
	if e := d.Pick(h, 2, nil); e.Instance != "b" {
		t.Error("the failed endpoint was not ejected")
	}
	again := compileIn(t, "near", table, shared+"- {target: other}\n")
	cart := again.Target(route.Outbound, "cart")
	if cart.Outlier.Total() != 1 || cart.Outlier.Ejected(2) != 1 {
		t.Error("an ejection must outlive its generation")
	}
	if again.Target(route.Outbound, "front").Outlier != nil || again.Target(route.Inbound, "cart").Outlier != nil {
		t.Error("outlier ejection is the policy of its target's callers alone")
	}
	if p := again.Target(route.Outbound, "front").Policies.Policies(); len(p) != 1 || p[0].Name() != "max_open_calls" {
		t.Errorf("policies that nobody configured are in the chain: %d", len(p))
	}
}

func TestPickWithAllRulesDoesNotAllocate(t *testing.T) {
	table := compileIn(t, "near", nil, laned+`
- target: stock
  balancing: {balancer: BALANCER_WEIGHTED_ROUND_ROBIN, locality_first: true, max_open_calls_per_endpoint: 9, slow_start: {window: 9s}}
  outlier_ejection: {}
`)
	h := tagged(head("stock", "s", "m"), "lane", "blue")
	ok := wire.Status{Origin: wire.OriginApplication}
	if n := testing.AllocsPerRun(1000, func() {
		d, _ := table.Match(h, nil)
		d.Ended(d.Pick(h, 5, nil), &ok, 6)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
