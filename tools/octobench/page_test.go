package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/octomesh/octomesh/tools/octobench/control"
	"github.com/octomesh/octomesh/tools/octobench/side"
)

// figuresAt is a row with given CPU between its ends.
func figuresAt(name, column string, between float64) Row {
	l, err := side.ParseLoad(column)
	if err != nil {
		panic(err)
	}
	r := Row{Name: name, Kind: l.Kind, Size: l.Size, Connections: l.Connections, InFlight: l.InFlight, Rate: l.Rate, CallsPerS: 60_000, P50US: 25,
		CPU: map[string]float64{"client": 1, "server": 1, "proxy": between}}
	r.CPUMin, r.CPUMax = r.CPU, r.CPU
	return r
}

func TestGatesCompareRowsOfOneLoad(t *testing.T) {
	results := []Row{
		figuresAt("copy-uds-tcp", "1:16", 1), figuresAt("mesh-1", "1:16", 1.4), figuresAt("copy-uds-tcp", "4:100", 1), figuresAt("mesh-1", "4:100", 2),
		figuresAt("mesh-1-deadline", "4:100", 2.6), figuresAt("mesh-2", "1:100", 2), figuresAt("mesh-2-sdk", "1:100", 2), figuresAt("sdk-uds", "1:1", 0),
		figuresAt("copy-uds-tcp", "1:16/16k", 1), figuresAt("mesh-1", "1:16/16k", 9), // no gate: it is about small calls
		figuresAt("mesh-1-sdk", "4:100", 3), figuresAt("sdk-uds", "1:4/1m", 0), figuresAt("grpc-uds", "1:4/1m", 0), figuresAt("grpc-uds", "1:1", 0),
		figuresAt("envoy-grpc", "1:16", 14), figuresAt("haproxy-h2", "1:16", 2), figuresAt("haproxy-h2", "4:100", 6), figuresAt("nginx-grpc", "4:100", 9),
	}
	got := make(map[string]string)
	for _, g := range gates(results) {
		got[g.What+" "+g.Load] = g.Verdict
	}
	want := map[string]string{
		"mesh-1 over copy-uds-tcp, CPU between the ends 1:16":           passed,
		"mesh-1 over copy-uds-tcp, CPU between the ends 4:100":          notReached,
		"mesh-1-deadline over copy-uds-tcp, CPU between the ends 4:100": failed,
		"mesh-2, calls a second 1:100":                                  failed, // 60,000 of 70,000
		"mesh-2-sdk, calls a second 1:100":                              passed,
		"envoy-grpc over mesh-1, CPU between the ends 1:16":             passed,
		"haproxy-h2 over mesh-1, CPU between the ends 1:16":             failed,
		"haproxy-h2 over mesh-1, CPU between the ends 4:100":            passed,
		"nginx-grpc over mesh-1, CPU between the ends 4:100":            failed,
		"nginx-grpc over mesh-1-sdk, CPU between the ends 4:100":        noGate,
		"haproxy-h2 over mesh-1-sdk, CPU between the ends 4:100":        noGate,
		"sdk-uds over grpc-uds, CPU of the ends 1:1":                    failed, // as dear as it
		"sdk-uds over grpc-uds, CPU of the ends 1:4/1m":                 noGate,
	}
	for what, verdict := range want {
		if got[what] != verdict {
			t.Errorf("%s: %q, want %q", what, got[what], verdict)
		}
	}
	if len(got) != len(want) {
		t.Errorf("gates are %v", got)
	}
	var out bytes.Buffer
	printGates(&out, gates(results))
	if !strings.Contains(out.String(), "2.60") || !strings.Contains(out.String(), "60000") {
		t.Fatal(out.String())
	}
}

func TestPageIsMadeFromAFileOfFigures(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "bench.json")
	results := []Row{figuresAt("raw-uds", "1:16", 0), figuresAt("copy-uds-tcp", "1:16", 0.5), figuresAt("mesh-1", "1:16", 1.25), figuresAt("mesh-1", "1:100@5000/16k/server-stream", 1.5)}
	record := &Record{Date: "2026-11-22", Command: "octobench --rounds 3", Machine: Machine{CPU: "a CPU", Cores: 2, Commit: "abc123"},
		Settings: []string{"a setting"}, Absent: []string{"row x: not here"}, Gates: []Gate{Gate{What: "a gate", Load: "1:16", Is: 2, Goal: 1}.judged()}}
	if err := save(file, results, record); err != nil {
		t.Fatal(err)
	}
	index := filepath.Join(dir, "README.md")
	if err := os.WriteFile(index, []byte("# Performance\n\nAbove.\n\n"+generatedBegin+"\nold\n"+generatedEnd+"\n\nBelow.\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	page := filepath.Join(dir, "2026-11-22-x.md")
	if err := os.WriteFile(filepath.Join(dir, "2025-01-01-old.md"), []byte("# An old one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	make := func() string {
		t.Helper()
		if err := writePage([]string{"--json", file, "--page", page}); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	text := make()
	for _, want := range []string{"# What calls cost, 22 November 2026", "2 × a CPU", "abc123", "octobench --rounds 3", "- a setting", "- row x: not here",
		"| a gate | 1:16 | 2.00 | ≤ 1 | - | **FAILS** |", "## 1:16\n", "## 1:100@5000/16k/server-stream", "| mesh-1 | 60000 |", "| 1.25 | 1.25 | 1.25 | 2.50 |", "| mesh-1 | raw ends, one proxy"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
	if err := os.WriteFile(page, []byte(strings.Replace(text, "# What calls cost, 22 November 2026", "# A title", 1)+"\nWhat it says.\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if again := make(); !strings.HasPrefix(again, "# A title\n") || !strings.HasSuffix(again, "\nWhat it says.\n") || strings.Count(again, "## 1:16\n") != 1 {
		t.Errorf("made again, the page is\n%s", again)
	}
	list, err := os.ReadFile(index)
	if err != nil {
		t.Fatal(err)
	}
	if want := "Above.\n\n" + generatedBegin + "\n\n- [A title](2026-11-22-x.md)\n- [An old one](2025-01-01-old.md)\n\n" + generatedEnd + "\n\nBelow.\n"; !strings.HasSuffix(string(list), want) {
		t.Errorf("the index is\n%s", list)
	}
}

func TestPageOfTheControlPlaneIsMadeFromItsFigures(t *testing.T) {
	dir := t.TempDir()
	file, page := filepath.Join(dir, "control.json"), filepath.Join(dir, "2026-11-22-control.md")
	report := control.Report{Tables: []control.Table{{
		Part: "push", Title: "A push", Notes: []string{"a note"}, Heads: []string{"fan-out", "server", "µs"}, Rows: [][]any{{1, "pilot", 31.25}},
		Gates: []control.Gate{{What: "over bare", Is: 1.25, Goal: 1.3, OK: true}},
	}}}
	if err := saveJSON(file, report); err != nil {
		t.Fatal(err)
	}
	if err := saveJSON(recordFile(file), &Record{Date: "2026-11-22", Command: "octobench control", Machine: Machine{CPU: "a CPU", Cores: 2}}); err != nil {
		t.Fatal(err)
	}
	if err := writePage([]string{"--json", file, "--page", page}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"# What the control plane costs, 22 November 2026", "2 × a CPU", "octobench control", "## A push", "- a note",
		"| fan-out | server | µs |", "| 1 | pilot | 31.2 |", "| push: over bare | 1.25 | 1.30 | ok |"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the page lacks %q:\n%s", want, text)
		}
	}
}

func TestPageNeedsItsMarks(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(file, []byte("# By hand\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := renew(file, "", "text"); err == nil {
		t.Fatal("a page without marks was overwritten")
	}
}

func TestPeersConfigurationsAreFilledWhole(t *testing.T) {
	s := settings{Listen: "/run/in.sock", Dial: "/run/out.sock", Dir: "/run", Root: true}
	for _, name := range []string{"envoy-grpc.yaml", "envoy-tcp.yaml", "haproxy-h2.cfg", "haproxy-tcp.cfg", "nginx-grpc.conf"} {
		text, err := peerConfig(name, s)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{s.Listen, s.Dial} {
			if strings.Count(string(text), want) != 1 {
				t.Errorf("%s has %q other than once:\n%s", name, want, text)
			}
		}
		if strings.Contains(string(text), "{{") || strings.Contains(string(text), "<no value>") {
			t.Errorf("%s is not filled:\n%s", name, text)
		}
	}
	if _, err := peerConfig("nobody.conf", s); err == nil {
		t.Fatal("a template that is not there was filled")
	}
	s.Root = false
	if text, _ := peerConfig("nginx-grpc.conf", s); strings.Contains(string(text), "user root") {
		t.Error("nginx is told to change its user, which only root may")
	}
}

func TestPeerThatIsNotInstalledIsSaid(t *testing.T) {
	t.Setenv("PATH", "")
	if _, err := findPeer(envoy, t.TempDir()); err == nil || !strings.Contains(err.Error(), "make bench-peers") {
		t.Fatalf("got %v", err)
	}
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, envoy), []byte("#!/bin/sh\necho 'envoy  version: 0123abcd/1.2.3/Clean/RELEASE'\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", "/bin:/usr/bin")
	p, err := findPeer(envoy, folder)
	if err != nil || p.version != "1.2.3" {
		t.Fatalf("got %+v, %v", p, err)
	}
	for said, want := range map[string]string{
		"HAProxy version 2.6.12-1+deb12u4 2026/10/17": "2.6.12-1+deb12u4", "nginx version: nginx/1.22.1\n": "1.22.1", "x": "of an unknown version",
	} {
		if got := versionIn(said); got != want {
			t.Errorf("%q is of version %q", said, got)
		}
	}
}

func TestSystemCallsAreReadFromPerf(t *testing.T) {
	n, err := countIn("# started\n\n109,,raw_syscalls:sys_enter,500000,100.00,,\n")
	if err != nil || n != 109 {
		t.Fatalf("got %v, %v", n, err)
	}
	for _, said := range []string{"", "<not supported>,,raw_syscalls:sys_enter,0,100.00,,\n"} {
		if n, err := countIn(said); err == nil {
			t.Errorf("%q counts %v", said, n)
		}
	}
}
