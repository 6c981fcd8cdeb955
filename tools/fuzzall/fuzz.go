package main

import (
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

type result struct {
	target      target
	took        time.Duration
	executions  int64
	interesting int64
	failed      bool
	output      string
}

func fuzz(t target, each time.Duration) result {
	cmd := exec.Command("go", "test", "-run", "^$", "-fuzz", "^"+t.name+"$", "-fuzztime", each.String(), "-fuzzminimizetime", "1x", ".")
	cmd.Dir = t.dir
	start := time.Now()
	out, err := cmd.CombinedOutput()
	r := result{target: t, took: time.Since(start), output: string(out)}
	r.executions, r.interesting = progress(r.output)
	r.failed = err != nil && !endedByClock(r.output)
	return r
}

// endedByClock recognizes a worker that was stopped by the end of the fuzz time in the middle of an
// execution, which the go command reports as a failure. A real one names the input it has written,
// or does not build.
func endedByClock(output string) bool {
	return strings.Contains(output, "context deadline exceeded") &&
		!strings.Contains(output, "Failing input written") &&
		!strings.Contains(output, "panic:")
}

var progressLine = regexp.MustCompile(`execs: (\d+) .*new interesting: (\d+)`)

// progress reads the last of the lines that the fuzzer prints every three seconds.
func progress(output string) (executions, interesting int64) {
	all := progressLine.FindAllStringSubmatch(output, -1)
	if len(all) == 0 {
		return 0, 0
	}
	last := all[len(all)-1]
	executions, _ = strconv.ParseInt(last[1], 10, 64) // digits by the pattern
	interesting, _ = strconv.ParseInt(last[2], 10, 64)
	return executions, interesting
}

func table(results []result) string {
	var b strings.Builder
	b.WriteString("| fuzz target | seconds | executions | result |\n|---|---:|---:|---|\n")
	var took time.Duration
	var executions int64
	for _, r := range results {
		verdict := "ok"
		if r.failed {
			verdict = "FAILED"
		}
		fmt.Fprintf(&b, "| %s | %.0f | %d | %s |\n", r.target, r.took.Seconds(), r.executions, verdict)
		took += r.took
		executions += r.executions
	}
	fmt.Fprintf(&b, "| all | %.0f | %d | |\n", took.Seconds(), executions)
	return b.String()
}
