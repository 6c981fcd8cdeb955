package resource

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/bits"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Sum is the content hash of a set of resources: the sum of a hash of each, modulo 2^128. So it is equal for equal sets in
// whatever order they stand, and can be kept up as resources come and go. It tells mistakes, not forgers. The zero value
// is that of nothing.
type Sum struct{ high, low uint64 }

// Plus is the sum with a resource, or a set, more.
func (s Sum) Plus(o Sum) Sum {
	low, carry := bits.Add64(s.low, o.low, 0)
	high, _ := bits.Add64(s.high, o.high, carry)
	return Sum{high, low}
}

// Minus is the sum without a resource, or a set, that is in it.
func (s Sum) Minus(o Sum) Sum {
	low, borrow := bits.Sub64(s.low, o.low, 0)
	high, _ := bits.Sub64(s.high, o.high, borrow)
	return Sum{high, low}
}

// String is the sum in 32 hexadecimal digits.
func (s Sum) String() string { return fmt.Sprintf("%016x%016x", s.high, s.low) }

// Fields of a snapshot, as their resources are counted in its sum.
const (
	inEndpoints    = "endpoints"
	inPolicies     = "policies"
	inAuthPolicies = "auth_policies"
)

// SumOfEndpoint is what an endpoint adds to a snapshot's sum.
func SumOfEndpoint(e *resourcev1.Endpoint) Sum { return digest(inEndpoints, e) }

// SumOfPolicy is what a service policy adds to a snapshot's sum.
func SumOfPolicy(p *resourcev1.ServicePolicy) Sum { return digest(inPolicies, p) }

// SumOfAuthPolicy is what an auth policy adds to a snapshot's sum.
func SumOfAuthPolicy(p *resourcev1.AuthPolicy) Sum { return digest(inAuthPolicies, p) }

// SumOf is the sum of a snapshot. It goes over all fields that the message has, so that a new kind of resource cannot be
// forgotten here: a change that no hash shows would never be published.
func SumOf(s *resourcev1.Snapshot) Sum {
	var sum Sum
	s.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if !f.IsList() {
			sum = sum.Plus(sumOfText(string(f.Name()), v.String()))
			return true
		}
		for i, list := 0, v.List(); i < list.Len(); i++ {
			sum = sum.Plus(digest(string(f.Name()), list.Get(i).Message().Interface()))
		}
		return true
	})
	return sum
}

// Hash returns the content hash of a snapshot: its sum as text.
func Hash(s *resourcev1.Snapshot) string { return SumOf(s).String() }

// digest hashes one resource of a snapshot's field.
func digest(field string, m proto.Message) Sum {
	b := append(make([]byte, 0, 256), field...)
	b = append(b, ' ')
	b, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(b, m)
	if err != nil {
		return sumOfText(field, "unserializable: "+err.Error()) // a string field that is not UTF-8; Validate refuses it
	}
	return sumOfBytes(b)
}

func sumOfText(field, value string) Sum { return sumOfBytes([]byte(field + " " + value)) }

func sumOfBytes(b []byte) Sum {
	h := sha256.Sum256(b)
	return Sum{binary.BigEndian.Uint64(h[:8]), binary.BigEndian.Uint64(h[8:16])}
}
