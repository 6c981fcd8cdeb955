package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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
	cpu     time.Duration // of spin, the compiler and the search: comparable also on a busy machine
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
			fmt.Printf("%-22s %-6s %12s states %8.1f CPU s\n",
				r.name, results[i].outcome, results[i].states, results[i].cpu.Seconds())
		})
	}
	running.Wait()
	return results
}

func (c checker) one(ctx context.Context, r row) result {
	d := desk{dir: filepath.Join(c.build, r.name)}
	res := result{row: r, states: "?"}
	out, err := c.search(ctx, &d, r)
	res.cpu = d.cpu
	if err != nil {
		res.outcome = err.Error()
		return res
	}
	res.outcome, res.states = judge(out)
	return res
}

// search generates, compiles and runs the checker of one row and returns what it printed.
func (c checker) search(ctx context.Context, d *desk, r row) (string, error) {
	if err := d.clear(filepath.Join(c.dir, r.model)); err != nil {
		return "", err
	}
	how := checks[r.check]
	if out, err := d.run(ctx, "spin", append(slices.Clone(r.switches), "-a", r.model)...); err != nil {
		return "", fmt.Errorf("spin: %w: %s", err, out)
	}
	flags := append(slices.Clone(how.compile), fmt.Sprintf("-DMEMLIM=%d", c.mem), "-O2", "-w", "-o", "pan", "pan.c")
	if out, err := d.run(ctx, "gcc", flags...); err != nil {
		return "", fmt.Errorf("gcc: %w: %s", err, out)
	}
	limited, cancel := context.WithTimeout(ctx, c.limit)
	defer cancel()
	out, err := d.run(limited, "./pan", how.args...)
	// pan's exit code says nothing that its output does not say better.
	var exit *exec.ExitError
	if errors.As(err, &exit) || limited.Err() != nil {
		err = nil
	}
	return out, err
}

// desk is the folder in which one row is worked on, and the time that this took.
type desk struct {
	dir string
	cpu time.Duration
}

// clear empties the folder and lays the model there, since spin writes beside its input.
func (d *desk) clear(model string) error {
	if err := os.RemoveAll(d.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		return err
	}
	text, err := os.ReadFile(model)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(d.dir, filepath.Base(model)), text, 0o644)
}

// run runs a command niced, because all this takes minutes and nobody waits for it.
func (d *desk) run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "nice", append([]string{"-n", "19", name}, args...)...)
	cmd.Dir = d.dir
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState != nil {
		d.cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
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
	b.WriteString("| run | check | states | CPU seconds | result | expected |\n|---|---|---:|---:|---|---|\n")
	for _, r := range results {
		expected := r.row.expected
		if r.outcome != expected {
			bad++
			expected = "**" + expected + "**"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %.1f | %s | %s |\n",
			r.row.name, r.row.check, r.states, r.cpu.Seconds(), r.outcome, expected)
	}
	fmt.Fprintf(&b, "\n%d runs, %d not as expected.\n", len(results), bad)
	return b.String(), bad
}
