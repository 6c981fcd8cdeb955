// Command octobench measures what calls cost, directly and through the mesh, beside others' proxies and RPC
// libraries. It starts every side as a process of its own, interleaves rounds over all rows, prints one
// table and writes bench.json.
//
//	go run ./tools/octobench --rows raw-uds,copy-uds-tcp,mesh-1 --loads 1:16 --rounds 5
//	go run ./tools/octobench control --streams 5000
//	go run ./tools/octobench page --json build/bench.json --page docs/perf/2026-11-22-tuned.md
//
// CPU-seconds per 100,000 calls is the figure that survives a noisy machine; compare within one run only.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/octomesh/octomesh/tools/octobench/control"
	"github.com/octomesh/octomesh/tools/octobench/end"
	"github.com/octomesh/octomesh/tools/octobench/side"
)

// defaultLoads is what performance is judged by: closed loops of small calls, an open loop whose rate all
// rows can keep, larger messages, and streams.
const defaultLoads = "1:1,1:16,1:100,4:100,1:100@5000,1:16/16k,1:4/1m,1:16/server-stream,1:16/bidi"

// bench is one run.
type bench struct {
	rows     []row
	named    bool // the rows were asked for by name
	loads    []side.Load
	rounds   int
	duration time.Duration
	warmUp   time.Duration
	syscalls bool
	observed bool // proxies trace and log

	proxyBinary string
	peersFolder string
	peers       map[string]*program
	collector   string   // where proxies send their spans; empty: none
	absent      []string // which peers are not here, and what to do about it
	self        string   // this program, for its sides
	profiles    string   // directory; empty: none
	jsonFile    string
	args        []string
	progress    io.Writer
}

func main() {
	args := os.Args[1:]
	switch {
	case len(args) == 2 && args[0] == side.Command:
		exit(end.Kinds().Run(args[1], os.Stdin, os.Stdout))
	case len(args) > 0 && args[0] == control.Command:
		exit(control.Side(args[1:]))
	case len(args) > 0 && args[0] == "control":
		exit(runControl(args[1:], os.Stdout))
	case len(args) > 0 && args[0] == "page":
		exit(writePage(args[1:]))
	}
	b, err := parse(args)
	if err == nil {
		b.progress = os.Stderr
		err = b.run(os.Stdout)
	}
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "octobench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func parse(args []string) (*bench, error) {
	b := &bench{args: args, peers: make(map[string]*program)}
	f := flag.NewFlagSet("octobench", flag.ExitOnError)
	names := f.String("rows", "", "rows to measure, separated by commas; empty: all of\n"+describe(rows()))
	loads := f.String("loads", defaultLoads, "connections:calls in flight[@calls a second][/size][/kind], separated by commas;\n"+
		"with a rate an open loop; sizes like 16k and 1m; kinds unary, server-stream, bidi")
	f.IntVar(&b.rounds, "rounds", 3, "rounds per row and load; the table has their medians")
	f.DurationVar(&b.duration, "duration", 600*time.Millisecond, "how long a round is measured")
	f.DurationVar(&b.warmUp, "warmup", 200*time.Millisecond, "how long a round runs before it is measured")
	f.BoolVar(&b.syscalls, "syscalls", true, "count system calls too, by perf, in a round of their own")
	f.BoolVar(&b.observed, "telemetry", true, "proxies trace and write access logs, as they do by default once told where to")
	f.StringVar(&b.profiles, "cpuprofile", "", "directory for a CPU profile of each process and round; profiling costs some CPU itself")
	f.StringVar(&b.proxyBinary, "proxy", "", "an octo-proxy; empty: that of this tree is built")
	f.StringVar(&b.peersFolder, "peers", "tools/bench", "where make bench-peers has put the programs to compare with")
	f.StringVar(&b.jsonFile, "json", "bench.json", "file for the figures; a .run.json beside it says what they were taken on; empty: none")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if b.rounds < 1 || b.duration <= 0 || f.NArg() > 0 {
		return nil, fmt.Errorf("rounds and duration are at least 1, and there are no arguments beside flags")
	}
	var err error
	if b.rows, err = find(fields(*names)); err != nil {
		return nil, err
	}
	b.named = *names != ""
	if b.loads, err = parseLoads(fields(*loads)); err != nil {
		return nil, err
	}
	b.self, err = os.Executable()
	return b, err
}

func fields(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })
}

func describe(all []row) string {
	var b strings.Builder
	for _, r := range all {
		fmt.Fprintf(&b, "  %-16s %s\n", r.name, r.what)
	}
	return b.String()
}

// run measures, prints and writes.
func (b *bench) run(out io.Writer) error {
	// Sides end with the thread that started them, so all are started by one that stays.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	dir, err := os.MkdirTemp("", "ob")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if b.proxyBinary == "" {
		if b.proxyBinary, err = buildProxy(dir); err != nil {
			return err
		}
	}
	if b.profiles != "" {
		if err := os.MkdirAll(b.profiles, 0o755); err != nil {
			return err
		}
	}
	if b.observed {
		address, stop, err := collector()
		if err != nil {
			return err
		}
		defer stop()
		b.collector = address
	}
	b.findPeers()
	if b.syscalls && !countsSyscalls() {
		b.syscalls = false
		b.absent = append(b.absent, "perf cannot count system calls here: it is missing, or needs rights")
	}
	results, err := b.measure(dir)
	if err != nil {
		return err
	}
	record := b.record(results)
	printRun(out, record, results)
	if b.jsonFile == "" {
		return nil
	}
	return save(b.jsonFile, results, record)
}

// findPeers looks for the programs that the rows need, and drops the rows whose program is not here.
func (b *bench) findPeers() {
	var present []row
	for _, r := range b.rows {
		if r.needs != "" && b.peers[r.needs] == nil {
			p, err := findPeer(r.needs, b.peersFolder)
			if err != nil {
				b.absent = append(b.absent, fmt.Sprintf("row %s: %v", r.name, err))
				continue
			}
			b.peers[r.needs] = p
		}
		present = append(present, r)
	}
	b.rows = present
}

// sideProgram is the program that a kind of side belongs to.
func (b *bench) sideProgram(kind string) string {
	switch {
	case strings.HasPrefix(kind, kitex+"-"):
		return b.peers[kitex].path
	case strings.HasPrefix(kind, "python-"):
		return b.peers[python].path
	}
	return b.self
}
