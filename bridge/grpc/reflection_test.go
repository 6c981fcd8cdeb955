package grpc_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	reflection "google.golang.org/grpc/reflection/grpc_reflection_v1"
	alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	bridge "github.com/octomesh/octomesh/bridge/grpc"
	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// schemas are those of targets.
type schemas map[string]*resource.Descriptors

var errSilent = errors.New("nobody has said anything")

func (s schemas) Schema(_ context.Context, target string) (*resource.Descriptors, error) {
	if strings.HasPrefix(target, "silent") {
		return nil, errSilent
	}
	return s[target], nil
}

func described(t testing.TB, files ...*descriptorpb.FileDescriptorProto) *resource.Descriptors {
	t.Helper()
	raw, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: files})
	if err != nil {
		t.Fatal(err)
	}
	d, err := resource.Describe(&resourcev1.Schema{DescriptorSet: raw})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// file is one with a package, a service of it with the method Do, a message with two extensions, and imports.
func file(name, pkg, service string, imports ...string) *descriptorpb.FileDescriptorProto {
	extension := func(name string, n int32) *descriptorpb.FieldDescriptorProto {
		return &descriptorpb.FieldDescriptorProto{
			Name: proto.String(name), Number: proto.Int32(n), Extendee: proto.String("." + pkg + ".Item"),
			Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(), Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(),
		}
	}
	f := &descriptorpb.FileDescriptorProto{
		Name: proto.String(name), Package: proto.String(pkg), Dependency: imports,
		MessageType: []*descriptorpb.DescriptorProto{{
			Name: proto.String("Item"), ExtensionRange: []*descriptorpb.DescriptorProto_ExtensionRange{{Start: proto.Int32(100), End: proto.Int32(200)}},
		}},
		Extension: []*descriptorpb.FieldDescriptorProto{extension("second", 102), extension("first", 101)},
	}
	if service != "" {
		f.Service = []*descriptorpb.ServiceDescriptorProto{{Name: proto.String(service), Method: []*descriptorpb.MethodDescriptorProto{
			{Name: proto.String("Do"), InputType: proto.String("." + pkg + ".Item"), OutputType: proto.String("." + pkg + ".Item")},
		}}}
	}
	return f
}

// ask is a reflection call of either version.
type ask func(*reflection.ServerReflectionRequest) (*reflection.ServerReflectionResponse, error)

// asks opens a call of each version.
func asks(t testing.TB, cc *grpc.ClientConn) map[string]ask {
	t.Helper()
	now, err := reflection.NewServerReflectionClient(cc).ServerReflectionInfo(within(t))
	if err != nil {
		t.Fatal(err)
	}
	old, err := alpha.NewServerReflectionClient(cc).ServerReflectionInfo(within(t))
	if err != nil {
		t.Fatal(err)
	}
	return map[string]ask{
		"v1": func(r *reflection.ServerReflectionRequest) (*reflection.ServerReflectionResponse, error) {
			if err := now.Send(r); err != nil {
				return nil, err
			}
			return now.Recv()
		},
		"v1alpha": func(r *reflection.ServerReflectionRequest) (*reflection.ServerReflectionResponse, error) {
			//lint:ignore SA1019 old clients speak it still
			in := &alpha.ServerReflectionRequest{}
			convert(t, r, in)
			if err := old.Send(in); err != nil {
				return nil, err
			}
			got, err := old.Recv()
			if err != nil {
				return nil, err
			}
			out := &reflection.ServerReflectionResponse{}
			convert(t, got, out)
			return out, nil
		},
	}
}

func convert(t testing.TB, from, to proto.Message) {
	t.Helper()
	raw, err := proto.Marshal(from)
	if err == nil {
		err = proto.Unmarshal(raw, to)
	}
	if err != nil || len(to.ProtoReflect().GetUnknown()) > 0 {
		t.Fatalf("%v does not become a %T: %v", from, to, err)
	}
}

func symbol(name string) *reflection.ServerReflectionRequest {
	return &reflection.ServerReflectionRequest{Host: "h", MessageRequest: &reflection.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: name}}
}

func fileNamed(name string) *reflection.ServerReflectionRequest {
	return &reflection.ServerReflectionRequest{MessageRequest: &reflection.ServerReflectionRequest_FileByFilename{FileByFilename: name}}
}

func extensionsOf(name string) *reflection.ServerReflectionRequest {
	return &reflection.ServerReflectionRequest{MessageRequest: &reflection.ServerReflectionRequest_AllExtensionNumbersOfType{AllExtensionNumbersOfType: name}}
}

func extensionOf(name string, n int32) *reflection.ServerReflectionRequest {
	return &reflection.ServerReflectionRequest{MessageRequest: &reflection.ServerReflectionRequest_FileContainingExtension{
		FileContainingExtension: &reflection.ExtensionRequest{ContainingType: name, ExtensionNumber: n},
	}}
}

var everyService = &reflection.ServerReflectionRequest{MessageRequest: &reflection.ServerReflectionRequest_ListServices{}}

// said is an answer in a line: the names of files, services and numbers, or the error's code.
func said(t testing.TB, a ask, r *reflection.ServerReflectionRequest) string {
	t.Helper()
	got, err := a(r)
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(got.GetOriginalRequest(), r) || got.GetValidHost() != r.GetHost() {
		t.Errorf("the answer is to %v", got.GetOriginalRequest())
	}
	var all []string
	for _, raw := range got.GetFileDescriptorResponse().GetFileDescriptorProto() {
		f := &descriptorpb.FileDescriptorProto{}
		if err := proto.Unmarshal(raw, f); err != nil {
			t.Fatal(err)
		}
		all = append(all, f.GetName())
	}
	for _, s := range got.GetListServicesResponse().GetService() {
		all = append(all, s.GetName())
	}
	if x := got.GetAllExtensionNumbersResponse(); x != nil {
		all = append(all, fmt.Sprint(x.GetBaseTypeName(), x.GetExtensionNumber()))
	}
	if e := got.GetErrorResponse(); e != nil {
		all = append(all, codes.Code(e.GetErrorCode()).String())
	}
	return strings.Join(all, " ")
}

const ownServices = "grpc.health.v1.Health grpc.reflection.v1.ServerReflection grpc.reflection.v1alpha.ServerReflection"

func TestReflectionTellsWhatSchemasSay(t *testing.T) {
	m := startAsked(t, func(a *bridge.Answers) {
		a.Schemas = schemas{
			target:     described(t, file("dep.proto", "dep", ""), file("thing.proto", "octo.test.v1", "Thing", "dep.proto")),
			"mail.Box": described(t, file("mail.proto", "mail", "Box")),
			"till":     described(t, file("till.proto", "till", "Till")),
		}
	})
	m.publish(t, map[string][]string{target: nil, "till": nil})
	for version, a := range asks(t, m.cc) {
		for _, c := range []struct {
			asked *reflection.ServerReflectionRequest
			want  string
		}{
			{everyService, ownServices + " octo.test.v1.Thing till.Till"}, // of mail nobody has spoken yet
			{symbol("octo.test.v1.Thing"), "thing.proto dep.proto"},
			{symbol("octo.test.v1.Thing.Do"), "thing.proto"}, // the rest was sent
			{symbol("dep.Item"), "dep.proto"},
			{fileNamed("dep.proto"), "dep.proto"},
			{symbol("mail.Box.Do"), "mail.proto"}, // the service is its own target
			{symbol("mail.Item"), "mail.proto"},   // known from there
			{symbol("till.Till"), "till.proto"},
			{fileNamed("till.proto"), "till.proto"},
			{extensionsOf("dep.Item"), "dep.Item[101 102]"},
			{extensionOf("dep.Item", 101), "dep.proto"},
			{extensionOf("dep.Item", 103), "NotFound"},
			{extensionsOf("dep.None"), "NotFound"},
			{extensionsOf("octo.test.v1.Thing"), "octo.test.v1.Thing[]"},
			{symbol("nobody.Knows"), "NotFound"},
			{symbol(""), "NotFound"},
			{symbol("..."), "NotFound"},
			{fileNamed(""), "NotFound"},
			{symbol("silent.Service"), "Unavailable"},
			{symbol("grpc.health.v1.Health"), "grpc/health/v1/health.proto"},
			{symbol("grpc.reflection.v1alpha.ServerReflection"), "grpc/reflection/v1alpha/reflection.proto"},
		} {
			if got := said(t, a, c.asked); got != c.want {
				t.Errorf("%s: %v is answered %q, want %q", version, c.asked, got, c.want)
			}
		}
	}
}

func TestReflectionWithoutSchemasTellsOfTheProxyItself(t *testing.T) {
	m := startAsked(t, func(a *bridge.Answers) { a.Passed = func(name string) bool { return name == "grpc.health.v1.Health" } })
	m.publish(t, nil)
	for version, a := range asks(t, m.cc) {
		want := strings.TrimPrefix(ownServices, "grpc.health.v1.Health ")
		if got := said(t, a, everyService); got != want {
			t.Errorf("%s: listed are %q, want %q", version, got, want)
		}
	}
}

func TestReflectionGoesByTheAuthority(t *testing.T) {
	m := startAsked(t, func(a *bridge.Answers) {
		a.Schemas = schemas{target: described(t, file("thing.proto", "octo.test.v1", "Thing")), "till.Till": described(t, file("till.proto", "till", "Till"))}
	})
	m.publish(t, map[string][]string{target: nil, "till.Till": nil})
	cc, err := grpc.NewClient("unix:"+m.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("things.example"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cc.Close() }()
	for version, a := range asks(t, cc) {
		for asked, want := range map[*reflection.ServerReflectionRequest]string{
			everyService: ownServices + " octo.test.v1.Thing", symbol("octo.test.v1.Item"): "thing.proto", symbol("till.Till"): "NotFound",
		} {
			if got := said(t, a, asked); got != want {
				t.Errorf("%s: %v is answered %q, want %q", version, asked, got, want)
			}
		}
	}
}

// Each target's own schema tells of it, whatever the schemas of others hold under the same names.
func TestSchemasThatDisagreeAreEachTheirTargets(t *testing.T) {
	old := file("shared.proto", "shared", "Gone")
	fresh := file("shared.proto", "shared", "Kept")
	m := startAsked(t, func(a *bridge.Answers) {
		a.Schemas = schemas{
			"a.A": described(t, old, file("a.proto", "a", "A", "shared.proto")), "b.B": described(t, fresh, file("b.proto", "b", "B", "shared.proto")),
		}
	})
	m.publish(t, nil)
	for version, a := range asks(t, m.cc) {
		for _, c := range []struct {
			asked *reflection.ServerReflectionRequest
			want  string
		}{
			{symbol("a.A"), "a.proto shared.proto"}, {symbol("shared.Gone"), "shared.proto"}, {symbol("b.B"), "b.proto"},
			{symbol("shared.Kept"), "shared.proto"}, {symbol("a.Item"), "a.proto"},
		} {
			if got := said(t, a, c.asked); got != c.want {
				t.Errorf("%s: %v is answered %q, want %q", version, c.asked, got, c.want)
			}
		}
	}
}

// One answer may be larger than a stream's window, and than what the proxy takes in one message.
func TestLargeSchemasAreTold(t *testing.T) {
	var files []*descriptorpb.FileDescriptorProto
	var names []string
	for n := range 300 {
		f := file(fmt.Sprintf("f%d.proto", n), fmt.Sprintf("p%d_%s", n, strings.Repeat("x", 300)), "")
		files, names = append(files, f), append(names, f.GetName())
	}
	files = append(files, file("all.proto", "all", "All", names...))
	d := described(t, files...)
	m := startAsked(t, func(a *bridge.Answers) { a.Schemas = schemas{"all.All": d} })
	m.publish(t, nil)
	for version, a := range asks(t, m.cc) {
		if got := strings.Fields(said(t, a, symbol("all.All"))); d.Size < 256<<10 || len(got) != 301 || !slices.Contains(got, "f299.proto") {
			t.Errorf("%s: %d files of %d bytes in all came", version, len(got), d.Size)
		}
	}
}

func TestStrangeQuestionsAboutSchemasEndTheCall(t *testing.T) {
	m := startAsked(t, nil)
	m.publish(t, nil)
	for version, a := range asks(t, m.cc) {
		if _, err := a(&reflection.ServerReflectionRequest{}); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: a request that asks for nothing ends %v", version, err)
		}
	}
	for version, a := range asks(t, m.cc) {
		if _, err := a(symbol(strings.Repeat("x", 70<<10))); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("%s: a request of 70 KiB ends %v", version, err)
		}
	}
	s, err := m.cc.NewStream(within(t), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/grpc.reflection.v1.ServerReflection/Other")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RecvMsg(&msg{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("another method ends %v", err)
	}
}
