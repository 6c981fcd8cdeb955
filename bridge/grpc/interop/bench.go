package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// bench is where suites find the programs of others.
type bench struct {
	root, peers string // the repository's root; where the programs of other languages are
	folder      string // for programs that are built here, and files; removed at the end
	self        string // this program
}

func newBench(root, peers string) (*bench, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	if peers, err = filepath.Abs(peers); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "interop")
	if err != nil {
		return nil, err
	}
	return &bench{root: root, peers: peers, folder: folder, self: self}, nil
}

func (b *bench) Close() { _ = os.RemoveAll(b.folder) }

// module is this module's folder.
func (b *bench) module() string { return filepath.Join(b.root, "bridge", "grpc", "interop") }

// goCommand runs the go command in this module, and returns what it says.
func (b *bench) goCommand(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Stderr = b.module(), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}

// program builds one of others' programs, by the name of its package.
func (b *bench) program(ctx context.Context, pkg string, flags ...string) (string, error) {
	out := filepath.Join(b.folder, strings.ReplaceAll(pkg, "/", "_"))
	if _, err := os.Stat(out); err == nil {
		return out, nil
	}
	_, err := b.goCommand(ctx, append(append([]string{"build", "-o", out}, flags...), pkg)...)
	return out, err
}

// version is that of a module of others.
func (b *bench) version(ctx context.Context, module string) (string, error) {
	return b.goCommand(ctx, "list", "-m", "-f", "{{.Version}}", module)
}

// process is a program that runs until it is ended.
type process struct{ cmd *exec.Cmd }

func start(cmd *exec.Cmd) (*process, error) {
	if cmd.Stderr == nil {
		cmd.Stderr = os.Stderr
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &process{cmd}, nil
}

func (p *process) Close() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// free is an address of the loopback where nobody listens.
func free() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// awaitServer returns when somebody listens at an address.
func awaitServer(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		nc, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			return nc.Close()
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("nobody listens at %s: %w", address, errors.Join(err, ctx.Err()))
		}
	}
}

// last is the end of a program's output, which says why it failed.
func last(out []byte) string {
	return strings.TrimSpace(string(out[max(0, len(out)-2000):]))
}
