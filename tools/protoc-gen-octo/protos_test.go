package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"

	"github.com/octomesh/octomesh/tools/protoc-gen-octo/ir"
)

// repository is the checkout's root.
var repository = sync.OnceValue(func() string {
	root, err := filepath.Abs("../..")
	if err != nil {
		panic(err)
	}
	return root
})

// tool returns the path of a tool that `make bootstrap` installs.
func tool(t *testing.T, path string) string {
	t.Helper()
	full := filepath.Join(repository(), filepath.FromSlash(path))
	if _, err := os.Stat(full); err != nil {
		t.Fatalf("run make bootstrap: %v", err)
	}
	return full
}

func buf(t *testing.T) string         { return tool(t, "tools/node_modules/.bin/buf") }
func protocGenGo(t *testing.T) string { return tool(t, "tools/bin/protoc-gen-go") }

// command runs a program in a directory and returns what it printed.
func command(t *testing.T, dir string, env []string, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	printed, err := cmd.CombinedOutput()
	return string(printed), err
}

// mustRun fails the test when the program does.
func mustRun(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	printed, err := command(t, dir, env, name, args...)
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", filepath.Base(name), args, err, printed)
	}
	return printed
}

// goEnv makes go in a temporary module use the module cache alone.
var goEnv = []string{"GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off", "GOTOOLCHAIN=local"}

// The compiled protos of testdata, built once for all tests.
var compiled struct {
	sync.Once
	files []*descriptorpb.FileDescriptorProto
	err   error
}

// compile returns the files of testdata/protos and their imports, each behind those that it imports.
func compile(t *testing.T) []*descriptorpb.FileDescriptorProto {
	t.Helper()
	compiled.Do(func() { compiled.files, compiled.err = compileWith(t, buf(t)) })
	if compiled.err != nil {
		t.Fatal(compiled.err)
	}
	return compiled.files
}

func compileWith(t *testing.T, buf string) ([]*descriptorpb.FileDescriptorProto, error) {
	dir := t.TempDir()
	err := errors.Join(
		os.CopyFS(dir, os.DirFS("testdata/protos")),
		os.CopyFS(filepath.Join(dir, "octo/options/v1"), os.DirFS(filepath.Join(repository(), "proto/octo/options/v1"))),
		os.WriteFile(filepath.Join(dir, "buf.yaml"), []byte("version: v2\n"), 0o600),
	)
	if err != nil {
		return nil, err
	}
	if printed, err := command(t, dir, nil, buf, "build", "--as-file-descriptor-set", "-o", "set.binpb"); err != nil {
		return nil, errors.New("buf build: " + err.Error() + "\n" + printed)
	}
	encoded, err := os.ReadFile(filepath.Join(dir, "set.binpb"))
	if err != nil {
		return nil, err
	}
	set := new(descriptorpb.FileDescriptorSet)
	if err := proto.Unmarshal(encoded, set); err != nil {
		return nil, err
	}
	return set.GetFile(), nil
}

// request asks for the code of some files as a compiler does: with what they import, and nothing else.
func request(t *testing.T, parameter string, generate ...string) []byte {
	t.Helper()
	files := compile(t)
	needed := make(map[string]bool)
	for _, path := range generate {
		needed[path] = true
	}
	asked := &pluginpb.CodeGeneratorRequest{FileToGenerate: generate, Parameter: proto.String(parameter)}
	for i := len(files) - 1; i >= 0; i-- {
		if needed[files[i].GetName()] {
			for _, dependency := range files[i].GetDependency() {
				needed[dependency] = true
			}
		}
	}
	for _, file := range files {
		if needed[file.GetName()] {
			asked.ProtoFile = append(asked.ProtoFile, file)
		}
	}
	encoded, err := proto.Marshal(asked)
	if err != nil {
		t.Fatal(err)
	}
	return encoded
}

// runProtocGenGo answers a request with the real protoc-gen-go.
func runProtocGenGo(t *testing.T, request []byte) []ir.Output {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), protocGenGo(t))
	cmd.Stdin = bytes.NewReader(request)
	printed, err := cmd.Output()
	if err != nil {
		t.Fatalf("protoc-gen-go: %v", err)
	}
	response := new(pluginpb.CodeGeneratorResponse)
	if err := proto.Unmarshal(printed, response); err != nil {
		t.Fatal(err)
	}
	if response.Error != nil {
		t.Fatalf("protoc-gen-go: %s", response.GetError())
	}
	var outputs []ir.Output
	for _, file := range response.GetFile() {
		outputs = append(outputs, ir.Output{Name: file.GetName(), Content: file.GetContent()})
	}
	return outputs
}

// write puts outputs under a directory.
func write(t *testing.T, dir string, outputs []ir.Output) {
	t.Helper()
	for _, output := range outputs {
		path := filepath.Join(dir, filepath.FromSlash(output.Name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(output.Content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// filesUnder lists the files of a folder, with slashes and relative to it.
func filesUnder(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
