package grpc

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	reflection "google.golang.org/grpc/reflection/grpc_reflection_v1"
	alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// Schemas know what targets serve, in protobuf's own words.
type Schemas interface {
	// Schema returns the schema of a target; nil: it has none. It waits until that is known, or ctx ends.
	Schema(ctx context.Context, target string) (*resource.Descriptors, error)
}

// The two versions of reflection differ in their names alone: their messages are equal, byte by byte.
const (
	reflectionService = "grpc.reflection.v1.ServerReflection"
	reflectionAlpha   = "grpc.reflection.v1alpha.ServerReflection"
)

const (
	// maxReflected bounds the targets whose services are listed.
	maxReflected = 64
	// maxRecent bounds the schemas that one call holds: those that it got its latest answers from.
	maxRecent = 8
)

// own describes what the proxy itself answers.
var own = sync.OnceValue(func() *resource.Descriptors {
	set := &descriptorpb.FileDescriptorSet{}
	for _, f := range []protoreflect.FileDescriptor{
		grpc_health_v1.File_grpc_health_v1_health_proto, reflection.File_grpc_reflection_v1_reflection_proto, alpha.File_grpc_reflection_v1alpha_reflection_proto,
	} {
		set.File = append(set.File, protodesc.ToFileDescriptorProto(f))
	}
	raw, err := proto.Marshal(set)
	if err != nil {
		panic(err) // they are linked in
	}
	d, err := resource.Describe(&resourcev1.Schema{DescriptorSet: raw})
	if err != nil {
		panic(err)
	}
	return d
})

// reflect answers a call to a reflection service.
func (q *question) reflect() error {
	if q.Method != "ServerReflectionInfo" {
		return q.noMethod()
	}
	m := reflected{question: q, sent: make(map[string]bool)}
	for {
		in := &reflection.ServerReflectionRequest{}
		switch err := q.receive(in); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		out := m.answer(in)
		if out == nil {
			return status.Error(codes.InvalidArgument, "a request that asks for nothing")
		}
		if err := q.send(out); err != nil {
			return err
		}
	}
}

type response = reflection.ServerReflectionResponse

// reflected is one call in which a client asks what there is.
type reflected struct {
	*question
	sent   map[string]bool // files, by their paths: each is sent once, but for those that are asked for
	recent []*resource.Descriptors
}

// answer answers one request; nil: it asks for nothing that is known.
func (m *reflected) answer(in *reflection.ServerReflectionRequest) *response {
	ctx, cancel := context.WithTimeout(m.l.Context(), learn)
	defer cancel()
	look := lookup{reflected: m, ctx: ctx}
	out := &response{ValidHost: in.GetHost(), OriginalRequest: in}
	switch r := in.GetMessageRequest().(type) {
	case *reflection.ServerReflectionRequest_ListServices:
		out.MessageResponse = &reflection.ServerReflectionResponse_ListServicesResponse{ListServicesResponse: look.services()}
	case *reflection.ServerReflectionRequest_FileByFilename:
		look.files(out, "", "file "+r.FileByFilename, func(d *resource.Descriptors) (string, bool) {
			return r.FileByFilename, d.Has(r.FileByFilename)
		})
	case *reflection.ServerReflectionRequest_FileContainingSymbol:
		look.files(out, r.FileContainingSymbol, "symbol "+r.FileContainingSymbol, func(d *resource.Descriptors) (string, bool) {
			return d.Find(r.FileContainingSymbol)
		})
	case *reflection.ServerReflectionRequest_FileContainingExtension:
		of, number := r.FileContainingExtension.GetContainingType(), r.FileContainingExtension.GetExtensionNumber()
		look.files(out, "", "such extension of "+of, func(d *resource.Descriptors) (string, bool) { return d.FindExtension(of, number) })
	case *reflection.ServerReflectionRequest_AllExtensionNumbersOfType:
		look.extensions(out, r.AllExtensionNumbersOfType)
	default:
		return nil
	}
	if e := out.GetErrorResponse(); e != nil && len(look.problems) > 0 {
		e.ErrorCode, e.ErrorMessage = int32(codes.Unavailable), look.problems[0].Error()
	}
	return out
}

// lookup answers one request.
type lookup struct {
	*reflected
	ctx      context.Context
	problems []error // why not everything was looked at
}

// schema is what a target serves; nil: it is not known.
func (l *lookup) schema(target string) *resource.Descriptors {
	if l.a.Schemas == nil {
		return nil
	}
	d, err := l.a.Schemas.Schema(l.ctx, target)
	if err != nil {
		l.problems = append(l.problems, err)
	}
	return d
}

// targets are those whose services are listed: the one that the authority means, or those that the proxy knows: by its file first, then
// by what was called through it, or is attached to it.
func (l *lookup) targets() []string {
	if one := l.target(""); one != "" {
		return []string{one}
	}
	var all []string
	for _, more := range [][]string{l.named(), l.mesh.Targets()} {
		slices.Sort(more)
		for _, t := range more {
			if len(all) < maxReflected && !slices.Contains(all, t) {
				all = append(all, t)
			}
		}
	}
	return all
}

// named are the targets of the services that are known by name, and those of which there are schemas by name.
func (l *lookup) named() []string {
	all := slices.Clone(l.a.Targets)
	for _, s := range l.a.Services {
		all = append(all, l.target(s))
	}
	return all
}

// services lists the services of all schemas that the proxy knows, and those that it answers itself.
func (l *lookup) services() *reflection.ListServiceResponse {
	var names []string
	for _, s := range own().Services {
		if l.a.Answers([]byte(s)) {
			names = append(names, s)
		}
	}
	for _, t := range l.targets() {
		if d := l.schema(t); d != nil {
			names = append(names, d.Services...)
		}
	}
	slices.Sort(names)
	out := &reflection.ListServiceResponse{}
	for _, s := range slices.Compact(names) {
		out.Service = append(out.Service, &reflection.ServiceResponse{Name: s})
	}
	return out
}

// schemas yields the schemas in which an answer may be, the likeliest first: what the file says of a service's target, what the call's
// latest answers came from, the target that is called as the symbol, or as the service of which it may be a method, and then all
// others that the proxy knows.
func (l *lookup) schemas(symbol string) func(yield func(*resource.Descriptors) bool) {
	return func(yield func(*resource.Descriptors) bool) {
		var targets []string
		if one := l.target(""); one != "" {
			targets = []string{one}
		} else if symbol != "" {
			targets = []string{l.target(symbol)}
			if i := strings.LastIndexByte(symbol, '.'); i > 0 {
				targets = append(targets, l.target(symbol[:i]))
			}
			if targets[0] != symbol && !l.each(targets[:1], yield) {
				return
			}
		}
		for _, d := range slices.Backward(l.recent) {
			if !yield(d) {
				return
			}
		}
		if l.each(targets, yield) && yield(own()) && l.target("") == "" {
			l.each(l.targets(), yield)
		}
	}
}

func (l *lookup) each(targets []string, yield func(*resource.Descriptors) bool) bool {
	for _, t := range targets {
		if d := l.schema(t); d != nil && !yield(d) {
			return false
		}
	}
	return true
}

// files answers with a file, and what it imports, from the first schema in which it is found. The search begins with a symbol, or with
// nothing.
func (l *lookup) files(out *response, symbol, missing string, find func(*resource.Descriptors) (path string, ok bool)) {
	for d := range l.schemas(symbol) {
		if path, ok := find(d); ok {
			l.use(d)
			out.MessageResponse = &reflection.ServerReflectionResponse_FileDescriptorResponse{
				FileDescriptorResponse: &reflection.FileDescriptorResponse{FileDescriptorProto: d.AppendFiles(nil, path, l.sent)},
			}
			return
		}
	}
	notFound(out, missing)
}

// use notes that an answer has come from a schema.
func (l *lookup) use(d *resource.Descriptors) {
	if i := slices.Index(l.recent, d); i >= 0 {
		l.recent = slices.Delete(l.recent, i, i+1)
	}
	if l.recent = append(l.recent, d); len(l.recent) > maxRecent {
		l.recent = slices.Delete(l.recent, 0, 1)
	}
}

// extensions answers with the numbers of a message's extensions, in all schemas that have the message.
func (l *lookup) extensions(out *response, of string) {
	var numbers []int32
	known := false
	for d := range l.schemas(of) {
		if _, ok := d.Find(of); ok {
			known = true
			numbers = append(numbers, d.Extensions(of)...)
		}
	}
	if !known {
		notFound(out, "message "+of)
		return
	}
	slices.Sort(numbers)
	out.MessageResponse = &reflection.ServerReflectionResponse_AllExtensionNumbersResponse{AllExtensionNumbersResponse: &reflection.ExtensionNumberResponse{
		BaseTypeName: of, ExtensionNumber: slices.Compact(numbers),
	}}
}

func notFound(out *response, what string) {
	out.MessageResponse = &reflection.ServerReflectionResponse_ErrorResponse{ErrorResponse: &reflection.ErrorResponse{
		ErrorCode: int32(codes.NotFound), ErrorMessage: "no " + what + " in any schema that the proxy knows: octo schema push TARGET FILE makes one known",
	}}
}
