// Package snapshot is what one Pilot knows: resources as immutable encoded bytes, in topics, and who follows them.
// It decides nothing about streams and does no I/O.
package snapshot

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/resource"
	"github.com/octomesh/octomesh/core/wire"
)

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
	anyType           = 1
	anyValue          = 2
)

// New encodes a resource once and for all.
func New(t resource.Topic, name string, m proto.Message) (*Resource, error) {
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("%v %s: %w", t.Kind, t.FullName(name), err)
	}
	return Encoded(t, name, value), nil
}

// Encoded is New for what is encoded already: deterministically, or Pilots would not agree on its version.
func Encoded(t resource.Topic, name string, value []byte) *Resource {
	r := &Resource{Name: name, Version: VersionOf(value)}
	full := t.FullName(name)
	// The Any has no type: the response says it for all of its resources. Clients that are not ours want it in each.
	typeURL := ""
	content := sizeOf(anyValue, len(value))
	if t.Kind.Derived() {
		typeURL = t.Kind.TypeURL()
		content += sizeOf(anyType, len(typeURL))
	}
	body := sizeOf(resourceVersion, len(r.Version)) + sizeOf(resourceAny, content) + sizeOf(resourceName, len(full))
	// There are millions of them: in one piece, and of its size.
	b := make([]byte, 0, sizeOf(responseResources, body))
	b = appendHead(b, responseResources, body)
	b = append(appendHead(b, resourceVersion, len(r.Version)), r.Version...)
	b = appendHead(b, resourceAny, content)
	if typeURL != "" {
		b = append(appendHead(b, anyType, len(typeURL)), typeURL...)
	}
	b = append(appendHead(b, anyValue, len(value)), value...)
	b = append(appendHead(b, resourceName, len(full)), full...)
	r.Element = b
	return r
}

// sizeOf is the size of a field of so many bytes, with its tag and length.
func sizeOf(number protowire.Number, bytes int) int {
	return protowire.SizeTag(number) + protowire.SizeBytes(bytes)
}

// appendHead appends the tag and length of a field of so many bytes.
func appendHead(b []byte, number protowire.Number, bytes int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, number, protowire.BytesType), uint64(bytes))
}

// VersionOf is the version of a resource with an encoded message.
func VersionOf(value []byte) string {
	sum := sha256.Sum256(value)
	return base64.RawURLEncoding.EncodeToString(sum[:6])
}

// Value is the message that the resource was made of, encoded. It is a part of Element.
func (r *Resource) Value() []byte {
	body := field(r.Element, responseResources)
	return field(field(body, resourceAny), anyValue)
}

// State is the resource as it stands in a response of the whole state: one element of DiscoveryResponse.resources, with its
// tag. It is a part of Element, since both messages have the Any in a field of the same number.
func (r *Resource) State() []byte {
	b := field(r.Element, responseResources)
	for len(b) > 0 {
		n, _, size := protowire.ConsumeField(b)
		if size < 0 || n == resourceAny {
			return b[:max(size, 0):max(size, 0)]
		}
		b = b[size:]
	}
	return nil
}

// field returns the first field of a number, which holds bytes, of an encoded message.
func field(b []byte, number protowire.Number) []byte {
	for len(b) > 0 {
		n, kind, size := protowire.ConsumeTag(b)
		if size < 0 {
			return nil
		}
		b = b[size:]
		if size = protowire.ConsumeFieldValue(n, kind, b); size < 0 {
			return nil
		}
		if n == number {
			v, _ := protowire.ConsumeBytes(b)
			return v
		}
		b = b[size:]
	}
	return nil
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

// differs tells whether any node may get another version from the other entry.
func (e Entry) differs(other Entry) bool {
	if e.Wave != nil || other.Wave != nil {
		return true // each follower is looked at
	}
	return version(e.Stable) != version(other.Stable)
}

// version of a resource that may not be there.
func version(r *Resource) string {
	if r == nil {
		return ""
	}
	return r.Version
}
