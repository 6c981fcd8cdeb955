// Package interop holds the bridge to gRPC's own interoperability cases. It is a module of its own, since they bring more than
// the bridge needs.
package interop

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	bridge "github.com/octomesh/octomesh/bridge/grpc"
	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/proxy/session"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// cases are those of grpc-go's client but for the ones that need credentials of Google's, and for pick_first_unary: it wants the
// server's id in its answers, and grpc-go's own server gives none, so that it fails without a proxy, too.
var cases = []string{
	"empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream", "timeout_on_sleeping_server",
	"cancel_after_begin", "cancel_after_first_response", "status_code_and_message", "special_status_message", "custom_metadata",
	"unimplemented_method", "unimplemented_service", "rpc_soak", "channel_soak", "orca_per_rpc", "orca_oob",
}

// program builds one of grpc-go's interoperability programs.
func program(t *testing.T, name string, flags ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), name)
	run(t, append(append([]string{"build", "-o", out}, flags...), "google.golang.org/grpc/interop/"+name)...)
	return out
}

// run runs the go command, and returns what it says.
func run(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out))
}

// onLoopback is the flag of `go build` by which grpc-go's server listens on the loopback instead of everywhere: it is built from
// a copy of grpc-go that differs in nothing else.
func onLoopback(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	stock, mod := filepath.Join(folder, "grpc"), filepath.Join(folder, "go.mod")
	if err := os.CopyFS(stock, os.DirFS(run(t, "list", "-m", "-f", "{{.Dir}}", "google.golang.org/grpc"))); err != nil {
		t.Fatal(err)
	}
	const everywhere, loopback = `net.Listen("tcp", ":"+p)`, `net.Listen("tcp", "127.0.0.1:"+p)`
	source := filepath.Join(stock, "interop", "server", "server.go")
	text, err := os.ReadFile(source)
	if err != nil || strings.Count(string(text), everywhere) != 1 {
		t.Fatalf("grpc-go's server does not listen as it did: look what to replace (%v)", err)
	}
	if err := os.WriteFile(source, []byte(strings.Replace(string(text), everywhere, loopback, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run(t, "mod", "edit", "-replace=google.golang.org/grpc="+stock, mod)
	return "-modfile=" + mod
}

// free is a port where nobody listens.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// startServer runs grpc-go's server until the test ends.
func startServer(t *testing.T) (address string) {
	t.Helper()
	port := free(t)
	server := exec.Command(program(t, "server", onLoopback(t)), "--port="+port)
	server.Stderr = os.Stderr
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	return "127.0.0.1:" + port
}

// startMesh runs the client's proxy, where gRPC comes in, and the server's, which dials it.
func startMesh(t *testing.T, server string) (port string) {
	t.Helper()
	const target = "interop"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	in := []session.Protocol{&bridge.Protocol{Config: bridge.Config{
		Environment: meshtest.Environment, Application: "interop-client", Target: func(string, string) string { return target },
	}}}
	start := func(cfg proxy.Config) *meshtest.Proxy {
		p, err := meshtest.StartProxy(t.TempDir(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		return p
	}
	callee := start(proxy.Config{
		Dials: map[resourcev1.Protocol]session.Protocol{resourcev1.Protocol_PROTOCOL_GRPC: &bridge.Protocol{}},
		Servers: []proxy.Server{{
			Application: target, Instance: "interop-1", Targets: []string{target}, Address: server, Protocol: resourcev1.Protocol_PROTOCOL_GRPC,
			Watch: bridge.WatchHealth,
		}},
	})
	if err := callee.Endpoints(nil); err != nil {
		t.Fatal(err)
	}
	caller := start(proxy.Config{Entrances: []proxy.Entrance{{Listener: l, Protocols: in}}})
	if err := caller.Endpoints(map[string][]string{target: {callee.Address}}); err != nil {
		t.Fatal(err)
	}
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

// TestInterop runs grpc-go's own client and server, unmodified but for where the server listens, with both proxies between.
func TestInterop(t *testing.T) {
	client, server := program(t, "client"), startServer(t)
	awaitServer(t, server)
	port := startMesh(t, server)
	for _, name := range cases {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
			defer cancel()
			args := []string{"--server_host=127.0.0.1", "--server_port=" + port, "--test_case=" + name}
			if name == "orca_per_rpc" || name == "orca_oob" { // as the description of the cases has it
				args = append(args, `--service_config_json={"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}`)
			}
			if out, err := exec.CommandContext(ctx, client, args...).CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, last(out))
			}
		})
	}
}

func awaitServer(t *testing.T, address string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		nc, err := net.Dial("tcp", address)
		if err == nil {
			_ = nc.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatal(fmt.Errorf("grpc-go's server does not listen: %w", err))
		}
	}
}

// last is the end of a program's output, which says why it failed.
func last(out []byte) []byte { return out[max(0, len(out)-2000):] }
