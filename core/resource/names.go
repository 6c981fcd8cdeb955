package resource

import (
	"fmt"
	"strings"
)

// Kind is a type of resource. Kinds are independent of each other: a change of one never sends another again.
type Kind uint8

// The kinds, in the order in which they are pushed: what others refer to comes before them.
const (
	KindEndpoint Kind = iota
	KindServicePolicy
	KindAuthPolicy
	KindMeshSwitch
	KindSchema
	Kinds // how many there are
)

// The kinds of the xDS protocol. They are derived from the others, for clients that know no others, and are pushed in this
// order too: a cluster before its endpoints, both before what leads to them.
const (
	KindCluster Kind = Kinds + iota
	KindLoadAssignment
	KindListener
	KindRouteConfiguration
	AllKinds // how many there are with those above
)

// typeURLs are the names of kinds on the stream. They have no "type.googleapis.com/" before them: each response
// carries one, and to the subscribers of a single endpoint it would be the largest part.
var typeURLs = [AllKinds]string{
	"octo.resource.v1.Endpoint", "octo.resource.v1.ServicePolicy", "octo.resource.v1.AuthPolicy", "octo.resource.v1.MeshSwitch",
	"octo.resource.v1.Schema",
	"type.googleapis.com/envoy.config.cluster.v3.Cluster", "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
	"type.googleapis.com/envoy.config.listener.v3.Listener", "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
}

// EveryApplication is the name, within its topic, of the mesh switch of all applications that have none of their own.
const EveryApplication = "*"

// TypeURL is the kind's name on the stream.
func (k Kind) TypeURL() string { return typeURLs[k] }

// String is the kind's name.
func (k Kind) String() string { return typeURLs[k][strings.LastIndexByte(typeURLs[k], '.')+1:] }

// Derived tells whether the kind is one of the xDS protocol.
func (k Kind) Derived() bool { return k >= Kinds }

// KindOf finds a kind by its name on the stream; ok is false for a foreign one, and for one that is derived.
func KindOf(typeURL string) (k Kind, ok bool) { return kindOf(typeURL, 0, Kinds) }

// DerivedKindOf finds a kind that is derived by its name on the stream.
func DerivedKindOf(typeURL string) (k Kind, ok bool) { return kindOf(typeURL, Kinds, AllKinds) }

func kindOf(typeURL string, from, to Kind) (Kind, bool) {
	for k := from; k < to; k++ {
		if typeURLs[k] == typeURL {
			return k, true
		}
	}
	return 0, false
}

// collected tells whether a topic of the kind has many resources, and not just one: endpoints, one an instance, and mesh
// switches, one a calling application.
func (k Kind) collected() bool { return k == KindEndpoint || k == KindMeshSwitch }

// Topic is what one subscribes to: what a kind says of one target in one environment.
type Topic struct {
	Kind        Kind
	Environment string
	Target      string
}

// IsName tells whether a target or an instance may be called so.
func IsName(name string) bool { return len(name) <= maxName && nameForm.pattern.MatchString(name) }

// Targets and instances may have a "/", which separates names on the stream: there it is "%2F". A "*" is "%2A", since it
// stands for a collection. No name has a "%".
var (
	escaper   = strings.NewReplacer("/", "%2F", "*", "%2A")
	unescaper = strings.NewReplacer("%2F", "/", "%2A", "*")
)

// prefix is what all names of a topic begin with.
func (t Topic) prefix() string { return t.Environment + "/" + escaper.Replace(t.Target) }

// Name is the topic's name on the stream, "environment/target", of a collection with "/*" behind it.
func (t Topic) Name() string {
	if t.Kind.Derived() {
		return t.FullName("")
	}
	name := t.prefix()
	if t.Kind.collected() {
		name += "/*"
	}
	return name
}

// ParseTopic reads a name from the stream.
func ParseTopic(k Kind, name string) (Topic, error) {
	rest := name
	if k.collected() {
		var ok bool
		if rest, ok = strings.CutSuffix(name, "/*"); !ok {
			return Topic{}, fmt.Errorf("%v %q: subscribe to a target's collection, \"<environment>/<target>/*\"", k, name)
		}
	}
	environment, target, _ := strings.Cut(rest, "/")
	if environment == "" || target == "" || strings.Contains(target, "/") {
		return Topic{}, fmt.Errorf("%v %q: want \"<environment>/<target>\"", k, name)
	}
	return Topic{k, environment, unescaper.Replace(target)}, nil
}

// FullName is the name on the stream of a resource of the topic.
func (t Topic) FullName(name string) string {
	if t.Kind.Derived() {
		if name == "" {
			name, _ = t.Parts()
		}
		return name
	}
	full := t.prefix()
	if t.Kind.collected() {
		full += "/" + escaper.Replace(name)
	}
	return full
}

// LocalName is the opposite of FullName; ok is false for a resource of another topic.
func (t Topic) LocalName(full string) (name string, ok bool) {
	rest, ok := strings.CutPrefix(full, t.prefix())
	if !ok {
		return "", false
	}
	if !t.Kind.collected() {
		return "", rest == ""
	}
	name, ok = strings.CutPrefix(rest, "/")
	return unescaper.Replace(name), ok
}

// TopicOf is the topic of a resource's full name.
func TopicOf(k Kind, full string) (Topic, error) {
	if !k.collected() {
		return ParseTopic(k, full)
	}
	cut := strings.LastIndexByte(full, '/')
	return ParseTopic(k, full[:cut+1]+"*")
}
