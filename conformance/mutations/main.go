// Command mutations shows that the conformance suite sees breaches of the rules: it breaks one rule after the other in
// what is built, leaving the tree as it is, and demands that the cases fail which hold the rule.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"

	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
)

// mutation is one entry of the list.
type mutation struct {
	Rule   string
	Breach string
	File   string
	Old    string
	New    string
	Cases  []string
}

// tool is what a run has.
type tool struct {
	dir      string // for what is built
	runner   string
	bridge   string // gRPC's own client and server
	patience time.Duration
}

func main() {
	list := flag.String("list", "conformance/mutations/mutations.yaml", "the mutations")
	only := flag.String("only", "", "only those whose rule, breach or file contains this")
	report := flag.String("report", "", "a file for the table")
	parallel := flag.Int("parallel", 2, "mutations at a time")
	t := &tool{}
	flag.DurationVar(&t.patience, "patience", 4*time.Second, "how long cases wait for what a breach keeps from coming")
	flag.Parse()
	if err := t.run(*list, *only, *report, *parallel); err != nil {
		fmt.Fprintln(os.Stderr, "mutations:", err)
		os.Exit(1)
	}
}

func read(path, only string) ([]*mutation, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var file struct{ Mutations []*mutation }
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(&file); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var some []*mutation
	for _, m := range file.Mutations {
		if m.Rule == "" || m.Breach == "" || m.Old == "" || m.Old == m.New || len(m.Cases) == 0 {
			return nil, fmt.Errorf("%s: %q (%s): rule, breach, old, new and cases are needed", path, m.Breach, m.Rule)
		}
		if strings.Contains(m.Rule+"\n"+m.Breach+"\n"+m.File, only) {
			some = append(some, m)
		}
	}
	if len(some) == 0 {
		return nil, fmt.Errorf("%s: no mutation", path)
	}
	return some, nil
}

func (t *tool) run(list, only, report string, parallel int) error {
	all, err := read(list, only)
	if err != nil {
		return err
	}
	var errs []error
	for _, m := range all { // all at once, before minutes go by
		if _, err := m.mutated(); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	if t.dir, err = os.MkdirTemp("", "om"); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(t.dir) }()
	t.runner = filepath.Join(t.dir, "runner")
	if err := build("", t.runner, "./conformance/runner"); err != nil {
		return err
	}
	if err := build("", t.octo(), "./core/cmd/octo"); err != nil {
		return err
	}
	t.bridge = filepath.Join(t.dir, "testee-grpc")
	if err := build("", t.bridge, "./conformance/testees/grpc"); err != nil {
		return err
	}
	if err := t.control(all); err != nil {
		return err
	}
	lines := make([]string, len(all))
	sem := make(chan struct{}, parallel)
	var wg sync.WaitGroup
	var mu sync.Mutex
	missed := 0
	for i, m := range all {
		wg.Go(func() {
			sem <- struct{}{}
			defer func() { <-sem }()
			begin := time.Now()
			verdict, err := t.check(i, m)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				missed++
				verdict = "NOT SEEN: " + err.Error()
			}
			lines[i] = fmt.Sprintf("| %s | %s | %s | %s |", m.Rule, m.Breach, m.File, verdict)
			fmt.Printf("%5.1f s  %-24s %s: %s\n", time.Since(begin).Seconds(), m.Rule, m.Breach, verdict)
		})
	}
	wg.Wait()
	fmt.Printf("mutations: %d of %d seen by the cases that hold their rule\n", len(all)-missed, len(all))
	if report != "" {
		head := "| rule | breach | file | cases that fail |\n|---|---|---|---|\n"
		if err := os.WriteFile(report, []byte(head+strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
			return err
		}
	}
	if missed > 0 {
		return fmt.Errorf("%d breaches were not seen", missed)
	}
	return nil
}

// octo is the control plane of scenarios that have one. What is broken is in proxies and SDKs.
func (t *tool) octo() string { return filepath.Join(t.dir, "octo") }

// mutated is the file with the edit. An edit that does not fit exactly one place is an error: the code has changed,
// and the edit is to follow it.
func (m *mutation) mutated() ([]byte, error) {
	b, err := os.ReadFile(m.File)
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(b, []byte(m.Old)); n != 1 {
		return nil, fmt.Errorf("%s (%s): the text to replace stands %d times in %s, not once: %q", m.Breach, m.Rule, n, m.File, m.Old)
	}
	return bytes.Replace(b, []byte(m.Old), []byte(m.New), 1), nil
}

// build builds a program with the files that an overlay names in place of the tree's.
func build(overlay, out, pkg string) error {
	args := []string{"build", "-o", out}
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	if text, err := exec.Command("go", append(args, pkg)...).CombinedOutput(); err != nil {
		return fmt.Errorf("does not build: %w\n%s", err, text)
	}
	return nil
}

// control sees that all cases pass as long as nothing is broken.
func (t *tool) control(all []*mutation) error {
	var cases []string
	for _, m := range all {
		cases = append(cases, m.Cases...)
	}
	slices.Sort(cases)
	results, err := t.judge(filepath.Join(t.dir, "control"), "", slices.Compact(cases), 20*time.Second)
	if err != nil {
		return fmt.Errorf("without a breach: %w", err)
	}
	var errs []error
	for _, c := range cases {
		n := 0
		for _, res := range results {
			if !strings.Contains(name(res), c) || res.Verdict == conformancev1.CaseResult_VERDICT_NOT_APPLICABLE {
				continue // a topology that cannot show it has said why
			}
			if n++; res.Verdict != conformancev1.CaseResult_VERDICT_PASSED {
				errs = append(errs, fmt.Errorf("without a breach %s does not pass: %q", name(res), res.Problems))
			}
		}
		if n == 0 {
			errs = append(errs, fmt.Errorf("there is no case %s that applies anywhere", c))
		}
	}
	return errors.Join(errs...)
}

// check breaks the rule and demands that for each entry of its cases one fails.
func (t *tool) check(i int, m *mutation) (string, error) {
	dir := filepath.Join(t.dir, fmt.Sprint(i))
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	b, err := m.mutated()
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "mutated.go")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		return "", err
	}
	tree, err := filepath.Abs(m.File)
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	text, err := json.Marshal(map[string]map[string]string{"Replace": {tree: file}})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(overlay, text, 0o600); err != nil {
		return "", err
	}
	results, err := t.judge(dir, overlay, m.Cases, t.patience)
	if err != nil {
		return "", err
	}
	failed := 0
	for _, c := range m.Cases {
		hit := false
		for _, res := range results {
			if !strings.Contains(name(res), c) || res.Verdict != conformancev1.CaseResult_VERDICT_FAILED {
				continue
			}
			if len(res.Problems) > 0 && strings.HasPrefix(res.Problems[0], "starting") && !strings.Contains(m.Rule, "W-HAND-11") {
				return "", fmt.Errorf("the programs do not start, so nothing was tested: %s", res.Problems[0])
			}
			hit = true
			failed++
		}
		if !hit {
			return "", fmt.Errorf("%s does not fail", c)
		}
	}
	_ = os.RemoveAll(dir)
	return fmt.Sprintf("%d failed, such as %s", failed, m.Cases[0]), nil
}

// judge builds what is under test and runs cases.
func (t *tool) judge(dir, overlay string, cases []string, patience time.Duration) ([]*conformancev1.CaseResult, error) {
	proxy, testee := filepath.Join(dir, "octo-proxy"), filepath.Join(dir, "testee-go")
	if err := errors.Join(build(overlay, proxy, "./core/cmd/octo-proxy"), build(overlay, testee, "./conformance/testees/go")); err != nil {
		return nil, err
	}
	args := []string{"--proxy", proxy, "--octo", t.octo(), "--testee", "go=" + testee, "--bridge", "grpc=" + t.bridge, "--results", dir, "--patience", patience.String(), "--no-trace"}
	for _, c := range cases {
		args = append(args, "--run", c)
	}
	out, _ := exec.Command(t.runner, args...).CombinedOutput() // it says by results how it went
	text, err := os.ReadFile(filepath.Join(dir, "results.json"))
	if err != nil {
		return nil, fmt.Errorf("the runner leaves no results: %w\n%s", err, out)
	}
	rep := &conformancev1.RunReport{}
	if err := protojson.Unmarshal(text, rep); err != nil {
		return nil, err
	}
	return rep.Results, nil
}

// name is a result's, as the list has it.
func name(res *conformancev1.CaseResult) string {
	return res.Name + "@" + strings.ToLower(strings.TrimPrefix(res.Topology.String(), "TOPOLOGY_"))
}
