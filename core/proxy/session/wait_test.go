package session_test

import (
	"testing"

	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/wire"
)

func TestCallsWaitForAStreamInTheirOrder(t *testing.T) {
	h := newHub(t, wire.Limits{})
	v, c := h.server(wire.Limits{MaxStreams: 1}), h.caller()
	var answers []<-chan meshtest.Answer
	for _, body := range []string{"0", "1", "2", "3"} {
		answers = append(answers, c.call(t, body))
	}
	h.parked(3)
	for i, got := range answers {
		e := v.next(t, wire.EventRequest)
		if want := string(rune('0' + i)); e.body != want {
			t.Fatalf("call %q came, want %q", e.body, want)
		}
		v.answer(e.stream, e.body)
		if a := get(t, "a call", got); string(a.Body) != e.body {
			t.Fatalf("got %+v", a)
		}
	}
}

func TestWaitingCallThatIsGoneHandsItsTurnOn(t *testing.T) {
	h := newHub(t, wire.Limits{})
	v, c := h.server(wire.Limits{MaxStreams: 1}), h.caller()
	first := c.call(t, "first")
	e := v.next(t, wire.EventRequest)
	gone, _ := c.open(t, head(), "gone", true)
	gone2, _ := c.open(t, head(), "gone too", true)
	last := c.call(t, "last")
	h.parked(3)
	c.cancel(gone)
	c.cancel(gone2)
	h.parked(1)
	v.answer(e.stream, "")
	get(t, "the first call", first)
	if e = v.next(t, wire.EventRequest); e.body != "last" {
		t.Fatalf("call %q came", e.body)
	}
	v.answer(e.stream, "")
	get(t, "the last call", last)
}

func TestCallsThatAreGoneKeepNoPlaceInTheLine(t *testing.T) {
	h := newHub(t, wire.Limits{})
	v, c := h.server(wire.Limits{MaxStreams: 1}), h.caller()
	first := c.call(t, "first")
	e := v.next(t, wire.EventRequest)
	others := []*caller{h.caller(), h.caller()} // one alone may not cancel so many
	for n := range 1200 {                       // more than may wait
		other := others[n%2]
		gone, _ := other.open(t, head(), "gone", true)
		h.parked(1)
		other.cancel(gone)
		h.parked(0)
	}
	last := c.call(t, "last")
	h.parked(1)
	v.answer(e.stream, "")
	get(t, "the first call", first)
	if e = v.next(t, wire.EventRequest); e.body != "last" {
		t.Fatalf("call %q came", e.body)
	}
	v.answer(e.stream, "")
	get(t, "the last call", last)
}

func TestDrainedSessionLetsItsWaitersGoElsewhere(t *testing.T) {
	h := newHub(t, wire.Limits{})
	one, c := h.server(wire.Limits{MaxStreams: 1}), h.caller()
	held := c.call(t, "held")
	e := one.next(t, wire.EventRequest)
	var waiting []<-chan meshtest.Answer
	for range 5 {
		waiting = append(waiting, c.call(t, "waits"))
	}
	h.parked(5)
	two := h.server(wire.Limits{})
	h.up(0).SendDrained()
	for _, got := range waiting {
		e := two.next(t, wire.EventRequest)
		two.answer(e.stream, "elsewhere")
		if a := get(t, "a call that waited", got); string(a.Body) != "elsewhere" {
			t.Fatalf("got %+v", a)
		}
	}
	one.answer(e.stream, "held")
	if a := get(t, "the call that was open", held); string(a.Body) != "held" {
		t.Fatalf("got %+v", a)
	}
}

func TestLostSessionLetsItsWaitersGoElsewhere(t *testing.T) {
	h := newHub(t, wire.Limits{})
	one, c := h.server(wire.Limits{MaxStreams: 1}), h.caller()
	held := c.call(t, "held")
	one.next(t, wire.EventRequest)
	waiting := c.call(t, "waits")
	h.parked(1)
	two := h.server(wire.Limits{})
	one.Close()
	if a := get(t, "the call that was open", held); a.Status.Reason != wire.ReasonConnectionLost || a.Status.Disposition != wire.DispositionUnknown {
		t.Fatalf("got %+v", a.Status)
	}
	e := two.next(t, wire.EventRequest)
	two.answer(e.stream, "elsewhere")
	if a := get(t, "the call that waited", waiting); string(a.Body) != "elsewhere" {
		t.Fatalf("got %+v", a)
	}
}
