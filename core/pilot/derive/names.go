// Package derive makes the resources of the xDS protocol from ours, for clients that know no others: gRPC's own and Envoy.
// What they are told of a target is derived while somebody asks for it, and once for all who do.
package derive

import (
	"net/url"
	"slices"
	"strings"

	"github.com/octomesh/octomesh/core/resource"
)

// Names of the xDS protocol stand within the environment of who asks. Listeners and route configurations are called as
// their target, and so is the cluster of all of its endpoints. The cluster of a subset has its tags behind a "?", which no
// target has, in the form of a URL's query: "shop.cart?version=2&zone=a".

// ClusterName is the name of a target's subset, and of its endpoints.
func ClusterName(target string, subset map[string]string) string {
	if len(subset) == 0 {
		return target
	}
	v := make(url.Values, len(subset))
	for tag, value := range subset {
		v.Set(tag, value)
	}
	return target + "?" + v.Encode()
}

// parseCluster takes a cluster's name apart. ok is false for what [ClusterName] would not have made.
func parseCluster(name string) (target string, subset map[string]string, ok bool) {
	target, query, tagged := strings.Cut(name, "?")
	if tagged {
		v, err := url.ParseQuery(query)
		if err != nil {
			return "", nil, false
		}
		subset = make(map[string]string, len(v))
		for tag := range v {
			subset[tag] = v.Get(tag)
		}
	}
	return target, subset, resource.IsName(target) && ClusterName(target, subset) == name
}

// MetadataTargets is the key of a client's metadata under which it lists the targets that it calls, for names that stand for
// all of them.
const MetadataTargets = "octo.targets"

// MaxTargets bounds that list.
const MaxTargets = 1000

// AllTargets is the route configuration that chooses among the targets of that list, by the authority of calls. No target has
// such a name, and "*" is no name of a route configuration.
const AllTargets = "_targets"

// IsOfList tells whether what a name stands for goes by that list.
func IsOfList(k resource.Kind, name string) bool {
	if k == resource.KindRouteConfiguration {
		return name == AllTargets
	}
	return name == resource.Wildcard
}

// Targets is the variant of topics that are of many targets: of a list of valid names.
func Targets(names []string) (variant string) {
	names = slices.Clone(names)
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ",")
}

// targetsOf is the opposite of Targets.
func targetsOf(variant string) []string {
	if variant == "" {
		return nil
	}
	return strings.Split(variant, ",")
}
