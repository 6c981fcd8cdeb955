package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/conformance/faults/ledger"
	"github.com/octomesh/octomesh/conformance/faults/link"
	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// stage is a scenario that runs: its processes, its links and its batches.
type stage struct {
	s        *conformancev1.Scenario
	dir      string
	binary   string // of proxies
	trap     string // of those that panic where they are told to
	slow     bool   // the race detector looks on, and takes memory of its own
	previous versions
	program  *program
	ledger   *ledger.Ledger
	ids      *atomic.Int64
	patience time.Duration
	plane    *plane               // nil: proxies have files
	want     *resourcev1.Snapshot // that the control plane was given last

	ends     map[string]*actor
	links    map[string]*link.Link
	batches  map[string]*batch // that run
	over     []*batch
	channels map[string]bool   // "end/target" that are connected
	marks    map[string]int64  // memory, by process
	spoilt   map[string]spoilt // files
	late     []string          // batches that saw a change later than they should
	inTime   int               // batches that saw it in time
	crowds   []*crowd
	round    uint64 // of steps that are repeated
	cleanup  []func()
	problems []string
	unable   error // not nil: the machine cannot run it
}

// actor is an end of a scenario.
type actor struct {
	end
	*conformancev1.End
	started  bool
	eject    func() error // the disk of its own; nil: there is none
	readOnly bool         // which it is
}

func (s *stage) problem(format string, args ...any) {
	s.problems = append(s.problems, fmt.Sprintf(format, args...))
}

// expandScenarios makes the scenarios of a suite, one for each number of calls in flight.
func expandScenarios(s *conformancev1.TestSuite) ([]*conformancev1.Scenario, error) {
	var all []*conformancev1.Scenario
	for _, template := range s.Scenarios {
		for _, n := range template.InFlight {
			c := proto.CloneOf(template)
			c.Name, c.InFlight = fmt.Sprintf("%s/%d-in-flight", template.Name, n), []uint32{n}
			all = append(all, c)
		}
		if len(template.InFlight) == 0 {
			c := proto.CloneOf(template)
			c.InFlight = []uint32{16}
			all = append(all, c)
		}
	}
	if s.AlsoPushed {
		for _, c := range all {
			if c.Control == nil {
				c = proto.CloneOf(c)
				c.Name, c.Control = "pushed/"+c.Name, &conformancev1.ControlPlane{}
				all = append(all, c)
			}
		}
	}
	seen := make(map[string]bool)
	for _, c := range all {
		c.Name = s.Suite + "/" + c.Name
		if seen[c.Name] {
			return nil, fmt.Errorf("%s: there are two of that name", c.Name)
		}
		seen[c.Name] = true
		if err := completeScenario(c); err != nil {
			return nil, fmt.Errorf("%s: %w", c.Name, err)
		}
	}
	return all, nil
}

// completeScenario fills in what follows from the rest, and refuses what makes no sense.
func completeScenario(c *conformancev1.Scenario) error {
	ends := make(map[string]*conformancev1.End)
	for _, e := range c.Ends {
		if e.Name == "" || ends[e.Name] != nil {
			return fmt.Errorf("end %q: no name of its own", e.Name)
		}
		if (e.DiskBytes > 0 || e.Trap) && (!e.Proxy || c.Control == nil) {
			return fmt.Errorf("end %q: a disk and a trap are for proxies with a control plane", e.Name)
		}
		if e.Registers && (c.Control == nil || e.Target == "" || !e.Proxy && !c.Control.Directory) {
			return fmt.Errorf("end %q: a server registers itself with its proxy, or with a Directory of the control plane", e.Name)
		}
		ends[e.Name] = e
	}
	for _, l := range c.Links {
		to := ends[l.To]
		central := c.Control != nil && slices.Contains(pilotsOf(c.Control), l.To)
		for _, name := range l.Only {
			if e := ends[name]; e == nil || !e.Proxy || !central {
				return fmt.Errorf("link %q: only %q, which is no end with a proxy, or it leads to no Pilot", l.Name, name)
			}
		}
		if to == nil && !central || l.Socket && (central || !to.Proxy) || ends[l.Name] != nil {
			return fmt.Errorf("link %q leads nowhere, or has an end's name", l.Name)
		}
	}
	running := make(map[string]bool)
	for i, step := range c.Steps {
		if err := completeStep(c, step, ends, running); err != nil {
			return fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	if len(running) > 0 {
		return fmt.Errorf("batches that do not end: %v", slices.Collect(maps.Keys(running)))
	}
	return nil
}

func completeStep(c *conformancev1.Scenario, step *conformancev1.ScenarioStep, ends map[string]*conformancev1.End, running map[string]bool) error {
	b := step.GetBatch()
	switch v := step.Step.(type) {
	case nil:
		return errors.New("nothing to do")
	case *conformancev1.ScenarioStep_Begin:
		b = v.Begin
		running[b.Name] = true
	case *conformancev1.ScenarioStep_End:
		if !running[v.End] {
			return fmt.Errorf("batch %q does not run", v.End)
		}
		delete(running, v.End)
	case *conformancev1.ScenarioStep_Batch:
		if b.Calls == 0 {
			return errors.New("how many calls?")
		}
	case *conformancev1.ScenarioStep_Repeat:
		return completeRounds(c, v.Repeat, ends, running)
	case *conformancev1.ScenarioStep_Octo, *conformancev1.ScenarioStep_Synced, *conformancev1.ScenarioStep_Churn, *conformancev1.ScenarioStep_Unheard,
		*conformancev1.ScenarioStep_MadeUp, *conformancev1.ScenarioStep_Crowd, *conformancev1.ScenarioStep_Spoil, *conformancev1.ScenarioStep_Disk:
		if c.Control == nil {
			return errors.New("it is for scenarios with a control plane")
		}
	}
	if b == nil {
		return nil
	}
	if b.Name == "" || b.Target == "" || ends[b.Client] == nil {
		return errors.New("a batch has a name, a target, and an end as its client")
	}
	if b.Method == "" {
		b.Method = "Unary"
	}
	if b.InFlight == 0 {
		b.InFlight = c.InFlight[0]
	}
	// The rules for a case's call hold here, too.
	call := &conformancev1.Case{Semantics: []uint32{1}, Method: b.Method, Requests: b.Requests, Options: b.Options, Response: b.Response}
	err := complete(call)
	b.Requests, b.Options, b.Response = call.Requests, call.Options, call.Response
	switch {
	case (b.OneWay || b.Keeps != "") && b.Vary == nil:
		return errors.New("values go one way, or keep it, where they vary")
	case b.AfterMs > 0 && b.AfterMs >= b.WithinMs:
		return errors.New("after_ms is a part of within_ms")
	case b.WithinMs > 0 && step.GetBatch() == nil:
		return errors.New("only a batch that ends by itself can be made anew")
	}
	for _, at := range b.Response.At {
		if err == nil && ends[at.Server] == nil {
			err = fmt.Errorf("response at %q, which is no end", at.Server)
		}
	}
	return err
}

// completeRounds completes steps that are repeated: each round leaves the batches running that it has found.
func completeRounds(c *conformancev1.Scenario, r *conformancev1.Repeat, ends map[string]*conformancev1.End, running map[string]bool) error {
	if r.Times == 0 || len(r.Steps) == 0 {
		return errors.New("what is repeated, and how often?")
	}
	before := maps.Clone(running)
	for i, step := range r.Steps {
		if err := completeStep(c, step, ends, running); err != nil {
			return fmt.Errorf("step %d of those that are repeated: %w", i+1, err)
		}
	}
	if !maps.Equal(before, running) {
		return errors.New("a round that is repeated ends the batches that it begins, and no others")
	}
	return nil
}

// scenario runs one with processes of its own.
func (r *run) scenario(j *job) {
	begin := time.Now()
	dir, err := os.MkdirTemp(r.dir, "s")
	if err != nil {
		r.add(j, []string{err.Error()}, 0)
		return
	}
	told, err := ledger.New()
	if err != nil {
		r.add(j, []string{err.Error()}, 0)
		return
	}
	s := &stage{
		s: j.scenario, dir: dir, binary: r.proxy, previous: r.previous, program: j.client, ledger: told, ids: &r.ids, patience: r.patience,
		ends: make(map[string]*actor), links: make(map[string]*link.Link), batches: make(map[string]*batch),
		channels: make(map[string]bool), marks: make(map[string]int64), spoilt: make(map[string]spoilt), trap: r.trap, slow: r.memory > 1,
	}
	if c := j.scenario.Control; c != nil {
		s.plane, err = newPlane(dir, r, c)
	}
	if err == nil {
		err = s.start()
	}
	if errors.Is(err, errUnable) {
		s.unable = err
	} else if err != nil {
		s.problem("starting: %v", err)
	} else {
		s.play()
	}
	s.stop()
	r.add(j, s.problems, time.Since(begin))
	j.result.Calls, j.result.Successors = s.counted()
	if len(s.problems) == 0 { // with a control plane it may be hundreds of megabytes; only those of failures are of use
		if err := os.RemoveAll(dir); err != nil {
			fmt.Fprintln(os.Stderr, "conformance:", err)
		}
	}
	if s.unable != nil && len(s.problems) == 0 {
		j.result.Verdict, j.result.Unable, j.result.Problems = conformancev1.CaseResult_VERDICT_SKIPPED, true, []string{s.unable.Error()}
	}
}

// play takes the steps, up to the first that fails.
func (s *stage) play() {
	for i, step := range s.s.Steps {
		before := len(s.problems)
		if err := s.step(step); errors.Is(err, errUnable) {
			s.unable = err
			return
		} else if err != nil {
			s.problem("%v", err)
		}
		for n := before; n < len(s.problems); n++ {
			s.problems[n] = fmt.Sprintf("step %d: %s", i+1, s.problems[n])
		}
		if len(s.problems) > before {
			return
		}
	}
}

// start starts the control plane, then proxies, then links, then testees, and tells proxies where all is.
func (s *stage) start() error {
	for _, e := range s.s.Ends {
		s.ends[e.Name] = &actor{End: e}
	}
	told, err := s.govern()
	if err != nil {
		return err
	}
	err = s.each(func(a *actor) (err error) {
		binary, flag := s.binary, "--proxy"
		switch {
		case a.PreviousProxy:
			binary, flag = s.previous.proxy, "--previous-proxy: the version before"
		case a.Trap:
			binary, flag = s.trap, "--trap-proxy: a build with a trap"
		}
		if a.Proxy && binary == "" {
			return fmt.Errorf("the proxy of %s needs %s", a.Name, flag)
		}
		if err := s.insert(a); err != nil {
			return err
		}
		if a.Proxy {
			a.proxy, err = startProxy(s.dir, a.Name+"-proxy", binary, proxyOptions{
				zone: a.Zone, bootstrap: a.Bootstrap, descriptors: int(a.ProxyDescriptors), memory: int(a.ProxyMemoryMib), control: told(a), trap: s.trap,
			})
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, l := range s.s.Links { // those to sockets, through which servers attach
		if err := s.lay(l, true); err != nil {
			return err
		}
	}
	if err := s.each(s.serve); err != nil {
		return err
	}
	for _, l := range s.s.Links {
		if err := s.lay(l, false); err != nil {
			return err
		}
	}
	return s.configure(s.s.Resources)
}

// counted is how many calls the ledger has, and how many successors have taken over.
func (s *stage) counted() (calls uint64, successors uint32) {
	for _, b := range s.over {
		calls += uint64(b.result.Calls)
	}
	for _, a := range s.ends {
		if a.proxy != nil {
			successors += uint32(a.proxy.takeovers)
		}
	}
	return calls, successors
}

// each does something with all ends at once.
func (s *stage) each(do func(a *actor) error) error {
	errs := make(chan error, len(s.ends))
	for _, a := range s.ends {
		go func() { errs <- do(a) }()
	}
	var err error
	for range s.ends {
		err = errors.Join(err, <-errs)
	}
	return err
}

// lay makes a link whose end is known by now.
func (s *stage) lay(l *conformancev1.Link, socket bool) error {
	if l.Socket != socket || s.links[l.Name] != nil {
		return nil
	}
	var made *link.Link
	var err error
	if to := s.ends[l.To]; socket {
		made, err = link.To("unix", filepath.Join(s.dir, l.Name+".lnk"), to.proxy.socket)
	} else {
		made, err = link.To("tcp", "127.0.0.1:0", to.at())
	}
	if err == nil {
		s.links[l.Name] = made
		s.cleanup = append(s.cleanup, func() { _ = made.Close() })
	}
	return err
}

// at is where an end is called.
func (a *actor) at() string {
	if a.proxy != nil {
		return a.proxy.inbound
	}
	return a.address
}

// socket is where an end finds its proxy.
func (s *stage) socket(a *actor) string {
	if l := s.links[a.Link]; l != nil {
		return l.Address()
	}
	return a.proxy.socket
}

// serve starts an end's testee, and its server.
func (s *stage) serve(a *actor) (err error) {
	program := s.program
	if a.PreviousTestee {
		if program = s.previous.testees[s.program.name]; program == nil {
			return fmt.Errorf("it needs the version before: give --previous-testee %s=…", s.program.name)
		}
	}
	if a.testee, err = startTestee(s.dir, a.Name, program); err != nil {
		return err
	}
	a.started = true
	if a.Target == "" {
		return nil
	}
	c := &conformancev1.StartServer{Name: a.Name, Target: a.Target, Environment: environment, Ledger: s.ledger.Address()}
	if a.Registers {
		c.Registration = &conformancev1.Registration{Directories: s.directories(), Zone: a.Zone, Weight: a.Weight, Tags: a.Tags}
	}
	if a.proxy != nil {
		c.Socket = s.socket(a)
	}
	if a.proxy == nil || a.Listens {
		c.Listen = "127.0.0.1:0"
	}
	r, err := a.do(&conformancev1.Command{Command: &conformancev1.Command_StartServer{StartServer: c}})
	a.address = r.GetStarted().GetAddress()
	return err
}

// expand puts addresses into a text.
func (s *stage) expand(text string) (string, error) {
	var missing string
	text = os.Expand(text, func(name string) string {
		if l := s.links[name]; l != nil {
			return l.Address()
		}
		if a := s.ends[name]; a != nil {
			return a.at()
		}
		if end, direct := strings.CutSuffix(name, ".direct"); direct && s.ends[end] != nil {
			return s.ends[end].address
		}
		missing = name
		return ""
	})
	if missing != "" {
		return "", fmt.Errorf("${%s} is neither an end nor a link", missing)
	}
	return text, nil
}

// configure gives all proxies resources, and waits until they go by them.
func (s *stage) configure(text string) error {
	if s.plane != nil {
		if err := s.give(text); err != nil {
			return err
		}
		return s.synced(nil)
	}
	text, err := s.expand(text)
	if err != nil {
		return fmt.Errorf("resources: %w", err)
	}
	return s.each(func(a *actor) error {
		if a.proxy == nil {
			return nil
		}
		return a.proxy.configure("environment: " + environment + "\n" + strings.TrimLeft(text, "\n"))
	})
}

// stop ends what runs. Whoever is still there must end well.
func (s *stage) stop() {
	for _, b := range s.batches {
		_ = b.finish()
	}
	err := s.each(func(a *actor) error {
		if !a.started || over(a.testee.process) {
			return nil
		}
		return a.testee.stop()
	})
	for _, clean := range s.cleanup { // strangers and links, or a proxy would wait for what they hold
		clean()
	}
	err = errors.Join(err, s.each(func(a *actor) error {
		if a.proxy == nil {
			return nil
		}
		if next := a.proxy.successor; next != nil && !over(next) {
			_ = next.cmd.Process.Kill()
			<-next.gone
		}
		if over(a.proxy.process) {
			return nil
		}
		return a.proxy.stop()
	}))
	if s.plane != nil {
		err = errors.Join(err, s.plane.stop())
	}
	if len(s.late) > s.inTime { // one that is late may be the machine's
		s.problem("most changes were seen too late: %v", s.late)
	}
	for _, a := range s.ends {
		if a.eject != nil {
			err = errors.Join(err, a.eject())
		}
	}
	if err = errors.Join(err, s.ledger.Drain(s.patience)); err != nil {
		s.problem("at the end: %v", err)
	}
	if len(s.problems) == 0 { // handlers that began late: nobody is left who could
		for _, b := range s.over {
			for _, p := range slices.Concat(b.judgeHandlers(), b.audit()) {
				s.problem("batch %s: at the end: %s", b.Name, p)
			}
		}
	}
	for _, a := range s.ends {
		for _, p := range []*process{a.processOf(), a.proxyProcess()} {
			if p != nil && over(p) && p.err != nil && !p.killed {
				s.problem("%s ended with %v, see %s", p.name, p.err, p.log)
			}
		}
	}
}

func (a *actor) processOf() *process {
	if !a.started {
		return nil
	}
	return a.testee.process
}

func (a *actor) proxyProcess() *process {
	if a.proxy == nil {
		return nil
	}
	return a.proxy.process
}

func over(p *process) bool {
	select {
	case <-p.gone:
		return true
	default:
		return false
	}
}
