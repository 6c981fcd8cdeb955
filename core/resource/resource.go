// Package resource turns what an operator writes, or a Pilot sends, into resources that are known to be
// sound: strict YAML in, octo.resource.v1 out, and errors that say file, line and field.
package resource

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
	"google.golang.org/protobuf/proto"
)

// Hash returns the content hash of a snapshot: 32 hexadecimal digits, equal for equal resources in
// whatever order they stand.
func Hash(s *resourcev1.Snapshot) string {
	parts := make([]string, 0, len(s.GetEndpoints())+len(s.GetPolicies())+1)
	for _, e := range s.GetEndpoints() {
		parts = append(parts, "endpoint "+digest(e))
	}
	for _, p := range s.GetPolicies() {
		parts = append(parts, "policy "+digest(p))
	}
	slices.Sort(parts)
	h := sha256.New()
	for _, p := range append(parts, "environment "+s.GetEnvironment()) {
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
