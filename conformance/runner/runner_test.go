package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/conformance/faults/ledger"
	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
	wirev1 "github.com/octomesh/octomesh/gen/go/octo/wire/v1"
)

func suite(t *testing.T, text string) *conformancev1.TestSuite {
	t.Helper()
	s := &conformancev1.TestSuite{}
	if err := parse([]byte(text), s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSuitesAreReadStrictly(t *testing.T) {
	for name, text := range map[string]string{
		"unknown field":    "suite: a\ncases: [{nmae: x}]",
		"key twice":        "suite: a\nsuite: b",
		"second document":  "suite: a\n---\nsuite: b",
		"unknown enum":     "suite: a\ntopologies: [TOPOLOGY_MOON]",
		"value of no kind": "suite: [a]",
	} {
		if err := parse([]byte(text), &conformancev1.TestSuite{}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestCasesThatMakeNoSenseAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"no semantic":          "cases: [{name: a, method: Unary}]",
		"method of no kind":    "cases: [{name: a, semantics: [1], method: Nothing}]",
		"short upper bound":    "cases: [{name: a, semantics: [1], method: Unary, expect: {max_ms: 999}}]",
		"steps of many":        "cases: [{name: a, semantics: [1], method: Unary, parallel: 2, steps: [{calls: 1}]}]",
		"relay without a hop":  "cases: [{name: a, semantics: [1], method: Relay}]",
		"one name twice":       "cases: [{name: a, semantics: [1], method: Unary}, {name: a, semantics: [1], method: Unary}]",
		"relay of no relaying": "cases: [{name: a, semantics: [1], method: Unary, relay: [SIDE_SERVER, SIDE_CLIENT]}]",
	} {
		if _, err := expand(suite(t, text)); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestVariantsStandOverTheirCase(t *testing.T) {
	cases, err := expand(suite(t, `
suite: s
cases:
- name: a
  semantics: [1]
  method: Unary
  requests: [{text: one}]
  options: {timeout_us: 5}
  variants:
  - {name: b, options: {timeout_us: 7}}
  - {name: c, method: Bidi}
`))
	if err != nil || len(cases) != 2 {
		t.Fatal(cases, err)
	}
	b, c := cases[0], cases[1]
	if b.Name != "s/a/b" || b.Options.GetTimeoutUs() != 7 || c.Options.GetTimeoutUs() != 5 || c.Kind != wirev1.CallKind_CALL_KIND_BIDI_STREAM {
		t.Fatal(b, c)
	}
	if string(b.Requests[0].Data) != "one" {
		t.Fatal(b.Requests)
	}
}

// seen is an attempt at a unary call that went as it was told to; each test spoils one thing.
func seen(t *testing.T) *attempt {
	l, err := ledger.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	c := &conformancev1.Case{
		Semantics: []uint32{1}, Method: "Unary", Requests: []*conformancev1.Payload{{Text: "hello"}},
		Options:  &conformancev1.CallOptions{Metadata: []*conformancev1.Entry{{Key: "k", Text: "v"}}, TimeoutUs: proto.Int64(1000)},
		Response: &conformancev1.ResponseDefinition{Echo: true, Trailers: []*conformancev1.Entry{{Key: "t", Text: "w"}}},
	}
	if err := complete(c); err != nil {
		t.Fatal(err)
	}
	const id = "c1"
	info := &conformancev1.RequestInfo{Metadata: c.Options.Metadata, RemainingUs: proto.Int64(900), Application: "app-a"}
	l.Add(&ledger.Entry{CallId: id, Event: conformancev1.LedgerEntry_EVENT_BEGAN, Server: serverEnd, Info: info})
	l.Add(&ledger.Entry{CallId: id, Event: conformancev1.LedgerEntry_EVENT_ENDED, Server: serverEnd, Count: 1})
	return &attempt{world: &world{ledger: l, patience: time.Minute}, c: c, id: id, caller: clientEnd, result: &conformancev1.CallResult{
		Status: &conformancev1.Outcome{}, Trailers: c.Response.Trailers,
		Responses: []*conformancev1.Received{{Data: []byte("hello"), Size: 5}},
	}}
}

func TestWhatDiffersIsAProblem(t *testing.T) {
	began := func(a *attempt) *ledger.Entry {
		return a.world.ledger.Of(a.id, conformancev1.LedgerEntry_EVENT_BEGAN)[0]
	}
	for name, spoil := range map[string]func(a *attempt){
		"":                      func(*attempt) {},
		"status 5":              func(a *attempt) { a.result.Status.Code = 5 },
		"0 responses":           func(a *attempt) { a.result.Responses = nil },
		"response 0: 5 bytes":   func(a *attempt) { a.result.Responses[0].Data = []byte("jello") },
		"trailers []":           func(a *attempt) { a.result.Trailers = nil },
		"headers [":             func(a *attempt) { a.result.Headers = a.result.Trailers },
		"1 messages unsent":     func(a *attempt) { a.result.Unsent = 1 },
		"request metadata []":   func(a *attempt) { began(a).Info.Metadata = nil },
		"has no deadline":       func(a *attempt) { began(a).Info.RemainingUs = nil },
		"1001 µs left of 1000":  func(a *attempt) { began(a).Info.RemainingUs = proto.Int64(1001) },
		"baggage at hop 1 [key": func(a *attempt) { began(a).Info.Baggage = a.c.Options.Metadata },
		"sees trace":            func(a *attempt) { began(a).Info.Tracestate = "x=y" },
		`ran at "a"`:            func(a *attempt) { began(a).Server = clientEnd },
		"read 2 requests":       func(a *attempt) { a.world.ledger.Of(a.id, conformancev1.LedgerEntry_EVENT_ENDED)[0].Count = 2 },
		"2 handlers ran":        func(a *attempt) { a.world.ledger.Add(began(a)) },
		"it took":               func(a *attempt) { a.c.Expect.MinMs = 1 },
	} {
		a := seen(t)
		spoil(a)
		a.judge()
		got := strings.Join(a.problems, "\n")
		if name == "" && got != "" || !strings.Contains(strings.ReplaceAll(got, "  ", " "), name) {
			t.Errorf("expected a problem with %q, got %q", name, got)
		}
	}
}

func TestCountersAndLedgerAreHeldAgainstAllCalls(t *testing.T) {
	a := seen(t)
	a.world.executed = map[string]bounds{a.id: {1, 1}}
	if p := a.world.auditLedger(); p != nil {
		t.Fatal(p)
	}
	a.world.executed[a.id] = bounds{0, 0}
	if p := a.world.auditLedger(); len(p) != 1 {
		t.Fatal(p)
	}
	a.world.expected = map[side]bounds{{"a-proxy", "outbound", "b"}: {1, 1}}
	if p := a.world.compareCounters(); len(p) != 1 {
		t.Fatal(p)
	}
}

func TestKnownFailuresMustFail(t *testing.T) {
	k, err := parseKnown("go", "time/*@mesh #3 2030-01-02")
	if err != nil {
		t.Fatal(err)
	}
	stale, err := parseKnown("go", "nothing/* #3 2030-01-02")
	if err != nil {
		t.Fatal(err)
	}
	mesh := conformancev1.Topology_TOPOLOGY_MESH
	r := &run{results: []*conformancev1.CaseResult{
		{Name: "time/a", Topology: mesh, Client: "go", Server: "go", Verdict: conformancev1.CaseResult_VERDICT_FAILED},
		{Name: "time/b", Topology: mesh, Client: "go", Server: "go", Verdict: conformancev1.CaseResult_VERDICT_PASSED},
		{Name: "time/a", Client: "go", Server: "go", Verdict: conformancev1.CaseResult_VERDICT_FAILED},
	}}
	r.apply([]*knownFailure{k, stale}, true)
	want := []conformancev1.CaseResult_Verdict{
		conformancev1.CaseResult_VERDICT_KNOWN,  // as known
		conformancev1.CaseResult_VERDICT_FAILED, // it passes
		conformancev1.CaseResult_VERDICT_FAILED, // of another topology
		conformancev1.CaseResult_VERDICT_FAILED, // a pattern that fits nothing
	}
	if len(r.results) != len(want) {
		t.Fatal(r.results)
	}
	for i, res := range r.results {
		if res.Verdict != want[i] {
			t.Errorf("%s: %v, want %v", res.Name, res.Verdict, want[i])
		}
	}
	for _, line := range []string{"a b", "a #3 soon", "a #3 2030-01-02 x"} {
		if _, err := parseKnown("go", line); err == nil {
			t.Errorf("%q is taken", line)
		}
	}
}

// Handlers tell the ledger over connections of their own: one that is waited for need not be there yet when its call has ended.
func TestABatchWaitsForAsManyHandlersAsItExpects(t *testing.T) {
	l, err := ledger.New()
	if err != nil {
		t.Fatal(err)
	}
	b := &batch{book: l.Open("b"), result: &conformancev1.BatchResult{Calls: 3}, Batch: &conformancev1.Batch{
		ExecutionsPermille: &conformancev1.Range{Min: 1001},
		Handlers: []*conformancev1.HandlerCount{
			{Server: "s", Calls: &conformancev1.Range{Min: 3, Max: proto.Uint32(3)}},
			{Server: "copy", Calls: &conformancev1.Range{Min: 100}, Permille: true},
			{Server: "nobody", Calls: &conformancev1.Range{Max: proto.Uint32(0)}},
		},
	}}
	b.book.Answered(b.result)
	tell := func(server string, n int) {
		for _, event := range []ledger.Event{conformancev1.LedgerEntry_EVENT_BEGAN, conformancev1.LedgerEntry_EVENT_ENDED} {
			l.Add(&ledger.Entry{CallId: fmt.Sprintf("b-%d", n), Event: event, Server: server})
		}
	}
	for _, told := range []struct {
		server string
		n      int
		yet    bool
	}{{"copy", 0, true}, {"s", 0, true}, {"s", 1, true}, {"s", 2, false}} {
		tell(told.server, told.n)
		if err := b.book.Settle(time.Millisecond, b.least()); (err != nil) != told.yet {
			t.Errorf("with handler %d at %s: %v", told.n, told.server, err)
		}
	}
	if p := b.judgeHandlers(); p != nil {
		t.Error(p)
	}
	tell("nobody", 0) // late, and seen at the end
	if err := l.Drain(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	if p := b.judgeHandlers(); len(p) != 1 || !strings.Contains(p[0], "nobody") {
		t.Error(p)
	}
}
