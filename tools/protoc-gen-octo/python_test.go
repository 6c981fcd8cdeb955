package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/octomesh/octomesh/tools/protoc-gen-octo/ir"
)

func interpreter(t *testing.T) string { return tool(t, "tools/python/venv/bin/python") }

// pythonPaths are what code may import beside what was generated: the checkout's SDK, with the newest protobuf that it takes and with
// the oldest.
func pythonPaths() map[string]string {
	sdk := filepath.Join(repository(), "sdks/python/src")
	floor := filepath.Join(repository(), "tools/python/floor")
	return map[string]string{"newest protobuf": sdk, "oldest protobuf": floor + string(os.PathListSeparator) + sdk}
}

// runProtocForPython writes what protoc makes of the compiled protos below a directory.
func runProtocForPython(t *testing.T, dir string, files ...string) {
	t.Helper()
	encoded, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: compile(t)})
	if err != nil {
		t.Fatal(err)
	}
	set := filepath.Join(t.TempDir(), "set.binpb")
	if err := os.WriteFile(set, encoded, 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"--descriptor_set_in=" + set, "--python_out=" + dir, "--pyi_out=" + dir}
	mustRun(t, dir, nil, tool(t, "tools/node_modules/.bin/protoc"), append(args, files...)...)
}

// TestPythonOutputLoadsBesideProtoc loads every golden file with the messages that the real protoc makes of the same protos.
func TestPythonOutputLoadsBesideProtoc(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	outputs := goldenOutputs(t, "python")
	write(t, dir, outputs)
	runProtocForPython(t, dir, goldenRuns["python"].files...)
	for name, path := range pythonPaths() {
		for _, output := range outputs {
			module := strings.ReplaceAll(strings.TrimSuffix(output.Name, ".py"), "/", ".")
			if printed, err := command(t, dir, []string{"PYTHONPATH=" + path}, interpreter(t), "-W", "error", "-c", "import "+module); err != nil {
				t.Errorf("%s: import %s: %v\n%s", name, module, err, printed)
			}
		}
	}
}

// TestPythonOutputIsTyped checks it as strictly as mypy can. What protoc's own stubs cannot say is left out: messages with names that
// are keywords, and proto2's extensions.
func TestPythonOutputIsTyped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := slices.DeleteFunc(slices.Clone(golden), func(name string) bool { return name == "old/old.proto" })
	outputs, err := generate(request(t, "lang=python", files...))
	if err != nil {
		t.Fatal(err)
	}
	const uses = `from shop.v1 import events_pb2, inventory_octo, inventory_pb2
import octomesh

async def call(channel: octomesh.Caller) -> None:
    client = inventory_octo.InventoryClient(channel)
    reveal_type(await client.get(inventory_pb2.GetRequest(sku="a"), timeout=0.5))
    async for event in client.watch(inventory_pb2.WatchRequest()):
        reveal_type(event)
    await client.get(inventory_pb2.WatchRequest())
    await client.get(inventory_pb2.GetRequest(), timeout="soon")

class Service(inventory_octo.Inventory):
    async def get(self, req: inventory_pb2.GetRequest, ctx: octomesh.ServerContext) -> events_pb2.Event:
        return events_pb2.Event()
`
	write(t, dir, append(outputs, ir.Output{Name: "uses.py", Content: uses}))
	runProtocForPython(t, dir, files...)
	names := []string{"-m", "mypy", "--strict", "--namespace-packages", "--explicit-package-bases", "--no-error-summary", "--cache-dir", t.TempDir()}
	for _, output := range outputs {
		names = append(names, output.Name)
	}
	env := []string{"MYPYPATH=" + dir}
	mustRun(t, dir, env, interpreter(t), names...)

	printed, err := command(t, dir, env, interpreter(t), append(names, "uses.py")...)
	if err == nil {
		t.Error("mypy finds no fault in wrong code")
	}
	for _, want := range []string{
		`uses.py:6: note: Revealed type is "shop.v1.inventory_pb2.GetResponse"`,
		`uses.py:8: note: Revealed type is "shop.v1.events_pb2.Event"`,
		`uses.py:9: error: Argument 1 to "get" of "InventoryClient" has incompatible type "WatchRequest"`,
		`uses.py:10: error: Argument "timeout" to "get" of "InventoryClient" has incompatible type "str"`,
		`uses.py:13: error: Return type "Coroutine[Any, Any, Event]" of "get" incompatible with return type "Coroutine[Any, Any, GetResponse]"`,
	} {
		if !strings.Contains(printed, want) {
			t.Errorf("mypy does not say %q:\n%s", want, printed)
		}
	}
}

// TestStrangersPythonProjectGeneratesAndRuns goes by the guide, then adds a stranger's whims: keywords as names of messages, methods
// and services, nested types, a file whose name is no module's, messages of other files.
func TestStrangersPythonProjectGeneratesAndRuns(t *testing.T) {
	t.Parallel()
	dir := strangersProject(t, "python")
	if err := os.CopyFS(dir, os.DirFS("testdata/stranger-python")); err != nil {
		t.Fatal(err)
	}
	path := plugins(t)[0] + string(os.PathListSeparator) + filepath.Dir(buf(t)) // where protoc is, too
	mustRun(t, dir, []string{path}, buf(t), "generate")
	for name, imports := range pythonPaths() {
		env := []string{"PYTHONPATH=" + imports + string(os.PathListSeparator) + filepath.Join(dir, "gen"), "OCTO_SOCKET=", "OCTO_MODE="}
		if got, want := mustRun(t, dir, env, interpreter(t), "-W", "error", "main.py"), guideFile(t, "output.txt"); got != want {
			t.Errorf("%s: the guide's program prints\n%s\nwant\n%s", name, got, want)
		}
		if got := mustRun(t, dir, env, interpreter(t), "-W", "error", "calls.py"); got != "ok\n" {
			t.Errorf("%s: calls.py prints\n%s", name, got)
		}
	}
}
