package route_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/octomesh/octomesh/core/proxy/cluster"
	"github.com/octomesh/octomesh/core/proxy/policy"
	"github.com/octomesh/octomesh/core/proxy/route"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

func find(table *route.Table, instance string) *cluster.Endpoint {
	for e := range table.Endpoints() {
		if e.Instance == instance {
			return e
		}
	}
	return nil
}

const before = `
endpoints:
- {target: cart, instance: same, mesh_address: "h:1", tags: {v: "1"}}
- {target: cart, instance: heavier, mesh_address: "h:2"}
- {target: cart, instance: restarted, mesh_address: "h:3", incarnation: 1}
- {target: cart, instance: gone, mesh_address: "h:4"}
policies:
- target: cart
  limits: {max_open_calls: 10}
  routes:
  - {name: kept, match: {method: A}, destinations: [{}]}
  - {name: dropped, match: {method: B}, destinations: [{}]}
`

const after = `
endpoints:
- {target: cart, instance: same, mesh_address: "h:1", tags: {v: "1"}}
- {target: cart, instance: heavier, mesh_address: "h:2", weight: 200}
- {target: cart, instance: restarted, mesh_address: "h:3", incarnation: 2}
- {target: cart, instance: new, mesh_address: "h:5"}
policies:
- target: cart
  limits: {max_open_calls: 2}
  routes:
  - {name: fresh, match: {method: B}, destinations: [{}]}
  - {name: kept, match: {method: C}, destinations: [{}]}
`

func TestStateOfWhatStaysGoesOn(t *testing.T) {
	one := compile(t, nil, before)
	for e := range one.Endpoints() {
		e.Open.Store(3)
		e.Calls.Store(7)
	}
	old := one.Target(route.Outbound, "cart")
	old.Policies.Check(&policy.Request{})
	for _, r := range old.Routes {
		r.Calls.Begin()
	}
	two := compile(t, one, after)

	if find(two, "same") != find(one, "same") {
		t.Error("an endpoint that did not change must be the same one")
	}
	if e := find(two, "heavier"); e == find(one, "heavier") || e.State != find(one, "heavier").State || e.Weight != 200 {
		t.Error("a changed endpoint must be a new one with the old state")
	}
	if e := find(two, "restarted"); e.Open.Load() != 0 || e.Calls.Load() != 0 {
		t.Error("a new incarnation must begin at 0")
	}
	if find(two, "gone") != nil || find(two, "new") == nil {
		t.Error("the endpoints are not those of the new snapshot")
	}
	target, counted := two.Target(route.Outbound, "cart"), map[string]int64{}
	for _, r := range target.Routes {
		counted[r.Name] = r.Calls.Open()
	}
	if fmt.Sprint(counted) != "map[default:1 fresh:0 kept:1]" {
		t.Errorf("open calls by route: %v", counted)
	}
	if target.Open() != 1 {
		t.Errorf("%d open calls came along, want 1", target.Open())
	}
	old.Policies.Done(1, policy.Outcome{})
	if target.Open() != 0 {
		t.Error("a call of the old generation must give its slot back in the new one")
	}
}

func TestParkedCallsGoOn(t *testing.T) {
	one := compile(t, nil, before)
	w := &sleeper{}
	one.Target(route.Outbound, "cart").Lot.Add(w)
	two := compile(t, one, after)
	if n := two.Target(route.Outbound, "cart").Lot.WakeAll(); n != 1 || w.resumed != 1 {
		t.Errorf("woke %d, resumed %d times", n, w.resumed)
	}
}

type sleeper struct{ resumed int }

func (s *sleeper) Resume() { s.resumed++ }

type fakePeer struct{ address string }

func (p *fakePeer) Address() string { return p.address }
func (p *fakePeer) Ready() bool     { return true }
func (p *fakePeer) Answers() bool   { return true }

func TestPeersAreAskedForWhatIsInRotation(t *testing.T) {
	var asked []string
	peer := func(at cluster.Place) cluster.Peer {
		asked = append(asked, at.Address)
		return &fakePeer{at.Address}
	}
	table := route.Compile(&resourcev1.Snapshot{Endpoints: []*resourcev1.Endpoint{
		{Target: "t", Instance: "a", MeshAddress: "h:1"},
		{Target: "t", Instance: "b", MeshAddress: "h:2", Disabled: true},
		{Target: "t", Instance: "c", MeshAddress: "h:3", Weight: new(uint32)},
		{Target: "t", Instance: "d", DirectAddress: "h:4"},
	}}, nil, route.Options{Peer: peer})
	if got := strings.Join(asked, " "); got != "h:1 h:4" {
		t.Errorf("asked for %q", got)
	}
	if e := find(table, "a"); e.Peer.Address() != "h:1" || e.Weight != route.DefaultEndpointWeight {
		t.Errorf("peer %v, weight %d", e.Peer, e.Weight)
	}
}

func TestCountersOfRemovedRoutesGoOn(t *testing.T) {
	with := compile(t, nil, `
policies:
- target: cart
  routes: [{name: a, match: {method: A}, destinations: [{}]}, {name: b, match: {method: B}, destinations: [{}]}]
`)
	count := func(table *route.Table) (n uint64) {
		target := table.Target(route.Outbound, "cart")
		for _, routes := range [][]*route.Route{target.Routes, target.Former} {
			for _, r := range routes {
				n += r.Calls.Ended(0)
			}
		}
		return n
	}
	for _, r := range with.Target(route.Outbound, "cart").Routes {
		r.Calls.Begin()
		r.Calls.End(0, 0)
	}
	without := compile(t, with, `
policies: [{target: cart, routes: [{name: b, match: {method: B}, destinations: [{}]}]}]
`)
	if n := count(without); n != 3 {
		t.Errorf("%d calls are known after a route went, want 3", n)
	}
	without = compile(t, without, `policies: [{target: cart}]`)
	if n := count(without); n != 3 {
		t.Errorf("%d calls are known after all routes went, want 3", n)
	}
	back := compile(t, without, `
policies: [{target: cart, routes: [{name: a, match: {method: A}, destinations: [{}]}]}]
`)
	target := back.Target(route.Outbound, "cart")
	if n := count(back); n != 3 || target.Routes[0].Calls.Ended(0) != 1 || len(target.Former) != 1 {
		t.Errorf("%d calls are known after a route came back, %d of its own", n, target.Routes[0].Calls.Ended(0))
	}
}
