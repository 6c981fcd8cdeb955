package main

import (
	"bufio"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
)

// lastSemantic is the highest number in proto/spec/semantics.md.
const lastSemantic = 46

// report prints the failures and the sum, and writes the files.
func (r *run) report(o *options, elapsed time.Duration) (ok bool, err error) {
	slices.SortFunc(r.results, func(a, b *conformancev1.CaseResult) int {
		return strings.Compare(resultID(a), resultID(b))
	})
	rep := &conformancev1.RunReport{Results: r.results, ElapsedMs: uint64(elapsed.Milliseconds())}
	for _, t := range o.testees {
		rep.Testees = append(rep.Testees, &conformancev1.Tested{Name: t.name, Hello: t.hello})
	}
	unable := uint32(0)
	for _, res := range r.results {
		switch res.Verdict {
		case conformancev1.CaseResult_VERDICT_PASSED, conformancev1.CaseResult_VERDICT_KNOWN:
			rep.Passed++
		case conformancev1.CaseResult_VERDICT_SKIPPED:
			rep.Skipped++
			if res.Unable {
				unable++
			}
			fmt.Printf("SKIPPED %s: %s\n", resultID(res), strings.Join(res.Problems, "; "))
		case conformancev1.CaseResult_VERDICT_NOT_APPLICABLE:
			rep.NotApplicable++
		default:
			rep.Failed++
			fmt.Printf("FAILED %s\n", resultID(res))
			for _, p := range res.Problems[:min(len(res.Problems), 10)] {
				fmt.Printf("    %s\n", p)
			}
			for _, line := range res.Trace {
				fmt.Printf("        %s\n", line)
			}
		}
	}
	counted := countedCalls(rep.Results)
	fmt.Print(counted)
	whole := &conformancev1.RunReport{Testees: rep.Testees, Results: slices.Clone(rep.Results)}
	for _, j := range o.left { // the committed matrix is that of a whole run, in which these pass
		verdict := conformancev1.CaseResult_VERDICT_PASSED
		if j.gap != "" {
			verdict = conformancev1.CaseResult_VERDICT_NOT_APPLICABLE
		}
		whole.Results = append(whole.Results, j.unjudged(verdict))
	}
	matrix := matrix(whole, o.bridge) + r.bridge.table()
	if o.results != "" {
		err = writeResults(o.results, rep, matrix, counted)
	}
	ok = rep.Failed == 0 && len(r.results) > 0 && (rep.Skipped == unable || !o.noSkips)
	if o.matrix != "" && ok && len(o.filter) == 0 && !o.brief && !o.long { // a part of the cases gives another one
		if committed, rerr := os.ReadFile(o.matrix); rerr != nil || string(committed) != matrix {
			err = errors.Join(err, rerr, fmt.Errorf("%s is not what this run gives: run `make conformance-matrix` and commit it", o.matrix))
		}
	}
	fmt.Printf("conformance: %d cases of %d in %.1f s, %d of them not applicable\n", len(r.results), len(rep.Testees), elapsed.Seconds(), rep.NotApplicable)
	fmt.Printf("%d passed, %d failed, %d skipped\n", rep.Passed, rep.Failed, rep.Skipped)
	return ok, err
}

// resultID names a result as lists and the flag -run do.
func resultID(r *conformancev1.CaseResult) string {
	return fmt.Sprintf("%s@%s:%s-%s", r.Name, topologyName(r.Topology), r.Client, r.Server)
}

// countedCalls is a table of the scenarios in which successors took over from proxies, and what the ledgers of all have counted.
func countedCalls(results []*conformancev1.CaseResult) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 1, ' ', tabwriter.AlignRight|tabwriter.Debug)
	fmt.Fprint(w, "|scenario\tcalls\thot restarts\t\n|---\t---:\t---:\t\n")
	scenarios, calls, successors, restarts := 0, uint64(0), uint64(0), uint64(0)
	for _, res := range results {
		if res.Topology != conformancev1.Topology_TOPOLOGY_SCENARIO {
			continue
		}
		scenarios++
		calls += res.Calls
		if res.Successors > 0 {
			fmt.Fprintf(w, "|%s\t%d\t%d\t\n", res.Name, res.Calls, res.Successors)
			successors += uint64(res.Successors)
			restarts += res.Calls
		}
	}
	if scenarios == 0 {
		return ""
	}
	fmt.Fprintf(w, "|all with hot restarts\t%d\t%d\t\n|all scenarios\t%d\t%d\t\n", restarts, successors, calls, successors)
	_ = w.Flush()
	return b.String()
}

func writeResults(dir string, rep *conformancev1.RunReport, matrix, counted string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text, err := protojson.MarshalOptions{Multiline: true}.Marshal(rep)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "results.json"), text, 0o644),
		os.WriteFile(filepath.Join(dir, "matrix.md"), []byte(matrix), 0o644),
		os.WriteFile(filepath.Join(dir, "scenarios.md"), []byte(counted), 0o644),
		writeJUnit(filepath.Join(dir, "junit.xml"), rep))
}

type junitCase struct {
	Class   string   `xml:"classname,attr"`
	Name    string   `xml:"name,attr"`
	Seconds float64  `xml:"time,attr"`
	Failure []string `xml:"failure,omitempty"`
}

func writeJUnit(path string, rep *conformancev1.RunReport) error {
	suite := struct {
		XMLName  xml.Name    `xml:"testsuite"`
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures uint32      `xml:"failures,attr"`
		Skipped  uint32      `xml:"skipped,attr"`
		Seconds  float64     `xml:"time,attr"`
		Cases    []junitCase `xml:"testcase"`
	}{Name: "conformance", Tests: len(rep.Results), Failures: rep.Failed, Skipped: rep.Skipped, Seconds: float64(rep.ElapsedMs) / 1000}
	for _, res := range rep.Results {
		c := junitCase{Class: res.Client + "-" + res.Server + "." + topologyName(res.Topology), Name: res.Name, Seconds: float64(res.ElapsedMs) / 1000}
		if res.Verdict == conformancev1.CaseResult_VERDICT_FAILED {
			c.Failure = []string{strings.Join(res.Problems, "\n")}
		}
		suite.Cases = append(suite.Cases, c)
	}
	text, err := xml.MarshalIndent(suite, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append([]byte(xml.Header), text...), 0o644)
}

// unjudged is the result of a job before anything is known but its verdict.
func (j *job) unjudged(v conformancev1.CaseResult_Verdict) *conformancev1.CaseResult {
	return &conformancev1.CaseResult{
		Name: j.name, Semantics: j.c.Semantics, Topology: j.topology, Client: j.client.name, Server: j.server.name, Verdict: v,
	}
}

// cell counts what a semantic has in one topology between one pair.
type cell struct{ passed, known, skipped, inapplicable, failed int }

// matrix says which semantics hold where. It has no times, so that equal runs give equal texts.
func matrix(rep *conformancev1.RunReport, bridge *program) string {
	type column struct {
		pair     string
		topology conformancev1.Topology
	}
	cells := make(map[column]map[uint32]*cell)
	var columns []column
	for _, a := range rep.Testees {
		for _, b := range rep.Testees {
			for _, t := range topologies {
				k := column{a.Name + "→" + b.Name, t}
				columns = append(columns, k)
				cells[k] = make(map[uint32]*cell)
			}
			if a.Name == b.Name {
				k := column{a.Name + "→" + b.Name, conformancev1.Topology_TOPOLOGY_SCENARIO}
				columns = append(columns, k)
				cells[k] = make(map[uint32]*cell)
			}
		}
	}
	if bridge != nil {
		for _, t := range rep.Testees {
			for _, k := range []column{{bridge.name + "→" + t.Name, bridged[0]}, {t.Name + "→" + bridge.name, bridged[1]}} {
				columns = append(columns, k)
				cells[k] = make(map[uint32]*cell)
			}
		}
	}
	withReference := func(testee string) column {
		return column{testee + " with", conformancev1.Topology_TOPOLOGY_REFERENCE}
	}
	for _, t := range rep.Testees {
		columns = append(columns, withReference(t.Name))
		cells[withReference(t.Name)] = make(map[uint32]*cell)
	}
	for _, res := range rep.Results {
		k := column{res.Client + "→" + res.Server, res.Topology}
		switch {
		case res.Topology != conformancev1.Topology_TOPOLOGY_REFERENCE:
		case res.Client != referencePeer.name:
			k = withReference(res.Client)
		case res.Server != referencePeer.name:
			k = withReference(res.Server)
		default:
			k = withReference(rep.Testees[0].Name) // its proxy
		}
		for _, n := range res.Semantics {
			of := cells[k]
			if of[n] == nil {
				of[n] = &cell{}
			}
			of[n].add(res.Verdict)
		}
	}
	var b strings.Builder
	w := bufio.NewWriter(&b)
	fmt.Fprint(w, "# Feature matrix\n\nGenerated by the conformance runner, see [the guide](guides/conformance.md). A cell counts the cases of a semantic\n"+
		"(`proto/spec/semantics.md`) between a client and a server in a topology; `–` says that no case is there.\n\n| semantic |")
	for _, k := range columns {
		fmt.Fprintf(w, " %s %s |", k.pair, topologyName(k.topology))
	}
	fmt.Fprint(w, "\n|---|"+strings.Repeat("---|", len(columns))+"\n")
	for n := range uint32(lastSemantic) {
		fmt.Fprintf(w, "| SEM-%d |", n+1)
		for _, k := range columns {
			fmt.Fprintf(w, " %v |", cells[k][n+1])
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush()
	return b.String()
}

func (c *cell) add(v conformancev1.CaseResult_Verdict) {
	switch v {
	case conformancev1.CaseResult_VERDICT_PASSED:
		c.passed++
	case conformancev1.CaseResult_VERDICT_KNOWN:
		c.known++
	case conformancev1.CaseResult_VERDICT_SKIPPED:
		c.skipped++
	case conformancev1.CaseResult_VERDICT_NOT_APPLICABLE:
		c.inapplicable++
	default:
		c.failed++
	}
}

// String is the cell's text.
func (c *cell) String() string {
	if c == nil {
		return "–"
	}
	text := fmt.Sprintf("%d passed", c.passed)
	if c.known > 0 {
		text += fmt.Sprintf(", %d known to fail", c.known)
	}
	if c.inapplicable > 0 {
		text += fmt.Sprintf(", %d not applicable", c.inapplicable)
	}
	if c.skipped > 0 {
		text += fmt.Sprintf(", %d skipped", c.skipped)
	}
	if c.failed > 0 {
		text += fmt.Sprintf(", %d FAILED", c.failed)
	}
	return text
}
