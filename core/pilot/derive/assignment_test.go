package derive

import (
	"fmt"
	"math"
	"strings"
	"testing"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/proto"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// grpcAt is an instance that speaks gRPC itself.
func grpcAt(address string, more *resourcev1.Endpoint) *resourcev1.Endpoint {
	e := &resourcev1.Endpoint{DirectAddress: address, DirectProtocol: resourcev1.Protocol_PROTOCOL_GRPC}
	proto.Merge(e, more)
	return e
}

// meshAt is an instance whose proxy takes gRPC.
func meshAt(address string, more *resourcev1.Endpoint) *resourcev1.Endpoint {
	e := &resourcev1.Endpoint{MeshAddress: address, MeshProtocols: []resourcev1.Protocol{resourcev1.Protocol_PROTOCOL_GRPC}}
	proto.Merge(e, more)
	return e
}

// text is an assignment in words: "priority zone/sub-zone weight: address=weight ...", with all of one locality in a line.
func text(a *endpointv3.ClusterLoadAssignment) string {
	var lines []string
	for _, l := range a.Endpoints {
		line := fmt.Sprintf("%d %s/%s %d:", l.Priority, l.Locality.Zone, l.Locality.SubZone, l.LoadBalancingWeight.GetValue())
		for _, e := range l.LbEndpoints {
			at := e.GetEndpoint().Address.GetSocketAddress()
			line += fmt.Sprintf(" %s:%d=%d", at.Address, at.GetPortValue(), e.LoadBalancingWeight.GetValue())
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

func TestWhoGetsCallsAndWhere(t *testing.T) {
	weighs := func(n uint32) *resourcev1.Endpoint { return &resourcev1.Endpoint{Weight: &n} }
	in := func(zone string) *resourcev1.Endpoint { return &resourcev1.Endpoint{Zone: zone} }
	tagged := func(tag, value string) *resourcev1.Endpoint {
		return &resourcev1.Endpoint{Tags: map[string]string{tag: value}}
	}
	zones := &resourcev1.ServicePolicy{Balancing: &resourcev1.Balancing{LocalityFirst: true}}
	for name, c := range map[string]struct {
		endpoints []*resourcev1.Endpoint
		policy    *resourcev1.ServicePolicy
		subset    map[string]string
		want      string
	}{
		"nobody":                      {want: ""},
		"in one place":                {endpoints: []*resourcev1.Endpoint{grpcAt("10.0.0.2:80", nil), grpcAt("10.0.0.1:80", nil)}, want: "0 / 200: 10.0.0.1:80=100 10.0.0.2:80=100"},
		"the proxy before the server": {endpoints: []*resourcev1.Endpoint{grpcAt("10.0.0.1:80", meshAt("10.0.0.1:70", nil))}, want: "0 / 100: 10.0.0.1:70=100"},
		"a proxy without gRPC":        {endpoints: []*resourcev1.Endpoint{{MeshAddress: "10.0.0.1:70"}}},
		"a server without gRPC":       {endpoints: []*resourcev1.Endpoint{{DirectAddress: "10.0.0.1:80"}}},
		"a host's name":               {endpoints: []*resourcev1.Endpoint{grpcAt("host.example.org:80", nil)}},
		"IPv6":                        {endpoints: []*resourcev1.Endpoint{grpcAt("[2001:db8::1]:80", nil)}, want: "0 / 100: 2001:db8::1:80=100"},
		"who wants to be proved":      {endpoints: []*resourcev1.Endpoint{grpcAt("10.0.0.1:80", &resourcev1.Endpoint{DirectIdentity: "spiffe://a/b/c"}), meshAt("10.0.0.1:70", &resourcev1.Endpoint{Identity: "spiffe://a/b/c"})}},
		"disabled":                    {endpoints: []*resourcev1.Endpoint{grpcAt("10.0.0.1:80", &resourcev1.Endpoint{Disabled: true})}},
		"weight 0":                    {endpoints: []*resourcev1.Endpoint{grpcAt("10.0.0.1:80", weighs(0))}},
		"weights have places":         {endpoints: []*resourcev1.Endpoint{grpcAt("10.0.0.1:80", weighs(1)), grpcAt("10.0.0.2:80", nil), grpcAt("10.0.0.3:80", weighs(1))}, want: "0 /weight-1 2: 10.0.0.1:80=1 10.0.0.3:80=1\n0 / 100: 10.0.0.2:80=100"},
		"behind one proxy":            {endpoints: []*resourcev1.Endpoint{meshAt("10.0.0.1:70", nil), meshAt("10.0.0.1:70", weighs(50)), meshAt("10.0.0.2:70", nil)}, want: "0 / 100: 10.0.0.2:70=100\n0 /weight-150 150: 10.0.0.1:70=150"},
		"an address of two sorts":     {endpoints: []*resourcev1.Endpoint{meshAt("10.0.0.1:70", &resourcev1.Endpoint{Backup: true, Zone: "a"}), meshAt("10.0.0.1:70", in("b"))}, want: "0 b/weight-200 200: 10.0.0.1:70=200"},
		"mapped and plain are one":    {endpoints: []*resourcev1.Endpoint{grpcAt("[::ffff:10.0.0.1]:80", nil), grpcAt("10.0.0.1:80", nil)}, want: "0 /weight-200 200: 10.0.0.1:80=200"},
		"zones without preference":    {endpoints: []*resourcev1.Endpoint{grpcAt("10.0.0.1:80", in("b")), grpcAt("10.0.0.2:80", in("a"))}, want: "0 a/ 100: 10.0.0.2:80=100\n0 b/ 100: 10.0.0.1:80=100"},
		"the own zone first":          {endpoints: []*resourcev1.Endpoint{grpcAt("10.0.0.1:80", in("b")), grpcAt("10.0.0.2:80", in("a"))}, policy: zones, want: "0 b/ 100: 10.0.0.1:80=100\n1 a/ 100: 10.0.0.2:80=100"},
		"no gap for who is not there": {endpoints: []*resourcev1.Endpoint{grpcAt("10.0.0.1:80", in("a")), grpcAt("10.0.0.2:80", &resourcev1.Endpoint{Backup: true, Zone: "a"})}, policy: zones, want: "0 a/ 100: 10.0.0.1:80=100\n1 a/ 100: 10.0.0.2:80=100"},
		"a subset":                    {endpoints: []*resourcev1.Endpoint{grpcAt("10.0.0.1:80", tagged("v", "1")), grpcAt("10.0.0.2:80", tagged("v", "2"))}, subset: map[string]string{"v": "2"}, want: "0 / 100: 10.0.0.2:80=100"},
		"the baseline and no lane":    {endpoints: []*resourcev1.Endpoint{grpcAt("10.0.0.1:80", tagged("lane", "x")), grpcAt("10.0.0.2:80", nil)}, want: "0 / 100: 10.0.0.2:80=100"},
		"a lane by name":              {endpoints: []*resourcev1.Endpoint{grpcAt("10.0.0.1:80", tagged("lane", "x")), grpcAt("10.0.0.2:80", nil)}, subset: map[string]string{"lane": "x"}, want: "0 / 100: 10.0.0.1:80=100"},
		"only through the mesh":       {endpoints: []*resourcev1.Endpoint{grpcAt("10.0.0.1:80", nil), meshAt("10.0.0.2:70", nil)}, policy: &resourcev1.ServicePolicy{DirectForbidden: true}, want: "0 / 100: 10.0.0.2:70=100"},
	} {
		t.Run(name, func(t *testing.T) {
			all := make(map[string]*endpoint)
			for i, e := range c.endpoints {
				all[fmt.Sprint(i)] = endpointOf(e)
			}
			a := assignment("shop.cart", c.subset, "b", c.policy, all)
			if got := text(a); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			if err := a.ValidateAll(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestWeightsAddUpToWhatClientsTake: more than 32 bits are refused, with all endpoints of the target.
func TestWeightsAddUpToWhatClientsTake(t *testing.T) {
	most := uint32(1_000_000)
	all := make(map[string]*endpoint)
	for i := range 20_000 {
		e := grpcAt(fmt.Sprintf("10.0.%d.%d:80", i/250, i%250), &resourcev1.Endpoint{Weight: &most})
		if i == 0 {
			e.Weight = new(uint32)
			*e.Weight = 1
		}
		all[fmt.Sprint(i)] = endpointOf(e)
	}
	a := assignment("shop.cart", nil, "", nil, all)
	sum, hosts := uint64(0), 0
	for _, l := range a.Endpoints {
		sum += uint64(l.LoadBalancingWeight.GetValue())
		hosts += len(l.LbEndpoints)
		for _, e := range l.LbEndpoints {
			if e.LoadBalancingWeight.GetValue() == 0 {
				t.Fatal("a weight of 0")
			}
		}
	}
	if sum > math.MaxUint32 || sum < math.MaxUint32/4 || hosts != 20_000 {
		t.Errorf("%d hosts of %d", hosts, sum)
	}
}

func TestNamesOfClusters(t *testing.T) {
	for _, subset := range []map[string]string{nil, {"version": "2"}, {"a": "1", "b": "?&=%\x00/"}, {"a": ""}} {
		name := ClusterName("shop/cart:1", subset)
		target, got, ok := parseCluster(name)
		if !ok || target != "shop/cart:1" || fmt.Sprint(got) != fmt.Sprint(subset) {
			t.Errorf("%q is %q %v %v", name, target, got, ok)
		}
	}
	for _, name := range []string{"", "?a=1", "cart?", "cart?b=1&a=1", "cart?a=1&a=2", "cart?a", "cart?a=%zz", "a b", "*", "xdstp://x/y?a=1"} {
		if _, _, ok := parseCluster(name); ok && name != "xdstp://x/y?a=1" {
			t.Errorf("%q passes for a cluster", name)
		}
	}
}
