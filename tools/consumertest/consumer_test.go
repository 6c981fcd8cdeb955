// Package consumertest shows what a Go service takes over when it depends on the SDK: it builds a
// module outside the tree and looks at its module graph and at the packages that it links.
package consumertest

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	product  = "github.com/octomesh/octomesh"
	protobuf = "google.golang.org/protobuf"
)

// sdkModules are the SDK and what it consists of, with their folders.
var sdkModules = map[string]string{
	product + "/sdks/go":        "sdks/go",
	product + "/gen/go":         "gen/go",
	product + "/core/wire":      "core/wire",
	product + "/core/transport": "core/transport",
}

// Besides our own modules the graph holds protobuf, and the two that protobuf's own go.mod names:
// go-cmp, for its tests, and its predecessor golang/protobuf, so that the two agree where a program
// uses both. Neither is linked.
func TestAServiceThatUsesTheSDKGetsProtobufAndNothingElse(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	modules := map[string]string{}
	for path, dir := range sdkModules {
		modules[path] = filepath.Join(root, dir)
	}
	c := consume(t, product+"/sdks/go", modules)
	for _, complaint := range c.complaints() {
		t.Error(complaint)
	}
	want := []string{
		"github.com/golang/protobuf",
		"github.com/google/go-cmp",
		product + "/core/transport",
		product + "/core/wire",
		product + "/gen/go",
		product + "/sdks/go",
		protobuf,
	}
	if !slices.Equal(c.modules, want) {
		t.Errorf("module graph:\n%s\nwant:\n%s", strings.Join(c.modules, "\n"), strings.Join(want, "\n"))
	}
}

// The same check, on an SDK that would bring a third party, finds it in both places.
func TestTheCheckFindsAThirdParty(t *testing.T) {
	const sdk = product + "/sdks/heavy"
	dir := t.TempDir()
	write(t, dir, "go.mod", "module "+sdk+"\n\ngo 1.26\n\nrequire go.yaml.in/yaml/v3 v3.0.6\n")
	write(t, dir, "heavy.go", "package heavy\n\nimport _ \"go.yaml.in/yaml/v3\"\n")

	got := consume(t, sdk, map[string]string{sdk: dir}).complaints()
	want := []string{
		sdk + " requires go.yaml.in/yaml/v3",
		"go.yaml.in/yaml/v3 is linked",
	}
	if !slices.Equal(got, want) {
		t.Errorf("complaints: %q, want %q", got, want)
	}
}

// consumer is a module that imports one package, as the go command sees it.
type consumer struct {
	modules  []string    // paths in the module graph, but for its own
	requires [][2]string // who requires whom, paths without versions
	packages []string    // import paths that are linked, standard library left out
}

const consumerModule = "example.com/consumer"

// consume makes a module that imports pkg and finds the given modules in their folders.
func consume(t *testing.T, pkg string, modules map[string]string) consumer {
	t.Helper()
	dir := t.TempDir()
	mod := "module " + consumerModule + "\n\ngo 1.26\n\nrequire " + pkg + " v0.0.0\n\n"
	for path, folder := range modules {
		mod += "replace " + path + " => " + folder + "\n"
	}
	write(t, dir, "go.mod", mod)
	write(t, dir, "main.go", "package main\n\nimport _ \""+pkg+"\"\n\nfunc main() {}\n")
	if found, err := filepath.Glob(filepath.Join(modules[pkg], "*.go")); err != nil || len(found) == 0 {
		t.Fatalf("%s has no Go files: there is no SDK to depend on (%v)", pkg, err)
	}
	goCommand(t, dir, "mod", "tidy")
	goCommand(t, dir, "build", "-o", os.DevNull, ".")

	var c consumer
	for _, line := range lines(goCommand(t, dir, "list", "-m", "-f", "{{.Path}}", "all")) {
		if line != consumerModule {
			c.modules = append(c.modules, line)
		}
	}
	slices.Sort(c.modules)
	for _, line := range lines(goCommand(t, dir, "mod", "graph")) {
		from, to, _ := strings.Cut(line, " ")
		c.requires = append(c.requires, [2]string{withoutVersion(from), withoutVersion(to)})
	}
	c.packages = lines(goCommand(t, dir, "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "."))
	return c
}

// complaints says what is in the graph or linked beyond our modules and protobuf.
func (c consumer) complaints() []string {
	var out []string
	for _, r := range c.requires {
		from, to := r[0], r[1]
		if below(product, from) && !below(product, to) && to != protobuf && !toolchain(to) {
			out = append(out, from+" requires "+to)
		}
	}
	for _, p := range c.packages {
		if !below(product, p) && !below(protobuf, p) && p != consumerModule {
			out = append(out, p+" is linked")
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func below(module, path string) bool { return path == module || strings.HasPrefix(path, module+"/") }

// toolchain says whether a node of the graph is a version of Go, which stands there like a module.
func toolchain(path string) bool { return path == "go" || path == "toolchain" }

func withoutVersion(node string) string {
	path, _, _ := strings.Cut(node, "@")
	return path
}

func lines(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == '\n' })
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func goCommand(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return string(out)
}
