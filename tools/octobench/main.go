// Command octobench measures what calls cost, directly and through the mesh. It starts every side as a
// process of its own, interleaves rounds over all rows, prints one table and writes bench.json.
//
//	go run ./tools/octobench --rows raw-uds,copy-uds-tcp,mesh-1 --loads 1:16 --rounds 5
//
// CPU-seconds per 100,000 calls is the figure that survives a noisy machine; compare within one run only.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/octomesh/octomesh/tools/octobench/end"
)

// bench is one run.
type bench struct {
	rows     []row
	loads    []end.Load
	rounds   int
	duration time.Duration
	warmUp   time.Duration

	proxyBinary string
	profiles    string // directory; empty: none
	jsonFile    string
	progress    io.Writer
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == endCommand {
		exit(end.Run(os.Args[2], os.Stdin, os.Stdout))
	}
	b, err := parse(os.Args[1:])
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
	b := &bench{}
	f := flag.NewFlagSet("octobench", flag.ExitOnError)
	names := f.String("rows", "", "rows to measure, separated by commas; empty: all of\n"+describe(rows))
	loads := f.String("loads", "1:1,1:16,1:100,4:100", "connections:calls in flight, on all connections together")
	size := f.Int("size", 1024, "bytes of a request's and a response's message")
	f.IntVar(&b.rounds, "rounds", 5, "rounds per row and load; the table has their medians")
	f.DurationVar(&b.duration, "duration", time.Second, "how long a round is measured")
	f.DurationVar(&b.warmUp, "warmup", 300*time.Millisecond, "how long a round runs before it is measured")
	f.StringVar(&b.profiles, "cpuprofile", "", "directory for a CPU profile of each process and round; profiling costs some CPU itself")
	f.StringVar(&b.proxyBinary, "proxy", "", "an octo-proxy; empty: that of this tree is built")
	f.StringVar(&b.jsonFile, "json", "bench.json", "file for the figures; empty: none")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if b.rounds < 1 || b.duration <= 0 || *size < 0 || f.NArg() > 0 {
		return nil, fmt.Errorf("rounds and duration are at least 1, size is not negative, and there are no arguments beside flags")
	}
	var err error
	if b.rows, err = find(fields(*names)); err != nil {
		return nil, err
	}
	b.loads, err = parseLoads(fields(*loads), *size)
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
	results, err := b.measure(dir)
	if err != nil {
		return err
	}
	b.print(out, results)
	if b.jsonFile == "" {
		return nil
	}
	text, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(b.jsonFile, append(text, '\n'), 0o644)
}

// measure interleaves the rounds, so that whatever disturbs the machine disturbs all rows alike.
func (b *bench) measure(dir string) ([]Row, error) {
	rounds := make(map[[2]int][]*round)
	for n := range b.rounds {
		for l, load := range b.loads {
			for i, r := range b.rows {
				got, err := b.round(dir, n, r, load)
				if err != nil {
					return nil, fmt.Errorf("row %s at %s: %w", r.name, column(load), err)
				}
				rounds[[2]int{i, l}] = append(rounds[[2]int{i, l}], got)
				fmt.Fprintf(b.progress, "round %d/%d %-7s %-16s %8.0f calls/s\n", n+1, b.rounds, column(load), r.name, got.callsPerSecond)
			}
		}
	}
	var out []Row
	for l, load := range b.loads {
		for i, r := range b.rows {
			out = append(out, summarize(r.name, load, rounds[[2]int{i, l}]))
		}
	}
	return out, nil
}

func (b *bench) round(dir string, n int, r row, load end.Load) (*round, error) {
	dir, err := os.MkdirTemp(dir, "c")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	name := fmt.Sprintf("%s-%dx%d-%d", r.name, load.Connections, load.InFlight, n)
	c := &cell{bench: b, dir: dir, name: name}
	defer c.end()
	return c.measure(r, load)
}
