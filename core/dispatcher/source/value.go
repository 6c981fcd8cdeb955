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
