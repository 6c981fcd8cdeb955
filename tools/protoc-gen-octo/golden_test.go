package main

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/octomesh/octomesh/tools/protoc-gen-octo/ir"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden are the files that people should be able to generate from.
var golden = []string{
	"clash/context/context.proto",
	"clash/octomesh/octomesh.proto",
	"clash/req/req.proto",
	"clash/v1/clash.proto",
	"money/v1/money.proto",
	"naming/v1/keywords.proto",
	"old/old.proto",
	"plain/v1/plain.proto",
	"plain/v1/words.proto",
	"several/v1/several.proto",
	"shop/v1/events.proto",
	"shop/v1/inventory.proto",
}

// snakes has what is odd in Python alone.
var snakes = []string{"snakes/import/v1/lambda.proto", "snakes/money.proto", "snakes/odd-names.proto"}

// goldenRuns are the files that each language has golden files of, and the plugin's parameter.
var goldenRuns = map[string]struct {
	parameter string
	files     []string
}{
	"go":     {"lang=go,paths=source_relative", golden},
	"python": {"lang=python", slices.Concat(golden, snakes)},
}

func goldenOutputs(t *testing.T, language string) []ir.Output {
	t.Helper()
	run := goldenRuns[language]
	outputs, err := generate(request(t, run.parameter, run.files...))
	if err != nil {
		t.Fatal(err)
	}
	return outputs
}

func TestOutputIsThatOfTheGoldenFiles(t *testing.T) {
	t.Parallel()
	for language := range goldenRuns {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			compareWithGolden(t, goldenOutputs(t, language), "testdata/golden/"+language)
		})
	}
}

func compareWithGolden(t *testing.T, outputs []ir.Output, folder string) {
	t.Helper()
	const suffix = ".golden" // keeps tools and editors away from files that lack their package's rest
	if *update {
		if err := os.RemoveAll(folder); err != nil {
			t.Fatal(err)
		}
		for i := range outputs {
			outputs[i].Name += suffix
		}
		write(t, folder, outputs)
		return
	}
	var names []string
	for _, output := range outputs {
		names = append(names, output.Name+suffix)
		want, err := os.ReadFile(filepath.Join(folder, output.Name+suffix))
		if err != nil {
			t.Errorf("%v (make golden files with: go test ./tools/protoc-gen-octo -update)", err)
			continue
		}
		if output.Content != string(want) {
			t.Errorf("%s: %s", output.Name, firstDifference(output.Content, string(want)))
		}
	}
	slices.Sort(names)
	if found := filesUnder(t, folder); !slices.Equal(found, names) {
		t.Errorf("golden files are %q, generated were %q", found, names)
	}
}

func firstDifference(got, want string) string {
	gotLines, wantLines := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range gotLines {
		if i >= len(wantLines) || gotLines[i] != wantLines[i] {
			return "from this line on it differs:\n" + strings.Join(gotLines[i:min(i+3, len(gotLines))], "\n") +
				"\nwant:\n" + strings.Join(wantLines[min(i, len(wantLines)):min(i+3, len(wantLines))], "\n")
		}
	}
	return "it ends too early"
}

// TestOutputCompilesBesideProtocGenGo builds every golden file with the types that the real protoc-gen-go
// makes from the same protos, and the SDK.
func TestOutputCompilesBesideProtocGenGo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, goldenOutputs(t, "go"))
	write(t, dir, runProtocGenGo(t, request(t, strings.Join([]string{
		"paths=source_relative",
		"Mocto/options/v1/options.proto=github.com/octomesh/octomesh/gen/go/octo/options/v1",
		"Mplain/v1/plain.proto=example.com/golden/plain/v1;plainv1",
		"Mplain/v1/words.proto=example.com/golden/plain/v1;plainv1",
	}, ","), golden...)))
	goModule(t, dir, "example.com/golden")
	mustRun(t, dir, goEnv, "go", "vet", "./...")
}

// goModule writes the go.mod of a module outside the repository that uses the checkout's SDK.
func goModule(t *testing.T, dir, name string) {
	t.Helper()
	local := []string{"core/transport", "core/wire", "gen/go", "sdks/go"}
	content := "module " + name + "\n\ngo 1.26\n\nrequire (\n\tgoogle.golang.org/protobuf v1.36.12\n"
	for _, module := range local {
		content += "\tgithub.com/octomesh/octomesh/" + module + " v0.0.0\n"
	}
	content += ")\n"
	for _, module := range local {
		content += "\nreplace github.com/octomesh/octomesh/" + module + " => " + filepath.Join(repository(), filepath.FromSlash(module)) + "\n"
	}
	sums, err := os.ReadFile(filepath.Join(repository(), "gen/go/go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, []ir.Output{{Name: "go.mod", Content: content}, {Name: "go.sum", Content: string(sums)}})
}
