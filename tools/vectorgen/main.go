// Vectorgen writes conformance/vectors: golden bytes and event → action scripts that every
// implementation of the protocol reads in its own unit tests.
//
// What is expected stands here by hand, or follows from code that shares nothing with core/wire.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/octomesh/octomesh/tools/vectorgen/machine"
	"github.com/octomesh/octomesh/tools/vectorgen/vector"
)

func main() {
	out := flag.String("out", "conformance/vectors", "the directory to write to")
	flag.Parse()
	if err := write(*out); err != nil {
		fmt.Fprintln(os.Stderr, "vectorgen:", err)
		os.Exit(1)
	}
}

// files are all vector files by their path below conformance/vectors.
func files() map[string]*vector.File {
	all := map[string]*vector.File{
		"frame.json":       frameFile(),
		"head.json":        headFile(),
		"patch.json":       patchFile(),
		"status.json":      statusFile(),
		"timeout.json":     timeoutFile(),
		"timings.json":     timingsFile(),
		"traceparent.json": traceparentFile(),
		"metadata.json":    metadataFile(),
		"malformed.json":   malformedFile(),
		"ratio.json":       ratioFile(),
		"retry.json":       retryFile(),
		"path.json":        pathFile(),
		"fallback.json":    fallbackFile(),
		"switch.json":      switchFile(),
		"state.json":       stateFile(),
		"balance.json":     balanceFile(),
		"window.json":      windowFile(),
		"liveness.json":    livenessFile(),
	}
	for name, f := range machine.Files() {
		all["machine/"+name] = f
	}
	for name, f := range all {
		f.Schema = schemaOf(name)
	}
	return all
}

// schemaOf is the path of a file's schema below conformance/vectors; the machine files share one.
func schemaOf(name string) string {
	base := filepath.Base(name)
	if filepath.Dir(name) == "machine" {
		base = "machine.json"
	}
	return "schema/" + base[:len(base)-len(".json")] + ".schema.json"
}

func write(dir string) error {
	for name, f := range files() {
		b, err := f.Format()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			return err
		}
	}
	return nil
}
