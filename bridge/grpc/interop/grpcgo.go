package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// grpcGoCases are those of grpc-go's client but for the ones that need credentials of Google's, and for pick_first_unary: it wants the
// server's id in its answers, and grpc-go's own server gives none, so that it fails without a proxy, too.
var grpcGoCases = []string{
	"empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream", "timeout_on_sleeping_server",
	"cancel_after_begin", "cancel_after_first_response", "status_code_and_message", "special_status_message", "custom_metadata",
	"unimplemented_method", "unimplemented_service", "rpc_soak", "channel_soak", "orca_per_rpc", "orca_oob",
}

// grpcGo runs grpc-go's own client and server, unmodified but for where the server listens.
func grpcGo(ctx context.Context, b *bench) ([]row, error) {
	r := row{suite: "grpc-go interop", mode: "its client and its server, plain"}
	var err error
	if r.version, err = b.version(ctx, "google.golang.org/grpc"); err != nil {
		return nil, err
	}
	client, err := b.program(ctx, "google.golang.org/grpc/interop/client")
	if err != nil {
		return nil, err
	}
	server, address, err := b.grpcGoServer(ctx)
	if err != nil {
		return nil, err
	}
	defer server.Close()
	m, err := startMesh(ctx, address)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	if err := m.Ready(ctx); err != nil {
		return nil, err
	}
	through := grpcGoRun(ctx, client, m.Address)
	r.compare(through, grpcGoRun(ctx, client, address))
	return []row{r}, ctx.Err()
}

// grpcGoRun runs all cases against an address.
func grpcGoRun(ctx context.Context, client, address string) outcome {
	o := outcome{cases: len(grpcGoCases), failed: map[string]string{}}
	host, port, _ := net.SplitHostPort(address)
	for _, name := range grpcGoCases {
		args := []string{"--server_host=" + host, "--server_port=" + port, "--test_case=" + name}
		if strings.HasPrefix(name, "orca_") { // as the description of the cases has it
			args = append(args, `--service_config_json={"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}`)
		}
		ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
		if out, err := exec.CommandContext(ctx, client, args...).CombinedOutput(); err != nil {
			o.failed[name] = fmt.Sprintf("%v: %s", err, last(out))
		}
		cancel()
	}
	return o
}

// grpcGoServer runs grpc-go's interoperability server.
func (b *bench) grpcGoServer(ctx context.Context) (*process, string, error) {
	flag, err := b.onLoopback(ctx)
	if err != nil {
		return nil, "", err
	}
	program, err := b.program(ctx, "google.golang.org/grpc/interop/server", flag)
	if err != nil {
		return nil, "", err
	}
	address, err := free()
	if err != nil {
		return nil, "", err
	}
	_, port, _ := net.SplitHostPort(address)
	p, err := start(exec.Command(program, "--port="+port))
	if err != nil {
		return nil, "", err
	}
	if err := awaitServer(ctx, address); err != nil {
		p.Close()
		return nil, "", err
	}
	return p, address, nil
}

// onLoopback is the flag of `go build` by which grpc-go's server listens on the loopback instead of everywhere: it is built from
// a copy of grpc-go that differs in nothing else.
func (b *bench) onLoopback(ctx context.Context) (string, error) {
	stock, mod := filepath.Join(b.folder, "grpc"), filepath.Join(b.folder, "go.mod")
	flag := "-modfile=" + mod
	if _, err := os.Stat(mod); err == nil {
		return flag, nil
	}
	dir, err := b.goCommand(ctx, "list", "-m", "-f", "{{.Dir}}", "google.golang.org/grpc")
	if err != nil {
		return "", err
	}
	if err := os.CopyFS(stock, os.DirFS(dir)); err != nil {
		return "", err
	}
	const everywhere, loopback = `net.Listen("tcp", ":"+p)`, `net.Listen("tcp", "127.0.0.1:"+p)`
	source := filepath.Join(stock, "interop", "server", "server.go")
	text, err := os.ReadFile(source)
	if err != nil {
		return "", err
	}
	if strings.Count(string(text), everywhere) != 1 {
		return "", fmt.Errorf("grpc-go's server does not listen as it did: look what to replace in %s", source)
	}
	if err := os.WriteFile(source, []byte(strings.Replace(string(text), everywhere, loopback, 1)), 0o600); err != nil {
		return "", err
	}
	for _, name := range []string{"go.sum", "go.mod"} {
		text, err := os.ReadFile(filepath.Join(b.module(), name))
		if err != nil {
			return "", err
		}
		if err := os.WriteFile(filepath.Join(b.folder, name), text, 0o600); err != nil {
			return "", err
		}
	}
	_, err = b.goCommand(ctx, "mod", "edit", "-replace=google.golang.org/grpc="+stock, mod)
	return flag, err
}
