package meshtest_test

import (
	"context"
	"testing"
	"time"

	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// chain is three applications: a calls b, whose handler calls c. What c's handler does is the test's.
func chain(w *world, c thing) *octomesh.Channel {
	w.serve("c", c)
	var next *octomesh.Channel
	dialed := make(chan struct{})
	w.serve("b", thing{
		do: func(ctx context.Context, m *msg) (*msg, error) {
			<-dialed
			return unary(ctx, next, do, m)
		},
		chat: func(ctx context.Context, s *octomesh.ServerStream[msg, msg]) error {
			<-dialed
			return relay(ctx, next, s)
		},
	})
	next = w.dial("b", "c")
	close(dialed)
	return w.dial("a", "b")
}

// relay passes a stream's messages on, and the answers back.
func relay(ctx context.Context, next *octomesh.Channel, in *octomesh.ServerStream[msg, msg]) error {
	out, err := octomesh.CallBidiStream[msg, msg](ctx, next, chat, nil)
	if err != nil {
		return err
	}
	defer out.Close()
	for m, err := range in.All() {
		if err != nil {
			return err
		}
		if err := out.Send(m); err != nil {
			return err
		}
		answer, err := out.Receive()
		if err != nil {
			return err
		}
		if err := in.Send(answer); err != nil {
			return err
		}
	}
	return out.CloseSend()
}

func TestBaggageAndTraceGoDownTheChain(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		type seen struct {
			baggage octomesh.Metadata
			trace   octomesh.TraceContext
			hop     string
		}
		got := make(chan seen, 1)
		ch := chain(w, thing{do: func(ctx context.Context, m *msg) (*msg, error) {
			trace, _ := octomesh.Trace(ctx)
			got <- seen{octomesh.Baggage(ctx), trace, octomesh.IncomingMetadata(ctx).Get("one-hop")}
			return m, nil
		}})
		trace := octomesh.TraceContext{Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Tracestate: "a=1"}
		ctx := octomesh.ContextWithBaggage(octomesh.ContextWithTrace(within(t, long), trace), "user", "7")
		if _, err := unary(ctx, ch, do, text("x"), octomesh.WithBaggage("lane", "red"), octomesh.Header("one-hop", "x")); err != nil {
			t.Fatal(err)
		}
		s := await(t, "c's handler", got)
		if s.baggage.Get("user") != "7" || s.baggage.Get("lane") != "red" || s.trace != trace || s.hop != "" {
			t.Fatalf("c saw %+v", s)
		}
	})
}

func TestDeadlineShrinksDownTheChain(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		left := make(chan time.Time, 2)
		ch := chain(w, thing{do: func(ctx context.Context, m *msg) (*msg, error) {
			if d, ok := ctx.Deadline(); ok {
				left <- d
			} else {
				left <- time.Time{}
			}
			return m, nil
		}})
		first := time.Now().Add(long)
		ctx, cancel := context.WithDeadline(context.Background(), first)
		defer cancel()
		if _, err := unary(ctx, ch, do, text("x")); err != nil {
			t.Fatal(err)
		}
		// The remaining time travels, so each hop's clock starts anew when the call arrives: the deadline
		// at the end is the caller's and the time on the way.
		if d := await(t, "c's deadline", left); d.IsZero() || d.Before(first.Add(-long)) || d.After(first.Add(long)) {
			t.Fatalf("c's deadline is %v, the caller's %v", d, first)
		}
		if _, err := unary(context.Background(), ch, do, text("x")); err != nil {
			t.Fatal(err)
		}
		if d := await(t, "no deadline", left); !d.IsZero() {
			t.Fatalf("c sees a deadline, %v, that nobody set", d)
		}
	})
}

func TestDeadlineEndsTheLastHandler(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		ended := make(chan error, 1)
		ch := chain(w, thing{do: func(ctx context.Context, _ *msg) (*msg, error) {
			<-ctx.Done()
			ended <- ctx.Err()
			return nil, ctx.Err()
		}})
		_, err := unary(context.Background(), ch, do, text("x"), octomesh.Timeout(200*time.Millisecond))
		// Whoever's clock is first concludes it; if it is b's handler, that hands on what it got from c.
		e := asError(err)
		if e.Code != octomesh.DeadlineExceeded || e.Origin != octomesh.OriginApplication && e.Reason != octomesh.ReasonDeadline {
			t.Fatalf("got %v", err)
		}
		if err := await(t, "the end of c's handler", ended); err != context.DeadlineExceeded && err != context.Canceled {
			t.Fatalf("c's handler learned %v", err)
		}
	})
}

func TestCancelReachesTheLastHandler(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		began, ended := make(chan struct{}, 1), make(chan error, 1)
		ch := chain(w, thing{do: func(ctx context.Context, _ *msg) (*msg, error) {
			began <- struct{}{}
			<-ctx.Done()
			ended <- ctx.Err()
			return nil, ctx.Err()
		}})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() {
			_, err := unary(ctx, ch, do, text("x"))
			done <- err
		}()
		await(t, "c's handler", began)
		cancel()
		check(t, await(t, "the answer", done), octomesh.Error{Code: octomesh.Cancelled, Reason: octomesh.ReasonCancelled, Origin: octomesh.OriginClientSDK})
		if err := await(t, "the end of c's handler", ended); err != context.Canceled {
			t.Fatalf("c's handler learned %v", err)
		}
	})
}

func TestStreamsGoDownTheChain(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		ended := make(chan error, 1)
		ch := chain(w, thing{chat: func(ctx context.Context, s *octomesh.ServerStream[msg, msg]) error {
			err := chatEcho(ctx, s)
			if err != nil {
				ended <- ctx.Err()
			}
			return err
		}})
		chatted(t, within(t, long), ch, 50)
		s, err := octomesh.CallBidiStream[msg, msg](within(t, long), ch, chat, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Send(text("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Receive(); err != nil {
			t.Fatal(err)
		}
		s.Close()
		if err := await(t, "the end of c's handler", ended); err != context.Canceled {
			t.Fatalf("c's handler learned %v", err)
		}
	})
}

func TestServerSeesWhoCalls(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		peers := make(chan octomesh.Peer, 1)
		ch := w.pair(thing{do: func(ctx context.Context, m *msg) (*msg, error) {
			p, _ := octomesh.PeerInfo(ctx)
			peers <- p
			return m, nil
		}})
		if _, err := unary(within(t, long), ch, do, text("x")); err != nil {
			t.Fatal(err)
		}
		if p := await(t, "the peer", peers); p.Application != "caller" || p.Verified != "" || p.Proxied != w.mesh {
			t.Fatalf("the handler saw %+v", p)
		}
	})
}
