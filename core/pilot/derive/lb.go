package derive

import (
	"strconv"
	"strings"

	xdsv3 "github.com/cncf/xds/go/xds/type/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	leastv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/least_request/v3"
	roundv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/round_robin/v3"
	localityv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/wrr_locality/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

type policyOption = clusterv3.LoadBalancingPolicy_Policy

// balancing is how clients share calls out. Each takes the first of the list that it knows.
//
// Envoy goes by the weights of endpoints, gRPC by those of localities, and neither knows the other's way: Envoy takes
// wrr_locality with one child only, and gRPC's least_request heeds no weights unless localities are weighed first. Envoy's
// therefore stands first in a form that gRPC reads as the name of a balancer, which it does not have.
func balancing(b *resourcev1.Balancing) (*clusterv3.LoadBalancingPolicy, error) {
	roundRobin, err := option("envoy.load_balancing_policies.round_robin", &roundv3.RoundRobin{})
	if err != nil {
		return nil, err
	}
	picks := []*policyOption{roundRobin}
	first, config := proto.Message(&roundv3.RoundRobin{}), make(map[string]any)
	if b.GetBalancer() != resourcev1.Balancer_BALANCER_WEIGHTED_ROUND_ROBIN {
		least, err := option("envoy.load_balancing_policies.least_request", &leastv3.LeastRequest{})
		if err != nil {
			return nil, err
		}
		picks, first = []*policyOption{least, roundRobin}, &leastv3.LeastRequest{}
	}
	if s := b.GetSlowStart(); s.GetWindow().AsDuration() > 0 {
		config["slow_start_config"] = map[string]any{
			"slow_start_window":  strconv.FormatFloat(s.GetWindow().AsDuration().Seconds(), 'f', -1, 64) + "s",
			"min_weight_percent": map[string]any{"value": float64(orDefault(s.GetInitialPermille(), 100)) / 10},
		}
	}
	forEnvoy, err := envoys(first, config)
	if err != nil {
		return nil, err
	}
	byLocality, err := option("envoy.load_balancing_policies.wrr_locality", &localityv3.WrrLocality{
		EndpointPickingPolicy: &clusterv3.LoadBalancingPolicy{Policies: picks},
	})
	if err != nil {
		return nil, err
	}
	return &clusterv3.LoadBalancingPolicy{Policies: []*policyOption{forEnvoy, byLocality}}, nil
}

func option(name string, config proto.Message) (*policyOption, error) {
	any, err := packed(config)
	if err != nil {
		return nil, err
	}
	return &policyOption{TypedExtensionConfig: &corev3.TypedExtensionConfig{Name: name, TypedConfig: any}}, nil
}

// envoys is a balancer for Envoy alone.
func envoys(kind proto.Message, config map[string]any) (*policyOption, error) {
	value, err := structpb.NewStruct(config)
	if err != nil {
		return nil, err
	}
	full := string(kind.ProtoReflect().Descriptor().FullName())
	short, _, _ := strings.Cut(strings.TrimPrefix(full, "envoy.extensions.load_balancing_policies."), ".")
	return option("envoy.load_balancing_policies."+short, &xdsv3.TypedStruct{TypeUrl: "type.googleapis.com/" + full, Value: value})
}

// packed is an Any whose bytes are the same each time.
func packed(m proto.Message) (*anypb.Any, error) {
	any := &anypb.Any{}
	return any, anypb.MarshalFrom(any, m, proto.MarshalOptions{Deterministic: true})
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}
