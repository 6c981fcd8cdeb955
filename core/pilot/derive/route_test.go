package derive

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

var rewrite = flag.Bool("rewrite", false, "write what the tests find into their golden files")

// TestPoliciesInTheProtocolsWords reads each testdata/*.yaml, a policy of shop.cart, and compares what is derived of it with
// the .golden file beside it.
func TestPoliciesInTheProtocolsWords(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no test data", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			all := &resourcev1.Snapshot{}
			if _, err := resource.ReadFile(file, all); err != nil {
				t.Fatal(err)
			}
			all.Endpoints = []*resourcev1.Endpoint{{Target: "shop.mail", Instance: "m", MeshAddress: "10.0.0.1:70"}}
			for _, p := range resource.Validate(all, "") {
				if !p.Warning {
					t.Fatal(p)
				}
			}
			var p *resourcev1.ServicePolicy
			if len(all.Policies) > 0 {
				p = all.Policies[0]
			}
			got := derived(t, p)
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			if *rewrite {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func derived(t *testing.T, p *resourcev1.ServicePolicy) string {
	t.Helper()
	c, err := cluster("shop.cart", p)
	if err != nil {
		t.Fatal(err)
	}
	l, err := listener("shop.cart")
	if err != nil {
		t.Fatal(err)
	}
	r, err := routes("shop.cart", p)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, m := range []interface {
		proto.Message
		ValidateAll() error
	}{c, l, r} {
		if err := m.ValidateAll(); err != nil {
			t.Error(err)
		}
		out = append(out, inJSON(t, m))
	}
	return strings.Join(out, "\n") + "\n"
}

// inJSON writes a message in JSON whose spaces are the same each time.
func inJSON(t *testing.T, m proto.Message) string {
	t.Helper()
	b, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var any any
	if err := json.Unmarshal(b, &any); err != nil {
		t.Fatal(err)
	}
	b, err = json.MarshalIndent(any, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestWhatATargetsRoutesReach(t *testing.T) {
	p := &resourcev1.ServicePolicy{Routes: []*resourcev1.Route{
		{Name: "a", Destinations: []*resourcev1.Destination{{Subset: map[string]string{"v": "2"}}, {Target: "shop.mail"}, {Target: "shop.never", Weight: new(uint32)}}},
		{Name: "b", Match: &resourcev1.Match{Caller: "web"}, Destinations: []*resourcev1.Destination{{Target: "shop.unsaid"}}},
	}}
	var got []string
	for _, d := range reached("shop.cart", p) {
		got = append(got, d.name+" of "+d.target)
	}
	if want := "shop.cart of shop.cart, shop.cart?v=2 of shop.cart, shop.mail of shop.mail"; strings.Join(got, ", ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
