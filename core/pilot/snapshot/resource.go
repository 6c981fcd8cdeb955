// Package snapshot is what one Pilot knows: resources as immutable encoded bytes, in topics, and who follows them.
// It decides nothing about streams and does no I/O.
package snapshot

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/wire"
)

// Kind is a type of resource. Kinds are independent of each other: a change of one never sends another again.
type Kind uint8

// The kinds, in the order in which they are pushed: what others refer to comes before them.
const (
	KindEndpoint Kind = iota
	KindServicePolicy
	KindAuthPolicy
	KindMeshSwitch
	Kinds // how many there are
)

// typeURLs are the names of kinds on the stream. They have no "type.googleapis.com/" before them: each response
// carries one, and to the subscribers of a single endpoint it would be the largest part.
var typeURLs = [Kinds]string{
	"octo.resource.v1.Endpoint", "octo.resource.v1.ServicePolicy", "octo.resource.v1.AuthPolicy", "octo.resource.v1.MeshSwitch",
}

// TypeURL is the kind's name on the stream.
func (k Kind) TypeURL() string { return typeURLs[k] }

// String is the kind's name.
func (k Kind) String() string { return strings.TrimPrefix(typeURLs[k], "octo.resource.v1.") }

// KindOf finds a kind by its name on the stream; ok is false for a foreign one.
func KindOf(typeURL string) (k Kind, ok bool) {
	for k := range Kinds {
		if typeURLs[k] == typeURL {
			return k, true
		}
	}
	return 0, false
}

// collected tells whether a topic of the kind has many resources, one an instance, and not just one.
func (k Kind) collected() bool { return k == KindEndpoint }

// Topic is what one subscribes to: what a kind says of one target in one environment.
type Topic struct {
	Kind        Kind
	Environment string
	Target      string
}

// Name is the topic's name on the stream, "environment/target", of a collection with "/*" behind it.
func (t Topic) Name() string {
	name := t.Environment + "/" + t.Target
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
	return Topic{k, environment, target}, nil
}

// Resource is one version of one resource. It is immutable, and shared by all who get it.
type Resource struct {
	// Name within the topic: the instance, or "" where the topic has a single resource.
	Name string
	// Version is a hash of the content: equal on all Pilots, for equal content.
	Version string
	// Element is the resource as it stands in a response: one element of DeltaDiscoveryResponse.resources, with its tag.
	Element []byte
}

// The numbers of fields in envoy.service.discovery.v3, and of google.protobuf.Any.
const (
	responseResources = 2
	resourceVersion   = 1
	resourceAny       = 2
	resourceName      = 3
	anyValue          = 2
)

// New encodes a resource once and for all.
func New(t Topic, name string, m proto.Message) (*Resource, error) {
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("%v %s: %w", t.Kind, t.FullName(name), err)
	}
	sum := sha256.Sum256(value)
	r := &Resource{Name: name, Version: base64.RawURLEncoding.EncodeToString(sum[:6])}
	// The Any has no type: the response says it for all of its resources.
	content := protowire.AppendTag(nil, anyValue, protowire.BytesType)
	content = protowire.AppendBytes(content, value)
	body := protowire.AppendTag(nil, resourceVersion, protowire.BytesType)
	body = protowire.AppendString(body, r.Version)
	body = protowire.AppendTag(body, resourceAny, protowire.BytesType)
	body = protowire.AppendBytes(body, content)
	body = protowire.AppendTag(body, resourceName, protowire.BytesType)
	body = protowire.AppendString(body, t.FullName(name))
	r.Element = protowire.AppendTag(nil, responseResources, protowire.BytesType)
	r.Element = protowire.AppendBytes(r.Element, body)
	return r, nil
}

// FullName is the name on the stream of a resource of the topic.
func (t Topic) FullName(name string) string {
	full := t.Environment + "/" + t.Target
	if t.Kind.collected() {
		full += "/" + name
	}
	return full
}

// LocalName is the opposite of FullName; ok is false for a resource of another topic.
func (t Topic) LocalName(full string) (name string, ok bool) {
	rest, ok := strings.CutPrefix(full, t.Environment+"/"+t.Target)
	if !ok {
		return "", false
	}
	if !t.Kind.collected() {
		return "", rest == ""
	}
	return strings.CutPrefix(rest, "/")
}

// Wave says which nodes get the candidate of a resource, where there is one beside the stable version.
type Wave struct {
	// Nodes that get it, whatever the share.
	Nodes map[string]bool
	// Share of the other nodes, in permille. The nodes of a share are among those of every larger one.
	Permille uint32
	// Salt makes the order of nodes differ from roll-out to roll-out.
	Salt string
}

// Has tells whether a node is in the wave.
func (w *Wave) Has(node string) bool {
	return w.Nodes[node] || wire.Murmur3([]byte(w.Salt+"/"+node), 0)%1000 < w.Permille
}

// Entry is what a topic has of one resource: a stable version, and maybe a candidate for some nodes. Either may be
// nil: not there for those who would get it.
type Entry struct {
	Stable    *Resource
	Candidate *Resource
	Wave      *Wave // nil: no candidate
}

// For is the version that a node gets; nil: none.
func (e Entry) For(node string) *Resource {
	if e.Wave != nil && e.Wave.Has(node) {
		return e.Candidate
	}
	return e.Stable
}

// version of a resource that may not be there.
func version(r *Resource) string {
	if r == nil {
		return ""
	}
	return r.Version
}

// TopicOf is the topic of a resource's full name.
func TopicOf(k Kind, full string) (Topic, error) {
	if !k.collected() {
		return ParseTopic(k, full)
	}
	cut := strings.LastIndexByte(full, '/')
	return ParseTopic(k, full[:cut+1]+"*")
}
