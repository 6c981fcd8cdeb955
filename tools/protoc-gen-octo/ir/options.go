package ir

import (
	"math"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/pluginpb"

	optionsv1 "github.com/octomesh/octomesh/gen/go/octo/options/v1"
)

// Decode reads the compiler's request and leaves every custom option unresolved, as bytes.
//
// Extension numbers are not unique between companies: a stranger's own option may have our number, with
// another type. Only a file that imports octo/options/v1 means ours (see readsOurOptions).
func Decode(encoded []byte) (*pluginpb.CodeGeneratorRequest, error) {
	request := new(pluginpb.CodeGeneratorRequest)
	err := proto.UnmarshalOptions{Resolver: new(protoregistry.Types)}.Unmarshal(encoded, request)
	return request, err
}

// optionReader reads our options, or finds none where the file does not know them.
type optionReader struct {
	resolver *protoregistry.Types // nil where the file does not import our options
}

// readsOurOptions looks for the extensions by name, not by file, so that a vendored copy of
// octo/options/v1/options.proto may lie at any path.
func readsOurOptions(file protoreflect.FileDescriptor) optionReader {
	seen := make(map[string]bool)
	var declared func(protoreflect.FileDescriptor) bool
	declared = func(file protoreflect.FileDescriptor) bool {
		if seen[file.Path()] {
			return false
		}
		seen[file.Path()] = true
		if file.Package() == optionsv1.E_Service.TypeDescriptor().ParentFile().Package() &&
			file.Extensions().ByName(optionsv1.E_Method.TypeDescriptor().Name()) != nil {
			return true
		}
		imports := file.Imports()
		for i := range imports.Len() {
			if declared(imports.Get(i).FileDescriptor) {
				return true
			}
		}
		return false
	}
	if !declared(file) {
		return optionReader{}
	}
	resolver := new(protoregistry.Types)
	for _, extension := range []protoreflect.ExtensionType{optionsv1.E_Service, optionsv1.E_Method} {
		// The registry is new and the two differ, so this cannot fail.
		if err := resolver.RegisterExtension(extension); err != nil {
			panic(err)
		}
	}
	return optionReader{resolver: resolver}
}

func (r optionReader) service(
	at protoreflect.ServiceDescriptor, options *descriptorpb.ServiceOptions,
) (*optionsv1.ServiceOptions, error) {
	resolved := new(descriptorpb.ServiceOptions)
	if err := r.resolve(at, options, resolved); err != nil {
		return nil, err
	}
	ours, _ := proto.GetExtension(resolved, optionsv1.E_Service).(*optionsv1.ServiceOptions)
	if err := refuseUnknown(at, ours, "octo.options.v1.service"); err != nil {
		return nil, err
	}
	return ours, nil
}

func (r optionReader) method(
	at protoreflect.MethodDescriptor, options *descriptorpb.MethodOptions,
) (*optionsv1.MethodOptions, error) {
	resolved := new(descriptorpb.MethodOptions)
	if err := r.resolve(at, options, resolved); err != nil {
		return nil, err
	}
	ours, _ := proto.GetExtension(resolved, optionsv1.E_Method).(*optionsv1.MethodOptions)
	if err := refuseUnknown(at, ours, "octo.options.v1.method"); err != nil {
		return nil, err
	}
	if ours == nil {
		ours = new(optionsv1.MethodOptions)
	}
	return ours, nil
}

// resolve decodes options once more, now with our extensions known.
func (r optionReader) resolve(at protoreflect.Descriptor, from, into proto.Message) error {
	if r.resolver == nil {
		return nil
	}
	encoded, err := proto.Marshal(from)
	if err == nil {
		err = proto.UnmarshalOptions{Resolver: r.resolver}.Unmarshal(encoded, into)
	}
	if err != nil {
		return Errorf(at, "the options of %s cannot be read: %v", at.FullName(), err)
	}
	return nil
}

// refuseUnknown keeps an option that a newer options.proto knows from being dropped without a word.
func refuseUnknown(at protoreflect.Descriptor, options proto.Message, name string) error {
	if unknown := options.ProtoReflect().GetUnknown(); len(unknown) > 0 {
		return Errorf(at, "option (%s) of %s has a field that this protoc-gen-octo does not know: "+
			"use the plugin that belongs to your octo/options/v1/options.proto", name, at.FullName())
	}
	return nil
}

func positiveDuration(at protoreflect.Descriptor, value *durationpb.Duration) (time.Duration, error) {
	if err := value.CheckValid(); err != nil {
		return 0, Errorf(at, "(octo.options.v1.method).timeout of %s is not a duration: %v", at.FullName(), err)
	}
	duration := value.AsDuration()
	// AsDuration answers with the limit when the value does not fit (292 years).
	if duration <= 0 || duration == math.MaxInt64 {
		return 0, Errorf(at, "(octo.options.v1.method).timeout of %s must be more than 0 and less than 292 years",
			at.FullName())
	}
	return duration, nil
}
