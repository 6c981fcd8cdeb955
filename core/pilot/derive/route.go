package derive

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	managerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	previousv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// Defaults of octo.resource.v1.
const (
	defaultMaxAttempts = 2
	defaultBackoff     = 25 * time.Millisecond
	defaultMaxBackoff  = time.Second
	defaultRoute       = "default"
)

// listener is where gRPC's resolver begins with a target.
func listener(target string) (*listenerv3.Listener, error) {
	router, err := packed(&routerv3.Router{})
	if err != nil {
		return nil, err
	}
	manager, err := packed(&managerv3.HttpConnectionManager{
		StatPrefix: target,
		RouteSpecifier: &managerv3.HttpConnectionManager_Rds{Rds: &managerv3.Rds{
			ConfigSource: sameStream(), RouteConfigName: target,
		}},
		HttpFilters: []*managerv3.HttpFilter{{Name: "envoy.filters.http.router", ConfigType: &managerv3.HttpFilter_TypedConfig{TypedConfig: router}}},
	})
	if err != nil {
		return nil, err
	}
	return &listenerv3.Listener{Name: target, ApiListener: &listenerv3.ApiListener{ApiListener: manager}}, nil
}

// routes is the route configuration of one target, whatever authority calls name.
func routes(target string, p *resourcev1.ServicePolicy) (*routev3.RouteConfiguration, error) {
	v, err := virtualHost(target, "*", p)
	return &routev3.RouteConfiguration{Name: target, VirtualHosts: []*routev3.VirtualHost{v}}, err
}

// routesOfAll is the route configuration of some targets, which calls name by their authority.
func routesOfAll(name string, policies map[string]*resourcev1.ServicePolicy) (*routev3.RouteConfiguration, error) {
	out := &routev3.RouteConfiguration{Name: name, IgnorePortInHostMatching: true}
	for _, target := range slices.Sorted(maps.Keys(policies)) {
		v, err := virtualHost(target, target, policies[target])
		if err != nil {
			return nil, err
		}
		out.VirtualHosts = append(out.VirtualHosts, v)
	}
	return out, nil
}

func virtualHost(target, domain string, p *resourcev1.ServicePolicy) (*routev3.VirtualHost, error) {
	v := &routev3.VirtualHost{Name: target, Domains: []string{domain}}
	for _, r := range slices.Concat(p.GetRoutes(), []*resourcev1.Route{{Name: defaultRoute, Destinations: []*resourcev1.Destination{{}}}}) {
		m, ok := match(r.GetMatch())
		if !ok {
			continue
		}
		action, err := action(target, p, r)
		if err != nil {
			return nil, err
		}
		v.Routes = append(v.Routes, &routev3.Route{Name: r.GetName(), Match: m, Action: &routev3.Route_Route{Route: action}})
	}
	return v, nil
}

// match says which calls take a route; ok is false if the protocol has no word for it. Stock clients have neither
// baggage nor an application's name.
func match(m *resourcev1.Match) (out *routev3.RouteMatch, ok bool) {
	if m.GetCaller() != "" || len(m.GetBaggage()) > 0 {
		return nil, false
	}
	out = &routev3.RouteMatch{}
	service, method := m.GetService(), m.GetMethod()
	switch {
	case service != "" && method != "":
		out.PathSpecifier = &routev3.RouteMatch_Path{Path: "/" + service + "/" + method}
	case method != "":
		out.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: "/[^/]+/" + regexp.QuoteMeta(method)}}
	case service != "":
		out.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: "/" + service + "/"}
	default:
		out.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: "/"}
	}
	for _, e := range m.GetMetadata() {
		if strings.HasSuffix(e.GetKey(), "-bin") {
			return nil, false // clients do not look into what is binary
		}
		out.Headers = append(out.Headers, header(e))
	}
	return out, true
}

func header(e *resourcev1.EntryMatch) *routev3.HeaderMatcher {
	h := &routev3.HeaderMatcher{Name: e.GetKey()}
	text := func(m *matcherv3.StringMatcher) {
		h.HeaderMatchSpecifier = &routev3.HeaderMatcher_StringMatch{StringMatch: m}
	}
	switch v := e.GetValue().(type) {
	case *resourcev1.EntryMatch_Exact:
		text(&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: v.Exact}})
	case *resourcev1.EntryMatch_Prefix:
		text(&matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: v.Prefix}})
	case *resourcev1.EntryMatch_Present:
		h.HeaderMatchSpecifier = &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}
		h.InvertMatch = !v.Present
	default:
		h.HeaderMatchSpecifier = &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}
	}
	return h
}

// action is where a route's calls go, how long they may take, and when they go again.
func action(target string, p *resourcev1.ServicePolicy, r *resourcev1.Route) (*routev3.RouteAction, error) {
	retries, err := retries(p, r)
	if err != nil {
		return nil, err
	}
	out := &routev3.RouteAction{
		Timeout:           durationpb.New(0), // Envoy's own, which ends streams too; the next one holds
		MaxStreamDuration: budget(p, r), RetryPolicy: retries,
	}
	to := destinations(target, r)
	if len(to) == 1 {
		out.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: to[0].name}
		return out, nil
	}
	all := &routev3.WeightedCluster{}
	for _, d := range to {
		all.Clusters = append(all.Clusters, &routev3.WeightedCluster_ClusterWeight{Name: d.name, Weight: wrapperspb.UInt32(d.weight)})
	}
	out.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: all}
	return out, nil
}

// destination is a cluster of a route that gets calls.
type destination struct {
	name, target string
	weight       uint32
}

// destinations are where a route leads to. There are few of them, so that their weights do not add up to too much; one
// that stands twice is one.
func destinations(target string, r *resourcev1.Route) []destination {
	var all []destination
	for _, d := range r.GetDestinations() {
		weight := uint32(1)
		if d.Weight != nil {
			weight = d.GetWeight()
		}
		if weight == 0 {
			continue
		}
		to := orDefault(d.GetTarget(), target)
		name := ClusterName(to, d.GetSubset())
		if i := slices.IndexFunc(all, func(one destination) bool { return one.name == name }); i >= 0 {
			all[i].weight += weight
			continue
		}
		all = append(all, destination{name, to, weight})
	}
	return all
}

// reached are all clusters that a target's routes lead to.
func reached(target string, p *resourcev1.ServicePolicy) []destination {
	all := []destination{{name: target, target: target}}
	for _, r := range p.GetRoutes() {
		if _, ok := match(r.GetMatch()); ok {
			all = append(all, destinations(target, r)...)
		}
	}
	return all
}

// budget says how long a call may take: the first where it names nothing itself, which gRPC leaves to its caller, the
// second at most.
func budget(p *resourcev1.ServicePolicy, r *resourcev1.Route) *routev3.RouteAction_MaxStreamDuration {
	unnamed, most := p.GetDefaultTimeout().AsDuration(), p.GetMaxTimeout().AsDuration()
	if r.GetTimeout() != nil {
		unnamed = r.GetTimeout().AsDuration()
	}
	if most > 0 && (unnamed == 0 || unnamed > most) {
		unnamed = most
	}
	out := &routev3.RouteAction_MaxStreamDuration{GrpcTimeoutHeaderMax: durationpb.New(most)}
	if unnamed > 0 {
		out.MaxStreamDuration = durationpb.New(unnamed)
	}
	return out
}

// What goes again by the protocol's words: what surely did not run, which gRPC sends again by itself, and for calls that
// may run twice the codes that it has words for.
const surelyNot = "refused-stream,connect-failure"

var words = map[uint32]string{
	1: "cancelled", 4: "deadline-exceeded", 8: "resource-exhausted", 13: "internal", 14: "unavailable",
}

func retries(p *resourcev1.ServicePolicy, r *resourcev1.Route) (*routev3.RetryPolicy, error) {
	rules := r.GetRetries()
	if rules == nil {
		rules = p.GetRetries()
	}
	attempts := orDefault(rules.GetMaxAttempts(), defaultMaxAttempts)
	if attempts < 2 {
		return nil, nil // it never goes again
	}
	another, err := packed(&previousv3.PreviousHostsPredicate{})
	if err != nil {
		return nil, err
	}
	on := surelyNot
	out := &routev3.RetryPolicy{
		NumRetries:                    wrapperspb.UInt32(attempts - 1),
		HostSelectionRetryMaxAttempts: 3,
		RetryHostPredicate: []*routev3.RetryPolicy_RetryHostPredicate{{
			Name: "envoy.retry_host_predicates.previous_hosts", ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: another},
		}},
	}
	first := orDefault(rules.GetBackoff().AsDuration(), defaultBackoff)
	out.RetryBackOff = &routev3.RetryPolicy_RetryBackOff{
		BaseInterval: durationpb.New(first), MaxInterval: durationpb.New(max(orDefault(rules.GetMaxBackoff().AsDuration(), defaultMaxBackoff), first)),
	}
	if r.GetIdempotent() {
		for _, code := range slices.Sorted(slices.Values(rules.GetCodes())) {
			if word := words[code]; word != "" && !strings.Contains(on, word) {
				on += "," + word
			}
		}
		if t := rules.GetAttemptTimeout().AsDuration(); t > 0 {
			out.PerTryTimeout = durationpb.New(t)
		}
	}
	out.RetryOn = on
	return out, nil
}
