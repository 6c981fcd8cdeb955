package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/octomesh/octomesh/tools/octobench/end"
	"github.com/octomesh/octomesh/tools/octobench/histogram"
	"github.com/octomesh/octomesh/tools/octobench/side"
)

// TestMain lets the test's program be the sides of its measurements.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == side.Command {
		exit(end.Kinds().Run(os.Args[2], os.Stdin, os.Stdout))
	}
	// The race detector lets each process linger for a second at its end, and there are hundreds.
	_ = os.Setenv("GORACE", os.Getenv("GORACE")+" atexit_sleep_ms=0")
	os.Exit(m.Run())
}

// peersFolder is where make bench-peers puts programs, seen from this package.
const peersFolder = "../bench"

// short is a run of so little time that its figures mean nothing.
func short(t *testing.T, args ...string) *bench {
	t.Helper()
	file := filepath.Join(t.TempDir(), "bench.json")
	b, err := parse(append([]string{"--rounds", "1", "--duration", "100ms", "--warmup", "10ms", "--syscalls=false",
		"--peers", peersFolder, "--json", file}, args...))
	if err != nil {
		t.Fatal(err)
	}
	b.progress = io.Discard
	return b
}

func TestRunWritesATableAndItsFigures(t *testing.T) {
	b := short(t, "--rows", "copy-uds-tcp,mesh-2", "--loads", "2:4")
	var out bytes.Buffer
	if err := b.run(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"octo-proxy, 100 targets", "copy-uds-tcp", "mesh-2", "calls/s"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, &out)
		}
	}
	text, err := os.ReadFile(b.jsonFile)
	if err != nil {
		t.Fatal(err)
	}
	var rows []struct {
		Name        string
		Size        int
		Connections int
		InFlight    int     `json:"in_flight"`
		CallsPerS   float64 `json:"calls_per_s"`
		P50         float64 `json:"p50_us"`
		P99         float64 `json:"p99_us"`
		P999        float64 `json:"p999_us"`
		Kind        string
		Rate        float64
		CPU         map[string]float64 `json:"cpu_s_per_100k"`
		RSS         map[string]float64 `json:"rss_mb"`
		Rounds      int
	}
	if err := json.Unmarshal(text, &rows); err != nil {
		t.Fatal(err)
	}
	roles := [][]string{{"client", "copy", "server"}, {"client", "client-proxy", "server-proxy", "server"}}
	if len(rows) != len(roles) || rows[0].Name != "copy-uds-tcp" || rows[1].Name != "mesh-2" {
		t.Fatalf("rows are %+v", rows)
	}
	for i, r := range rows {
		if r.Kind != "unary" || r.Rate != 0 || r.Size != 1024 || r.Connections != 2 || r.InFlight != 4 || r.Rounds != 1 {
			t.Errorf("row %+v is not what was asked for", r)
		}
		if r.CallsPerS <= 0 || r.P50 <= 0 || r.P99 < r.P50 || r.P999 < r.P99 {
			t.Errorf("row %+v makes no sense", r)
		}
		for _, role := range roles[i] {
			if r.CPU[role] <= 0 || r.RSS[role] <= 0 {
				t.Errorf("row %s lacks %s: %v, %v", r.Name, role, r.CPU, r.RSS)
			}
		}
		if len(r.CPU) != len(roles[i]) || len(r.RSS) != len(roles[i]) {
			t.Errorf("row %s has other processes than %v: %v", r.Name, roles[i], r.CPU)
		}
	}
}

// Rows of peers that are not installed here are said to be absent, and run where they are.
func TestEveryRowRunsUnderEveryKindOfLoad(t *testing.T) {
	proxy, err := buildProxy(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	loads := []string{"1:2", "2:4@500", "1:2/300k", "1:2/server-stream", "1:2/70k/server-stream", "1:2/bidi", "1:2/100k/bidi"}
	if testing.Short() {
		loads = loads[:1]
	}
	for _, column := range loads {
		t.Run(column, func(t *testing.T) {
			t.Parallel()
			b := short(t, "--loads", column, "--proxy", proxy)
			if b.named = true; column != loads[0] { // where rows share a chain, one of them stands for all
				b.rows = slices.DeleteFunc(b.rows, func(r row) bool { return r.reach == basic })
			}
			all := len(b.rows)
			if err := b.run(io.Discard); err != nil {
				t.Fatal(err)
			}
			results, record, err := load(b.jsonFile)
			if err != nil {
				t.Fatal(err)
			}
			want := 0
			for _, r := range b.rows {
				if r.takes(b.loads[0], true) {
					want++
				}
			}
			if len(results) != want || len(b.rows)+len(record.Absent) != all {
				t.Fatalf("%d rows of %d, %d have no program: %v", len(results), want, len(record.Absent), record.Absent)
			}
			for _, r := range results {
				if r.column() != column || r.CallsPerS <= 0 || r.P50US <= 0 || r.P999US < r.P50US {
					t.Errorf("row %+v makes no sense", r)
				}
			}
		})
	}
}

// An open loop keeps its rate, and charges a stall with all calls that were to go meanwhile.
func TestOpenLoopKeepsItsRate(t *testing.T) {
	b := short(t, "--rows", "raw-uds,sdk-uds", "--loads", "2:20@1000", "--duration", "500ms")
	results, err := b.measure(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.CallsPerS < 100 || r.CallsPerS > 5000 { // a closed loop makes tens of thousands
			t.Errorf("%s: %v calls a second", r.Name, r.CallsPerS)
		}
	}
}

func TestFailuresEndARun(t *testing.T) {
	b := short(t, "--loads", "1:1")
	b.proxyBinary, b.peers[envoy] = "unused", &program{}
	b.rows = []row{{name: "dead", what: "a client without a server", start: func(*cell) (side.Spec, error) {
		return side.Spec{Kind: "sdk-direct-client", Dial: "tcp:" + unused}, nil
	}}}
	err := b.run(io.Discard)
	if err == nil || !strings.Contains(err.Error(), "calls failed, the first: ") {
		t.Fatalf("got %v", err)
	}
	b.rows[0].needs = envoy // somebody else's failure is told, and the table goes on without
	if err := b.run(io.Discard); err == nil || !strings.Contains(err.Error(), "no row can be measured") || len(b.absent) == 0 ||
		!strings.Contains(b.absent[len(b.absent)-1], "dead at 1:1") {
		t.Fatalf("got %v, %v", err, b.absent)
	}
	b.rows[0].needs = ""
	b.rows[0].start = func(*cell) (side.Spec, error) { return side.Spec{Kind: "nonsense"}, nil }
	if err := b.run(io.Discard); err == nil || !strings.Contains(err.Error(), `no side is called "nonsense"`) {
		t.Fatalf("got %v", err)
	}
}

func TestArgumentsAreChecked(t *testing.T) {
	for _, args := range [][]string{
		{"--rows", "nothing"}, {"--rounds", "0"}, {"more"}, {"--loads", ""}, {"--loads", "1:1,4:3"},
	} {
		if _, err := parse(args); err == nil {
			t.Errorf("%q passed", args)
		}
	}
	b, err := parse([]string{"--rows", "mesh-1,raw-uds", "--loads", "4:100"})
	if err != nil || len(b.rows) != 2 || b.rows[0].name != "raw-uds" || b.loads[0].Column() != "4:100" {
		t.Fatalf("got %+v, %v", b, err)
	}
}

func TestSummaryHasMediansAndExtremes(t *testing.T) {
	var rounds []*round
	for i, cpu := range []float64{3, 1, 2, 10} {
		rounds = append(rounds, &round{
			callsPerSecond: cpu * 1000, latencies: histogram.Counts{i: 1},
			cpuPer100k: map[string]float64{"client": cpu, "server": 1, "proxy": 2 * cpu}, rss: map[string]float64{"proxy": cpu},
		})
	}
	r := summarize("x", side.Load{Kind: side.Unary, Size: 1, Connections: 2, InFlight: 3, Rate: 7}, rounds)
	if r.CallsPerS != 2500 || r.CallsPerSMin != 1000 || r.CallsPerSMax != 10_000 || r.CPU["client"] != 2.5 || r.CPUMax["proxy"] != 20 ||
		r.CPUMin["proxy"] != 2 || r.RSS["proxy"] != 2.5 || r.Rounds != 4 || r.column() != "2:3@7/1" {
		t.Fatalf("got %+v", r)
	}
	if r.ends() != 3.5 || r.between() != 5 || strings.Join(r.roles(), " ") != "client proxy server" {
		t.Fatalf("ends %v, between %v, roles %v", r.ends(), r.between(), r.roles())
	}
}

func TestTableKeepsProcessesApart(t *testing.T) {
	r := Row{Name: "mesh-2", Connections: 1, InFlight: 16, CallsPerS: 12345, CPU: map[string]float64{
		"client": 0.5, "client-proxy": 0.25, "server-proxy": 0.75, "server": 1,
	}, RSS: map[string]float64{"client-proxy": 11, "server-proxy": 12}, Kind: side.Unary, Size: 1024,
		Syscalls: map[string]float64{"client": 1, "server": 2, "client-proxy": 0.5, "server-proxy": 0.75}}
	r.CPUMin, r.CPUMax = r.CPU, r.CPU
	var out bytes.Buffer
	table(&out, []Row{r})
	for _, want := range []string{"1:16", "12345", " 1.50 ", "0.25+0.75", "11+12", "3.00, 0.50+0.75"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("lacks %q:\n%s", want, &out)
		}
	}
}

func TestCPUClockOfAProcessAdvances(t *testing.T) {
	before, err := cpuTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for until := time.Now().Add(5 * time.Second); ; {
		after, err := cpuTime(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if after > before {
			break
		}
		if time.Now().After(until) {
			t.Fatal("it stands still")
		}
	}
	if mb, err := residentMB(os.Getpid()); err != nil || mb < 1 {
		t.Fatalf("memory: %v, %v", mb, err)
	}
}
