package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
)

const planned = `
suite: shapes
cases:
- {name: a, semantics: [1], method: Unary}
- {name: b, semantics: [4], method: Bidi, topologies: [TOPOLOGY_MESH]}
- name: raw
  semantics: [37]
  raw: [{places: [PLACE_CLIENT, PLACE_PROXIED_CLIENT], conversations: [{steps: [{quiet: true}]}]}]
`

func ids(jobs []*job) []string {
	var all []string
	for _, j := range jobs {
		all = append(all, j.id())
	}
	return all
}

func TestCasesAreExpandedOverTopologiesPairsAndPlaces(t *testing.T) {
	jobs, err := plan([]*conformancev1.TestSuite{suite(t, planned)}, []*program{{name: "x"}, {name: "y"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := ids(jobs)
	if want := 9*4 + 2*4 + 2*2; len(got) != want {
		t.Errorf("%d jobs, expected %d: %v", len(got), want, got)
	}
	for _, id := range []string{
		"shapes/a@direct:x-y", "shapes/a@mixed_s_tls:y-y", "shapes/b@mesh:x-x", "shapes/b@mesh_tls:x-y",
		"shapes/raw/as-client@reference:reference-x", "shapes/raw/as-proxied-client@reference:reference-y",
	} {
		if !slices.Contains(got, id) {
			t.Errorf("no %s", id)
		}
	}
}

func TestRawCasesThatMakeNoSenseAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"no place":            "raw: [{conversations: [{}]}]",
		"no conversation":     "raw: [{places: [PLACE_CLIENT]}]",
		"two roles":           "raw: [{places: [PLACE_CLIENT, PLACE_SERVER], conversations: [{}]}]",
		"nobody calls":        "raw: [{places: [PLACE_SERVER], conversations: [{}]}]",
		"two that call":       "method: Unary, raw: [{places: [PLACE_CLIENT], conversations: [{}]}]",
		"two that are called": "method: Unary, raw: [{places: [PLACE_SERVER], conversations: [{}]}, {places: [PLACE_SERVER], conversations: [{}]}]",
	} {
		if _, err := expand(suite(t, "cases: [{name: a, semantics: [37], "+text+"}]")); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestQuickKeepsOnePairAndTLSShapes(t *testing.T) {
	x := &program{name: "x"}
	s := suite(t, planned)
	other := suite(t, strings.Replace(planned, "suite: shapes", "suite: other", 1))
	jobs, err := plan([]*conformancev1.TestSuite{s, other}, []*program{x, {name: "y"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	some, left := quick(jobs, x)
	if len(some)+len(left) != len(jobs) {
		t.Fatal("jobs are lost")
	}
	for id, kept := range map[string]bool{
		"shapes/a@direct:x-y": true, "shapes/a@direct:y-y": false, "shapes/a@mesh_tls:y-x": true,
		"other/a@mesh_tls:x-x": false, "other/a@mixed_c:x-x": true, "other/raw/as-client@reference:reference-y": true,
	} {
		if slices.Contains(ids(some), id) != kept || slices.Contains(ids(left), id) == kept {
			t.Errorf("%s is kept: %v", id, !kept)
		}
	}
}

func TestWhatAProfileLeavesOutIsSkipped(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) {
		if err := os.WriteFile(filepath.Join(dir, "x.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	x, y := &program{name: "x"}, &program{name: "y"}
	for _, bad := range []string{"features: [FEATURE_TLS]", "owner: me\nfeatures: [FEATURE_FLIGHT]", "owner: me\nfeature: []"} {
		write(bad)
		if err := readProfiles(dir, []*program{x}); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	write("owner: me\nfeatures: [FEATURE_STREAMS]")
	if err := readProfiles(dir, []*program{x, y}); err != nil {
		t.Fatal(err)
	}
	jobs, err := plan([]*conformancev1.TestSuite{suite(t, planned+`
- {name: crash, semantics: [20], method: Throw, response: {throw: THROW_CRASH}}
- {name: gzip, semantics: [11], method: Unary, options: {compression: gzip}}
- {name: said, semantics: [11], method: Unary, requires: [FEATURE_TLS]}
`)}, []*program{x, y}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r := &run{}
	rest := ids(r.skip(jobs))
	for id, kept := range map[string]bool{
		"shapes/a@direct:x-y": true, "shapes/a@direct_tls:x-y": false, "shapes/a@direct_tls:y-y": true, "shapes/b@mesh:x-x": true,
		"shapes/crash@direct:y-x": false, "shapes/gzip@direct:x-x": false, "shapes/said@mesh:x-x": false, "shapes/said@mesh:y-y": true,
	} {
		if slices.Contains(rest, id) != kept {
			t.Errorf("%s is kept: %v", id, !kept)
		}
	}
	if len(r.results)+len(rest) != len(jobs) || r.results[0].Verdict != conformancev1.CaseResult_VERDICT_SKIPPED {
		t.Error("what is skipped is not reported as such")
	}
}
