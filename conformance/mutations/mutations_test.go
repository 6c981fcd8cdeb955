package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The list itself is held to the tree by every run of the tests: an edit that fits no more is told at once, not by
// the long run.
func TestEveryMutationFitsTheTree(t *testing.T) {
	if err := os.Chdir("../.."); err != nil {
		t.Fatal(err)
	}
	all, err := read("conformance/mutations/mutations.yaml", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		if _, err := m.mutated(); err != nil {
			t.Error(err)
		}
	}
	if len(all) < 20 {
		t.Errorf("only %d mutations", len(all))
	}
}

func TestAnEditMustFitExactlyOnePlace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f.go")
	if err := os.WriteFile(file, []byte("one two two"), 0o600); err != nil {
		t.Fatal(err)
	}
	for old, want := range map[string]string{"one": "", "two": "2 times", "three": "0 times"} {
		_, err := (&mutation{File: file, Old: old, New: "x"}).mutated()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v", old, err)
		}
	}
}

func TestListsThatMakeNoSenseAreRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "l.yaml")
	for name, text := range map[string]string{
		"unknown field": "mutations: [{rule: a, breach: b, file: f, old: x, new: y, cases: [c], why: z}]",
		"no case":       "mutations: [{rule: a, breach: b, file: f, old: x, new: y}]",
		"no change":     "mutations: [{rule: a, breach: b, file: f, old: x, new: x, cases: [c]}]",
		"none":          "mutations: []",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := read(file, ""); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
