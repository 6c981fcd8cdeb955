package route_test

import (
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/proxy/cluster"
	"github.com/octomesh/octomesh/core/proxy/policy"
	"github.com/octomesh/octomesh/core/proxy/route"
	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/wire"
)

// compile makes the table of a snapshot that must be sound.
func compile(t testing.TB, previous *route.Table, text string) *route.Table {
	t.Helper()
	return compileIn(t, "", previous, text)
}

// compileIn does so for a proxy that stands in a zone.
func compileIn(t testing.TB, zone string, previous *route.Table, text string) *route.Table {
	t.Helper()
	s := &resourcev1.Snapshot{}
	if _, err := resource.Parse("test.yaml", []byte(text), s); err != nil {
		t.Fatal(err)
	}
	if err := resource.Errors(resource.Validate(s, "")); err != nil {
		t.Fatal(err)
	}
	return route.Compile(s, previous, route.Options{Zone: zone})
}

func sortedNames(set map[string]bool) string {
	return strings.Join(slices.Sorted(maps.Keys(set)), " ")
}

func head(target, service, method string) *wire.RequestHead {
	return &wire.RequestHead{Target: []byte(target), Service: []byte(service), Method: []byte(method)}
}

func with(h *wire.RequestHead, entries ...string) *wire.RequestHead {
	for i := 0; i < len(entries); i += 2 {
		h.Metadata = append(h.Metadata, wire.Entry{Key: []byte(entries[i]), Value: []byte(entries[i+1])})
	}
	return h
}

func tagged(h *wire.RequestHead, entries ...string) *wire.RequestHead {
	for i := 0; i < len(entries); i += 2 {
		h.Baggage = append(h.Baggage, wire.Entry{Key: []byte(entries[i]), Value: []byte(entries[i+1])})
	}
	return h
}

const matching = `
endpoints:
- {target: cart, instance: a, mesh_address: "h:1"}
policies:
- target: cart
  routes:
  - {name: metadata-exact, match: {metadata: [{key: tier, exact: gold}]}, destinations: [{}]}
  - {name: metadata-prefix, match: {metadata: [{key: agent, prefix: mobile/}]}, destinations: [{}]}
  - {name: metadata-present, match: {metadata: [{key: debug, present: true}]}, destinations: [{}]}
  - {name: two, match: {metadata: [{key: a, exact: "1"}, {key: b, present: false}]}, destinations: [{}]}
  - {name: baggage, match: {baggage: [{key: lane, exact: blue}]}, destinations: [{}]}
  - {name: caller, match: {caller: batch}, destinations: [{}]}
  - {name: method, match: {service: shop.v1.Cart, method: Add}, destinations: [{}]}
  - {name: any-service, match: {method: Ping}, destinations: [{}]}
  - {name: service, match: {service: shop.v1.Cart}, destinations: [{}]}
`

func TestFirstRouteThatHoldsIsTaken(t *testing.T) {
	table := compile(t, nil, matching)
	cart := func() *wire.RequestHead { return head("cart", "x.Other", "Get") }
	for _, c := range []struct {
		want   string
		head   *wire.RequestHead
		caller string
	}{
		{"default", cart(), ""},
		{"service", head("cart", "shop.v1.Cart", "Get"), ""},
		{"default", head("cart", "shop.v1.Cartel", "Get"), ""},
		{"method", head("cart", "shop.v1.Cart", "Add"), ""},
		{"default", head("cart", "x.Other", "Add"), ""},
		{"any-service", head("cart", "x.Other", "Ping"), ""},
		{"caller", head("cart", "shop.v1.Cart", "Add"), "batch"},
		{"default", cart(), "batch2"},
		{"metadata-exact", with(cart(), "tier", "gold"), ""},
		{"metadata-exact", with(cart(), "tier", "silver", "tier", "gold"), "batch"},
		{"default", with(cart(), "tier", "golden"), ""},
		{"default", with(cart(), "tiers", "gold"), ""},
		{"default", tagged(cart(), "tier", "gold"), ""},
		{"metadata-prefix", with(cart(), "agent", "mobile/7"), ""},
		{"metadata-prefix", with(cart(), "agent", "mobile/"), ""},
		{"default", with(cart(), "agent", "mobile"), ""},
		{"metadata-present", with(cart(), "debug", ""), ""},
		{"two", with(cart(), "a", "1"), ""},
		{"default", with(cart(), "a", "1", "b", "x"), ""},
		{"baggage", tagged(cart(), "lane", "blue"), ""},
		{"default", with(cart(), "lane", "blue"), ""},
	} {
		d, ok := table.Match(c.head, []byte(c.caller))
		if !ok || d.Route.Name != c.want {
			t.Errorf("%s/%s caller %q metadata %v baggage %v: route %s, want %s",
				c.head.Service, c.head.Method, c.caller, c.head.Metadata, c.head.Baggage, d.Route.Name, c.want)
		}
	}
}

func TestUnknownTargetIsNotMatched(t *testing.T) {
	table := compile(t, nil, matching)
	for _, name := range []string{"", "car", "cart2", "CART"} {
		if _, ok := table.Match(head(name, "", ""), nil); ok {
			t.Errorf("%q was matched", name)
		}
		if _, ok := table.Inbound(head(name, "", ""), nil); ok {
			t.Errorf("%q was matched inbound", name)
		}
	}
	if _, ok := (&route.Table{}).Match(head("cart", "", ""), nil); ok {
		t.Error("an empty table matched")
	}
}

func TestTargetWithoutEndpointsIsKnown(t *testing.T) {
	table := compile(t, nil, `policies: [{target: empty}]`)
	d, ok := table.Match(head("empty", "", ""), nil)
	if !ok || d.Cluster == nil || d.Pick(&wire.RequestHead{}, 1, nil) != nil {
		t.Errorf("known %v, cluster %v", ok, d.Cluster)
	}
}

const weighted = `
endpoints:
- {target: cart, instance: v1, mesh_address: "h:1", tags: {version: "1"}}
- {target: cart, instance: v2a, mesh_address: "h:2", tags: {version: "2"}}
- {target: cart, instance: v2b, mesh_address: "h:3", tags: {version: "2"}, weight: 300}
- {target: cart, instance: zero, mesh_address: "h:4", tags: {version: "2"}, weight: 0}
- {target: cart, instance: off, mesh_address: "h:5", tags: {version: "2"}, disabled: true}
- {target: cart, instance: apart, direct_address: "h:6", direct_protocol: PROTOCOL_GRPC, tags: {version: "2"}}
- {target: old, instance: o, mesh_address: "h:7"}
policies:
- target: cart
  routes:
  - name: split
    match: {method: Split}
    destinations:
    - {subset: {version: "1"}, weight: 60}
    - {subset: {version: "2"}, weight: 30}
    - {target: old, weight: 10}
    - {target: old, subset: {never: x}, weight: 0}
`

func TestForeignServersAreCalledWhereTheirProtocolIsSpoken(t *testing.T) {
	s := &resourcev1.Snapshot{}
	if _, err := resource.Parse("test.yaml", []byte(`
endpoints:
- {target: a, instance: far, direct_address: "10.0.0.1:1", direct_protocol: PROTOCOL_GRPC}
- {target: a, instance: near, direct_address: "127.0.0.1:1", direct_protocol: PROTOCOL_GRPC}
- {target: a, instance: proved, direct_address: "127.0.0.1:2", direct_protocol: PROTOCOL_GRPC, direct_identity: "spiffe://example.org/test/app/a"}
- {target: b, instance: forbidden, direct_address: "127.0.0.1:3", direct_protocol: PROTOCOL_GRPC}
policies: [{target: b, direct_forbidden: true}]
`), s); err != nil {
		t.Fatal(err)
	}
	speaks := func(p resourcev1.Protocol) bool { return p == resourcev1.Protocol_PROTOCOL_GRPC }
	for name, c := range map[string]struct {
		options route.Options
		want    string
	}{
		"nobody speaks it": {route.Options{}, ""},
		"plain":            {route.Options{Speaks: speaks}, "far near"},
		"with TLS":         {route.Options{Speaks: speaks, Secure: true}, "near"},
	} {
		called := make(map[string]bool)
		for e := range route.Compile(s, nil, c.options).Endpoints() {
			for at := range e.Places {
				called[e.Instance] = at.Protocol == resourcev1.Protocol_PROTOCOL_GRPC
			}
		}
		if got := sortedNames(called); got != c.want {
			t.Errorf("%s: %q are called, want %q", name, got, c.want)
		}
	}
}

func TestDestinationsSplitByWeight(t *testing.T) {
	table := compile(t, nil, weighted)
	const picks = 100_000
	clusters, instances := map[string]float64{}, map[string]float64{}
	h := head("cart", "s", "Split")
	for range picks {
		d, _ := table.Match(h, nil)
		clusters[d.Cluster.Name] += 1.0 / picks
		instances[d.Pick(&wire.RequestHead{}, 1, nil).Instance] += 1.0 / picks
	}
	near := func(got map[string]float64, want map[string]float64) {
		t.Helper()
		for name, share := range got {
			if math.Abs(share-want[name]) > 0.02 {
				t.Errorf("%s got %.3f, want %.3f", name, share, want[name])
			}
		}
		if len(got) != len(want) {
			t.Errorf("calls went to %v, want %v", got, want)
		}
	}
	near(clusters, map[string]float64{"cart{version=1}": .6, "cart{version=2}": .3, "old": .1})
	near(instances, map[string]float64{"v1": .6, "v2a": .075, "v2b": .225, "o": .1})
}

func TestSubsetsOfOneTargetAreMadeOnce(t *testing.T) {
	table := compile(t, nil, `
endpoints: [{target: cart, instance: a, mesh_address: "h:1", tags: {v: "1", w: "2"}}]
policies:
- target: cart
  routes:
  - {name: one, match: {method: One}, destinations: [{subset: {v: "1", w: "2"}}]}
  - {name: two, match: {method: Two}, destinations: [{subset: {w: "2", v: "1"}}]}
`)
	one, _ := table.Match(head("cart", "", "One"), nil)
	two, _ := table.Match(head("cart", "", "Two"), nil)
	other, _ := table.Match(head("cart", "", "Other"), nil)
	if one.Cluster != two.Cluster || one.Cluster == other.Cluster {
		t.Error("equal subsets must share a cluster, others not")
	}
}

func TestBudget(t *testing.T) {
	table := compile(t, nil, `
policies:
- target: cart
  default_timeout: 2s
  max_timeout: 5s
  routes:
  - {name: slow, match: {method: Slow}, timeout: 4s, destinations: [{}]}
  - {name: none, match: {method: None}, timeout: 0s, destinations: [{}]}
- {target: free}
`)
	for _, c := range []struct {
		target, method string
		left, want     time.Duration
	}{
		{"cart", "Get", 0, 2 * time.Second}, {"cart", "Get", time.Second, time.Second}, {"cart", "Get", time.Hour, 5 * time.Second},
		{"cart", "Slow", 0, 4 * time.Second}, {"cart", "None", 0, 5 * time.Second},
		{"free", "Get", 0, 0}, {"free", "Get", time.Hour, time.Hour},
	} {
		d, _ := table.Match(head(c.target, "s", c.method), nil)
		if got := d.Budget(c.left); got != c.want {
			t.Errorf("%s/%s with %v left: %v, want %v", c.target, c.method, c.left, got, c.want)
		}
	}
}

func TestInboundKnowsNoDestinations(t *testing.T) {
	table := compile(t, nil, weighted)
	d, ok := table.Inbound(head("cart", "s", "Split"), nil)
	if !ok || d.Route.Name != route.DefaultRoute || d.Cluster != nil || d.Pick(&wire.RequestHead{}, 1, nil) != nil {
		t.Errorf("decided %+v", d)
	}
	out, _ := table.Match(head("cart", "s", "Other"), nil)
	if out.Target == d.Target || out.Route.Calls == d.Route.Calls {
		t.Error("the directions must count apart")
	}
}

func TestEachDirectionHasLimitsOfItsOwn(t *testing.T) {
	table := compile(t, nil, `policies: [{target: cart, limits: {max_open_calls: 1, max_parked_calls: 3, max_park: 2s}}]`)
	for _, direction := range []route.Direction{route.Outbound, route.Inbound} {
		target := table.Target(direction, "cart")
		r := policy.Request{}
		if d := target.Policies.Check(&r); d.Verdict != policy.Continue {
			t.Fatalf("%s: the first call was not let in", direction)
		}
		d := target.Policies.Check(&policy.Request{})
		want := wire.OriginClientProxy
		if direction == route.Inbound {
			want = wire.OriginServerProxy
		}
		if d.Verdict != policy.Refuse || d.Status.Origin != want {
			t.Errorf("%s: verdict %d, origin %s", direction, d.Verdict, d.Status.Origin)
		}
		if target.Lot.Max != 3 || target.Lot.For != 2*time.Second || target.Open() != 1 {
			t.Errorf("%s: lot of %d for %v, %d open", direction, target.Lot.Max, target.Lot.For, target.Open())
		}
	}
	fresh := route.NewTarget(route.Inbound, "unnamed")
	if fresh.Lot.Max != route.DefaultMaxParkedCalls || fresh.Lot.For != route.DefaultMaxPark || len(fresh.Routes) != 1 {
		t.Errorf("defaults: lot of %d for %v", fresh.Lot.Max, fresh.Lot.For)
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	table := compile(t, nil, matching)
	h, caller := tagged(with(head("cart", "shop.v1.Cart", "Get"), "a", "1", "b", "2"), "lane", "green"), []byte("web")
	var picked *cluster.Endpoint
	n := testing.AllocsPerRun(1000, func() {
		d, _ := table.Match(h, caller)
		picked = d.Pick(h, 1, nil)
		_, _ = table.Inbound(h, caller)
	})
	if n != 0 || picked == nil {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkMatch(b *testing.B) {
	table := compile(b, nil, matching)
	for _, c := range []struct {
		name string
		head *wire.RequestHead
	}{
		{"first", with(head("cart", "s", "m"), "tier", "gold")},
		{"default", head("cart", "x.Other", "Get")},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				table.Match(c.head, nil)
			}
		})
	}
}
