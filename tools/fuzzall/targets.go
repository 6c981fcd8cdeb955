package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

type target struct{ dir, name string }

func (t target) String() string { return filepath.ToSlash(t.dir) + " " + t.name }

var declaration = regexp.MustCompile(`(?m)^func (Fuzz\w*)\(\w+ \*testing\.F\)`)

// findTargets reads the test files rather than ask `go test -list`, which would compile every
// package's tests to learn that most have no target.
func findTargets(root string) ([]target, error) {
	var targets []target
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			switch d.Name() {
			case ".git", "node_modules", "testdata", "build":
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range declaration.FindAllSubmatch(text, -1) {
			targets = append(targets, target{filepath.Dir(path), string(m[1])})
		}
		return nil
	})
	return targets, err
}
