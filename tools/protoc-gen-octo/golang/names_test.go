package golang

import (
	"testing"

	"google.golang.org/protobuf/compiler/protogen"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// odd are proto names that go a way of their own on the road to Go.
var odd = []string{
	"a", "A", "type", "func", "String", "foo_bar", "foo__bar", "foo_", "_foo", "__foo", "_Foo", "FOO_BAR", "foo_Bar",
	"foo2bar", "foo_2bar", "_2foo", "x_y_z", "X1_2y", "camelCase", "HTTPServer", "a1B2c3", "f_1_g",
}

// TestNamesAreThoseOfProtogen compares with the library that protoc-gen-go is made of.
func TestNamesAreThoseOfProtogen(t *testing.T) {
	t.Parallel()
	file := &descriptorpb.FileDescriptorProto{
		Name: proto.String("odd.proto"), Package: proto.String("odd.v1"), Syntax: proto.String("proto3"),
		Options: &descriptorpb.FileOptions{GoPackage: proto.String("example.com/odd")},
	}
	for _, outer := range odd {
		message := &descriptorpb.DescriptorProto{Name: proto.String(outer)}
		for _, inner := range odd {
			message.NestedType = append(message.NestedType, &descriptorpb.DescriptorProto{Name: proto.String(inner)})
		}
		file.MessageType = append(file.MessageType, message)
	}
	plugin, err := protogen.Options{}.New(&pluginpb.CodeGeneratorRequest{
		FileToGenerate: []string{"odd.proto"}, ProtoFile: []*descriptorpb.FileDescriptorProto{file},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, message := range plugin.Files[0].Messages {
		for _, each := range append(message.Messages, message) {
			if got := typeName(each.Desc); got != each.GoIdent.GoName {
				t.Errorf("%s is %s, want %s", each.Desc.FullName(), got, each.GoIdent.GoName)
			}
		}
	}
}

func TestNameInAFileWithoutProtoPackage(t *testing.T) {
	t.Parallel()
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("bare.proto"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("some_thing")}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := typeName(file.Messages().Get(0)); got != "SomeThing" {
		t.Errorf("name is %s", got)
	}
}

func TestPackageNameByRule(t *testing.T) {
	t.Parallel()
	for pkg, want := range map[protoreflect.FullName]string{
		"foo.v1":          "foov1",
		"foo.bar.v2beta3": "barv2beta3",
		"foo.v1p1alpha":   "foov1p1alpha",
		"foo.v1test":      "foov1test",
		"foo.bar":         "bar",
		"foo":             "foo",
		"v1":              "v1",
		"foo.v0":          "v0",
		"foo.verse":       "verse",
		"foo.type":        "_type",
	} {
		if got := packageByRule(pkg); got != want {
			t.Errorf("%s gives %s, want %s", pkg, got, want)
		}
	}
}

func TestIdentifierCleansPackageNames(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"shop": "shop", "go-shop": "go_shop", "2shop": "_2shop", "func": "_func", "": "_", "é.x": "é_x",
	} {
		if got := identifier(text); got != want {
			t.Errorf("%q gives %q, want %q", text, got, want)
		}
	}
}

func TestCommentsNeverBecomeDirectives(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"go:generate rm\n":           "// go:generate rm",
		"\n one\n\n two \r\n":        "// one\n//\n// two",
		"\tindented\nflush":          "//\tindented\n// flush",
		" \n":                        "",
		" has */ and /* and `tick`.": "// has */ and /* and `tick`.",
	} {
		if got := comment(text); got != want {
			t.Errorf("%q gives %q, want %q", text, got, want)
		}
	}
	if got, want := comment("", " a", "", "b"), "// a\n//\n// b"; got != want {
		t.Errorf("paragraphs give %q, want %q", got, want)
	}
}
