package octomesh_test

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/wire"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// draining is how a proxy refuses a call that it began nothing of.
func draining() wire.Status {
	return wire.Refuse(wire.ReasonProxyDraining, wire.OriginClientProxy, "")
}

// begin opens a stream while the test accepts the connection for it.
func begin[S any](t *testing.T, at *socket, open func() (S, error)) (S, *raw) {
	t.Helper()
	var s S
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		s, err = open()
	}()
	r := at.accept(t)
	<-done
	if err != nil {
		t.Fatal(err)
	}
	return s, r
}

// say sends one message of an answer.
func (r *raw) say(ev rawEvent, m proto.Message) {
	b, _ := proto.Marshal(m)
	r.do(func(wc *wire.Conn) {
		wc.Send(ev.stream, &wire.Out{Type: wire.TypeMessage, Flags: wire.FlagMessage, Body: b})
	})
}

func TestServerStreamGoesAgainWhileNothingWasAnswered(t *testing.T) {
	c, _, at := throughProxy(t)
	s, old := begin(t, at, func() (*octomesh.ReceiveStream[message], error) { return c.Watch(t.Context(), &message{Text: "whole"}) })
	old.reset(old.next(t, wire.EventRequest), draining())
	got := make(chan error, 1)
	go func() {
		m, err := s.Receive()
		if err == nil && m.Text != "answer" {
			err = errors.New(m.Text)
		}
		got <- err
	}()
	next := at.accept(t)
	ev := next.next(t, wire.EventRequest)
	var h wire.RequestHead
	var m message
	if h.Parse(ev.head) != nil || h.Attempt != 1 || proto.Unmarshal(ev.body, &m) != nil || m.Text != "whole" || ev.flags&wire.FlagEnd == 0 {
		t.Fatalf("attempt %d with %q", h.Attempt, m.Text)
	}
	next.say(ev, &message{Text: "answer"})
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	next.reset(ev, draining()) // says so, but something of an answer has come
	_, err := s.Receive()
	check(t, err, octomesh.Error{Code: octomesh.Unavailable, Reason: octomesh.ReasonProxyDraining, Disposition: octomesh.DispositionNotProcessed})
}

func TestStreamGoesAgainOnlyWithItsRequestAlone(t *testing.T) {
	c, _, at := throughProxy(t)
	s, first := begin(t, at, func() (*octomesh.BidiStream[message, message], error) { return c.Chat(t.Context()) })
	ev := first.next(t, wire.EventRequest)
	first.reset(ev, draining())
	header := make(chan octomesh.Metadata, 1)
	go func() { header <- s.Header() }() // whoever looks has it go again
	second := at.accept(t)
	ev = second.next(t, wire.EventRequest)
	if ev.flags&wire.FlagMessage != 0 {
		t.Fatal("a message was sent again that nobody sent")
	}
	if err := s.Send(&message{Text: "one"}); err != nil {
		t.Fatal(err)
	}
	second.next(t, wire.EventMessage)
	second.reset(ev, draining())
	_, err := s.Receive()
	check(t, err, octomesh.Error{Code: octomesh.Unavailable, Reason: octomesh.ReasonProxyDraining, Disposition: octomesh.DispositionNotProcessed})
	if m := <-header; len(m) != 0 {
		t.Errorf("metadata from nowhere: %v", m)
	}
}

func TestStreamGoesAgainAtMostTwice(t *testing.T) {
	c, _, at := throughProxy(t)
	got := make(chan error, 1)
	w, r := begin(t, at, func() (*octomesh.ReceiveStream[message], error) { return c.Watch(t.Context(), &message{}) })
	go func() {
		_, err := w.Receive()
		got <- err
	}()
	for requests := 0; ; {
		select {
		case err := <-got:
			check(t, err, octomesh.Error{Code: octomesh.Unavailable, Reason: octomesh.ReasonProxyUnready, Disposition: octomesh.DispositionNotProcessed})
			if requests != 3 {
				t.Errorf("it was sent %d times", requests)
			}
			return
		case ev := <-r.events:
			if ev.kind == wire.EventRequest {
				requests++
				r.reset(ev, wire.Refuse(wire.ReasonProxyUnready, wire.OriginClientProxy, ""))
			}
		case <-time.After(5 * time.Second):
			t.Fatal("neither an end nor a request")
		}
	}
}

func TestStreamThatWasRefusedByPolicyOrLostDoesNotGoAgain(t *testing.T) {
	for _, end := range []func(*raw, rawEvent){
		func(r *raw, ev rawEvent) {
			r.reset(ev, wire.Refuse(wire.ReasonRateLimited, wire.OriginClientProxy, ""))
		},
		func(r *raw, _ rawEvent) { r.tc.Close() },
	} {
		c, _, at := throughProxy(t)
		s, r := begin(t, at, func() (*octomesh.ReceiveStream[message], error) { return c.Watch(t.Context(), &message{}) })
		end(r, r.next(t, wire.EventRequest))
		if _, err := s.Receive(); err == nil || errors.Is(err, io.EOF) {
			t.Fatalf("ended %v", err)
		}
	}
}

// The call's context ends while it is being sent again: nobody waits for a connection that does not come.
func TestStreamThatGoesAgainObeysItsContext(t *testing.T) {
	for _, own := range []bool{false, true} {
		c, _, at := throughProxy(t)
		ctx, cancel := context.WithCancel(t.Context())
		var opts []octomesh.CallOption
		if own {
			opts = append(opts, octomesh.Timeout(50*time.Millisecond))
		}
		s, r := begin(t, at, func() (*octomesh.ReceiveStream[message], error) { return c.Watch(ctx, &message{}, opts...) })
		r.reset(r.next(t, wire.EventRequest), draining())
		got := make(chan error, 1)
		go func() {
			_, err := s.Receive()
			got <- err
		}()
		next := at.acceptWith(t, nil) // says no WELCOME
		next.next(t, wire.EventHello)
		want := octomesh.DeadlineExceeded
		if !own {
			cancel()
			want = octomesh.Cancelled
		}
		var e *octomesh.Error
		if err := <-got; !errors.As(err, &e) || e.Code != want {
			t.Errorf("ended %v, want %v", err, want)
		}
		cancel()
		next.tc.Close()
	}
}

// Sender, receiver and whoever asks for metadata find the end of an attempt at once.
func TestStreamMovesOnceForAllThatUseIt(t *testing.T) {
	c, _, at := throughProxy(t)
	s, r := begin(t, at, func() (*octomesh.BidiStream[message, message], error) { return c.Chat(t.Context()) })
	for round := range 20 {
		var err error
		if round > 0 {
			if s, err = c.Chat(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		r.reset(r.next(t, wire.EventRequest), draining())
		var wg sync.WaitGroup
		wg.Go(func() { s.Header() })
		wg.Go(func() {
			if _, err := s.Receive(); err != nil {
				t.Errorf("receive: %v", err)
			}
		})
		wg.Go(func() { s.Trailer() })
		next := at.accept(t)
		ev := next.next(t, wire.EventRequest)
		next.say(ev, &message{})
		wg.Wait()
		if err := s.CloseSend(); err != nil {
			t.Error(err)
		}
		next.answer(ev, &message{})
		for err == nil {
			_, err = s.Receive()
		}
		if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		r = next // the next round begins where this one ended
	}
}
