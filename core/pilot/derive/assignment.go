package derive

import (
	"cmp"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strconv"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

const (
	// defaultWeight is that of an endpoint that names none.
	defaultWeight = 100
	// laneTag is the tag that names a lane. Who is not tagged with it gets the calls that are in none.
	laneTag = "lane"
	// maxWeights bounds the sum of all weights of one priority. The protocol has twice that; the rest is for rounding.
	maxWeights = math.MaxUint32 / 2
)

// endpoint is what counts of an instance that takes calls.
type endpoint struct {
	// Where gRPC is spoken; invalid: not there.
	mesh, direct netip.AddrPort
	weight       uint32
	zone         string
	tags         map[string]string
	backup       bool
}

// endpointOf looks at an instance; nil: it takes no calls of stock clients. They know neither names of hosts, of which one
// would have Envoy refuse all endpoints of the target, nor identities for each endpoint.
func endpointOf(e *resourcev1.Endpoint) *endpoint {
	out := &endpoint{weight: defaultWeight, zone: e.GetZone(), tags: e.GetTags(), backup: e.GetBackup()}
	if e.Weight != nil {
		out.weight = e.GetWeight()
	}
	if slices.Contains(e.GetMeshProtocols(), resourcev1.Protocol_PROTOCOL_GRPC) && e.GetIdentity() == "" {
		out.mesh = addressOf(e.GetMeshAddress())
	}
	if e.GetDirectProtocol() == resourcev1.Protocol_PROTOCOL_GRPC && e.GetDirectIdentity() == "" {
		out.direct = addressOf(e.GetDirectAddress())
	}
	if e.GetDisabled() || out.weight == 0 || !out.mesh.IsValid() && !out.direct.IsValid() {
		return nil
	}
	return out
}

func addressOf(text string) netip.AddrPort {
	a, err := netip.ParseAddrPort(text)
	if err != nil || a.Port() == 0 || a.Addr().Zone() != "" {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// address is where calls go: to the proxy beside the instance if that takes gRPC, else to the instance itself.
func (e *endpoint) address(p *resourcev1.ServicePolicy) netip.AddrPort {
	if e.mesh.IsValid() || p.GetDirectForbidden() {
		return e.mesh
	}
	return e.direct
}

func (e *endpoint) has(tags map[string]string) bool {
	for k, v := range tags {
		if got, ok := e.tags[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// host is an address with all that is behind it: instances may share a proxy, and no address may stand twice.
type host struct {
	address netip.AddrPort
	// rank is what goes first: the client's zone, other zones, backups of the zone, other backups.
	rank   int
	zone   string
	weight uint64
}

// place is a locality of the protocol. Some of gRPC's balancers know weights of localities only: so in each all hosts have
// the same weight.
type place struct {
	rank   int
	zone   string
	weight uint64
}

// assignment is the endpoints of a cluster for clients of a zone. Equal endpoints make equal bytes.
func assignment(name string, subset map[string]string, zone string, p *resourcev1.ServicePolicy, endpoints map[string]*endpoint) *endpointv3.ClusterLoadAssignment {
	hosts := slices.Collect(maps.Values(hostsOf(subset, zone, p, endpoints)))
	level(hosts)
	slices.SortFunc(hosts, func(a, b *host) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.zone, b.zone), cmp.Compare(a.weight, b.weight), a.address.Compare(b.address))
	})
	out := &endpointv3.ClusterLoadAssignment{ClusterName: name}
	priority, last := -1, place{rank: -1}
	var at *endpointv3.LocalityLbEndpoints
	for _, h := range hosts {
		if here := (place{h.rank, h.zone, h.weight}); here != last {
			if h.rank != last.rank {
				priority++ // without gaps
			}
			last = here
			at = &endpointv3.LocalityLbEndpoints{
				Locality: &corev3.Locality{Zone: h.zone, SubZone: subZone(h.weight)}, Priority: uint32(priority), LoadBalancingWeight: &wrapperspb.UInt32Value{},
			}
			out.Endpoints = append(out.Endpoints, at)
		}
		at.LoadBalancingWeight.Value += uint32(h.weight)
		at.LbEndpoints = append(at.LbEndpoints, h.encode())
	}
	return out
}

// subZone tells places of one zone from each other.
func subZone(weight uint64) string {
	if weight == defaultWeight {
		return ""
	}
	return "weight-" + strconv.FormatUint(weight, 10)
}

func (h *host) encode() *endpointv3.LbEndpoint {
	return &endpointv3.LbEndpoint{
		LoadBalancingWeight: wrapperspb.UInt32(uint32(h.weight)),
		HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: &corev3.Address{
			Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
				Address: h.address.Addr().String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(h.address.Port())},
			}},
		}}},
	}
}

// hostsOf are the addresses of a subset. Where there are lanes they are those of the baseline: a stock client names none.
func hostsOf(subset map[string]string, zone string, p *resourcev1.ServicePolicy, endpoints map[string]*endpoint) map[netip.AddrPort]*host {
	lanes := false
	var members []*endpoint
	for _, e := range endpoints {
		if e != nil && e.has(subset) && e.address(p).IsValid() {
			members = append(members, e)
			lanes = lanes || e.tags[laneTag] != ""
		}
	}
	if _, named := subset[laneTag]; named {
		lanes = false
	}
	hosts := make(map[netip.AddrPort]*host, len(members))
	for _, e := range members {
		if lanes && e.tags[laneTag] != "" {
			continue
		}
		h := &host{e.address(p), rankOf(e, zone, p), e.zone, uint64(e.weight)}
		if other := hosts[h.address]; other != nil {
			h.weight += other.weight
			if other.rank < h.rank || other.rank == h.rank && other.zone < h.zone {
				h.rank, h.zone = other.rank, other.zone
			}
		}
		hosts[h.address] = h
	}
	return hosts
}

func rankOf(e *endpoint, zone string, p *resourcev1.ServicePolicy) int {
	rank := 0
	if e.backup {
		rank = 2
	}
	if p.GetBalancing().GetLocalityFirst() && zone != "" && e.zone != zone {
		rank++
	}
	return rank
}

// level scales the weights of a rank down where their sum would be too large, which clients refuse.
func level(hosts []*host) {
	sums := make(map[int]uint64)
	for _, h := range hosts {
		sums[h.rank] += h.weight
	}
	for _, h := range hosts {
		h.weight = max(1, h.weight/(sums[h.rank]/maxWeights+1))
	}
}
