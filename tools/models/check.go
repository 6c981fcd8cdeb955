package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// What a run can come to. Anything else is an error's text.
const (
	ok             = "ok"
	counterexample = "cex"
	incomplete     = "incomplete" // memory, depth or time ran out before the end
)

// checks are the ways to compile and run a checker. No model has progress labels, so with progress
// "no error" says that there is no cycle at all: every run ends.
var checks = map[string]struct{ compile, args []string }{
	"safety":   {[]string{"-DSAFETY", "-DCOLLAPSE"}, []string{"-m200000"}},
	"progress": {[]string{"-DNP", "-DCOLLAPSE"}, []string{"-l", "-m200000"}},
}

type checker struct {
	dir, build string // absolute
	mem        int    // MiB
	limit      time.Duration
}

type result struct {
	row     row
	outcome string
	states  string
	took    time.Duration
}

func (c checker) all(ctx context.Context, rows []row, jobs int) []result {
	results := make([]result, len(rows))
	slots := make(chan struct{}, jobs)
	var running sync.WaitGroup
	for i, r := range rows {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			results[i] = c.one(ctx, r)
			fmt.Printf("%-22s %-6s %12s states %8.1f s\n",
				r.name, results[i].outcome, results[i].states, results[i].took.Seconds())
		})
	}
	running.Wait()
	return results
}

func (c checker) one(ctx context.Context, r row) result {
	start := time.Now()
	res := result{row: r, states: "?"}
	out, err := c.search(ctx, r)
	res.took = time.Since(start)
	if err != nil {
		res.outcome = err.Error()
		return res
	}
	res.outcome, res.states = judge(out)
	return res
}

// search generates, compiles and runs the checker of one row, in a folder of its own, and returns
// what the checker printed. The checker is run niced: it takes minutes and nobody waits for it.
func (c checker) search(ctx context.Context, r row) (string, error) {
	dir := filepath.Join(c.build, r.name)
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	text, err := os.ReadFile(filepath.Join(c.dir, r.model))
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, r.model), text, 0o644); err != nil {
		return "", err
	}
	how := checks[r.check]
	generate := append(append([]string{}, r.switches...), "-a", r.model)
	if out, err := command(ctx, dir, "spin", generate...); err != nil {
		return "", fmt.Errorf("spin: %w: %s", err, out)
	}
	compile := append(append([]string{}, how.compile...), fmt.Sprintf("-DMEMLIM=%d", c.mem), "-O2", "-w", "-o", "pan", "pan.c")
	if out, err := command(ctx, dir, "gcc", compile...); err != nil {
		return "", fmt.Errorf("gcc: %w: %s", err, out)
	}
	limited, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	out, err := command(limited, dir, "nice", append([]string{"-n", "19", "./pan"}, how.args...)...)
	if writeErr := os.WriteFile(filepath.Join(dir, "pan.out"), []byte(out), 0o644); writeErr != nil {
		return "", writeErr
	}
	// pan's exit code says nothing that its output does not say better.
	var exit *exec.ExitError
	if errors.As(err, &exit) || limited.Err() != nil {
		err = nil
	}
	return out, err
}

func command(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

var (
	errorCount  = regexp.MustCompile(`errors: (\d+)`)
	stateCount  = regexp.MustCompile(`([0-9.e+]+) states, stored`)
	cutOff      = regexp.MustCompile(`(?i)search not completed|max search depth too small|out of memory|reached -DMEMLIM`)
	firstDefect = regexp.MustCompile(`pan:\s*\d+: (assertion violated|invalid end state|non-progress cycle|acceptance cycle)`)
)

// judge reads what pan printed. A counterexample counts even where the search stopped at it; no
// error counts only if the search was complete.
func judge(out string) (outcome, states string) {
	states = "?"
	if m := stateCount.FindStringSubmatch(out); m != nil {
		states = m[1]
	}
	m := errorCount.FindStringSubmatch(out)
	switch {
	case m == nil:
		return incomplete, states
	case m[1] != "0":
		if firstDefect.MatchString(out) {
			return counterexample, states
		}
		return "error without a known kind, see pan.out", states
	case cutOff.MatchString(out):
		return incomplete, states
	}
	return ok, states
}

func table(results []result) (text string, bad int) {
	var b strings.Builder
	b.WriteString("| run | check | states | seconds | result | expected |\n|---|---|---:|---:|---|---|\n")
	for _, r := range results {
		expected := r.row.expected
		if r.outcome != expected {
			bad++
			expected = "**" + expected + "**"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %.1f | %s | %s |\n",
			r.row.name, r.row.check, r.states, r.took.Seconds(), r.outcome, expected)
	}
	fmt.Fprintf(&b, "\n%d runs, %d not as expected.\n", len(results), bad)
	return b.String(), bad
}
