package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/durationpb"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// large is a policy with more routes than a resource may have bytes for.
func large() string {
	var b strings.Builder
	b.WriteString("policies:\n- target: shop.cart\n  routes:\n")
	for i := range 999 {
		fmt.Fprintf(&b, "  - {name: r%d, match: {metadata: [{key: k, exact: %q}]}, destinations: [{weight: 1}]}\n", i, strings.Repeat("x", 300))
	}
	return b.String()
}

// TestWhatIsBadIsRefusedWithWhereAndWhatToDo has files that say nothing that proxies could go by. The process ends with 3,
// and neither what was kept nor what they say besides is touched.
func TestWhatIsBadIsRefusedWithWhereAndWhatToDo(t *testing.T) {
	o := start(t)
	o.expect(exitDone, shop, args("apply -f - -m first"))
	before := o.expect(exitDone, "", args("get -o yaml"))
	const good = "applications:\n- {name: fine, owner: team-fine, tier: TIER_INTERNAL}\n"
	for _, c := range []struct{ name, file, says string }{
		{"unknown field", "policies:\n- target: a\n  max_timout: 2s\n", "standard input:5: policies[0].max_timout: is not a field of ServicePolicy; did you mean max_timeout?"},
		{"wrong type", "policies:\n- target: a\n  max_timeout: soon\n", "standard input:5: policies[0].max_timeout: needs a duration"},
		{"twice", "policies:\n- target: a\n- target: a\n", "standard input:5: policies[1].target (policy a): is the target of policies[0] too"},
		{"dangling destination", "policies:\n- target: a\n  routes:\n  - {name: r, destinations: [{target: nowhere}]}\n",
			`standard input:6: policies[0].routes[0].destinations[0].target (policy a): leads nowhere: no registry, no application and no policy knows "nowhere". Correct it, or say --force`},
		{"dangling mirror", "policies:\n- target: a\n  routes:\n  - {name: r, destinations: [{weight: 1}], mirror: {destination: {target: nowhere}, permille: 1}}\n",
			"mirror.destination.target (policy a): leads nowhere"},
		{"dangling schema", "schemas:\n- target: a\n  services: [a.B]\n", "standard input:4: schemas[0].descriptor_set (schema a): is missing: `octo schema push` takes it from a file"},
		{"circle", "policies:\n- target: a\n  routes: [{name: r, destinations: [{target: b}]}]\n- target: b\n  routes: [{name: r, destinations: [{target: shop.cart}, {target: a}]}]\n",
			"standard input:5: policies[0].routes[0].destinations[0].target (policy a): leads calls in a circle: a -> b -> a"},
		{"oversize resource", large(), "policies[0]: has 3"},
		{"bad address", "policies:\n- target: a\n  identities: [cart-1:9000]\n", "standard input:5: policies[0].identities[0] (policy a)"},
		{"bad name", "policies:\n- target: a b\n", `standard input:4: policies[0].target (policy a b): "a b" does not fit`},
		{"out of bounds", "mesh_switches:\n- {target: a, permille: 1001}\n", "standard input:4: mesh_switches[0].permille"},
		{"foreign environment", "environment: test\n", `standard input:3: environment: the file is for "test", and is applied to "prod"`},
		{"not YAML", "policies: [\n", "is not YAML"},
		{"two documents", "---\n" + good, "holds a second document"},
		{"a switch's revision", "mesh_switches:\n- {target: a, permille: 1, revision: 7}\n", "is the Config Server's to set: leave it out"},
	} {
		o.expect(exitInvalid, good+c.file, args("apply -f - -m", c.name), c.says, "nothing was written")
		o.expect(exitInvalid, good+c.file, args("apply --waves -f - -m", c.name), c.says, "nothing was written")
	}
	huge := filepath.Join(o.dir, "huge.yaml")
	if err := os.WriteFile(huge, []byte(good+strings.Repeat("# much ado about nothing\n", 200_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	o.expect(exitInvalid, "", args("apply -f "+huge+" -m huge"), "nothing was written: the files have 5000068 bytes together, at most 1572864")
	o.expect(exitInvalid, "policies: [{target: x}]\n", args("apply --waves --soak 25h -f - -m", "slow"), "a stage cannot last 25h0m0s")
	if after := o.expect(exitDone, "", args("get -o yaml")); after != before {
		t.Errorf("after all refusals there is\n%s\nand was\n%s", after, before)
	}
	o.expect(exitDone, "policies:\n- target: a\n  routes:\n  - {name: r, destinations: [{target: nowhere}]}\n", args("apply --force -f - -m", "it comes later"),
		"warning: policies[0].routes[0].destinations[0].target")
	// A circle may span what is kept and what comes.
	o.expect(exitInvalid, "policies:\n- target: nowhere\n  routes:\n  - {name: r, destinations: [{target: a}]}\n", args("apply -f - -m", "back"),
		"standard input:4: policies[0].routes[0].destinations[0].target (policy nowhere): leads calls in a circle: nowhere -> a -> nowhere")
}

func TestRollOutsAreShownAndSteered(t *testing.T) {
	o := start(t)
	o.expect(exitDone, shop+"applications:\n- {name: shop.cart, owner: team-cart, tier: TIER_CRITICAL}\n", args("apply -f - -m first"))
	o.expect(exitDone, strings.Replace(shop, "100", "150", 1), args("apply -f - -m", "at once"),
		"warning: policy/shop.cart: shop.cart is TIER_CRITICAL, and all proxies get this at once: --waves brings it to one of them first")
	o.expect(exitDone, "", args("rollout list"), "ID")
	o.expect(exitDone, strings.Replace(shop, "100", "200", 1), args("apply --waves -f - -m", "the sale"), "policy/shop.cart updated (revision 3)", "roll-out 1 has begun")
	o.expect(exitDone, "", args("rollout list"), "rolling", "1 proxy", "policy/shop.cart", "the sale")
	o.expect(exitDone, "", args("rollout show 1"), "begun: the sale", "no connected proxy follows what is rolled out")
	o.expect(exitDone, "", args("get policy"), "2 (3 by roll-out 1)")
	o.expect(exitConflict, shop, args("apply -f - -m", "back"), "is being rolled out (roll-out 1): end that first")
	o.expect(exitUsage, "", args("rollout pause 1"), "a reason is missing")
	o.expect(exitDone, "", args("rollout pause 1 -m", "lunch"), "paused")
	o.expect(exitDone, "", args("rollout resume 1 -m", "fed"), "resumed: fed")
	o.expect(exitDone, "", args("rollout advance 1 -m", "on"), "advanced to 1 %: on")
	o.expect(exitDone, "", args("rollout revert 1 -m", "no"), "reverted: no")
	o.expect(exitConflict, "", args("rollout finish 1 -m", "yes"), "roll-out 1 is over: reverted: no")
	o.expect(exitFailed, "", args("rollout show 1 --wait"), "reverted")
	o.expect(exitDone, "", args("rollback policy shop.cart --to 3 --waves -m", "yes"), "roll-out 2 has begun")
	o.expect(exitDone, "", args("rollout finish 2 -m", "yes"), "done: yes")
	o.expect(exitDone, "", args("rollout show 2 --wait -o json"), `"phase": "PHASE_DONE"`)
	o.expect(exitDone, "", args("get policy"), "5")
	o.expect(exitDone, "", args("delete policy shop.cart --waves --soak 2s -m", "closing"), "roll-out 3 has begun")
	o.expect(exitNotFound, "", args("rollout show 4"), "there is no roll-out 4")
	for _, line := range []string{"rollout", "rollout show", "rollout show x", "rollout start 1", "schema", "schema push t -m x", "schema push t /nowhere -m x"} {
		o.expect(exitUsage, "", args(line))
	}
}

func TestSchemasArePushed(t *testing.T) {
	o := start(t)
	set := &descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{
		protodesc.ToFileDescriptorProto(durationpb.File_google_protobuf_duration_proto),
		protodesc.ToFileDescriptorProto(resourcev1.File_octo_resource_v1_resource_proto),
	}}
	path := filepath.Join(o.dir, "shop.binpb")
	write := func() {
		raw, err := proto.Marshal(set)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write()
	o.expect(exitInvalid, "", args("schema push shop.cart "+path+" -m x"), "schemas[0].descriptor_set (schema shop.cart): holds no service", "nothing was written")
	set.File[1].Service = []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("Cart")}}
	write()
	o.expect(exitDone, "", args("schema push shop.cart "+path+" -m x"), "schema/shop.cart created (revision 1)")
	o.expect(exitDone, "", args("get schema shop.cart -o yaml"), "octo.resource.v1.Cart")
	o.expect(exitDone, "", args("explain shop.cart"), "what the target serves", "sha256")
	set.File[1].Service[0].Method = []*descriptorpb.MethodDescriptorProto{
		{Name: proto.String("Put"), InputType: proto.String(".octo.resource.v1.Route"), OutputType: proto.String(".octo.resource.v1.Limits"), ClientStreaming: proto.Bool(true)},
	}
	write()
	o.expect(exitDone, "", args("schema push shop.cart "+path+" -m x"), "schema/shop.cart updated (revision 2)")
	o.expect(exitDone, "", args("schema push mail "+path+" -m x"), "schema/mail created (revision 1)")
	o.expect(exitDone, "", args("schema list"), "TARGET", "shop.cart", "mail", "octo.resource.v1.Cart")
	o.expect(exitDone, "", args("schema list -o yaml"), "descriptor_set")
	o.expect(exitDone, "", args("schema get shop.cart"), "octo.resource.v1.Cart", "Put", "stream octo.resource.v1.Route", "octo.resource.v1.Limits")
	copied := filepath.Join(o.dir, "copy.binpb")
	o.expect(exitDone, "", args("schema get shop.cart --out "+copied))
	o.expect(exitDone, "", args("schema push other "+copied+" -m x"), "schema/other created")
	o.expect(exitUsage, "", args("schema delete mail"), "a reason is missing")
	o.expect(exitDone, "", args("schema delete -m x mail other"), "schema/mail deleted", "schema/other deleted")
	o.expect(exitNotFound, "", args("schema get mail"), "mail")
	o.expect(exitNotFound, "", args("schema delete nobody -m x"), "nobody")
	for _, line := range []string{"schema get", "schema list x", "schema what", "schema delete -m x"} {
		o.expect(exitUsage, "", args(line))
	}
}
