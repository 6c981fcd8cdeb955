package session_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/wire"
)

var (
	unready = wire.Refuse(wire.ReasonProxyUnready, wire.OriginServerProxy, "no instance")
	policed = wire.Refuse(wire.ReasonRateLimited, wire.OriginServerProxy, "too many")
	lost    = wire.Refuse(wire.ReasonConnectionLost, wire.OriginServerProxy, "lost")
)

// retrying makes calls go again up to times, each attempt to the next server; wait is the pause before.
func retrying(h *hub, times int, wait time.Duration) {
	h.serve = func(c *session.Call, head *wire.RequestHead) {
		c.Keep(session.MaxKept)
		h.mu.Lock()
		all := h.serving
		h.mu.Unlock()
		if !c.Forward(all[c.Try%len(all)], head) {
			c.Refuse(wire.Refuse(wire.ReasonProxyUnreachable, wire.OriginClientProxy, "no connection"))
		}
	}
	h.again = func(c *session.Call, _ *wire.Status, _ int64) (int64, bool) {
		return int64(wait), c.Try < times && c.Kept()
	}
}

func (v *server) reset(s *wire.Stream, st wire.Status) {
	v.Lock()
	defer v.FlushUnlock()
	v.Wire.Reset(s, &wire.ResetHead{Status: st})
	v.Wire.Release()
}

// finish answers with a status alone.
func (v *server) finish(s *wire.Stream, st wire.Status) {
	v.Lock()
	defer v.FlushUnlock()
	v.Wire.Send(s, &wire.Out{Type: wire.TypeResponse, Flags: wire.FlagEnd, Head: wire.AppendStatus(nil, &st)})
}

// nothingKept waits until no call keeps anything.
func (h *hub) nothingKept() {
	h.t.Helper()
	waitFor(h.t, "the end of what was kept", func() bool { return h.kept.Used() == 0 })
}

func TestRefusedCallGoesAgainAsItCame(t *testing.T) {
	h := newHub(t, wire.Limits{})
	retrying(h, 3, 0)
	a, b, c := h.server(wire.Limits{}), h.server(wire.Limits{}), h.caller()
	hd := head()
	hd.TimeoutUS, hd.Attempt = 60_000_000, 5
	hd.Metadata = []wire.Entry{{Key: []byte("k"), Value: []byte("v")}}
	_, got := c.open(t, hd, "body", true)
	first := a.next(t, wire.EventRequest)
	a.reset(first.stream, unready)
	second := b.next(t, wire.EventRequest)
	if second.body != "body" || second.flags != first.flags || second.head.Attempt != 6 || string(second.head.Metadata[0].Value) != "v" ||
		second.head.TimeoutUS == 0 || second.head.TimeoutUS > first.head.TimeoutUS {
		t.Fatalf("first %+v, then %+v", first, second)
	}
	if first.head.Attempt != 5 {
		t.Fatalf("the first attempt is number %d", first.head.Attempt)
	}
	b.finish(second.stream, unready)
	third := a.next(t, wire.EventRequest)
	if third.body != "body" || third.head.Attempt != 7 {
		t.Fatalf("at last %+v", third)
	}
	a.answer(third.stream, "done")
	if ans := get(t, "the call", got); string(ans.Body) != "done" {
		t.Fatalf("got %+v", ans)
	}
	if n := len(h.ended()); n != 1 {
		t.Fatalf("the call ended %d times", n)
	}
	h.nothingKept()
}

func TestLostConnectionMakesACallGoAgain(t *testing.T) {
	h := newHub(t, wire.Limits{})
	retrying(h, 1, 0)
	a, b, c := h.server(wire.Limits{}), h.server(wire.Limits{}), h.caller()
	got := c.call(t, "x")
	a.next(t, wire.EventRequest)
	a.Close()
	b.answer(b.next(t, wire.EventRequest).stream, "done")
	if ans := get(t, "the call", got); string(ans.Body) != "done" {
		t.Fatalf("got %+v", ans)
	}
	h.nothingKept()
}

func TestStreamGoesAgainWithAllThatWasSent(t *testing.T) {
	h := newHub(t, wire.Limits{})
	retrying(h, 1, 0)
	a, b, c := h.server(wire.Limits{}), h.server(wire.Limits{}), h.caller()
	st, got := c.open(t, stream(), "0", false)
	first := a.next(t, wire.EventRequest)
	for i := 1; i < 10; i++ {
		c.send(st, wire.FlagMessage, fmt.Sprint(i))
		if m := a.next(t, wire.EventMessage); m.body != fmt.Sprint(i) {
			t.Fatalf("%q came", m.body)
		}
	}
	a.reset(first.stream, unready)
	second := b.next(t, wire.EventRequest)
	for i := 1; i < 10; i++ {
		if m := b.next(t, wire.EventMessage); m.body != fmt.Sprint(i) {
			t.Fatalf("%q came again, want %d", m.body, i)
		}
	}
	// What goes again costs the caller no credit twice, and takes none from it: far more than a window follows.
	big := strings.Repeat("x", 8000)
	for range 100 {
		waitFor(t, "credit", func() bool { return c.send(st, wire.FlagMessage, big) })
		m := b.next(t, wire.EventMessage)
		for got := len(m.body); got < len(big); got += len(m.body) {
			b.consume(second.stream, m.cost)
			m = b.next(t, wire.EventMessage)
		}
		b.consume(second.stream, m.cost)
	}
	h.nothingKept() // it is over the bound by now
	c.send(st, wire.FlagEnd, "")
	b.next(t, wire.EventMessage)
	b.answer(second.stream, "done")
	if ans := get(t, "the stream", got); string(ans.Body) != "done" {
		t.Fatalf("got %+v", ans)
	}
}

func TestWhatWasNotKeptOrIsAnsweredDoesNotGoAgain(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, h *hub, a *server, c *caller, st *wire.Stream, first event){
		"too much was sent": func(t *testing.T, _ *hub, a *server, c *caller, st *wire.Stream, _ event) {
			for range 3 {
				c.send(st, wire.FlagMessage, strings.Repeat("x", 30_000))
				a.next(t, wire.EventMessage)
			}
		},
		"something was answered": func(t *testing.T, h *hub, a *server, _ *caller, _ *wire.Stream, first event) {
			a.send(first.stream, wire.TypeResponse, 0, "")
			h.nothingKept()
		},
		"the memory is used up": nil,
	} {
		t.Run(name, func(t *testing.T) {
			h := newHub(t, wire.Limits{})
			if end == nil {
				session.Fill(h.kept)
			}
			retrying(h, 1, 0)
			a, _, c := h.server(wire.Limits{}), h.server(wire.Limits{}), h.caller()
			st, got := c.open(t, stream(), "0", false)
			first := a.next(t, wire.EventRequest)
			if end != nil {
				end(t, h, a, c, st, first)
			}
			a.reset(first.stream, unready)
			if ans := get(t, "the stream", got); ans.Status.Reason != wire.ReasonProxyUnready {
				t.Fatalf("got %+v", ans.Status)
			}
			if end != nil {
				h.nothingKept()
			}
		})
	}
}

func TestTheWorstAttemptIsAnswered(t *testing.T) {
	crashed := wire.Status{Code: wire.Unavailable, Origin: wire.OriginApplication, Disposition: wire.DispositionProcessed, Message: []byte("mine")}
	for name, c := range map[string]struct{ first, second, want wire.Status }{
		"unknown, then not processed":          {lost, unready, lost},
		"processed, then unknown":              {crashed, lost, crashed},
		"processed, then not processed":        {crashed, unready, crashed},
		"not processed, then unknown":          {unready, lost, lost},
		"by the path, then by policy":          {unready, policed, policed},
		"not processed, then by an end's word": {unready, crashed, crashed},
	} {
		for _, byReset := range []bool{true, false} {
			t.Run(fmt.Sprint(name, byReset), func(t *testing.T) {
				h := newHub(t, wire.Limits{})
				retrying(h, 1, 0)
				a, b, call := h.server(wire.Limits{}), h.server(wire.Limits{}), h.caller()
				end := func(v *server, st wire.Status) {
					if byReset {
						v.reset(v.next(t, wire.EventRequest).stream, st)
					} else {
						v.finish(v.next(t, wire.EventRequest).stream, st)
					}
				}
				got := call.call(t, "x")
				end(a, c.first)
				end(b, c.second)
				ans := get(t, "the call", got)
				if ans.Status.Disposition != c.want.Disposition || ans.Status.Reason != c.want.Reason || string(ans.Status.Message) != string(c.want.Message) ||
					ans.Reset != byReset {
					t.Fatalf("got %+v", ans)
				}
				if e := h.ended(); len(e) != 1 || e[0].Disposition != c.want.Disposition {
					t.Fatalf("it was observed as %+v", e)
				}
			})
		}
	}
}

func TestPausedCallGoesOnByTheSweep(t *testing.T) {
	h := newHub(t, wire.Limits{})
	retrying(h, 1, time.Minute)
	a, b, c := h.server(wire.Limits{}), h.server(wire.Limits{}), h.caller()
	st, got := c.open(t, stream(), "0", false)
	a.reset(a.next(t, wire.EventRequest).stream, unready)
	h.parked(1)
	h.sweep(h.clock.Now()) // not yet
	c.send(st, wire.FlagMessage|wire.FlagEnd, "1")
	waitFor(t, "the message", func() bool { all := h.calls(); return len(all) == 1 && all[0].Queued == 2 })
	h.sweep(h.clock.Now() + int64(2*time.Minute))
	again := b.next(t, wire.EventRequest)
	if m := b.next(t, wire.EventMessage); again.body != "0" || m.body != "1" {
		t.Fatalf("%q came, then %q", again.body, m.body)
	}
	b.answer(again.stream, "done")
	if ans := get(t, "the stream", got); string(ans.Body) != "done" {
		t.Fatalf("got %+v", ans)
	}
	h.nothingKept()
}

func TestPausedCallEnds(t *testing.T) {
	t.Run("with its caller", func(t *testing.T) {
		h := newHub(t, wire.Limits{})
		retrying(h, 1, time.Minute)
		a, c := h.server(wire.Limits{}), h.caller()
		st, _ := c.open(t, head(), "x", true)
		a.reset(a.next(t, wire.EventRequest).stream, lost)
		h.parked(1)
		c.cancel(st)
		waitFor(t, "the end", func() bool { return len(h.ended()) == 1 })
		h.nothingKept()
	})
	t.Run("with its time, as what it was before", func(t *testing.T) {
		h := newHub(t, wire.Limits{})
		retrying(h, 1, time.Hour)
		a, c := h.server(wire.Limits{}), h.caller()
		hd := head()
		hd.TimeoutUS = uint64(time.Minute / time.Microsecond)
		_, got := c.open(t, hd, "x", true)
		a.reset(a.next(t, wire.EventRequest).stream, lost)
		h.parked(1)
		h.sweep(h.clock.Now() + int64(2*time.Minute))
		if ans := get(t, "the call", got); ans.Status.Reason != wire.ReasonDeadline || ans.Status.Disposition != wire.DispositionUnknown {
			t.Fatalf("got %+v", ans.Status)
		}
		h.nothingKept()
	})
}

func TestSlowAttemptIsGivenUp(t *testing.T) {
	h := newHub(t, wire.Limits{})
	retrying(h, 1, 0)
	inner := h.serve
	h.serve = func(c *session.Call, head *wire.RequestHead) {
		c.LimitAttempt(time.Minute)
		inner(c, head)
	}
	a, b, c := h.server(wire.Limits{}), h.server(wire.Limits{}), h.caller()
	got := c.call(t, "x")
	first := a.next(t, wire.EventRequest)
	if first.head.TimeoutUS == 0 || first.head.TimeoutUS > 60_000_000 {
		t.Fatalf("the attempt was given %d µs", first.head.TimeoutUS)
	}
	h.sweep(h.clock.Now()) // not yet
	h.sweep(h.clock.Now() + int64(2*time.Minute))
	if r := a.next(t, wire.EventReset); r.stream != first.stream || r.status.Reason != wire.ReasonDeadline {
		t.Fatalf("the first server learned %+v", r.status)
	}
	b.next(t, wire.EventRequest)
	h.sweep(h.clock.Now() + int64(4*time.Minute)) // the second attempt began when the first ended
	if ans := get(t, "the call", got); ans.Status.Reason != wire.ReasonDeadline || ans.Status.Disposition != wire.DispositionUnknown {
		t.Fatalf("got %+v", ans.Status)
	}
	h.nothingKept()
}
