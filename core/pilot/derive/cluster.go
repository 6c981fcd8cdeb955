package derive

import (
	"math"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// Defaults of octo.resource.v1, for what a policy leaves out. The protocol's own are others.
const (
	defaultMaxOpen        = 65536
	defaultMaxParked      = 1024
	defaultBudgetPermille = 100
	defaultConsecutive    = 5
	defaultMinCalls       = 20
	defaultWindow         = 10 * time.Second
	defaultEjection       = 10 * time.Second
	defaultMaxEjection    = 5 * time.Minute
	defaultEjectedPercent = 50
)

// sameStream is where clients find what a resource refers to: where they found the resource.
func sameStream() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ResourceApiVersion: corev3.ApiVersion_V3, ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
	}
}

// cluster is a target, or a subset of it, as its policy says how to call it.
func cluster(name string, p *resourcev1.ServicePolicy) (*clusterv3.Cluster, error) {
	balancing, err := balancing(p.GetBalancing())
	if err != nil {
		return nil, err
	}
	http2, err := packed(&httpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: &corev3.Http2ProtocolOptions{}},
		}},
	})
	if err != nil {
		return nil, err
	}
	return &clusterv3.Cluster{
		Name: name, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:              &clusterv3.Cluster_EdsClusterConfig{EdsConfig: sameStream()},
		LoadBalancingPolicy:           balancing,
		CircuitBreakers:               limits(p),
		OutlierDetection:              outliers(p.GetOutlierEjection()),
		TypedExtensionProtocolOptions: map[string]*anypb.Any{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http2},
	}, nil
}

// limits bounds what one client does to the cluster. Connections and retries have bounds of their own in Envoy, which
// are low: the first is lifted, and the second is the policy's budget.
func limits(p *resourcev1.ServicePolicy) *clusterv3.CircuitBreakers {
	l, budget := p.GetLimits(), uint32(defaultBudgetPermille)
	if b := p.GetRetryBudget(); b != nil && b.SuccessPermille != nil {
		budget = b.GetSuccessPermille()
	}
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
		MaxConnections:     wrapperspb.UInt32(math.MaxUint32),
		MaxRequests:        wrapperspb.UInt32(orDefault(l.GetMaxOpenCalls(), defaultMaxOpen)),
		MaxPendingRequests: wrapperspb.UInt32(orDefault(l.GetMaxParkedCalls(), defaultMaxParked)),
		RetryBudget:        &clusterv3.CircuitBreakers_Thresholds_RetryBudget{BudgetPercent: &typev3.Percent{Value: float64(budget) / 10}},
	}}}
}

// outliers ejects by what Envoy calls failures of local origin: lost connections, resets and time that is up. What
// the application answers is none; gRPC's own ejection knows nothing else, and is left off.
func outliers(o *resourcev1.OutlierEjection) *clusterv3.OutlierDetection {
	if o == nil {
		return nil
	}
	off, on := wrapperspb.UInt32(0), wrapperspb.UInt32(100)
	first := orDefault(o.GetEjectionTime().AsDuration(), defaultEjection)
	out := &clusterv3.OutlierDetection{
		SplitExternalLocalOriginErrors: true,
		Interval:                       durationpb.New(orDefault(o.GetWindow().AsDuration(), defaultWindow)),
		BaseEjectionTime:               durationpb.New(first),
		MaxEjectionTime:                durationpb.New(max(orDefault(o.GetMaxEjectionTime().AsDuration(), defaultMaxEjection), first)),
		MaxEjectionPercent:             wrapperspb.UInt32(defaultEjectedPercent),
		EnforcingConsecutive_5Xx:       off, EnforcingConsecutiveGatewayFailure: off, EnforcingSuccessRate: off, EnforcingLocalOriginSuccessRate: off,
		EnforcingFailurePercentage: off, EnforcingFailurePercentageLocalOrigin: off, EnforcingConsecutiveLocalOriginFailure: off,
	}
	if o.MaxEjectedPercent != nil {
		out.MaxEjectionPercent = wrapperspb.UInt32(o.GetMaxEjectedPercent())
	}
	inARow := uint32(defaultConsecutive)
	if o.ConsecutiveFailures != nil {
		inARow = o.GetConsecutiveFailures()
	}
	if inARow > 0 {
		out.ConsecutiveLocalOriginFailure, out.EnforcingConsecutiveLocalOriginFailure = wrapperspb.UInt32(inARow), on
	}
	if share := o.GetFailurePermille(); share > 0 {
		out.EnforcingFailurePercentageLocalOrigin = on
		out.FailurePercentageThreshold = wrapperspb.UInt32((share + 9) / 10)
		out.FailurePercentageRequestVolume = wrapperspb.UInt32(orDefault(o.GetMinCalls(), defaultMinCalls))
		out.FailurePercentageMinimumHosts = wrapperspb.UInt32(1)
	}
	return out
}
