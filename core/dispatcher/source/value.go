package source

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// MaxValue bounds the value of one entry in a registry, in bytes.
const MaxValue = 64 << 10

// Encode makes the value of an entry: the endpoint as protobuf's JSON, which people and foreign programs can read and
// write. It refuses what [Decode] would.
func Encode(k Key, e *resourcev1.Endpoint) ([]byte, error) {
	if err := k.Check(); err != nil {
		return nil, err
	}
	if err := CheckEndpoint(k, e); err != nil {
		return nil, err
	}
	b, err := protojson.Marshal(e)
	if err == nil && len(b) > MaxValue {
		err = fmt.Errorf("endpoint %s takes %d bytes, and %d at most: give it fewer tags", e.GetInstance(), len(b), MaxValue)
	}
	if err != nil {
		return nil, &Error{Kind: Invalid, Op: "encode", Key: k, Err: err}
	}
	return b, nil
}

// Decode reads the value of an entry of an instance. Target and instance may be left out of it: the entry's path has
// them. Fields that it does not know are passed over, so that a newer version may write them.
func Decode(k Key, instance string, value []byte) (*resourcev1.Endpoint, error) {
	if len(value) > MaxValue {
		return nil, &Error{Kind: Invalid, Op: "decode", Key: k,
			Err: fmt.Errorf("entry %s takes %d bytes, and %d at most", instance, len(value), MaxValue)}
	}
	e := &resourcev1.Endpoint{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(value, e); err != nil {
		return nil, &Error{Kind: Invalid, Op: "decode", Key: k, Err: fmt.Errorf("entry %s is not an Endpoint in JSON: %w", instance, err)}
	}
	if e.GetTarget() == "" {
		e.Target = k.Target
	}
	if e.GetInstance() == "" {
		e.Instance = instance
	}
	if e.GetInstance() != instance {
		return nil, &Error{Kind: Invalid, Op: "decode", Key: k,
			Err: fmt.Errorf("entry %s says that it is instance %q", instance, e.GetInstance())}
	}
	if err := CheckEndpoint(k, e); err != nil {
		return nil, err
	}
	return e, nil
}

// Yields tells whether what stands in a registry gives way to an endpoint of the same instance. again: the endpoint was
// registered before, and lost its place; ours: what stands there is of the same registrar.
func Yields(there, e *resourcev1.Endpoint, again, ours bool) bool {
	if again && !ours && there.GetIncarnation() == e.GetIncarnation() {
		return false
	}
	return there.GetIncarnation() <= e.GetIncarnation()
}

// Same tells whether two endpoints are of one incarnation of an instance at the same mesh address.
func Same(a, b *resourcev1.Endpoint) bool {
	return a.GetInstance() == b.GetInstance() && a.GetIncarnation() == b.GetIncarnation() &&
		a.GetMeshAddress() == b.GetMeshAddress()
}
