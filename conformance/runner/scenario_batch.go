package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/conformance/faults/ledger"
	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
)

// callTimeout is the deadline of a batch's calls that name none: a call that nobody answers is seen as such.
const callTimeout = 30 * time.Second

// batch is one that runs.
type batch struct {
	*conformancev1.Batch
	id     string
	caller *actor
	book   *ledger.Book
	report <-chan *conformancev1.Report
	result *conformancev1.BatchResult // once it has ended
	marked int                        // handlers at the last step that asked
	early  bool                       // it is made anew if it is not as expected
	kept   []uint32                   // values that must go by the mesh
}

// batch makes the calls of a batch and judges them: again, while a change before it may not have been seen.
func (s *stage) batch(c *conformancev1.Batch) error {
	for begun := time.Now(); ; {
		b, err := s.begin(c)
		if err != nil {
			return err
		}
		took := time.Since(begun) // the calls of the first batch that has it all began then
		if c.WithinMs == 0 {
			return s.end(b)
		}
		if b.early = took < s.patience; b.early {
			if err := s.end(b); err != nil || len(s.problems) > 0 {
				return err
			}
			if len(b.unmet()) > 0 {
				continue
			}
			b.early = false
		} else if err := s.end(b); err != nil || len(s.problems) > 0 {
			return err
		}
		return s.timely(c, took)
	}
}

// timely holds when a change was seen against when it should be.
func (s *stage) timely(c *conformancev1.Batch, took time.Duration) error {
	switch ms := took.Milliseconds(); {
	case ms < int64(c.AfterMs):
		return fmt.Errorf("batch %s is as expected after %d ms, and may not be for %d ms", c.Name, ms, c.AfterMs)
	case ms <= int64(c.WithinMs):
		s.inTime++
	default:
		s.late = append(s.late, fmt.Sprintf("%s after %d ms of %d", c.Name, ms, c.WithinMs))
	}
	return nil
}

// begin has an end make the calls of a batch.
func (s *stage) begin(c *conformancev1.Batch) (*batch, error) {
	a := s.ends[c.Client]
	if err := s.connect(a, c.Target); err != nil {
		return nil, err
	}
	b := &batch{Batch: c, caller: a, id: fmt.Sprintf("b%d", s.ids.Add(1))}
	if c.Keeps != "" {
		i := slices.IndexFunc(s.over, func(o *batch) bool { return o.Name == c.Keeps && !o.early })
		if i < 0 {
			return nil, fmt.Errorf("batch %q, whose values are to be kept, has not ended", c.Keeps)
		}
		b.kept = s.over[i].result.MeshValues
	}
	b.book = s.ledger.Open(b.id)
	options := proto.CloneOf(c.Options)
	if options.TimeoutUs == nil {
		options.TimeoutUs = proto.Int64(callTimeout.Microseconds())
	}
	do := &conformancev1.RunBatch{Calls: c.Calls, InFlight: c.InFlight, Vary: c.Vary, Call: &conformancev1.RunCall{
		Channel: c.Target, Service: serviceName, Method: c.Method, Kind: kinds[c.Method], Requests: c.Requests,
		Options: options, CallId: b.id, Response: c.Response,
	}}
	b.report = a.send(&conformancev1.Command{Command: &conformancev1.Command_RunBatch{RunBatch: do}})
	s.batches[c.Name] = b
	return b, nil
}

// connect makes the channel of an end to a target.
func (s *stage) connect(a *actor, target string) error {
	key := a.Name + "/" + target
	if s.channels[key] {
		return nil
	}
	c := &conformancev1.Connect{Channel: target, Target: target, Environment: environment, Application: a.Application}
	if c.Application == "" {
		c.Application = "app-" + a.Name
	}
	if a.Ways != nil {
		c.Ways = s.ways(a, target)
	} else if a.proxy != nil {
		c.Path = &conformancev1.Connect_Socket{Socket: s.socket(a)}
	} else if at := s.direct(target); at != "" {
		c.Path = &conformancev1.Connect_Direct{Direct: at}
	} else {
		return fmt.Errorf("%s has no proxy, and no end without one serves %q", a.Name, target)
	}
	_, err := a.do(&conformancev1.Command{Command: &conformancev1.Command_Connect{Connect: c}})
	s.channels[key] = err == nil
	return err
}

// ways is what an end chooses from that calls a target. Files lie where the scenario's do.
func (s *stage) ways(a *actor, target string) *conformancev1.Ways {
	w := proto.CloneOf(a.Ways)
	if a.proxy != nil {
		w.Socket = s.socket(a)
	}
	if w.Directories = s.directories(); len(w.Directories) == 0 {
		w.Direct = s.directs(target)
	}
	for _, name := range []*string{&w.State, &w.SwitchFile} {
		if *name != "" {
			*name = filepath.Join(s.dir, *name)
		}
	}
	return w
}

// direct is the address of a server for direct calls; "": none serves the target.
func (s *stage) direct(target string) string {
	if all := s.directs(target); len(all) > 0 {
		return all[0]
	}
	return ""
}

// directs are the addresses of servers for direct calls: of links to them, if there are some.
func (s *stage) directs(target string) (all []string) {
	for _, e := range s.s.Ends {
		if e.Target != target || e.Proxy && !e.Listens {
			continue
		}
		at := s.ends[e.Name].address
		for _, l := range s.s.Links {
			if l.To == e.Name && !l.Socket {
				at = s.links[l.Name].Address()
			}
		}
		all = append(all, at)
	}
	return all
}

// finish has a batch begin no more calls. It may have ended, or not have begun.
func (b *batch) finish() error {
	signal := &conformancev1.Signal{CallId: b.id, Kind: conformancev1.Signal_KIND_FINISH}
	_, err := b.caller.do(&conformancev1.Command{Command: &conformancev1.Command_Signal{Signal: signal}})
	return err
}

// end waits for the end of a batch and judges it.
func (s *stage) end(b *batch) error {
	delete(s.batches, b.Name)
	r, err := await(b.report, s.patience+callTimeout)
	if err != nil {
		return fmt.Errorf("batch %s: %w", b.Name, err)
	}
	if b.result = r.GetBatchResult(); b.result == nil {
		return fmt.Errorf("batch %s: the testee answers %v", b.Name, r)
	}
	b.book.Answered(b.result)
	least := b.least()
	if b.early { // what does not come is not waited for
		least.Servers = nil
	}
	if err := b.book.Settle(s.patience, least); err != nil {
		s.problem("%v", err)
	}
	s.over = append(s.over, b)
	for _, p := range slices.Concat(b.judgeOutcomes(), b.judgeHandlers(), b.audit()) {
		s.problem("batch %s of %d calls: %s", b.Name, b.result.Calls, p)
	}
	return nil
}

// least is how many handlers are expected at least.
func (b *batch) least() ledger.Handlers {
	least := ledger.Handlers{All: lowest(b.ExecutionsPermille, int(b.result.Calls), true), Servers: make(map[string]int)}
	for _, h := range b.Handlers {
		least.Servers[h.Server] = lowest(h.Calls, int(b.result.Calls), h.Permille)
	}
	return least
}

func (b *batch) audit() []string { return b.book.Audit(max(1, int(b.Executions))) }

// judgeOutcomes holds the ends of calls against what is expected: each end fits the first entry that has it.
func (b *batch) judgeOutcomes() []string {
	r := b.result
	expected := b.Outcomes
	if len(expected) == 0 {
		expected = []*conformancev1.OutcomeCount{{}}
	}
	counts := make([]int, len(expected))
	var problems []string
	count := func(status *conformancev1.Outcome, n int) {
		i := slices.IndexFunc(expected, func(o *conformancev1.OutcomeCount) bool { return fits(o, status) })
		if i < 0 {
			problems = append(problems, fmt.Sprintf("%d ended %v", n, status))
			return
		}
		counts[i] += n
	}
	ok := int(r.Calls)
	for _, group := range r.Failed {
		ok -= len(group.Calls)
		if group.Status.Code == 0 {
			problems = append(problems, fmt.Sprintf("%d ended OK with other responses than the handler gave", len(group.Calls)))
			continue
		}
		count(group.Status, len(group.Calls))
	}
	if ok > 0 {
		count(&conformancev1.Outcome{}, ok)
	}
	for i, o := range expected {
		calls := o.Calls
		if o.TimesInFlight {
			calls = times(calls, b.InFlight)
		}
		if text := outside(counts[i], int(r.Calls), calls, o.Permille); text != "" {
			problems = append(problems, fmt.Sprintf("%d ended %v %v, expected %s", counts[i], o.Code, o.Reason, text))
		}
	}
	if ms := r.MinUs / 1000; ms < uint64(b.MinMs) {
		problems = append(problems, fmt.Sprintf("a call took %d ms, expected at least %d", ms, b.MinMs))
	}
	return problems
}

// judgeHandlers holds what the ledger has by server, and which way calls went, against what is expected. Of a batch that is made anew
// if it is not so, nothing is.
func (b *batch) judgeHandlers() []string {
	if b.early {
		return nil
	}
	return b.unmet()
}

// unmet is what is not as expected.
func (b *batch) unmet() []string {
	var problems []string
	calls, ran := int(b.result.Calls), b.book.Handlers()
	for _, h := range b.Handlers {
		if text := outside(ran.Servers[h.Server], calls, h.Calls, h.Permille); text != "" {
			problems = append(problems, fmt.Sprintf("%d handlers ran at %s, expected %s; in all %v", ran.Servers[h.Server], h.Server, text, ran.Servers))
		}
	}
	if b.OneServer && len(ran.Servers) != 1 {
		problems = append(problems, fmt.Sprintf("handlers ran at %v, expected at one of them", ran.Servers))
	}
	if text := outside(int(b.result.Mesh), calls, b.Mesh, false); text != "" {
		problems = append(problems, fmt.Sprintf("%d calls went by the mesh and %d direct, expected %s by the mesh", b.result.Mesh, b.result.Direct, text))
	}
	if text := outside(ran.All, calls, b.ExecutionsPermille, true); text != "" {
		problems = append(problems, fmt.Sprintf("%d handlers ran, expected %s", ran.All, text))
	}
	return append(problems, b.judgeValues()...)
}

// judgeValues holds which values went which way, and how the share rose, against what is expected.
func (b *batch) judgeValues() (problems []string) {
	r := b.result
	if i := slices.IndexFunc(r.MeshValues, func(v uint32) bool { return slices.Contains(r.DirectValues, v) }); b.OneWay && i >= 0 {
		problems = append(problems, fmt.Sprintf("v%d went by the mesh and direct", r.MeshValues[i]))
	}
	if i := slices.IndexFunc(b.kept, func(v uint32) bool { return !slices.Contains(r.MeshValues, v) || slices.Contains(r.DirectValues, v) }); i >= 0 {
		problems = append(problems, fmt.Sprintf("v%d went by the mesh in batch %s, and does not here", b.kept[i], b.Keeps))
	}
	if b.Rises == 0 {
		return problems
	}
	whole := r.MeshByThousand[:min(len(r.MeshByThousand), int(r.Calls/1000))]
	if levels := len(slices.Compact(slices.Clone(whole))); !slices.IsSorted(whole) || levels < int(b.Rises) {
		problems = append(problems, fmt.Sprintf("by the mesh went of each thousand calls %v, expected numbers that never fall, %d of them", whole, b.Rises))
	}
	return problems
}

// lowest is the least number that a range takes of so many.
func lowest(r *conformancev1.Range, of int, permille bool) int {
	n := int(r.GetMin())
	if permille {
		n = (n*of + 999) / 1000
	}
	return n
}

// outside says what range a number misses, "" if it is inside. Absent: any is inside.
func outside(n, of int, r *conformancev1.Range, permille bool) string {
	if r == nil {
		return ""
	}
	unit := 1
	if permille {
		n, unit = n*1000, of
	}
	low, high := int(r.Min)*unit, int(r.GetMax())*unit
	if n >= low && (r.Max == nil || n <= high) {
		return ""
	}
	text := fmt.Sprintf("at least %d", r.Min)
	if r.Max != nil {
		text = fmt.Sprintf("%d to %d", r.Min, *r.Max)
	}
	if permille {
		text += " ‰"
	}
	return text
}

// times is a range of so many times the numbers.
func times(r *conformancev1.Range, n uint32) *conformancev1.Range {
	out := &conformancev1.Range{Min: r.GetMin() * n}
	if r != nil && r.Max != nil {
		out.Max = proto.Uint32(r.GetMax() * n)
	}
	return out
}

// fits tells whether a call that ended so counts for an entry.
func fits(o *conformancev1.OutcomeCount, s *conformancev1.Outcome) bool {
	return s.Code == int32(o.Code) && s.Reason == o.Reason &&
		(len(o.Origins) == 0 || s.Code == 0 || slices.Contains(o.Origins, s.Origin))
}
