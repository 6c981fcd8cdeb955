// Command lengths checks the house rules on size: a file has at most 600 lines (a test 800) and a
// Go function at most 80. It reads paths from standard input, one a line, as `git ls-files` prints
// them, and prints what is longer. Generated files are exempt.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"path"
	"regexp"
	"strings"
)

const (
	maxFile     = 600
	maxTestFile = 800
	maxFunction = 80
)

// sources are the kinds of file that people write as code. Prose and data may be as long as they need.
var sources = map[string]bool{
	".go": true, ".java": true, ".py": true, ".ts": true, ".tsx": true, ".rs": true,
	".cc": true, ".cpp": true, ".h": true, ".hpp": true, ".sh": true, ".mk": true, ".proto": true,
}

var (
	generated = regexp.MustCompile(`(?m)^(//|#) Code generated .* DO NOT EDIT\.$`)
	testName  = regexp.MustCompile(`(_test\.go|Test\.java|_test\.(cc|cpp|py|rs)|\.test\.tsx?|/test_[^/]*\.py)$`)
)

func main() {
	findings, err := run(os.Stdin, os.ReadFile)
	if err != nil {
		fmt.Fprintln(os.Stderr, "lengths:", err)
		os.Exit(2)
	}
	for _, f := range findings {
		fmt.Println(f)
	}
	if len(findings) > 0 {
		os.Exit(1)
	}
}

func run(paths io.Reader, read func(string) ([]byte, error)) ([]string, error) {
	var findings []string
	lines := bufio.NewScanner(paths)
	for lines.Scan() {
		name := lines.Text()
		if !sources[path.Ext(name)] || strings.HasPrefix(name, "gen/") {
			continue
		}
		text, err := read(name)
		if os.IsNotExist(err) {
			continue // deleted, but still in git's index
		}
		if err != nil {
			return nil, err
		}
		found, err := checkFile(name, text)
		if err != nil {
			return nil, err
		}
		findings = append(findings, found...)
	}
	return findings, lines.Err()
}

func checkFile(name string, text []byte) ([]string, error) {
	if generated.Match(text) {
		return nil, nil
	}
	var findings []string
	limit := maxFile
	if testName.MatchString("/" + name) {
		limit = maxTestFile
	}
	if n := bytes.Count(text, []byte("\n")); n > limit {
		findings = append(findings, fmt.Sprintf("%s: %d lines, at most %d: split it by what changes together", name, n, limit))
	}
	if path.Ext(name) == ".go" {
		found, err := checkFunctions(name, text)
		if err != nil {
			return nil, err
		}
		findings = append(findings, found...)
	}
	return findings, nil
}

func checkFunctions(name string, text []byte) ([]string, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, text, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var findings []string
	for _, d := range file.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || fn.Body == nil {
			continue
		}
		from, to := fset.Position(fn.Pos()).Line, fset.Position(fn.End()).Line
		if n := to - from + 1; n > maxFunction {
			findings = append(findings, fmt.Sprintf("%s:%d: func %s has %d lines, at most %d",
				name, from, fn.Name.Name, n, maxFunction))
		}
	}
	return findings, nil
}
