// Command models checks the Promela models beside the protocol's text with spin.
//
// matrix.txt names the runs: the model, its switches, and whether the reading that they choose
// verifies ("ok") or has a counterexample ("cex"). A wrong reading that suddenly verifies is as much
// a failure as a right one that breaks: either the model no longer sees the fault or the rule is gone.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"time"
)

func main() {
	dir := flag.String("dir", "proto/spec/models", "folder of the models and matrix.txt")
	build := flag.String("build", "build/models", "folder for generated checkers and their output")
	jobs := flag.Int("jobs", 2, "runs at once")
	mem := flag.Int("mem", 4096, "MiB for one run")
	limit := flag.Duration("timeout", 15*time.Minute, "time for one run")
	only := flag.String("only", "", "regular expression of the runs to make")
	report := flag.String("report", "", "file for the table in Markdown")
	flag.Parse()

	ok, err := run(*dir, *only, *report, checker{build: *build, mem: *mem, limit: *limit}, *jobs)
	if err != nil {
		fmt.Fprintln(os.Stderr, "models:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

func run(dir, only, report string, c checker, jobs int) (bool, error) {
	rows, err := readMatrix(filepath.Join(dir, "matrix.txt"))
	if err != nil {
		return false, err
	}
	pattern, err := regexp.Compile(only)
	if err != nil {
		return false, err
	}
	var chosen []row
	for _, r := range rows {
		if pattern.MatchString(r.name) {
			chosen = append(chosen, r)
		}
	}
	if len(chosen) == 0 {
		return false, fmt.Errorf("no run is named like %q", only)
	}
	// Checkers and their output lie away from the sources, at a path that does not depend on where
	// this was started.
	if c.build, err = filepath.Abs(c.build); err != nil {
		return false, err
	}
	if c.dir, err = filepath.Abs(dir); err != nil {
		return false, err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	results := c.all(ctx, chosen, jobs)
	text, bad := table(results)
	fmt.Print("\n", text)
	if report != "" {
		err = os.WriteFile(report, []byte(text), 0o644)
	}
	return bad == 0, err
}
