package resource_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/resource"
)

const configuration = `environment: prod
revisions: {"policy/shop.cart": 3}
applications:
- {name: web, owner: "team web: on call", tier: TIER_CRITICAL, description: "true"}
policies:
- target: shop.cart
  routes:
  - {name: canary, match: {metadata: [{key: user, exact: "7"}]}, destinations: [{subset: {version: "2"}, weight: 0}], timeout: 1.5s}
  limits: {}
  rate_limits: [{name: all, calls: 10, side: SIDE_CLIENT}]
  outlier_ejection: {consecutive_failures: 0, failure_codes: [13, 14]}
auth_policies:
- {target: shop.cart, allow: [{name: web, callers: [web]}], dry_run: true}
mesh_switches:
- {application: web, target: shop.cart, nodes: [a, b], permille: 10}
`

func parse(t *testing.T, text string) *resourcev1.Configuration {
	t.Helper()
	c := &resourcev1.Configuration{}
	if _, err := resource.Parse("f.yaml", []byte(text), c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestWhatIsFormattedIsReadAgain(t *testing.T) {
	c := parse(t, configuration)
	text := string(resource.Format(c))
	if again := parse(t, text); !proto.Equal(c, again) {
		t.Errorf("got %v, want %v, by\n%s", again, c, text)
	}
	if !strings.Contains(text, "description: \"true\"") || !strings.Contains(text, "timeout: 1.5s") {
		t.Errorf("strings or durations are not as people write them:\n%s", text)
	}
}

func TestAComparisonNamesFieldsAndEntries(t *testing.T) {
	before := parse(t, configuration)
	after := parse(t, strings.NewReplacer("1.5s", "2s", "[13, 14]", "[13]", "limits: {}", "max_timeout: 1m").Replace(configuration))
	var got []string
	for _, c := range resource.Compare(before.Policies[0], after.Policies[0]) {
		got = append(got, c.Path+": "+c.Before+" -> "+c.After)
	}
	want := []string{
		`routes["canary"].timeout: 1.5s -> 2s`, "limits: {} -> ", "outlier_ejection.failure_codes[1]: 14 -> ", "max_timeout:  -> 1m0s",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if d := resource.Compare(before, proto.Clone(before)); len(d) != 0 {
		t.Errorf("equal messages differ: %v", d)
	}
}

func TestTheOrderOfEntriesIsADifference(t *testing.T) {
	a := &resourcev1.AuthPolicy{Allow: []*resourcev1.AccessRule{{Name: "x"}, {Name: "y"}}}
	b := &resourcev1.AuthPolicy{Allow: []*resourcev1.AccessRule{{Name: "y"}, {Name: "x"}}}
	d := resource.Compare(a, b)
	if len(d) != 1 || d[0].Before != `allow["x"] allow["y"]` || d[0].After != `allow["y"] allow["x"]` {
		t.Errorf("got %v", d)
	}
}

func TestConfigurationsAreCheckedWithLineAndField(t *testing.T) {
	c := &resourcev1.Configuration{}
	doc, err := resource.Parse("shop.yaml", []byte(`environment: test
applications:
- {name: web}
- {name: web, owner: us, tier: TIER_INTERNAL}
policies:
- target: shop.cart
  routes:
  - name: away
    destinations: [{target: gone}, {target: kept, subset: {v: "2"}}]
mesh_switches:
- {target: shop.cart, permille: 1001, revision: 4}
- target: shop.cart
  nodes: ["-"]
`), c)
	if err != nil {
		t.Fatal(err)
	}
	whole := &resourcev1.Configuration{AuthPolicies: []*resourcev1.AuthPolicy{{Target: "kept"}}}
	problems := resource.ValidateConfiguration(c, whole, "prod")
	doc.Locate(problems)
	var got []string
	for _, p := range problems {
		at, _, _ := strings.Cut(p.String(), " (")
		got = append(got, at)
	}
	want := []string{
		`shop.yaml:1: environment: the file is for "test", and is applied to "prod"`,
		"shop.yaml:3: applications[0].owner", "shop.yaml:3: applications[0].tier", "shop.yaml:4: applications[1].name",
		"shop.yaml:9: warning: policies[0].routes[0].destinations[0].target",
		"shop.yaml:11: mesh_switches[0].permille", "shop.yaml:11: mesh_switches[0].revision",
		"shop.yaml:12: mesh_switches[1].target", "shop.yaml:13: mesh_switches[1].nodes[0]",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
