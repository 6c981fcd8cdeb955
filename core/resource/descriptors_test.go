package resource_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// shop is a set of two files: a service, and what it imports, which has an extension.
func shop(t testing.TB) []byte {
	t.Helper()
	item := &descriptorpb.FileDescriptorProto{
		Name: proto.String("shop/item.proto"), Package: proto.String("shop"), Syntax: proto.String("proto2"),
		MessageType: []*descriptorpb.DescriptorProto{{
			Name: proto.String("Item"), ExtensionRange: []*descriptorpb.DescriptorProto_ExtensionRange{{Start: proto.Int32(100), End: proto.Int32(200)}},
			Extension: []*descriptorpb.FieldDescriptorProto{extension("inner", 101)},
		}},
		Extension: []*descriptorpb.FieldDescriptorProto{extension("outer", 100)},
	}
	cart := &descriptorpb.FileDescriptorProto{
		Name: proto.String("shop/cart.proto"), Package: proto.String("shop"), Syntax: proto.String("proto3"), Dependency: []string{"shop/item.proto"},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("Cart"), Method: []*descriptorpb.MethodDescriptorProto{
			{Name: proto.String("Put"), InputType: proto.String(".shop.Item"), OutputType: proto.String(".shop.Item"), ServerStreaming: proto.Bool(true)},
		}}},
	}
	return encodeSet(t, item, cart)
}

func extension(name string, number int32) *descriptorpb.FieldDescriptorProto {
	return &descriptorpb.FieldDescriptorProto{
		Name: proto.String(name), Number: proto.Int32(number), Extendee: proto.String(".shop.Item"),
		Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(), Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(),
	}
}

func encodeSet(t testing.TB, files ...*descriptorpb.FileDescriptorProto) []byte {
	t.Helper()
	raw, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: files})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func describe(t testing.TB, raw []byte) *resource.Descriptors {
	t.Helper()
	d, err := resource.Describe(&resourcev1.Schema{Target: "cart", DescriptorSet: raw})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestSchemasAreAskedForSymbols(t *testing.T) {
	d := describe(t, shop(t))
	if !slices.Equal(d.Services, []string{"shop.Cart"}) {
		t.Errorf("it has %v", d.Services)
	}
	for symbol, want := range map[string]string{
		"shop.Cart": "shop/cart.proto", "shop.Cart.Put": "shop/cart.proto", "shop.Item": "shop/item.proto", "shop.outer": "shop/item.proto",
		"shop": "", "shop.Nothing": "", "": "", ".shop.Cart": "",
	} {
		if path, ok := d.Find(symbol); path != want || ok != (want != "") {
			t.Errorf("%q is in %q, %v", symbol, path, ok)
		}
	}
	if !d.Has("shop/item.proto") || d.Has("item.proto") {
		t.Error("its files are not found by their paths")
	}
	if path, ok := d.FindExtension("shop.Item", 101); path != "shop/item.proto" || !ok {
		t.Errorf("the extension is in %q", path)
	}
	if _, ok := d.FindExtension("shop.Item", 102); ok {
		t.Error("there is an extension that nobody declared")
	}
	if got := d.Extensions("shop.Item"); !slices.Equal(got, []int32{100, 101}) {
		t.Errorf("the extensions are %v", got)
	}
	var methods []string
	for m := range d.Methods("shop.Cart") {
		methods = append(methods, string(m.Name()))
	}
	for m := range d.Methods("shop.Item") {
		t.Errorf("a message has the method %s", m.Name())
	}
	if !slices.Equal(methods, []string{"Put"}) {
		t.Errorf("the methods are %v", methods)
	}
}

func TestFilesOfASchemaComeOnceAndAsTheyWerePushed(t *testing.T) {
	raw := shop(t)
	d, sent := describe(t, raw), make(map[string]bool)
	first := d.AppendFiles(nil, "shop/cart.proto", sent)
	if len(first) != 2 || !strings.Contains(string(raw), string(first[0])) || !strings.Contains(string(raw), string(first[1])) {
		t.Fatalf("%d files came", len(first))
	}
	got := &descriptorpb.FileDescriptorProto{}
	if err := proto.Unmarshal(first[0], got); err != nil || got.GetName() != "shop/cart.proto" {
		t.Errorf("the first is %q, %v", got.GetName(), err)
	}
	if again := d.AppendFiles(nil, "shop/cart.proto", sent); len(again) != 1 {
		t.Errorf("what is asked for again comes with %d files", len(again))
	}
	if none := d.AppendFiles(nil, "shop/none.proto", sent); len(none) != 0 {
		t.Errorf("a file that is not there comes %d times", len(none))
	}
}

// Files that all import the two of the next step lead to the last one in 2^n ways.
func TestImportsThatMeetAgainCostNothing(t *testing.T) {
	const steps = 60
	var files []*descriptorpb.FileDescriptorProto
	for n := steps; n >= 0; n-- {
		for _, side := range []string{"a", "b"} {
			f := &descriptorpb.FileDescriptorProto{Name: proto.String(fmt.Sprintf("%s%d.proto", side, n)), Package: proto.String(fmt.Sprintf("%s%d", side, n))}
			if n < steps {
				f.Dependency = []string{fmt.Sprintf("a%d.proto", n+1), fmt.Sprintf("b%d.proto", n+1)}
			}
			files = append(files, f)
		}
	}
	d := describe(t, encodeSet(t, files...))
	if got := d.AppendFiles(nil, "a0.proto", make(map[string]bool)); len(got) != 2*steps+1 {
		t.Errorf("%d files came, want %d", len(got), 2*steps+1)
	}
}

func TestBadSchemasAreNotDescribed(t *testing.T) {
	twice := append(shop(t), shop(t)...)
	for name, raw := range map[string][]byte{
		"nothing": nil, "no set": []byte("\xff\xff"), "files that are there twice": twice, "too large": make([]byte, resource.MaxSchema+1),
		"an import that is missing": encodeSet(t, &descriptorpb.FileDescriptorProto{Name: proto.String("a.proto"), Dependency: []string{"b.proto"}}),
	} {
		if _, err := resource.Describe(&resourcev1.Schema{DescriptorSet: raw}); err == nil {
			t.Errorf("%s passes", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
	}
}

func FuzzDescribe(f *testing.F) {
	f.Add(shop(f))
	own, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{
		protodesc.ToFileDescriptorProto(descriptorpb.File_google_protobuf_descriptor_proto),
	}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(own)
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := resource.Describe(&resourcev1.Schema{DescriptorSet: raw})
		if err != nil {
			return
		}
		for _, s := range d.Services {
			path, ok := d.Find(s)
			if !ok || !d.Has(path) || len(d.AppendFiles(nil, path, make(map[string]bool))) == 0 {
				t.Errorf("service %q is in no file", s)
			}
		}
	})
}
