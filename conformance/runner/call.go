package main

import (
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
	wirev1 "github.com/octomesh/octomesh/gen/go/octo/wire/v1"
)

// resends is how often an SDK may send a call again that a leaving peer refused (S-AGAIN).
const resends = 2

// attempt is one call of a case.
type attempt struct {
	world  *world
	c      *conformancev1.Case
	id     string
	caller string        // the end
	via    string        // the channel to the reference peer
	origin wirev1.Origin // of what the one concludes that the reference peer is connected to
	report <-chan *conformancev1.Report
	result *conformancev1.CallResult

	stopping <-chan *conformancev1.Report // of StopServer, once begun
	problems []string
}

func (a *attempt) problem(format string, args ...any) {
	a.problems = append(a.problems, fmt.Sprintf(format, args...))
}

// runCase makes the calls of a case, and returns what is wrong with them.
func (w *world) runCase(c *conformancev1.Case) []string {
	n := max(int(c.Parallel), 1)
	attempts := make([]*attempt, n)
	for i := range attempts {
		a := &attempt{world: w, c: c, caller: clientEnd, id: fmt.Sprintf("c%d", w.ids.Add(1))}
		if c.BothWays && i%2 == 1 {
			a.caller = serverEnd
		}
		attempts[i] = a
		a.report = w.ends[a.caller].send(a.command())
	}
	var wg sync.WaitGroup
	for _, a := range attempts {
		wg.Go(a.follow)
	}
	wg.Wait()
	var problems []string
	for _, a := range attempts {
		for _, p := range a.problems {
			problems = append(problems, fmt.Sprintf("call %s: %s", a.id, p))
		}
	}
	return problems
}

func (a *attempt) command() *conformancev1.Command {
	do := &conformancev1.RunCall{
		Channel: other(a.caller), Service: serviceName, Method: a.c.Method, Kind: a.c.Kind, Requests: a.c.Requests,
		UnknownFields: a.c.UnknownFields, Options: a.c.Options, CallId: a.id, Response: proto.CloneOf(a.c.Response),
	}
	if a.c.Service != "" {
		do.Service = a.c.Service
	}
	if a.via != "" {
		do.Channel = a.via
	}
	for i, side := range a.c.Relay {
		if i > 0 { // the first is called by the client itself
			do.Response.Hops = append(do.Response.Hops, &conformancev1.Hop{Channel: a.endOf(side)})
		}
	}
	return &conformancev1.Command{Command: &conformancev1.Command_RunCall{RunCall: do}}
}

func (a *attempt) endOf(s conformancev1.Side) string {
	if s == conformancev1.Side_SIDE_CLIENT {
		return a.caller
	}
	return other(a.caller)
}

// follow takes the steps of the case, then waits for the call's end and judges it.
func (a *attempt) follow() {
	a.account()
	for i, s := range a.c.Steps {
		if err := a.step(s); err != nil {
			a.problem("step %d (%v): %v", i+1, s, err)
			a.signal(conformancev1.Signal_KIND_RELEASE) // or it would hold for ever
			break
		}
	}
	if a.c.Expect.NoResult {
		a.judgeHandlers()
		return
	}
	r, err := await(a.report, a.world.patience)
	if err != nil {
		a.problem("the testee does not say how the call ended: %v", err)
		return
	}
	if a.result = r.GetCallResult(); a.result.GetStatus() == nil {
		a.problem("the testee answers %v", r)
		return
	}
	a.judge()
}

func (a *attempt) signal(kind conformancev1.Signal_Kind) error {
	e := a.world.ends[a.caller]
	if kind == conformancev1.Signal_KIND_RELEASE {
		e = a.world.ends[other(a.caller)]
		if n := len(a.c.Relay); n > 0 {
			e = a.world.ends[a.endOf(a.c.Relay[n-1])]
		}
	}
	s := &conformancev1.Signal{CallId: a.id, Kind: kind}
	_, err := e.do(&conformancev1.Command{Command: &conformancev1.Command_Signal{Signal: s}})
	return err
}

func (a *attempt) step(s *conformancev1.Step) error {
	l, peer := a.world.ledger, a.world.ends[other(a.caller)]
	switch v := s.Step.(type) {
	case *conformancev1.Step_Await:
		return l.Await(a.id, v.Await, 1, a.world.patience)
	case *conformancev1.Step_Signal:
		return a.signal(v.Signal)
	case *conformancev1.Step_Calls:
		return a.calls(int(v.Calls))
	case *conformancev1.Step_StopServerMs:
		c := &conformancev1.StopServer{Name: other(a.caller), DrainMs: v.StopServerMs}
		a.stopping = peer.send(&conformancev1.Command{Command: &conformancev1.Command_StopServer{StopServer: c}})
		return nil
	case *conformancev1.Step_AwaitStopped:
		r, err := await(a.stopping, a.world.patience)
		if err == nil && r.GetDone().GetCut() {
			err = fmt.Errorf("the server cut calls off")
		}
		return err
	case *conformancev1.Step_KillClient:
		a.world.ends[a.caller].kill()
		return nil
	case *conformancev1.Step_AwaitRefusal:
		return a.refused()
	case *conformancev1.Step_AwaitSent:
		return l.Await(a.id, conformancev1.LedgerEntry_EVENT_SENT, int(v.AwaitSent), a.world.patience)
	case *conformancev1.Step_SentAtMost:
		if n := len(l.Of(a.id, conformancev1.LedgerEntry_EVENT_SENT)); n > int(v.SentAtMost) {
			return fmt.Errorf("the handler got rid of %d responses", n)
		}
		return nil
	}
	return fmt.Errorf("a step without a content")
}

// beside makes one unary call beside the case's own, without any option.
func (a *attempt) beside() (*conformancev1.CallResult, error) {
	w := a.world
	do := &conformancev1.RunCall{
		Channel: other(a.caller), Service: serviceName, Method: "Unary", Kind: wirev1.CallKind_CALL_KIND_UNARY,
		CallId: fmt.Sprintf("c%d", w.ids.Add(1)), Response: &conformancev1.ResponseDefinition{},
		Options: &conformancev1.CallOptions{TimeoutUs: proto.Int64(a.world.patience.Microseconds())},
	}
	r, err := w.ends[a.caller].do(&conformancev1.Command{Command: &conformancev1.Command_RunCall{RunCall: do}})
	return r.GetCallResult(), err
}

func (a *attempt) calls(n int) error {
	for range n {
		res, err := a.beside()
		if err == nil && res.GetStatus().GetCode() != 0 {
			err = fmt.Errorf("a call beside it ended %v", res.GetStatus())
		}
		if err != nil {
			return err
		}
		a.world.count(a.caller, "", bounds{1, 1})
	}
	return nil
}

// refused calls until the server takes no new call.
func (a *attempt) refused() error {
	for late := time.Now().Add(a.world.patience); time.Now().Before(late); {
		res, err := a.beside()
		if err != nil {
			return err
		}
		a.world.count(a.caller, "", bounds{0, resends + 1})
		switch code := wirev1.Code(res.GetStatus().GetCode()); code {
		case wirev1.Code_CODE_OK:
		case wirev1.Code_CODE_UNAVAILABLE:
			return nil
		default:
			return fmt.Errorf("a new call ended %v", res.GetStatus())
		}
	}
	return fmt.Errorf("after %v it still takes new calls", a.world.patience)
}

// count expects the proxies on an end's way to count calls.
func (w *world) count(caller, lane string, n bounds) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.hops(caller, lane) {
		b := w.expected[s]
		w.expected[s] = bounds{b.low + n.low, b.high + n.high}
	}
}

// account says what the call must leave in counters and ledger at the end of the world.
func (a *attempt) account() {
	n := bounds{1, 1}
	if a.c.Expect.Unsent {
		n = bounds{}
	} else if a.c.Expect.MaybeSent {
		n.low = 0
	}
	a.world.count(a.caller, laneOf(a.c), n)
	caller := a.caller
	for i, side := range a.c.Relay {
		if i > 0 {
			a.world.count(caller, laneOf(a.c), n)
		}
		caller = a.endOf(side)
	}
	runs := a.executions()
	a.world.mu.Lock()
	a.world.executed[a.id] = runs
	a.world.mu.Unlock()
}

// executions is how often handlers run for the call.
func (a *attempt) executions() bounds {
	n := max(len(a.c.Relay), 1)
	switch e := a.c.Expect; {
	case a.via != "":
		n = 0 // the reference peer answers
	case e.Executions != nil:
		n = int(e.GetExecutions())
	case e.Unsent:
		n = 0
	case e.MaybeExecuted:
		return bounds{0, n}
	}
	return bounds{n, n}
}

// auditCounters compares, once all calls have ended, what proxies counted with what was to be.
func (w *world) auditCounters() []string {
	if w.raw != nil {
		return nil // what the reference peer sends is not told in calls
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	late := time.Now().Add(5 * time.Second) // a caller may know of its end a moment before a proxy counts it
	for {
		problems := w.compareCounters()
		if len(problems) == 0 || time.Now().After(late) {
			return problems
		}
		time.Sleep(poll)
	}
}

// auditLedger compares all executions with what was to be, also of calls whose end told of none.
func (w *world) auditLedger() []string {
	var problems []string
	for id, want := range w.executed {
		if got := len(w.ledger.Of(id, conformancev1.LedgerEntry_EVENT_BEGAN)); got < want.low || got > want.high {
			problems = append(problems, fmt.Sprintf("call %s: %d handlers ran, expected %v", id, got, want))
		}
	}
	return problems
}

func (w *world) compareCounters() []string {
	got := make(map[side]int)
	for _, e := range w.ends {
		for _, p := range e.proxies() {
			if err := p.count(got); err != nil {
				return []string{err.Error()}
			}
		}
	}
	for s := range w.expected {
		got[s] += 0
	}
	var problems []string
	for s, n := range got {
		if want := w.expected[s]; n < want.low || n > want.high {
			problems = append(problems, fmt.Sprintf("%s has counted %d %s calls of %q, expected %v", s.proxy, n, s.direction, s.target, want))
		}
	}
	return problems
}

func (b bounds) String() string {
	if b.low == b.high {
		return fmt.Sprint(b.low)
	}
	return fmt.Sprintf("%d to %d", b.low, b.high)
}
