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
	return root, bin, buildPython(ctx, root, bin, out)
}

// pythonServices are the services in Python, each a package of examples/shop/python.
var pythonServices = []string{"checkout"}

// runPython starts one: %[1]s is the root of this tree, %[2]s the environment, %[3]s the package.
const runPython = `#!/bin/sh
PYTHONPATH='%[1]s/examples/shop/python:%[1]s/examples/shop/gen/python:%[1]s/sdks/python/src' exec '%[2]s/bin/python' -m %[3]s "$@"
`

// buildPython makes the environment of the services in Python, with the SDK of this tree and what that needs, and a program that
// starts each. What has not changed costs nothing.
func buildPython(ctx context.Context, root, bin string, out *printer) error {
	began, venv := time.Now(), filepath.Join(bin, "python")
	pins := filepath.Join(root, "examples", "shop", "python", "requirements.txt")
	want, err := os.ReadFile(pins)
	if err != nil {
		return err
	}
	installed := filepath.Join(venv, "installed")
	if is, err := os.ReadFile(installed); err != nil || string(is) != string(want) {
		if err := os.RemoveAll(venv); err != nil {
			return err
		}
		python := filepath.Join(venv, "bin", "python")
		for _, args := range [][]string{
			{"python3", "-c", "import sys; assert sys.version_info >= (3, 11), 'the checkout needs Python 3.11 or newer, python3 is ' + sys.version"},
			{"python3", "-m", "venv", venv},
			{python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--require-hashes", "-r", pins},
		} {
			if said, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
				return fmt.Errorf("the checkout is in Python, and its environment cannot be made: %s: %w\n%s", strings.Join(args, " "), err, said)
			}
		}
		if err := os.WriteFile(installed, want, 0o644); err != nil {
			return err
		}
	}
	for _, name := range pythonServices {
		if err := os.WriteFile(filepath.Join(bin, name), fmt.Appendf(nil, runPython, root, venv, name), 0o755); err != nil {
			return err
		}
		out.note("built %-10s %5.1f s  in Python", name, time.Since(began).Seconds())
	}
	return nil
}
