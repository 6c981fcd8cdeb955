package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The fixture is copied, because the fuzzer writes what it finds beside the test.
func fixture(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tree")
	if err := os.CopyFS(dir, os.DirFS("testdata/tree")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestASoundTargetPassesAndIsCounted(t *testing.T) {
	r := fuzz(target{fixture(t), "FuzzSound"}, time.Second)
	if r.failed || r.executions == 0 {
		t.Errorf("failed = %v, executions = %d\n%s", r.failed, r.executions, r.output)
	}
}

func TestAFaultyTargetFailsTheRun(t *testing.T) {
	dir := fixture(t)
	report := filepath.Join(t.TempDir(), "report.md")
	ok, err := run(dir, 0, 2*time.Second, report)
	if err != nil || ok {
		t.Fatalf("ok = %v, err = %v; want a failed run", ok, err)
	}
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"FuzzFaulty | ", "| FAILED |", "FuzzSound | ", "| ok |"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is missing in the report:\n%s", want, text)
		}
	}
}

func TestEndOfTimeIsNoFailure(t *testing.T) {
	for output, want := range map[string]bool{
		"--- FAIL: FuzzX (10.02s)\n    context deadline exceeded\nFAIL":                                true,
		"--- FAIL: FuzzX\n    context deadline exceeded\n    Failing input written to testdata/fuzz/x": false,
		"--- FAIL: FuzzX (0.02s)\n    boom":                                                            false,
	} {
		if got := endedByClock(output); got != want {
			t.Errorf("endedByClock(%q) = %v", output, got)
		}
	}
}

func TestProgressIsTheLastLine(t *testing.T) {
	executions, interesting := progress("fuzz: elapsed: 3s, execs: 100 (33/sec), new interesting: 1 (total: 2)\n" +
		"fuzz: elapsed: 4s, execs: 170 (70/sec), new interesting: 3 (total: 4)\nPASS\n")
	if executions != 170 || interesting != 3 {
		t.Errorf("%d executions, %d interesting", executions, interesting)
	}
}
