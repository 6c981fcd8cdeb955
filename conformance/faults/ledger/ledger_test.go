package ledger_test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/octomesh/octomesh/conformance/control"
	"github.com/octomesh/octomesh/conformance/faults/ledger"
	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
	wirev1 "github.com/octomesh/octomesh/gen/go/octo/wire/v1"
)

const (
	began = conformancev1.LedgerEntry_EVENT_BEGAN
	ended = conformancev1.LedgerEntry_EVENT_ENDED
)

func open(t *testing.T) *ledger.Ledger {
	t.Helper()
	l, err := ledger.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestEntriesComeOverConnections(t *testing.T) {
	l := open(t)
	nc, err := net.Dial("tcp", l.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	for _, event := range []ledger.Event{began, ended} {
		if err := control.Write(nc, &ledger.Entry{CallId: "c1", Server: "b", Event: event}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Await("c1", ended, 1, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	if got := l.Of("c1", began); len(got) != 1 || got[0].Server != "b" {
		t.Fatal(got)
	}
	if err := l.Await("c2", began, 1, time.Millisecond); err == nil {
		t.Fatal("a call that nobody made has an entry")
	}
}

// run executes a call of a batch.
func run(l *ledger.Ledger, batch string, n int, server string) {
	id := fmt.Sprintf("%s-%d", batch, n)
	l.Add(&ledger.Entry{CallId: id, Server: server, Event: began})
	l.Add(&ledger.Entry{CallId: id, Server: server, Event: ended})
}

func failed(d wirev1.Disposition, calls ...uint32) *conformancev1.BatchOutcome {
	return &conformancev1.BatchOutcome{Status: &conformancev1.Outcome{Code: 14, Disposition: d}, Calls: calls}
}

func TestBookFindsNothingWhereAllIsWell(t *testing.T) {
	l := open(t)
	b := l.Open("b")
	run(l, "b", 0, "x")
	run(l, "b", 1, "y")
	run(l, "b", 2, "y")
	b.Answered(&conformancev1.BatchResult{Calls: 4, Failed: []*conformancev1.BatchOutcome{
		failed(wirev1.Disposition_DISPOSITION_UNKNOWN, 2), failed(wirev1.Disposition_DISPOSITION_NOT_PROCESSED, 3),
	}})
	if err := b.Settle(time.Second, ledger.Handlers{}); err != nil {
		t.Fatal(err)
	}
	if got := b.Audit(1); got != nil {
		t.Fatal(got)
	}
	if h := b.Handlers(); h.All != 3 || h.Servers["x"] != 1 || h.Servers["y"] != 2 {
		t.Fatal(h)
	}
}

func TestBookFinds(t *testing.T) {
	for want, spoil := range map[string]func(l *ledger.Ledger, b *ledger.Book){
		"executed 2 times, at most 1": func(l *ledger.Ledger, b *ledger.Book) {
			run(l, "b", 0, "x")
			run(l, "b", 0, "y")
			b.Answered(&conformancev1.BatchResult{Calls: 1})
		},
		"answered OK, and never executed": func(_ *ledger.Ledger, b *ledger.Book) {
			b.Answered(&conformancev1.BatchResult{Calls: 1})
		},
		"answered NOT_PROCESSED, and executed": func(l *ledger.Ledger, b *ledger.Book) {
			run(l, "b", 0, "x")
			b.Answered(&conformancev1.BatchResult{Calls: 1,
				Failed: []*conformancev1.BatchOutcome{failed(wirev1.Disposition_DISPOSITION_NOT_PROCESSED, 0)}})
		},
		"answered 2 times": func(l *ledger.Ledger, b *ledger.Book) {
			run(l, "b", 0, "x")
			f := failed(wirev1.Disposition_DISPOSITION_UNKNOWN, 0, 0)
			b.Answered(&conformancev1.BatchResult{Calls: 1, Failed: []*conformancev1.BatchOutcome{f}})
		},
		"never sent": func(l *ledger.Ledger, b *ledger.Book) {
			run(l, "b", 0, "x")
			run(l, "b", 1, "x")
			b.Answered(&conformancev1.BatchResult{Calls: 1})
		},
		"only 1 were sent": func(l *ledger.Ledger, b *ledger.Book) {
			run(l, "b", 0, "x")
			f := failed(wirev1.Disposition_DISPOSITION_UNKNOWN, 5)
			b.Answered(&conformancev1.BatchResult{Calls: 1, Failed: []*conformancev1.BatchOutcome{f}})
		},
		"no such number": func(l *ledger.Ledger, b *ledger.Book) {
			run(l, "b", ledger.MaxCalls, "x")
			b.Answered(&conformancev1.BatchResult{})
		},
		"and 10 more like these": func(_ *ledger.Ledger, b *ledger.Book) {
			b.Answered(&conformancev1.BatchResult{Calls: 20})
		},
	} {
		l := open(t)
		b := l.Open("b")
		spoil(l, b)
		if got := b.Audit(1); !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, want) }) {
			t.Errorf("%s: %q", want, got)
		}
	}
}

func TestBookWaits(t *testing.T) {
	l := open(t)
	b := l.Open("b")
	l.Add(&ledger.Entry{CallId: "b-0", Event: began})
	if err := b.Settle(time.Millisecond, ledger.Handlers{}); err == nil {
		t.Fatal("settled with a handler that runs")
	}
	if err := b.Await(2, time.Millisecond); err == nil {
		t.Fatal("two handlers have begun")
	}
	go func() {
		l.Add(&ledger.Entry{CallId: "b-0", Event: ended})
		run(l, "b", 1, "x")
	}()
	if err := b.Await(2, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := b.Settle(20*time.Second, ledger.Handlers{}); err != nil {
		t.Fatal(err)
	}
}

// A copy of a call runs beside it, and either server has a connection of its own to the ledger.
func TestBookWaitsForTheServersThatAreExpected(t *testing.T) {
	l := open(t)
	b := l.Open("b")
	run(l, "b", 0, "copy") // what the call itself ran at is still on its way
	b.Answered(&conformancev1.BatchResult{Calls: 1})
	for _, least := range []ledger.Handlers{{All: 2}, {Servers: map[string]int{"s": 1, "copy": 1}}} {
		if err := b.Settle(time.Millisecond, least); err == nil {
			t.Fatal("settled without the handler of the call itself")
		}
	}
	go run(l, "b", 0, "s")
	if err := b.Settle(20*time.Second, ledger.Handlers{All: 2, Servers: map[string]int{"s": 1, "copy": 1}}); err != nil {
		t.Fatal(err)
	}
}

func TestNothingToldIsLostAtTheEnd(t *testing.T) {
	const servers, each = 20, 200
	l := open(t)
	b := l.Open("b")
	for n := range servers {
		nc, err := net.Dial("tcp", l.Address())
		if err != nil {
			t.Fatal(err)
		}
		for range each {
			if err := control.Write(nc, &ledger.Entry{CallId: fmt.Sprintf("b-%d", n), Event: began}); err != nil {
				t.Fatal(err)
			}
		}
		if err := nc.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Drain(20 * time.Second); err != nil {
		t.Fatal(err)
	}
	if got := b.Handlers().All; got != servers*each {
		t.Fatalf("%d entries of %d", got, servers*each)
	}
}

func TestWhoDoesNotEndIsTold(t *testing.T) {
	l := open(t)
	nc, err := net.Dial("tcp", l.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	if err := l.Drain(time.Millisecond); err == nil {
		t.Fatal("drained with a server that runs")
	}
}

// TestHandlersEndWithTheServerThatIsKilled: nobody waits for what they cannot tell any more, and for others' as before.
func TestHandlersEndWithTheServerThatIsKilled(t *testing.T) {
	for _, killed := range []bool{true, false} {
		l := open(t)
		b := l.Open("b1")
		nc, err := net.Dial("tcp", l.Address())
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range []*ledger.Entry{{CallId: "b1-0", Event: began}, {CallId: "b1-1", Event: began}, {CallId: "b1-1", Event: ended}} {
			e.Server = "s"
			if err := control.Write(nc, e); err != nil {
				t.Fatal(err)
			}
		}
		if err := b.Await(2, 20*time.Second); err != nil {
			t.Fatal(err)
		}
		if killed {
			l.Kill("s")
		}
		_ = nc.Close()
		within := 20 * time.Second
		if !killed {
			within = time.Millisecond
		}
		if err := b.Settle(within, ledger.Handlers{}); (err == nil) != killed {
			t.Errorf("killed %v: %v", killed, err)
		}
	}
}
