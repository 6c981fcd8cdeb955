package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/octomesh/octomesh/tools/protoc-gen-octo/ir"
)

// The project of docs/guides/generate.md is a stranger's: outside the repository, with protos that have no
// go_package. The guide marks its files with file=<path>, and those of its variant with project=options,
// so that what it says is what is tested here.

const guide = "docs/guides/generate.md"

var block = regexp.MustCompile("(?ms)^```[a-z]+ file=([^ \n]+)(?: project=([a-z]+))?\n(.*?)^```$")

// guideFiles returns the files of the guide's project; a variant's own files take the place of others.
func guideFiles(t *testing.T, variant string) []ir.Output {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository(), guide))
	if err != nil {
		t.Fatal(err)
	}
	var plain, own []ir.Output
	for _, found := range block.FindAllStringSubmatch(string(text), -1) {
		file := ir.Output{Name: found[1], Content: found[3]}
		switch found[2] {
		case "":
			plain = append(plain, file)
		case variant:
			own = append(own, file)
		}
	}
	if len(plain) < 5 {
		t.Fatalf("%s has %d files, too few for a project", guide, len(plain))
	}
	return append(plain, own...)
}

// plugins builds this plugin and returns an environment where it and protoc-gen-go are in the PATH.
func plugins(t *testing.T) []string {
	t.Helper()
	bin := t.TempDir()
	mustRun(t, ".", nil, "go", "build", "-o", filepath.Join(bin, "protoc-gen-octo"), ".")
	path := []string{bin, filepath.Dir(protocGenGo(t)), os.Getenv("PATH")}
	return []string{"PATH=" + strings.Join(path, string(os.PathListSeparator))}
}

// guideFile returns what the guide says a file holds.
func guideFile(t *testing.T, name string) string {
	t.Helper()
	for _, file := range guideFiles(t, "") {
		if file.Name == name {
			return file.Content
		}
	}
	t.Fatalf("%s has no %s", guide, name)
	return ""
}

func strangersProject(t *testing.T, variant string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	write(t, dir, guideFiles(t, variant))
	return dir
}

// runProject generates, compiles and runs a project by the guide's commands.
func runProject(t *testing.T, dir string) {
	t.Helper()
	mustRun(t, dir, plugins(t), buf(t), "generate")
	env := append([]string{"OCTOMESH=" + repository(), "GOSUMDB=off"}, goEnv...)
	mustRun(t, dir, env, "sh", "-euc", guideFile(t, "module.sh"))
	mustRun(t, dir, env, "go", "vet", "./...")
	want := guideFile(t, "output.txt")
	if got := mustRun(t, dir, env, "go", "run", "."); got != want {
		t.Errorf("it prints\n%s\nwant\n%s", got, want)
	}
}

// TestStrangersProjectGeneratesCompilesAndRuns adds a stranger's whims to the guide's project (no proto
// package, keywords as names, messages of other files) and calls methods of all four kinds.
func TestStrangersProjectGeneratesCompilesAndRuns(t *testing.T) {
	t.Parallel()
	dir := strangersProject(t, "")
	if err := os.CopyFS(dir, os.DirFS("testdata/stranger")); err != nil {
		t.Fatal(err)
	}
	runProject(t, dir)
	mustRun(t, dir, goEnv, "go", "test", "./...")
}

func TestStrangersProjectMayUseTheOptions(t *testing.T) {
	t.Parallel()
	dir := strangersProject(t, "options")
	options, err := os.ReadFile(filepath.Join(repository(), "proto/octo/options/v1/options.proto"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, []ir.Output{{Name: "proto/octo/options/v1/options.proto", Content: string(options)}})
	runProject(t, dir)
	generated, err := os.ReadFile(filepath.Join(dir, "gen/greet/v1/greet_octo.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`GreeterTarget = "greeter"`, "500 * time.Millisecond", "Idempotent: true"} {
		if !strings.Contains(string(generated), want) {
			t.Errorf("the options leave no %q", want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "gen/octo")); err == nil {
		t.Error("the options' Go code is generated a second time")
	}
}

// TestErrorsReachTheUserThroughBuf checks what people without managed mode, and with editions, get to read.
func TestErrorsReachTheUserThroughBuf(t *testing.T) {
	t.Parallel()
	const ours = "version: v2\nplugins:\n  - local: protoc-gen-octo\n    out: gen\n    opt: lang=go\n"
	tests := map[string]struct {
		file ir.Output // in place of the guide's
		want string
	}{
		"no managed mode, this plugin": {
			ir.Output{Name: "buf.gen.yaml", Content: ours}, "protoc-gen-octo: greet/v1/greet.proto: no Go import path",
		},
		"no managed mode, protoc-gen-go": {
			ir.Output{Name: "buf.gen.yaml", Content: "version: v2\nplugins:\n  - local: protoc-gen-go\n    out: gen\n"},
			`unable to determine Go import path for "greet/v1/greet.proto"`,
		},
		"editions": {
			ir.Output{Name: "proto/greet/v1/greet.proto", Content: "edition = \"2023\";\npackage greet.v1;\nmessage M {}\n"},
			`protoc-gen-octo: greet/v1/greet.proto:1:1: edition 2023 is not supported`,
		},
		"no lang": {
			ir.Output{Name: "buf.gen.yaml", Content: strings.TrimSuffix(ours, "    opt: lang=go\n")},
			"protoc-gen-octo: option lang is missing",
		},
	}
	env := plugins(t)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := strangersProject(t, "")
			write(t, dir, []ir.Output{test.file})
			printed, err := command(t, dir, env, buf(t), "generate")
			if err == nil || !strings.Contains(printed, test.want) {
				t.Errorf("buf generate: %v, prints\n%s\nwant\n%s", err, printed, test.want)
			}
		})
	}
}
