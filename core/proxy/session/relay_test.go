package session_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/wire"
)

func stream() *wire.RequestHead {
	h := head()
	h.Kind = wire.KindBidiStream
	return h
}

// A server that gives no credit back stops its caller after two windows: the server's and the hub's.
func TestCreditBoundsWhatWaitsAndOrderIsKept(t *testing.T) {
	h := newHub(t, wire.Limits{})
	v, c := h.server(wire.Limits{}), h.caller()
	const each, n = 8 << 10, 200
	body := func(i int) string { return fmt.Sprintf("%08d", i) + strings.Repeat("x", each-8) }
	st, got := c.open(t, stream(), body(0), false)
	sent, blocked := 1, false
	out := wire.Out{}
	send := func() { // as far as credit goes
		c.Lock()
		defer c.FlushUnlock()
		for sent < n {
			if !blocked {
				out = wire.Out{Type: wire.TypeMessage, Flags: wire.FlagMessage, Body: []byte(body(sent))}
			}
			if blocked = !c.Wire.Send(st, &out); blocked {
				return
			}
			sent++
		}
	}
	waitFor(t, "the end of all credit", func() bool {
		send()
		calls := h.calls()
		return blocked && len(calls) == 1 && calls[0].Queued > 0
	})
	const windows = 2 * wire.DefaultStreamWindow
	if bytes := sent * each; bytes > windows {
		t.Fatalf("%d bytes went into two windows of together %d", bytes, windows)
	}
	e := v.next(t, wire.EventRequest)
	arrived, assembled := e.body, 0
	v.consume(e.stream, e.cost)
	for assembled < n {
		for len(arrived) >= each {
			if want := fmt.Sprintf("%08d", assembled); arrived[:8] != want {
				t.Fatalf("message %s came, want %s", arrived[:8], want)
			}
			arrived, assembled = arrived[each:], assembled+1
		}
		if assembled < n {
			var m event
			waitFor(t, "a message", func() bool {
				send()
				select {
				case m = <-v.events:
					return m.kind == wire.EventMessage
				default:
					return false
				}
			})
			arrived += m.body
			v.consume(m.stream, m.cost)
		}
	}
	v.answer(e.stream, "done")
	if a := get(t, "the stream", got); string(a.Body) != "done" {
		t.Fatalf("got %+v", a)
	}
}

// parking makes Serve park each call once; what it parked comes on the channel.
func parking(h *hub, limit time.Duration) <-chan *session.Call {
	parked := make(chan *session.Call, 16)
	seen := make(map[*session.Call]bool)
	h.serve = func(c *session.Call, head *wire.RequestHead) {
		if seen[c] {
			h.forward(c, head)
			return
		}
		seen[c] = true
		c.Park(limit, wire.ReasonProxyUnready)
		parked <- c
	}
	return parked
}

func TestParkedStreamGoesOnInOrder(t *testing.T) {
	h := newHub(t, wire.Limits{})
	parked := parking(h, time.Hour)
	v, c := h.server(wire.Limits{}), h.caller()
	st, got := c.open(t, stream(), "0", false)
	call := <-parked
	for i := 1; i < 5; i++ {
		c.send(st, wire.FlagMessage, fmt.Sprint(i))
	}
	c.send(st, wire.FlagEnd, "")
	waitFor(t, "all frames", func() bool { all := h.calls(); return len(all) == 1 && all[0].Queued == 6 })
	call.Resume()
	e := v.next(t, wire.EventRequest)
	if e.body != "0" {
		t.Fatalf("first came %q", e.body)
	}
	for i := 1; i < 5; i++ {
		if m := v.next(t, wire.EventMessage); m.body != fmt.Sprint(i) {
			t.Fatalf("%q came, want %d", m.body, i)
		}
	}
	if m := v.next(t, wire.EventMessage); m.flags&wire.FlagEnd == 0 {
		t.Fatal("the end did not come last")
	}
	v.answer(e.stream, "done")
	if a := get(t, "the stream", got); string(a.Body) != "done" {
		t.Fatalf("got %+v", a)
	}
}

func TestTimeInTheParkCountsAgainstTheDeadline(t *testing.T) {
	h := newHub(t, wire.Limits{})
	parked := parking(h, time.Hour)
	v, c := h.server(wire.Limits{}), h.caller()
	hd := head()
	hd.TimeoutUS = 60_000_000
	_, got := c.open(t, hd, "x", true)
	call := <-parked
	before := h.clock.Now()
	waitFor(t, "time", func() bool { return h.clock.Now() > before+int64(5*time.Millisecond) })
	call.Resume()
	e := v.next(t, wire.EventRequest)
	if e.head.TimeoutUS == 0 || e.head.TimeoutUS > 59_995_000 {
		t.Fatalf("the server was given %d µs of 60 s less 5 ms", e.head.TimeoutUS)
	}
	v.answer(e.stream, "")
	get(t, "the call", got)
}

func TestParkedTooLong(t *testing.T) {
	for name, c := range map[string]struct {
		timeout time.Duration // 0: none
		want    wire.Status
	}{
		"the park's limit": {0, wire.Refuse(wire.ReasonProxyUnready, wire.OriginClientProxy, "")},
		"the deadline":     {time.Second, wire.Refuse(wire.ReasonDeadline, wire.OriginClientProxy, "")},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t, wire.Limits{})
			parked := parking(h, time.Minute)
			caller := h.caller()
			hd := head()
			hd.TimeoutUS = uint64(c.timeout / time.Microsecond)
			_, got := caller.open(t, hd, "x", true)
			call := <-parked
			h.sweep(h.clock.Now()) // not yet
			h.parked(1)
			h.sweep(h.clock.Now() + int64(2*time.Minute))
			a := get(t, "the call", got)
			if a.Status.Reason != c.want.Reason || a.Status.Code != c.want.Code || a.Status.Origin != c.want.Origin ||
				a.Status.Disposition != wire.DispositionNotProcessed {
				t.Fatalf("got %+v", a.Status)
			}
			call.Resume() // comes too late, and changes nothing
			if n := len(h.ended()); n != 1 || len(h.calls()) != 0 {
				t.Fatalf("the call ended %d times, %d are open", n, len(h.calls()))
			}
		})
	}
}

func TestDrainDeadlineRefusesTheParkedAndCutsTheRest(t *testing.T) {
	h := newHub(t, wire.Limits{})
	v, c := h.server(wire.Limits{MaxStreams: 1}), h.caller()
	c.call(t, "runs")
	e := v.next(t, wire.EventRequest)
	parked := c.call(t, "parked")
	h.parked(1)
	h.down(0).DrainDeadline("enough")
	if a := get(t, "the parked call", parked); a.Status.Reason != wire.ReasonProxyDraining || a.Status.Disposition != wire.DispositionNotProcessed {
		t.Fatalf("got %+v", a.Status)
	}
	if r := v.next(t, wire.EventReset); r.stream != e.stream || r.status.Code != wire.Cancelled {
		t.Fatalf("the server learned %+v", r.status)
	}
	<-c.Done() // the final GOAWAY went before
	if len(h.ended()) != 2 || h.up(0).OpenCalls() != 0 {
		t.Fatalf("%d calls ended, %d are open", len(h.ended()), h.up(0).OpenCalls())
	}
}

func TestDrainDeadlineOfAServersSessionLeavesItsCallsUnknown(t *testing.T) {
	h := newHub(t, wire.Limits{})
	v, c := h.server(wire.Limits{}), h.caller()
	got := c.call(t, "runs")
	v.next(t, wire.EventRequest)
	h.up(0).DrainDeadline("enough")
	if a := get(t, "the call", got); a.Status.Reason != wire.ReasonDrainDeadline || a.Status.Disposition != wire.DispositionUnknown {
		t.Fatalf("got %+v", a.Status)
	}
	v.next(t, wire.EventReset)
	v.next(t, wire.EventDrained)
}
