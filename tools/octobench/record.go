package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/octomesh/octomesh/tools/octobench/end"
)

// Record is what a run's figures were taken on and how, and what they say of the gates.
type Record struct {
	Date     string   `json:"date"` // of the run's end
	Command  string   `json:"command"`
	Machine  Machine  `json:"machine"`
	Settings []string `json:"settings"`
	Absent   []string `json:"absent"` // what could not be measured here, and why
	Gates    []Gate   `json:"gates"`
}

func (b *bench) record(results []Row) *Record {
	return &Record{
		Date:     time.Now().UTC().Format(time.DateOnly),
		Command:  strings.Join(append([]string{"go run ./tools/octobench"}, b.args...), " "),
		Machine:  thisMachine(),
		Settings: b.settings(),
		Absent:   append([]string{}, b.absent...),
		Gates:    gates(results),
	}
}

// settings says how everything was set.
func (b *bench) settings() []string {
	out := []string{
		fmt.Sprintf("%d rounds of %v after %v, interleaved; medians; all on this machine, GOMAXPROCS %d", b.rounds, b.duration, b.warmUp, runtime.GOMAXPROCS(0)),
		"loads: connections:calls in flight, closed loop; @: an open loop of so many calls a second, latency from the time at which a call was to go; " +
			"1 KiB each way, else as said; of streams messages are counted",
		proxySettings(b.observed),
		"byte copy: Go, a read-and-write loop per direction, buffers of 132 KiB, no splice",
		"SDK, grpc-go and Kitex ends: a goroutine (in Python a task) per call in flight, the same message (google.protobuf.BytesValue), handlers that return it",
		end.GRPCSettings,
	}
	for _, name := range []string{envoy, haproxy, nginx, kitex, python} {
		if p := b.peers[name]; p != nil {
			out = append(out, fmt.Sprintf("%s %s, settings in %s", name, p.version, peerSource(name)))
		}
	}
	if b.profiles != "" {
		out = append(out, "CPU PROFILES WERE TAKEN: figures hold their cost")
	}
	return out
}

func peerSource(name string) string {
	switch name {
	case kitex:
		return "tools/octobench/kitex"
	case python:
		return "tools/octobench/python"
	}
	return "tools/octobench/peers"
}

// recordFile is where a run's record stands beside its figures.
func recordFile(figures string) string { return strings.TrimSuffix(figures, ".json") + ".run.json" }

func save(file string, results []Row, record *Record) error {
	if err := saveJSON(file, results); err != nil {
		return err
	}
	return saveJSON(recordFile(file), record)
}

func saveJSON(file string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// load reads what save has written.
func load(file string) (results []Row, record *Record, err error) {
	if err = loadJSON(file, &results); err == nil {
		err = loadJSON(recordFile(file), &record)
	}
	return results, record, err
}

func loadJSON(file string, v any) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("%w; a run with --json makes it", err)
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// columns are the loads of rows, in the order in which they stand.
func columns(results []Row) []string {
	var out []string
	for i := range results {
		if c := results[i].column(); !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}
