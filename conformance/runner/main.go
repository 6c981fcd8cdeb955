// Command runner judges programs that speak the protocol: it starts testees and proxies, has the one call
// the other, and compares what callers got, what handlers saw and what proxies counted with what
// proto/spec/semantics.md says. docs/guides/conformance.md is its manual.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
)

// worlds is how many there are at a time.
const worlds = 2

// run is one run of the suites.
type run struct {
	dir      string // for sockets: short
	proxy    string // the binary
	octo     string // the binary, for scenarios with a control plane
	etcd     string // somebody else's, for those whose parts are apart
	trap     string // the octo-proxy binary that panics where it is told to
	parallel int
	patience time.Duration
	ids      atomic.Int64
	noTrace  bool
	previous versions
	memory   uint    // factor of what cases allow
	bridge   *bridge // nil: none

	mu      sync.Mutex
	results []*conformancev1.CaseResult
}

// versions are programs of the version before.
type versions struct {
	proxy, octo string
	testees     map[string]*program // by name
}

// options are the command line's.
type options struct {
	suites, known, results, matrix string
	profiles, gaps                 string
	bridge                         *program // gRPC's own; nil: none
	filter                         []string
	quick, brief, long, noSkips    bool
	left                           []*job // by quick
	testees                        []*program
}

func main() {
	r := &run{}
	o := &options{}
	flag.Func("testee", "name=command: a program under test; may be given several times", o.addTestee)
	flag.Func("bridge", "name=command: gRPC's own client and server, for the topologies with a bridge", func(text string) error {
		stock := &options{}
		if err := stock.addTestee(text); err != nil {
			return err
		}
		o.bridge = stock.testees[0]
		return nil
	})
	flag.StringVar(&o.gaps, "bridge-gaps", "conformance/bridge.yaml", "what does not apply with a bridge")
	flag.StringVar(&r.proxy, "proxy", "", "the octo-proxy binary")
	flag.StringVar(&r.octo, "octo", "", "the octo binary, for scenarios with a control plane")
	flag.StringVar(&r.etcd, "etcd", "etcd", "the etcd binary, for those whose parts are apart")
	flag.StringVar(&r.previous.proxy, "previous-proxy", "", "the octo-proxy binary of the version before, for scenarios that mix versions")
	flag.StringVar(&r.previous.octo, "previous-octo", "", "the octo binary of the version before")
	flag.Func("previous-testee", "name=command: a testee of the version before", func(text string) error {
		before := &options{}
		if err := before.addTestee(text); err != nil {
			return err
		}
		if r.previous.testees == nil {
			r.previous.testees = make(map[string]*program)
		}
		r.previous.testees[before.testees[0].name] = before.testees[0]
		return nil
	})
	flag.StringVar(&o.suites, "suites", "conformance/suites", "directory of suites")
	flag.StringVar(&o.known, "known-failing", "conformance/known_failing", "directory of <testee>.txt")
	flag.StringVar(&o.profiles, "profiles", "conformance/profiles", "directory of <testee>.yaml")
	flag.BoolVar(&o.quick, "quick", false, "only what a change needs at once: see docs/guides/conformance.md")
	flag.BoolVar(&o.brief, "brief", false, "leave out scenarios that take minutes")
	flag.BoolVar(&o.long, "long", false, "run nothing but scenarios that take minutes")
	flag.BoolVar(&o.noSkips, "no-skips", false, "a case that is skipped fails the run, unless it is this machine that cannot run it")
	flag.StringVar(&o.results, "results", "", "directory for results.json, junit.xml and matrix.md")
	flag.StringVar(&o.matrix, "matrix", "", "a committed matrix that must be equal to this run's")
	flag.Func("run", "only cases whose name@topology:client-server contains this; may be given several times: any of them", func(text string) error {
		o.filter = append(o.filter, text)
		return nil
	})
	flag.BoolVar(&r.noTrace, "no-trace", false, "do not run a failed case once more for its frames")
	flag.StringVar(&r.trap, "trap-proxy", "", "the octo-proxy binary that was built with -tags octofault, for scenarios in which one panics")
	flag.UintVar(&r.memory, "memory", 1, "how many times the memory that cases allow programs may take: the race detector's cost")
	flag.IntVar(&r.parallel, "parallel", 16, "cases at a time in each topology")
	flag.DurationVar(&r.patience, "patience", 20*time.Second, "how long to wait for what must come; slow programs need more")
	flag.Parse()
	ok, err := r.main(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

func (o *options) addTestee(text string) error {
	name, command, ok := strings.Cut(text, "=")
	if !ok || name == "" || command == "" {
		return fmt.Errorf("%q: want name=command", text)
	}
	o.testees = append(o.testees, &program{name: name, command: strings.Fields(command)})
	return nil
}

func (r *run) main(o *options) (ok bool, err error) {
	if len(o.testees) == 0 || r.proxy == "" {
		return false, errors.New("--testee and --proxy are needed")
	}
	begin := time.Now()
	suites, err := readSuites(o.suites)
	if err != nil {
		return false, err
	}
	b, err := readBridge(o.gaps, o.bridge)
	if err != nil {
		return false, err
	}
	r.bridge = b
	jobs, err := plan(suites, o.testees, b)
	if err := errors.Join(err, b.unused()); err != nil {
		return false, err
	}
	if err := readProfiles(o.profiles, o.testees); err != nil {
		return false, err
	}
	if o.quick {
		jobs, o.left = quick(jobs, o.testees[0])
	}
	if o.long {
		jobs = slices.DeleteFunc(jobs, func(j *job) bool { return !j.scenario.GetLong() })
	}
	if o.brief {
		jobs = slices.DeleteFunc(jobs, func(j *job) bool { return j.scenario.GetLong() })
	}
	known, err := readKnown(o.known, o.testees, time.Now())
	if err != nil {
		return false, err
	}
	if jobs = filter(jobs, o.filter); slices.ContainsFunc(jobs, (*job).needsDisk) {
		if err := withOwnMounts(); err != nil { // scenarios with disks will say so, too
			fmt.Fprintln(os.Stderr, "conformance: no disks of its own:", err)
		}
	}
	if r.dir, err = os.MkdirTemp("", "oc"); err != nil { // not TMPDIR's depth, or socket paths get too long
		return false, err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r.all(ctx, r.skip(r.leaveOut(jobs)))
	r.apply(known, len(o.filter) == 0 && !o.quick && !o.brief && !o.long)
	ok, err = r.report(o, time.Since(begin))
	if ok && err == nil {
		err = os.RemoveAll(r.dir)
	} else {
		fmt.Fprintln(os.Stderr, "logs of the processes are in", r.dir)
	}
	return ok, err
}

func filter(jobs []*job, texts []string) []*job {
	var some []*job
	for _, j := range jobs {
		if len(texts) == 0 || slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(j.id(), text) }) {
			some = append(some, j)
		}
	}
	return some
}

// quick leaves out what mostly fails together with something else: pairs without the first testee, all of a topology with
// TLS but the shapes of calls, and scenarios.
func quick(jobs []*job, first *program) (some, left []*job) {
	for _, j := range jobs {
		reference := j.testee != nil
		pair := j.client == first || j.server == first || reference
		tls := withoutTLS[j.topology] != 0 && !strings.HasPrefix(j.name, "shapes/")
		if pair && !tls && j.scenario == nil {
			some = append(some, j)
		} else {
			left = append(left, j)
		}
	}
	return some, left
}

// worldKey names what jobs may share a world.
type worldKey struct {
	topology       conformancev1.Topology
	client, server *program
	lanes          string
}

// all runs the jobs: those that share a world side by side, isolated ones each in a world of its own.
func (r *run) all(ctx context.Context, jobs []*job) {
	shared := make(map[worldKey][]*job)
	var order [][]*job
	for _, j := range jobs {
		if j.c.Isolated {
			order = append(order, []*job{j})
			continue
		}
		key := worldKey{j.topology, j.client, j.server, fmt.Sprint(j.c.Lanes)}
		if j.testee != nil {
			key.client, key.server = j.testee, j.testee
		}
		shared[key] = append(shared[key], j)
	}
	for _, js := range shared {
		order = append(order, js)
	}
	sem := make(chan struct{}, worlds)
	var wg sync.WaitGroup
	for _, js := range order {
		wg.Go(func() {
			sem <- struct{}{}
			defer func() { <-sem }()
			if ctx.Err() != nil {
				r.unrun(js, "interrupted")
				return
			}
			r.world(js)
		})
	}
	wg.Wait()
}

// unrun fails jobs that could not be run.
func (r *run) unrun(js []*job, why string) {
	for _, j := range js {
		r.add(j, []string{why}, 0)
	}
}

// world runs jobs in a world, then holds the counters and the ledger against the sum of what they did.
func (r *run) world(js []*job) {
	if js[0].scenario != nil {
		r.scenario(js[0])
		return
	}
	w, err := r.newWorld(js)
	if err != nil {
		r.unrun(js, err.Error())
		return
	}
	var heavy, light []*job
	for _, j := range js {
		if j.c.Parallel >= 100 || j.c.Options.Repeat >= 400 || j.c.Response.Repeat >= 400 {
			heavy = append(heavy, j)
		} else {
			light = append(light, j)
		}
	}
	r.jobs(w, light, r.parallel)
	r.jobs(w, heavy, 1) // behind the others, whose deadlines they would eat
	counted := w.auditCounters()
	if err := w.stop(); err != nil {
		counted = append(counted, err.Error())
	}
	counted = append(counted, w.auditLedger()...) // no handler can begin any more
	audit := *js[0]
	audit.name = "audit/counters-ledger-and-exit"
	if n := len(js[0].c.Lanes); n > 0 {
		audit.name += fmt.Sprintf("/with-%d-lanes", n)
	}
	if js[0].c.Isolated {
		audit.name += "/" + strings.ReplaceAll(js[0].c.Name, "/", "-")
	}
	audit.c = &conformancev1.Case{Name: audit.name}
	r.add(&audit, counted, 0)
	r.traceFailures(js)
}

// traceFailures adds to the first cases of a world that have failed what passed in them.
func (r *run) traceFailures(js []*job) {
	n := 0
	for _, j := range js {
		if r.noTrace || j.result == nil || j.result.Verdict != conformancev1.CaseResult_VERDICT_FAILED || j.testee != nil {
			continue
		}
		if slices.Contains(bridged, j.topology) { // not all of its connections speak the protocol
			continue
		}
		if n++; n > maxTraces {
			return
		}
		j.result.Trace = r.traced(j)
	}
}

// jobs runs jobs in a world, so many at a time.
func (r *run) jobs(w *world, js []*job, parallel int) {
	sem := make(chan struct{}, parallel)
	var wg sync.WaitGroup
	for _, j := range js {
		wg.Go(func() {
			sem <- struct{}{}
			defer func() { <-sem }()
			begin := time.Now()
			if j.testee != nil {
				problems, trace := w.runRaw(j.c)
				r.add(j, problems, time.Since(begin))
				j.result.Trace = trace
				return
			}
			r.add(j, w.runCase(j.c), time.Since(begin))
		})
	}
	wg.Wait()
}

func (r *run) add(j *job, problems []string, elapsed time.Duration) {
	res := j.unjudged(conformancev1.CaseResult_VERDICT_PASSED)
	res.Problems, res.ElapsedMs = problems, uint64(elapsed.Milliseconds())
	if len(problems) > 0 {
		res.Verdict = conformancev1.CaseResult_VERDICT_FAILED
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.results = append(r.results, res)
	j.result = res
}
