package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const module = "github.com/octomesh/octomesh"

// programs are what the demo starts, and what it leaves to play with.
var programs = []string{
	module + "/core/cmd/octo",
	module + "/core/cmd/octo-proxy",
	module + "/examples/shop/cmd/catalogue",
	module + "/examples/shop/cmd/cart",
	module + "/examples/shop/cmd/checkout",
	module + "/examples/shop/cmd/customer",
}

// build builds all programs of this tree into its build directory, and returns both. What has not changed costs
// nothing.
func build(ctx context.Context, out *printer) (root, bin string, err error) {
	mod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", "", fmt.Errorf("asking go for the module: %w", err)
	}
	root = filepath.Dir(strings.TrimSpace(string(mod)))
	if text, err := os.ReadFile(filepath.Join(root, "go.mod")); err != nil || !strings.HasPrefix(string(text), "module "+module+"\n") {
		return "", "", errors.New("run it within a checkout of OctoMesh: the programs are built from there")
	}
	bin = filepath.Join(root, "build", "shop")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return "", "", err
	}
	for _, p := range programs {
		began, name := time.Now(), filepath.Base(p)
		cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(bin, name), p)
		cmd.Dir = root
		if said, err := cmd.CombinedOutput(); err != nil {
			return "", "", fmt.Errorf("building %s: %w\n%s", name, err, said)
		}
		out.note("built %-10s %5.1f s", name, time.Since(began).Seconds())
	}
	return root, bin, nil
}
