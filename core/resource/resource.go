// Package resource turns what an operator writes, or a Pilot sends, into resources that are known to be
// sound: strict YAML in, octo.resource.v1 out, and errors that say file, line and field.
package resource

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Hash returns the content hash of a snapshot: 32 hexadecimal digits, equal for equal resources in
// whatever order they stand. It goes over all fields that the message has, so that a new kind of resource cannot
// be forgotten here: a change that no hash shows would never be published.
func Hash(s *resourcev1.Snapshot) string {
	var parts []string
	s.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if !f.IsList() {
			parts = append(parts, string(f.Name())+" "+v.String())
			return true
		}
		for i, list := 0, v.List(); i < list.Len(); i++ {
			parts = append(parts, string(f.Name())+" "+digest(list.Get(i).Message().Interface()))
		}
		return true
	})
	slices.Sort(parts)
	h := sha256.New()
	for _, p := range parts {
		h.Write([]byte(p))
		h.Write([]byte{'\n'})
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// digest hashes one resource.
func digest(m proto.Message) string {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return "unserializable: " + err.Error() // a string field that is not UTF-8; Validate refuses it
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}
