package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// event is what `go test -json` prints; see `go doc test2json`.
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build events
	Test        string
	Elapsed     float64
	Output      string
	FailedBuild string
}

type testKey struct{ pkg, test string }

type summary struct {
	out                     io.Writer
	passed, failed, skipped int
	packages                int
	badPackages             []string
	output                  map[testKey][]string // kept until the test's end: only a failure shows it
	crashed                 map[string][]string  // what a package said when it crashed, line by line
	building                map[string][]string
	failedTests             map[string]int // by package
}

func newSummary(out io.Writer) *summary {
	return &summary{
		out:         out,
		output:      map[testKey][]string{},
		crashed:     map[string][]string{},
		building:    map[string][]string{},
		failedTests: map[string]int{},
	}
}

func (s *summary) read(in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			// Words of the go command itself, such as a complaint about go.mod.
			fmt.Fprintln(s.out, lines.Text())
			continue
		}
		s.take(e)
	}
	return lines.Err()
}

func (s *summary) take(e event) {
	key := testKey{e.Package, e.Test}
	switch e.Action {
	case "output":
		lines := s.output[key]
		if s.crashed[e.Package] != nil || crashes(e.Output) {
			s.crashed[e.Package] = append(s.crashed[e.Package], strings.TrimSuffix(e.Output, "\n"))
		} else {
			lines = append(lines, e.Output)
		}
		s.output[key] = lines // also if empty: that the test has not ended is known by it
	case "build-output":
		s.building[e.ImportPath] = append(s.building[e.ImportPath], e.Output)
	case "build-fail":
		s.print("", s.building[e.ImportPath])
	case "pass", "fail", "skip":
		if e.Test == "" {
			s.endPackage(e)
		} else {
			s.endTest(e)
		}
		delete(s.output, key)
	}
}

func (s *summary) endTest(e event) {
	switch e.Action {
	case "pass":
		s.passed++
	case "skip":
		s.skipped++
	case "fail":
		s.failed++
		s.failedTests[e.Package]++
		s.print(fmt.Sprintf("--- FAIL: %s %s (%.2fs)", e.Package, e.Test, e.Elapsed), s.output[testKey{e.Package, e.Test}])
	}
}

func (s *summary) endPackage(e event) {
	switch {
	case e.Action == "fail":
		s.packages++
		s.badPackages = append(s.badPackages, e.Package)
		fmt.Fprintf(s.out, "FAIL  %6.2fs  %s\n", e.Elapsed, e.Package)
		// A package can fail with all its tests passed, or before them: a race or leak that is
		// noticed at the end, a panic, a timeout. Then its own output is the reason; a build's
		// output was printed already.
		if s.failedTests[e.Package] == 0 && e.FailedBuild == "" || s.crashed[e.Package] != nil {
			s.print("", s.output[testKey{e.Package, ""}])
			s.printUnfinished(e.Package)
		}
		if lines := s.crashed[e.Package]; lines != nil {
			s.print("--- CRASHED: "+e.Package, crashReport(e.Package, lines))
		}
	case e.Action == "pass":
		s.packages++
		fmt.Fprintf(s.out, "ok    %6.2fs  %s\n", e.Elapsed, e.Package)
	}
	delete(s.crashed, e.Package)
}

// printUnfinished shows the output of tests that never ended.
func (s *summary) printUnfinished(pkg string) {
	var tests []string
	for key := range s.output {
		if key.pkg == pkg && key.test != "" {
			tests = append(tests, key.test)
		}
	}
	slices.Sort(tests)
	for _, test := range tests {
		s.print("--- NOT ENDED: "+pkg+" "+test, s.output[testKey{pkg, test}])
	}
}

func (s *summary) print(head string, lines []string) {
	if head != "" {
		fmt.Fprintln(s.out, head)
	}
	for _, l := range lines {
		fmt.Fprint(s.out, strings.TrimSuffix(l, "\n"), "\n")
	}
}

func (s *summary) ran() bool { return s.passed+s.failed+s.skipped > 0 }

func (s *summary) ok() bool { return len(s.badPackages) == 0 && s.failed == 0 && s.ran() }

// counts has the form that CI systems look for. A package that failed without a failed test of its
// own counts as one failure, so that "0 failed" is never said of a bad run.
func (s *summary) counts() string {
	failed := s.failed
	for _, p := range s.badPackages {
		if s.failedTests[p] == 0 {
			failed++
		}
	}
	return fmt.Sprintf("%d passed, %d failed, %d skipped", s.passed, failed, s.skipped)
}

func (s *summary) finish() {
	slices.Sort(s.badPackages)
	for _, p := range s.badPackages {
		fmt.Fprintln(s.out, "failed:", p)
	}
	if !s.ran() {
		fmt.Fprintln(s.out, "no test ran")
	}
	fmt.Fprintln(s.out, s.counts())
}

func (s *summary) markdown() string {
	text := fmt.Sprintf("%d packages with tests, race detector on: %s.\n", s.packages, s.counts())
	for _, p := range s.badPackages {
		text += "\n- failed: " + p
	}
	return text
}
