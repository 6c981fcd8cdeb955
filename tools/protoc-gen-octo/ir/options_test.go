package ir

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/pluginpb"

	optionsv1 "github.com/octomesh/octomesh/gen/go/octo/options/v1"
)

const optionNumber = 50710

// build gives a method options in the encoded form that a compiler sends, in a file that imports ours or not.
func build(t *testing.T, importOurs bool, options []byte) (Method, error) {
	t.Helper()
	method := &descriptorpb.MethodDescriptorProto{
		Name: proto.String("Do"), InputType: proto.String(".a.M"), OutputType: proto.String(".a.M"),
		Options: new(descriptorpb.MethodOptions),
	}
	method.Options.ProtoReflect().SetUnknown(options)
	file := &descriptorpb.FileDescriptorProto{
		Name: proto.String("a.proto"), Package: proto.String("a"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("M")}},
		Service: []*descriptorpb.ServiceDescriptorProto{{
			Name: proto.String("S"), Method: []*descriptorpb.MethodDescriptorProto{method},
		}},
	}
	request := &pluginpb.CodeGeneratorRequest{FileToGenerate: []string{"a.proto"}}
	if importOurs {
		ours := protodesc.ToFileDescriptorProto(optionsv1.File_octo_options_v1_options_proto)
		ours.Name = proto.String("third_party/our_options.proto") // a vendored copy
		file.Dependency = []string{"third_party/our_options.proto"}
		request.ProtoFile = append(request.ProtoFile,
			protodesc.ToFileDescriptorProto(descriptorpb.File_google_protobuf_descriptor_proto),
			protodesc.ToFileDescriptorProto(durationpb.File_google_protobuf_duration_proto), ours)
	}
	request.ProtoFile = append(request.ProtoFile, file)
	encoded, err := proto.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := Decode(encoded)
	if err != nil {
		t.Fatal(err)
	}
	built, err := Build(decoded, "test")
	if err != nil {
		return Method{}, err
	}
	return built.Files[0].Services[0].Methods[0], nil
}

func encodedOption(t *testing.T, value *optionsv1.MethodOptions, more ...byte) []byte {
	t.Helper()
	encoded, err := proto.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	out := protowire.AppendTag(nil, optionNumber, protowire.BytesType)
	return protowire.AppendBytes(out, append(encoded, more...))
}

func TestOptionsAreReadFromAVendoredCopy(t *testing.T) {
	t.Parallel()
	// A compiler may send one option in several pieces, which merge.
	options := append(encodedOption(t, &optionsv1.MethodOptions{Timeout: durationpb.New(time.Second)}),
		encodedOption(t, &optionsv1.MethodOptions{Idempotent: proto.Bool(true)})...)
	method, err := build(t, true, options)
	if err != nil {
		t.Fatal(err)
	}
	if method.Timeout != time.Second || !method.Idempotent {
		t.Errorf("timeout %v, idempotent %v", method.Timeout, method.Idempotent)
	}
}

func TestForeignOptionWithOurNumberIsLeftAlone(t *testing.T) {
	t.Parallel()
	for name, options := range map[string][]byte{
		"a number":            protowire.AppendVarint(protowire.AppendTag(nil, optionNumber, protowire.VarintType), 7),
		"text":                protowire.AppendString(protowire.AppendTag(nil, optionNumber, protowire.BytesType), "\xff\xff"),
		"what ours would say": encodedOption(t, &optionsv1.MethodOptions{Idempotent: proto.Bool(true)}),
	} {
		method, err := build(t, false, options)
		if err != nil || method.Idempotent || method.Timeout != 0 {
			t.Errorf("%s: method is %+v (%v)", name, method, err)
		}
	}
}

func TestFieldOfANewerOptionsFileIsAnError(t *testing.T) {
	t.Parallel()
	future := protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1)
	_, err := build(t, true, encodedOption(t, &optionsv1.MethodOptions{}, future...))
	if err == nil || !strings.Contains(err.Error(), "a.proto: option (octo.options.v1.method) of a.S.Do has a field") {
		t.Errorf("error is %v", err)
	}
}

func TestUnreadableOptionIsAnError(t *testing.T) {
	t.Parallel()
	broken := protowire.AppendBytes(protowire.AppendTag(nil, optionNumber, protowire.BytesType), []byte{0xff})
	_, err := build(t, true, broken)
	if err == nil || !strings.Contains(err.Error(), "the options of a.S.Do cannot be read") {
		t.Errorf("error is %v", err)
	}
}

func TestTimeoutBeyondGoDurationIsAnError(t *testing.T) {
	t.Parallel()
	_, err := build(t, true, encodedOption(t, &optionsv1.MethodOptions{Timeout: &durationpb.Duration{Seconds: 1e10}}))
	if err == nil || !strings.Contains(err.Error(), "less than 292 years") {
		t.Errorf("error is %v", err)
	}
}

func TestKindNames(t *testing.T) {
	t.Parallel()
	for kind, want := range map[Kind]string{
		Unary: "Unary", ClientStreaming: "ClientStreaming", ServerStreaming: "ServerStreaming", BidiStreaming: "BidiStreaming",
	} {
		if kind.String() != want {
			t.Errorf("%d is %s", kind, kind)
		}
	}
}
