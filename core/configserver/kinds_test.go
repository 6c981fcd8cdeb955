package configserver_test

import (
	"encoding/base64"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// descriptors are those of octo.config.v1 and what it imports; without leaves one out.
func descriptors(t *testing.T, without string) string {
	t.Helper()
	set := &descriptorpb.FileDescriptorSet{}
	for _, f := range []*descriptorpb.FileDescriptorProto{
		protodesc.ToFileDescriptorProto(durationpb.File_google_protobuf_duration_proto), protodesc.ToFileDescriptorProto(timestamppb.File_google_protobuf_timestamp_proto),
		protodesc.ToFileDescriptorProto(resourcev1.File_octo_resource_v1_resource_proto), protodesc.ToFileDescriptorProto(resourcev1.File_octo_resource_v1_config_proto),
		protodesc.ToFileDescriptorProto(configv1.File_octo_config_v1_config_proto),
	} {
		if f.GetName() != without {
			set.File = append(set.File, f)
		}
	}
	raw, err := proto.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(raw)
}

func TestASchemaIsCheckedAndItsServicesAreFilledIn(t *testing.T) {
	f := open(t)
	schema := func(set, more string) string {
		return fmt.Sprintf("schemas:\n- target: octo.config\n  descriptor_set: %s\n%s", set, more)
	}
	for _, c := range []struct{ file, says string }{
		{schema("aGVsbG8=", ""), "shop.yaml:3: schemas[0].descriptor_set (schema octo.config): is no google.protobuf.FileDescriptorSet"},
		{"schemas: [{target: t}]\n", "is missing: `octo schema push` takes it from a file"},
		{schema(descriptors(t, "octo/resource/v1/config.proto"), ""), "octo/config/v1/config.proto imports octo/resource/v1/config.proto, which is not in it"},
		{schema(descriptors(t, "octo/config/v1/config.proto"), ""), "holds no service"},
		{schema(descriptors(t, ""), "  services: [octo.config.v1.Confit]\n"), `shop.yaml:4: schemas[0].services[0] (schema octo.config): "octo.config.v1.Confit" is no service of the descriptor set`},
		{"instances: [{target: t, instance: i}]\n", "shop.yaml:1: instances[0] (instance t,i): says nothing: give disabled, weight or both"},
		{"instances: [{target: t, instance: i, weight: 1000001}]\n", "instances[0].weight (instance t,i): 1000001 is more than 1000000"},
		{"instances: [{target: t, instance: i, weight: 1}, {target: t, instance: i, weight: 2}]\n", "is of the same target and instance"},
	} {
		_, err := f.apply(c.file, "try")
		f.code(err, codes.InvalidArgument, c.says)
	}
	f.must(schema(descriptors(t, ""), ""), "first")
	r, err := f.Get(t.Context(), &configv1.GetRequest{Environment: "prod", Name: "schema/octo.config"})
	if err != nil {
		t.Fatal(err)
	}
	s := r.GetVersion().GetResource().GetSchemas()[0]
	if len(s.GetServices()) != 1 || s.GetServices()[0] != "octo.config.v1.Config" {
		t.Errorf("services: %v", s.GetServices())
	}
	if c := f.must(schema(base64.StdEncoding.EncodeToString(s.GetDescriptorSet()), "  services: [octo.config.v1.Config]\n"), "again"); c[0].GetAction() != configv1.Change_ACTION_UNCHANGED {
		t.Errorf("what it gave is another schema: %v", c)
	}
}

func TestOverridesAreResourcesLikeOthers(t *testing.T) {
	f := open(t)
	f.must("instances: [{target: stock, instance: s1, disabled: true}]\n", "it is sick")
	c := f.must("instances: [{target: stock, instance: s1, weight: 5}]\n", "it is well")
	equal(t, "change", fields(c[0].GetFields()), "disabled: true -> \nweight:  -> 5")
	equal(t, "history", f.history("instance/stock,s1"), "2 apply by alice: it is well\n1 apply by alice: it is sick")
	e, err := f.Explain(t.Context(), &configv1.ExplainRequest{Environment: "prod", Target: "stock"})
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, b := range e.GetBindings() {
		found = found || b.GetName() == "instance/stock,s1" && b.GetFields()[2].GetReason() == "it is well"
	}
	if !found {
		t.Errorf("the explanation has no override: %v", e)
	}
}
