package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
)

// knownFailure is a line of known_failing/<testee>.txt: a pattern of case@topology in which * stands for
// anything, the issue that will end it, and the last day on which it holds.
type knownFailure struct {
	line    string
	testee  string
	pattern *regexp.Regexp
	expires time.Time
	matched bool
}

func readKnown(dir string, testees []*program, now time.Time) ([]*knownFailure, error) {
	var all []*knownFailure
	for _, t := range testees {
		f, err := os.Open(filepath.Join(dir, t.name+".txt"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			line := strings.TrimSpace(lines.Text())
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			k, err := parseKnown(t.name, line)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", f.Name(), err)
			}
			if now.After(k.expires.AddDate(0, 0, 1)) {
				return nil, fmt.Errorf("%s: %q has expired", f.Name(), line)
			}
			all = append(all, k)
		}
	}
	return all, nil
}

func parseKnown(testee, line string) (*knownFailure, error) {
	fields := strings.Fields(line)
	if len(fields) != 3 {
		return nil, fmt.Errorf("%q: want a pattern, an issue and a date", line)
	}
	expires, err := time.Parse(time.DateOnly, fields[2])
	if err != nil {
		return nil, err
	}
	pattern, err := wildcard(fields[0])
	return &knownFailure{line: line, testee: testee, pattern: pattern, expires: expires}, err
}

// apply turns failures that are known into such. What is known and passes, or is no case, fails the run.
func (r *run) apply(known []*knownFailure, whole bool) {
	for _, res := range r.results {
		for _, k := range known {
			if k.testee != res.Client && k.testee != res.Server || !k.pattern.MatchString(res.Name+"@"+topologyName(res.Topology)) {
				continue
			}
			k.matched = true
			if res.Verdict == conformancev1.CaseResult_VERDICT_FAILED {
				res.Verdict = conformancev1.CaseResult_VERDICT_KNOWN
			} else if res.Verdict == conformancev1.CaseResult_VERDICT_PASSED {
				res.Verdict = conformancev1.CaseResult_VERDICT_FAILED
				res.Problems = []string{fmt.Sprintf("it passes, but known_failing says %q: remove that", k.line)}
			}
		}
	}
	for _, k := range known {
		if whole && !k.matched {
			r.results = append(r.results, &conformancev1.CaseResult{
				Name: "known_failing/" + k.pattern.String(), Client: k.testee, Server: k.testee,
				Verdict: conformancev1.CaseResult_VERDICT_FAILED, Problems: []string{fmt.Sprintf("%q fits no case", k.line)},
			})
		}
	}
}
