package session_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/wire"
)

// answering is a hub whose calls all end in it: answer answers them.
func answering(t testing.TB, answer func(*session.Local) wire.Status) *hub {
	var running sync.WaitGroup
	h := newHub(t, wire.Limits{})
	t.Cleanup(running.Wait) // after the callers have gone
	h.serve = func(c *session.Call, _ *wire.RequestHead) {
		l := c.Here(context.Background())
		if l == nil {
			c.Refuse(wire.Refuse(wire.ReasonQueueFull, wire.OriginClientProxy, ""))
			return
		}
		running.Go(func() { l.End(answer(l)) })
	}
	return h
}

// echo sends back what it receives.
func echo(l *session.Local) wire.Status {
	for {
		m, err := l.Receive()
		if err == io.EOF {
			return wire.Status{Message: []byte("bye")}
		}
		if err == nil {
			err = l.Send(m)
		}
		if err != nil {
			return wire.Refuse(wire.ReasonCancelled, wire.OriginClientProxy, err.Error())
		}
	}
}

// listener is a raw caller that puts the messages of its answers together, and gives credit when it is told to.
type listener struct {
	*meshtest.Raw
	messages chan string
	ended    chan wire.Status
	part     []byte
	owed     int64 // credit that is held back
	held     bool
	fresh    chan struct{} // a frame has come
}

func (h *hub) listener(window uint32) *listener {
	h.t.Helper()
	l := &listener{messages: make(chan string, 1000), ended: make(chan wire.Status, 1000), fresh: make(chan struct{}, 1000)}
	r, err := meshtest.Dial("unix", h.at, wire.Hello{Role: wire.RoleCall, Kind: wire.PeerSDK}, wire.Limits{StreamWindow: window}, l.on)
	if err != nil {
		h.t.Fatal(err)
	}
	l.Raw = r
	h.t.Cleanup(func() { r.Close(); <-r.Done() })
	return l
}

func (l *listener) on(r *meshtest.Raw, ev *wire.Event) {
	switch ev.Kind {
	case wire.EventResponse, wire.EventMessage:
		f := &ev.Frame
		if l.owed += f.Cost(); !l.held && f.Flags&wire.FlagEnd == 0 {
			r.Wire.Consume(ev.Stream, l.owed)
			l.owed = 0
		}
		l.part = append(l.part, f.Body...)
		if f.Has(wire.FlagMessage) && !f.Has(wire.FlagMore) {
			l.messages <- string(l.part)
			l.part = nil
		}
		if f.Has(wire.FlagEnd) {
			l.ended <- wire.ScanStatus(f.Head).Clone()
		}
		l.fresh <- struct{}{}
	case wire.EventReset, wire.EventFailed:
		l.ended <- ev.Status.Clone()
	}
}

func (l *listener) open(t testing.TB, flags wire.Flags, body string) *wire.Stream {
	t.Helper()
	l.Lock()
	defer l.FlushUnlock()
	s, err := l.Wire.Open(l)
	if err != nil {
		t.Fatal(err)
	}
	l.Wire.Send(s, &wire.Out{Type: wire.TypeRequest, Flags: flags, Head: head().Append(nil), Body: []byte(body)})
	return s
}

func (l *listener) send(s *wire.Stream, flags wire.Flags, body string) {
	l.Lock()
	defer l.FlushUnlock()
	l.Wire.Send(s, &wire.Out{Type: wire.TypeMessage, Flags: flags, Body: []byte(body)})
}

func receive[T any](t testing.TB, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(limit):
		t.Fatalf("%s did not come", what)
	}
	return v
}

func TestTheProxyAnswersACallItself(t *testing.T) {
	h := answering(t, echo)
	c := h.listener(0)
	long := strings.Repeat("x", session.MaxLocal)
	s := c.open(t, wire.FlagMessage, "one")
	for _, m := range []string{"", long, "last"} {
		c.send(s, wire.FlagMessage, m)
	}
	for _, w := range []string{"one", "", long, "last"} {
		if got := receive(t, "a message", c.messages); got != w {
			t.Fatalf("got %d bytes, %.20q", len(got), got)
		}
	}
	for range 20 { // five windows, each message in two parts
		c.send(s, wire.FlagMessage, long)
		receive(t, "a long message", c.messages)
	}
	c.send(s, wire.FlagEnd, "")
	if st := receive(t, "the end", c.ended); st.Code != wire.OK || string(st.Message) != "bye" {
		t.Fatal(st)
	}
}

func TestASlowCallerHoldsUpWhoAnswersIt(t *testing.T) {
	const size, window = 60 << 10, 256 << 10
	sent := make(chan int, 100)
	h := answering(t, func(l *session.Local) wire.Status {
		for i := range 20 {
			if err := l.Send([]byte(strings.Repeat("x", size))); err != nil {
				return wire.Refuse(wire.ReasonCancelled, wire.OriginClientProxy, err.Error())
			}
			sent <- i
		}
		return wire.Status{}
	})
	c := h.listener(window)
	c.Lock()
	c.held = true
	c.Unlock()
	s := c.open(t, wire.FlagMessage|wire.FlagEnd, "")
	for range window / (size + wire.FrameCost) {
		receive(t, "a message", c.messages)
		receive(t, "its sender", sent)
	}
	receive(t, "what the window left of the next", c.fresh)
	select {
	case i := <-sent:
		t.Fatalf("message %d is said to have left, without credit for it", i)
	default:
	}
	if queued := h.down(0).Streams(); queued != 1 {
		t.Fatal(queued)
	}
	c.Lock()
	c.held = false
	c.Wire.Consume(s, c.owed)
	c.owed = 0
	c.FlushUnlock()
	if st := receive(t, "the end", c.ended); st.Code != wire.OK {
		t.Fatal(st)
	}
}

func TestWhoAnswersLearnsThatTheCallIsOver(t *testing.T) {
	why := make(chan error, 10)
	h := answering(t, func(l *session.Local) wire.Status {
		_, err := l.Receive()
		if err == nil {
			_, err = l.Receive()
		}
		why <- err
		return wire.Status{}
	})
	c := h.listener(0)
	s := c.open(t, wire.FlagMessage, "x")
	c.Lock()
	c.Wire.Reset(s, &wire.ResetHead{Status: wire.Refuse(wire.ReasonCancelled, wire.OriginClientSDK, "")})
	c.FlushUnlock()
	if err := receive(t, "the cancellation", why); !errors.Is(err, session.ErrCallOver) {
		t.Fatal(err)
	}
	hd := head()
	hd.TimeoutUS = 1000
	c.Lock()
	timed, _ := c.Wire.Open(c)
	c.Wire.Send(timed, &wire.Out{Type: wire.TypeRequest, Head: hd.Append(nil)})
	c.FlushUnlock()
	waitFor(t, "the call", func() bool { return len(h.calls()) == 1 })
	h.sweep(h.clock.Now() + int64(time.Minute))
	if err := receive(t, "the deadline", why); !errors.Is(err, session.ErrCallOver) {
		t.Fatal(err)
	}
	if st := receive(t, "the caller's end", c.ended); st.Code != wire.DeadlineExceeded {
		t.Fatal(st)
	}
	c.open(t, wire.FlagMessage, "x")
	waitFor(t, "the call", func() bool { return len(h.calls()) == 1 })
	c.Close()
	if err := receive(t, "the lost connection", why); !errors.Is(err, session.ErrCallOver) {
		t.Fatal(err)
	}
}

func TestWhatTheProxyCannotTakeEndsThatCallAlone(t *testing.T) {
	h := answering(t, echo)
	c := h.listener(0)
	for _, test := range []struct {
		flags  wire.Flags
		body   string
		reason wire.Reason
	}{
		{wire.FlagMessage | wire.FlagCompressed, "x", wire.ReasonUnknownEncoding},
		{wire.FlagMessage, strings.Repeat("x", session.MaxLocal+1), wire.ReasonMessageTooLarge},
	} {
		c.open(t, test.flags, test.body)
		if st := receive(t, "the end", c.ended); st.Reason != test.reason || st.Origin != wire.OriginClientProxy {
			t.Fatal(st)
		}
	}
	var open []*wire.Stream
	for range 257 {
		open = append(open, c.open(t, 0, ""))
	}
	if st := receive(t, "the refusal", c.ended); st.Reason != wire.ReasonQueueFull || st.Disposition != wire.DispositionNotProcessed {
		t.Fatal(st)
	}
	for _, s := range open[:256] {
		c.send(s, wire.FlagEnd, "")
		if st := receive(t, "the end", c.ended); st.Code != wire.OK {
			t.Fatal(st)
		}
	}
	s := c.open(t, wire.FlagMessage|wire.FlagEnd, "again")
	if got := receive(t, "a message", c.messages); got != "again" || s == nil {
		t.Fatal(got)
	}
}

// TestWhoReceivesFromACallThatWasGivenUpIsToldSo: the call's memory is another call's by then, whose messages are not for him.
func TestWhoReceivesFromACallThatWasGivenUpIsToldSo(t *testing.T) {
	t.Parallel()
	const calls = 200
	told := make(chan error, 2*calls)
	h := answering(t, func(l *session.Local) wire.Status {
		if m, err := l.Receive(); err != nil || string(m) != "hello" {
			t.Errorf("the request is %q, %v", m, err)
		}
		received := make(chan error, 1)
		go func() { // as one who waits for what the caller says next
			_, err := l.Receive()
			received <- err
		}()
		l.End(wire.Status{})
		_, err := l.Receive()
		told <- err
		told <- <-received
		return wire.Status{Code: wire.Internal} // ended already
	})
	c := h.listener(wire.DefaultStreamWindow)
	for range calls {
		c.open(t, wire.FlagMessage, "hello")
	}
	for range calls {
		if st := <-c.ended; st.Code != wire.OK {
			t.Errorf("a call ended with %v", st)
		}
	}
	for range 2 * calls {
		if err := <-told; !errors.Is(err, session.ErrCallOver) {
			t.Errorf("who received was told %v", err)
		}
	}
}
