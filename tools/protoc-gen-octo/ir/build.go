package ir

import (
	"fmt"
	"sort"
	"strings"

	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// Build reads the compiler's request. The request must have been decoded without resolving extensions
// (see Decode), so that options of other people with our numbers are not taken for ours.
func Build(from *pluginpb.CodeGeneratorRequest, version string) (Request, error) {
	if err := refuseEditions(from); err != nil {
		return Request{}, err
	}
	registry, err := protodesc.NewFiles(&descriptorpb.FileDescriptorSet{File: from.GetProtoFile()})
	if err != nil {
		return Request{}, fmt.Errorf("the compiler's descriptors do not fit together: %w", err)
	}
	request := Request{Version: version, All: sortedFiles(registry)}
	for _, path := range from.GetFileToGenerate() {
		descriptor, err := registry.FindFileByPath(path)
		if err != nil {
			return Request{}, fmt.Errorf("%s: the compiler asks to generate it but sent no descriptor", path)
		}
		file, err := buildFile(descriptor)
		if err != nil {
			return Request{}, err
		}
		request.Files = append(request.Files, file)
	}
	return request, nil
}

// refuseEditions looks at the raw files, because descriptors of a future edition cannot be built at all.
// Imported files may use editions: their messages are other plugins' business.
func refuseEditions(from *pluginpb.CodeGeneratorRequest) error {
	generate := make(map[string]bool)
	for _, path := range from.GetFileToGenerate() {
		generate[path] = true
	}
	for _, file := range from.GetProtoFile() {
		if !generate[file.GetName()] {
			continue
		}
		switch syntax := file.GetSyntax(); syntax {
		case "", "proto2", "proto3":
		case "editions":
			edition := strings.TrimPrefix(file.GetEdition().String(), "EDITION_")
			return syntaxError(file, fmt.Sprintf(
				"edition %s is not supported: write syntax = \"proto3\" instead", edition))
		default:
			return syntaxError(file, fmt.Sprintf("syntax %q is not supported: write syntax = \"proto3\"", syntax))
		}
	}
	return nil
}

func syntaxError(file *descriptorpb.FileDescriptorProto, message string) error {
	const syntaxField = 12 // FileDescriptorProto.syntax: the path of the statement's position
	fault := &Error{Path: file.GetName(), Message: message}
	for _, location := range file.GetSourceCodeInfo().GetLocation() {
		if path := location.GetPath(); len(path) == 1 && path[0] == syntaxField && len(location.GetSpan()) >= 2 {
			fault.Line, fault.Column = int(location.GetSpan()[0])+1, int(location.GetSpan()[1])+1
		}
	}
	return fault
}

func sortedFiles(registry *protoregistry.Files) []protoreflect.FileDescriptor {
	var files []protoreflect.FileDescriptor
	registry.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		files = append(files, file)
		return true
	})
	sort.Slice(files, func(i, j int) bool { return files[i].Path() < files[j].Path() })
	return files
}

func buildFile(descriptor protoreflect.FileDescriptor) (File, error) {
	file := File{Descriptor: descriptor}
	ours := readsOurOptions(descriptor)
	services := descriptor.Services()
	for i := range services.Len() {
		service, err := buildService(services.Get(i), ours)
		if err != nil {
			return File{}, err
		}
		file.Services = append(file.Services, service)
	}
	return file, nil
}

func buildService(descriptor protoreflect.ServiceDescriptor, ours optionReader) (Service, error) {
	options := descriptor.Options().(*descriptorpb.ServiceOptions)
	service := Service{
		Descriptor: descriptor,
		Comment:    commentOf(descriptor),
		Deprecated: options.GetDeprecated(),
	}
	extra, err := ours.service(descriptor, options)
	if err != nil {
		return Service{}, err
	}
	service.Target = extra.GetTarget()
	methods := descriptor.Methods()
	for i := range methods.Len() {
		method, err := buildMethod(methods.Get(i), ours)
		if err != nil {
			return Service{}, err
		}
		service.Methods = append(service.Methods, method)
	}
	return service, nil
}

func buildMethod(descriptor protoreflect.MethodDescriptor, ours optionReader) (Method, error) {
	options := descriptor.Options().(*descriptorpb.MethodOptions)
	method := Method{
		Descriptor: descriptor,
		Comment:    commentOf(descriptor),
		Deprecated: options.GetDeprecated(),
		Kind:       kindOf(descriptor),
		Input:      descriptor.Input(),
		Output:     descriptor.Output(),
		Idempotent: options.GetIdempotencyLevel() != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN,
	}
	extra, err := ours.method(descriptor, options)
	if err != nil {
		return Method{}, err
	}
	if extra.Idempotent != nil {
		method.Idempotent = extra.GetIdempotent()
	}
	if extra.GetTimeout() != nil {
		if method.Timeout, err = positiveDuration(descriptor, extra.GetTimeout()); err != nil {
			return Method{}, err
		}
	}
	return method, nil
}

func commentOf(descriptor protoreflect.Descriptor) string {
	location := descriptor.ParentFile().SourceLocations().ByDescriptor(descriptor)
	if location.LeadingComments != "" {
		return location.LeadingComments
	}
	return location.TrailingComments
}
