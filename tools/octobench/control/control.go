// Package control measures the control plane: what a Pilot's push costs beside bare grpc-go, what sessions cost in
// memory, how all come back after a cut, what a change costs on the wire, what a large registry costs, and what a slow
// consumer does to others. `octobench control` runs it.
package control

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// Command is the first argument with which the program is a side of a measurement.
const Command = "control-side"

// part is one thing that is measured.
type part struct {
	name, what string
	run        func(*options) ([]Table, error)
}

func parts() []part {
	return []part{
		{"push", "processor time of a push with its acknowledgement and latency, by fan-out, beside bare grpc-go", pushes},
		{"change", "bytes of one change among many instances, for each subscriber", changes},
		{"slow", "what the Pilot holds for consumers that do not read, and what the others notice", slows},
		{"sessions", "memory of sessions over few connections; the time until all are synced after a cut and a restart", shared},
		{"connections", "the same for sessions that each have a connection", own},
		{"registry", "a large registry through Dispatcher and Pilot: time, memory, watches, latency of a change", registries},
	}
}

// options are a run's.
type options struct {
	self     string
	progress io.Writer
	profiles string

	fanouts                []int
	rounds, pushes         int
	sharing                int // connections that the streams of the second push table share
	instances, subscribers int
	changes                int
	slow, others           int
	streams, connections   int
	real                   int
	targets, total         int
	watchers               int
	startsPerSecond        float64
}

// Report is all that a run has found.
type Report struct {
	Tables []Table `json:"tables"`
}

// Run measures the parts that the flags name. It prints tables to out, and says on progress how far it is.
func Run(self string, args []string, out, progress io.Writer) (*Report, string, error) {
	o := options{self: self, progress: progress}
	f := flag.NewFlagSet("octobench control", flag.ContinueOnError)
	f.SetOutput(progress)
	names := f.String("parts", "", "parts to measure, separated by commas; empty: all of\n"+describe())
	jsonFile := f.String("json", "", "file for the figures; a .run.json beside it says what they were taken on; empty: none")
	fanouts := f.String("fanouts", "1,10,100,500,5000", "push: how many streams follow what changes")
	f.IntVar(&o.rounds, "rounds", 3, "push: rounds, which alternate between the servers; medians are printed")
	f.IntVar(&o.pushes, "pushes", 5000, "push: pushes in each round and fan-out: so many changes that fan-out times changes is this, but 10 at least")
	f.IntVar(&o.sharing, "sharing", 50, "push: connections that all streams share in the second table; in the first one each has its own")
	f.IntVar(&o.instances, "instances", 10000, "change: instances of the target")
	f.IntVar(&o.subscribers, "subscribers", 100, "change: streams that follow it, each with its connection")
	f.IntVar(&o.changes, "changes", 100, "change, registry: changes that are counted")
	f.IntVar(&o.slow, "slow", 100, "slow: streams that read nothing")
	f.IntVar(&o.others, "others", 100, "slow: streams that read")
	f.IntVar(&o.streams, "streams", 60000, "sessions: how many")
	f.IntVar(&o.connections, "connections", 120, "sessions: connections that they share")
	f.IntVar(&o.real, "real", 19000, "connections: sessions, each with its connection; a process may have to be allowed some more descriptors than this")
	f.IntVar(&o.targets, "targets", 30000, "registry: targets")
	f.IntVar(&o.total, "total", 1000000, "registry: instances of all targets together")
	f.IntVar(&o.watchers, "watchers", 500, "registry: streams that follow the targets that change")
	f.Float64Var(&o.startsPerSecond, "starts", 1e6, "registry: watches that the Dispatcher may begin a second; 1000 is its default, which spares the registry")
	f.StringVar(&o.profiles, "cpuprofile", "", "directory for CPU profiles of the servers")
	if err := f.Parse(args); err != nil {
		return nil, "", err
	}
	var err error
	if o.fanouts, err = numbers(*fanouts); err != nil {
		return nil, "", err
	}
	if err := o.check(); err != nil {
		return nil, "", err
	}
	chosen, err := choose(*names)
	if err != nil {
		return nil, "", err
	}
	r, err := o.run(chosen, out)
	return r, *jsonFile, err
}

// check refuses numbers that no run can have.
func (o *options) check() error {
	for name, n := range map[string]int{
		"rounds": o.rounds, "pushes": o.pushes, "sharing": o.sharing, "instances": o.instances, "subscribers": o.subscribers, "changes": o.changes,
		"slow": o.slow, "others": o.others, "streams": o.streams, "connections": o.connections, "real": o.real, "targets": o.targets, "watchers": o.watchers,
	} {
		if n < 1 {
			return fmt.Errorf("--%s %d: want a number from 1 on", name, n)
		}
	}
	if o.total < 2*o.targets {
		return fmt.Errorf("--total %d: want two instances a target at least", o.total)
	}
	return nil
}

func (o *options) run(chosen []part, out io.Writer) (*Report, error) {
	if o.profiles != "" {
		if err := os.MkdirAll(o.profiles, 0o755); err != nil {
			return nil, err
		}
	}
	r := &Report{}
	for _, p := range chosen {
		begin := time.Now()
		o.say("%s: %s", p.name, p.what)
		tables, err := p.run(o)
		if err != nil {
			return r, fmt.Errorf("%s: %w", p.name, err)
		}
		o.say("%s: took %v", p.name, time.Since(begin).Round(100*time.Millisecond))
		for i := range tables {
			tables[i].Part = p.name
			if err := tables[i].Print(out); err != nil {
				return r, err
			}
		}
		r.Tables = append(r.Tables, tables...)
	}
	return r, nil
}

func (o *options) say(format string, args ...any) { fmt.Fprintf(o.progress, format+"\n", args...) }

func describe() string {
	var b strings.Builder
	for _, p := range parts() {
		fmt.Fprintf(&b, "  %-12s %s\n", p.name, p.what)
	}
	return b.String()
}

func choose(names string) ([]part, error) {
	all := parts()
	if names == "" {
		return all, nil
	}
	var chosen []part
next:
	for name := range strings.SplitSeq(names, ",") {
		for _, p := range all {
			if p.name == name {
				chosen = append(chosen, p)
				continue next
			}
		}
		return nil, fmt.Errorf("there is no part %q; there are\n%s", name, describe())
	}
	return chosen, nil
}

func numbers(text string) ([]int, error) {
	var all []int
	for field := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(field)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q: want numbers from 1 on, separated by commas", text)
		}
		all = append(all, n)
	}
	return all, nil
}

// Side is what a child process does.
func Side(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("a side needs its setup")
	}
	var s setup
	if err := json.Unmarshal([]byte(args[0]), &s); err != nil {
		return err
	}
	run, ok := map[string]func(setup, *conversation) error{
		"pilot": servePusher, "bare": servePusher, "client": followTopics, "slow": stall,
		"session-pilot": serveSessions, "sessions": holdSessions, "dispatcher": dispatch, "registry-pilot": serveRegistry,
	}[s.Kind]
	if !ok {
		return fmt.Errorf("no side is a %q", s.Kind)
	}
	stop, err := profile(s.Profile)
	if err != nil {
		return err
	}
	defer stop()
	return run(s, newConversation(os.Stdin, os.Stdout))
}
