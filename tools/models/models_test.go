package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestJudge(t *testing.T) {
	for _, tc := range []struct{ name, out, outcome, states string }{
		{"verified", "State-vector 84 byte, errors: 0\n  911908 states, stored\n", ok, "911908"},
		{"stuck", "pan:1: invalid end state (at depth 9)\nWarning: Search not completed\nerrors: 1\n  12 states, stored\n", counterexample, "12"},
		{"assertion", "pan:1: assertion violated (n<=3) (at depth 4)\nerrors: 1\n  1.5e+06 states, stored\n", counterexample, "1.5e+06"},
		{"memory ran out", "pan: reached -DMEMLIM bound\nWarning: Search not completed\nerrors: 0\n  99 states, stored\n", incomplete, "99"},
		{"depth ran out", "error: max search depth too small\nerrors: 0\n  99 states, stored\n", incomplete, "99"},
		{"time ran out", "Depth= 100 States= 1e+06\n", incomplete, "?"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			outcome, states := judge(tc.out)
			if outcome != tc.outcome || states != tc.states {
				t.Errorf("judge = %s, %s; want %s, %s", outcome, states, tc.outcome, tc.states)
			}
		})
	}
}

func TestAnUnexpectedResultIsCounted(t *testing.T) {
	text, bad := table([]result{
		{row: row{name: "right", check: "safety", expected: ok}, outcome: ok},
		{row: row{name: "wrong", check: "safety", expected: counterexample}, outcome: ok},
	})
	if bad != 1 || !strings.Contains(text, "**cex**") {
		t.Errorf("%d not as expected:\n%s", bad, text)
	}
}

func TestTheMatrixIsSound(t *testing.T) {
	const dir = "../../proto/spec/models"
	rows, err := readMatrix(filepath.Join(dir, "matrix.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if _, err := os.Stat(filepath.Join(dir, r.model)); err != nil {
			t.Errorf("%s: %v", r.name, err)
		}
	}
}

func TestBadRowsAreRefused(t *testing.T) {
	for _, text := range []string{
		"a ok safety",                  // no model
		"a maybe safety m.pml",         // unknown expectation
		"a ok speed m.pml",             // unknown check
		"a ok safety m\na ok safety m", // twice
	} {
		file := filepath.Join(t.TempDir(), "matrix.txt")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readMatrix(file); err == nil {
			t.Errorf("%q accepted", text)
		}
	}
}
