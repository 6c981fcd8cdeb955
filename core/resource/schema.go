package resource

import (
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// MaxSchema bounds a schema's descriptor set, in bytes, without comments and positions.
const MaxSchema = 400 << 10

// CompleteSchema fills in the services of a schema that can be read, and leaves out of its descriptor set what nobody
// needs who calls: comments and positions in files. Two schemas of the same files are equal then.
func CompleteSchema(s *resourcev1.Schema) {
	set, _, services, err := readSchema(s.GetDescriptorSet())
	if err != nil {
		return // the validation says what is wrong
	}
	for _, f := range set.GetFile() {
		f.SourceCodeInfo = nil
	}
	slim, err := proto.MarshalOptions{Deterministic: true}.Marshal(set)
	if err != nil {
		return
	}
	s.DescriptorSet = slim
	if len(s.GetServices()) == 0 {
		s.Services = services
	}
	slices.Sort(s.Services)
}

// SchemaFile is a configuration file with one schema: what is no descriptor set is in it as it is, for the Config Server to
// say what is wrong.
func SchemaFile(target string, descriptorSet []byte) []byte {
	s := &resourcev1.Schema{Target: target, DescriptorSet: descriptorSet}
	CompleteSchema(s) // smaller
	return Format(&resourcev1.Configuration{Schemas: []*resourcev1.Schema{s}})
}

// readSchema reads a descriptor set, and returns its files, and the names of its services, sorted.
func readSchema(raw []byte) (*descriptorpb.FileDescriptorSet, *protoregistry.Files, []string, error) {
	set := &descriptorpb.FileDescriptorSet{}
	if err := proto.Unmarshal(raw, set); err != nil {
		return nil, nil, nil, fmt.Errorf("is no google.protobuf.FileDescriptorSet: %w", err)
	}
	if len(set.GetFile()) == 0 {
		return nil, nil, nil, errors.New("holds no file")
	}
	have := make(map[string]bool)
	for _, f := range set.GetFile() {
		have[f.GetName()] = true
	}
	for _, f := range set.GetFile() {
		for _, dep := range f.GetDependency() {
			if !have[dep] {
				return nil, nil, nil, fmt.Errorf("%s imports %s, which is not in it: write it with all imports (buf build -o, protoc --include_imports)", f.GetName(), dep)
			}
		}
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("does not hold together: %w", err)
	}
	var services []string
	files.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			services = append(services, string(f.Services().Get(i).FullName()))
		}
		return true
	})
	slices.Sort(services)
	return set, files, services, nil
}

func (v *validator) checkSchemas(schemas []*resourcev1.Schema) {
	first := make(map[string]int)
	for i, s := range schemas {
		at := fmt.Sprintf("schemas[%d]", i)
		v.resource = "schema " + s.GetTarget()
		v.target(at+".target", s.GetTarget())
		if j, dup := first[s.GetTarget()]; dup {
			v.bad(at+".target", "is the target of schemas[%d] too: a target has one schema", j)
		} else {
			first[s.GetTarget()] = i
		}
		if len(s.GetDescriptorSet()) > MaxSchema {
			v.bad(at+".descriptor_set", "has %d bytes, at most %d: leave out files that the services do not need", len(s.GetDescriptorSet()), MaxSchema)
			continue
		}
		_, _, have, err := readSchema(s.GetDescriptorSet())
		switch {
		case len(s.GetDescriptorSet()) == 0:
			v.bad(at+".descriptor_set", "is missing: `octo schema push` takes it from a file")
			continue
		case err != nil:
			v.bad(at+".descriptor_set", "%v", err)
			continue
		case len(have) == 0:
			v.bad(at+".descriptor_set", "holds no service")
			continue
		}
		for j, name := range s.GetServices() {
			if !slices.Contains(have, name) {
				v.bad(fmt.Sprintf("%s.services[%d]", at, j), "%q is no service of the descriptor set: one of %v, or leave services out", shorten(name), have)
			}
		}
	}
}
