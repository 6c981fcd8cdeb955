package resource

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// Descriptors is a schema as one asks it: for symbols, and for the files that say what they are. It is immutable.
type Descriptors struct {
	// Services are full names, sorted.
	Services []string
	// Size is that of the encoded descriptor set, in bytes.
	Size int

	files      *protoregistry.Files
	encoded    map[string][]byte // by path
	extensions map[protoreflect.FullName]map[protoreflect.FieldNumber]string
}

// Describe reads a schema.
func Describe(s *resourcev1.Schema) (*Descriptors, error) {
	raw := s.GetDescriptorSet()
	if len(raw) > MaxSchema {
		return nil, fmt.Errorf("has %d bytes, at most %d", len(raw), MaxSchema)
	}
	_, files, services, err := readSchema(raw)
	if err != nil {
		return nil, err
	}
	if some := s.GetServices(); len(some) > 0 {
		services = slices.Sorted(slices.Values(some))
	}
	d := &Descriptors{
		Services: services, Size: len(raw), files: files, encoded: make(map[string][]byte),
		extensions: make(map[protoreflect.FullName]map[protoreflect.FieldNumber]string),
	}
	if err := d.split(raw); err != nil {
		return nil, err
	}
	files.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		d.index(f.Path(), f.Extensions(), f.Messages())
		return true
	})
	return d, nil
}

// split finds the files in a descriptor set: what is answered with is what was pushed, byte by byte.
func (d *Descriptors) split(set []byte) error {
	for len(set) > 0 {
		_, kind, n := protowire.ConsumeTag(set)
		if n < 0 {
			return protowire.ParseError(n)
		}
		size := protowire.ConsumeFieldValue(1, kind, set[n:])
		if size < 0 {
			return protowire.ParseError(size)
		}
		if kind == protowire.BytesType {
			file, _ := protowire.ConsumeBytes(set[n:])
			if path, ok := pathOf(file); ok {
				d.encoded[path] = file
			}
		}
		set = set[n+size:]
	}
	if len(d.encoded) != d.files.NumFiles() {
		return errors.New("does not hold each of its files once")
	}
	return nil
}

// pathOf is the name in an encoded FileDescriptorProto.
func pathOf(file []byte) (path string, ok bool) {
	const name = 1
	for len(file) > 0 {
		number, kind, n := protowire.ConsumeTag(file)
		if n < 0 {
			return "", false
		}
		size := protowire.ConsumeFieldValue(number, kind, file[n:])
		if size < 0 {
			return "", false
		}
		if number == name && kind == protowire.BytesType {
			v, _ := protowire.ConsumeBytes(file[n:])
			path, ok = string(v), true
		}
		file = file[n+size:]
	}
	return path, ok
}

func (d *Descriptors) index(path string, extensions protoreflect.ExtensionDescriptors, messages protoreflect.MessageDescriptors) {
	for i := range extensions.Len() {
		x := extensions.Get(i)
		of := x.ContainingMessage().FullName()
		if d.extensions[of] == nil {
			d.extensions[of] = make(map[protoreflect.FieldNumber]string)
		}
		d.extensions[of][x.Number()] = path
	}
	for i := range messages.Len() {
		d.index(path, messages.Get(i).Extensions(), messages.Get(i).Messages())
	}
}

// Has tells whether there is a file of a path.
func (d *Descriptors) Has(path string) bool { return d.encoded[path] != nil }

// Find returns the path of the file that declares a symbol: a service, a method, a message, a field or whatever else has a full name.
func (d *Descriptors) Find(symbol string) (path string, ok bool) {
	found, err := d.files.FindDescriptorByName(protoreflect.FullName(symbol))
	if err != nil {
		return "", false
	}
	return found.ParentFile().Path(), true
}

// FindExtension returns the path of the file that declares an extension of a message.
func (d *Descriptors) FindExtension(message string, number int32) (path string, ok bool) {
	path, ok = d.extensions[protoreflect.FullName(message)][protoreflect.FieldNumber(number)]
	return path, ok
}

// Extensions are the numbers of a message's extensions, sorted.
func (d *Descriptors) Extensions(message string) (numbers []int32) {
	for n := range maps.Keys(d.extensions[protoreflect.FullName(message)]) {
		numbers = append(numbers, int32(n))
	}
	slices.Sort(numbers)
	return numbers
}

// AppendFiles appends a file, encoded, and those that it imports, directly or not, of which sent does not say yet that they were
// sent; it says so then.
func (d *Descriptors) AppendFiles(out [][]byte, path string, sent map[string]bool) [][]byte {
	seen := map[string]bool{path: true}
	for queue := []string{path}; len(queue) > 0; queue = queue[1:] {
		f, err := d.files.FindFileByPath(queue[0])
		if err != nil {
			continue
		}
		if !sent[queue[0]] || queue[0] == path {
			sent[queue[0]] = true
			out = append(out, d.encoded[queue[0]])
		}
		for i := range f.Imports().Len() {
			if p := f.Imports().Get(i).Path(); !seen[p] {
				seen[p] = true
				queue = append(queue, p)
			}
		}
	}
	return out
}

// Methods yields the methods of a service.
func (d *Descriptors) Methods(service string) func(yield func(protoreflect.MethodDescriptor) bool) {
	return func(yield func(protoreflect.MethodDescriptor) bool) {
		found, err := d.files.FindDescriptorByName(protoreflect.FullName(service))
		s, ok := found.(protoreflect.ServiceDescriptor)
		if err != nil || !ok {
			return
		}
		for i := range s.Methods().Len() {
			if !yield(s.Methods().Get(i)) {
				return
			}
		}
	}
}
