package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The fixture has one of each violation. It is a real module, so that this also covers what
// `go list` tells.
func TestEachKindOfViolationIsFound(t *testing.T) {
	got, packages, err := run("testdata/tree", "testdata/layers.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if packages != 5 {
		t.Errorf("%d packages listed, want 5", packages)
	}
	want := []string{
		"app imports core/route: the app knows wire alone",
		"core/route imports core/other: layer modules is closed to imports between its members: modules meet through generated services",
		"core/wire (layer 0 wire) imports core/route (layer 1 modules): imports go downwards only",
		"core/wire imports net/netip: bytes only, no I/O",
		"lost: is in no layer; add it to layers.yaml",
	}
	if !slices.Equal(got, want) {
		t.Errorf("violations:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestLongestPatternDecidesTheLayer(t *testing.T) {
	c := &config{Module: "m", Layers: []layer{
		{Name: "low", Packages: []string{"./core/proxy/route/..."}},
		{Name: "high", Packages: []string{"./core/proxy/...", "./..."}},
	}}
	for path, want := range map[string]int{"m/core/proxy/route/x": 0, "m/core/proxy": 1, "m/core/proxy/routes": 1, "m": 1} {
		if at, ok := c.locate(path); !ok || at.layer != want {
			t.Errorf("%s is in layer %d (%v), want %d", path, at.layer, ok, want)
		}
	}
}

func TestBanOnTestsSeesTestImportsOnlyIfAsked(t *testing.T) {
	p := goPackage{ImportPath: "m/runner", Imports: []string{"fmt"}, XTestImports: []string{"m/core/proxy", "m/runner"}}
	c := &config{Module: "m"}
	b := ban{Packages: []string{"./runner"}, Deny: []string{"./..."}, Note: "no implementation"}
	if got := checkBan(c, b, p); len(got) != 0 {
		t.Errorf("without tests: %v", got)
	}
	b.Tests = true
	if got := checkBan(c, b, p); len(got) != 1 || !strings.Contains(got[0], "core/proxy") {
		t.Errorf("with tests: %v, want core/proxy alone", got)
	}
}

func TestBadConfigIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"misspelt key":    "module: m\nlayers: [{name: a, packages: [./a], close: true}]\n",
		"no layers":       "module: m\n",
		"pattern twice":   "module: m\nlayers: [{name: a, packages: [./a]}, {name: b, packages: [./a]}]\n",
		"foreign pattern": "module: m\nlayers: [{name: a, packages: [net]}]\n",
		"ban, no note":    "module: m\nlayers: [{name: a, packages: [./a]}]\nbans: [{packages: [./a], deny: [net]}]\n",
		"ban of nothing":  "module: m\nlayers: [{name: a, packages: [./a]}]\nbans: [{packages: [./a], note: why}]\n",
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "layers.yaml")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := loadConfig(file); err == nil {
				t.Error("accepted")
			}
		})
	}
}
