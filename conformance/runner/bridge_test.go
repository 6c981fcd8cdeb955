package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
)

func bridgeOf(t *testing.T, text string) (*bridge, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "b.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return readBridge(path, &program{name: "grpc"})
}

const gapped = `
gaps:
- {cases: [shapes/b, "shapes/c*"], topologies: [TOPOLOGY_BRIDGE_IN], reason: no word for it}
- {cases: [shapes/d], reason: neither}
`

func TestBridgesStandAtOneEndOfWhatGoesThroughBothProxies(t *testing.T) {
	b, err := bridgeOf(t, gapped)
	if err != nil {
		t.Fatal(err)
	}
	x := &program{name: "x"}
	jobs, err := plan([]*conformancev1.TestSuite{suite(t, planned+`
- {name: cc, semantics: [1], method: Unary}
- {name: d, semantics: [2], method: Unary}
- {name: direct, semantics: [1], method: Unary, topologies: [TOPOLOGY_DIRECT]}
`)}, []*program{x, {name: "y"}}, b)
	if err != nil || b.unused() != nil {
		t.Fatal(err, b.unused())
	}
	with := func(all []*job) (some []string) {
		for _, j := range all {
			if slices.Contains(bridged, j.topology) {
				some = append(some, j.id())
			}
		}
		return some
	}
	if got := with(jobs); len(got) != 4*4 {
		t.Errorf("%d jobs with a bridge: %v", len(got), got)
	}
	r := &run{bridge: b}
	got := with(r.leaveOut(jobs))
	for id, applies := range map[string]bool{
		"shapes/a@bridge_in:grpc-x": true, "shapes/a@bridge_out:y-grpc": true, "shapes/b@bridge_in:grpc-y": false, "shapes/b@bridge_out:y-grpc": true,
		"shapes/cc@bridge_in:grpc-x": false, "shapes/d@bridge_out:x-grpc": false, "shapes/direct@bridge_in:grpc-x": false,
	} {
		if slices.Contains(got, id) != applies {
			t.Errorf("%s applies: %v", id, !applies)
		}
	}
	rep := &conformancev1.RunReport{Testees: []*conformancev1.Tested{{Name: "x"}, {Name: "y"}}, Results: r.results}
	text := matrix(rep, b.program) + b.table()
	for _, want := range []string{"| grpc→x bridge_in | x→grpc bridge_out |", "0 passed, 1 not applicable", "| `shapes/b`, `shapes/c*` | bridge_in | no word for it |", "| `shapes/d` | both | neither |"} {
		if !strings.Contains(text, want) {
			t.Errorf("the matrix does not have %q:\n%s", want, text)
		}
	}
	if some, _ := quick(jobs, x); !slices.Contains(ids(some), "shapes/a@bridge_in:grpc-x") || slices.Contains(ids(some), "shapes/a@bridge_in:grpc-y") {
		t.Errorf("quick keeps %v", with(some))
	}
}

func TestGapsOfABridgeAreReadStrictly(t *testing.T) {
	for name, text := range map[string]string{
		"no reason": "gaps: [{cases: [a]}]", "no case": "gaps: [{reason: x}]", "unknown field": "gap: []",
	} {
		if _, err := bridgeOf(t, text); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	b, err := bridgeOf(t, gapped)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plan([]*conformancev1.TestSuite{suite(t, planned)}, []*program{{name: "x"}}, b); err != nil {
		t.Fatal(err)
	}
	if err := b.unused(); err == nil || !strings.Contains(err.Error(), `"shapes/d" fits no case`) || strings.Contains(err.Error(), "shapes/b") {
		t.Errorf("of names that fit no case it says %v", err)
	}
	if nobody, err := readBridge("nowhere", nil); err != nil || nobody != nil || nobody.unused() != nil || nobody.table() != "" {
		t.Errorf("without a program there is %v, %v", nobody, err)
	}
}
