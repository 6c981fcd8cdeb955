package octomesh_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	octomesh "github.com/octomesh/octomesh/sdks/go"
	"github.com/octomesh/octomesh/sdks/go/internal/testproto"
)

// sleepy waits for the end of its context and says in what it ended.
func sleepy(ended chan error) echo {
	wait := func(ctx context.Context) error {
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	}
	return echo{
		say:   func(ctx context.Context, m *message) (*message, error) { return nil, wait(ctx) },
		again: func(ctx context.Context, m *message) (*message, error) { return nil, wait(ctx) },
		chat: func(ctx context.Context, s *octomesh.ServerStream[message, message]) error {
			_ = octomesh.SendHeader(ctx) // the handler runs
			for {
				if _, err := s.Receive(); err != nil {
					if err != io.EOF {
						ended <- err
						return err
					}
					return wait(ctx)
				}
			}
		},
		watch: func(ctx context.Context, m *message, out *octomesh.ServerSender[message]) error {
			_ = out.Send(m)
			return wait(ctx)
		},
	}
}

func TestDeadlineEndsTheCallAtBothEnds(t *testing.T) {
	for name, call := range map[string]func(ctx context.Context, c testproto.EchoClient) error{
		"context": func(ctx context.Context, c testproto.EchoClient) error {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			_, err := c.Say(ctx, &message{})
			return err
		},
		"option": func(ctx context.Context, c testproto.EchoClient) error {
			_, err := c.Say(ctx, &message{}, octomesh.Timeout(time.Second))
			return err
		},
		"stream": func(ctx context.Context, c testproto.EchoClient) error {
			s, err := c.Watch(ctx, &message{}, octomesh.Timeout(time.Second))
			for err == nil {
				_, err = s.Receive()
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ended := make(chan error, 1)
				c := testproto.NewEchoClient(inProcess(t, sleepy(ended)))
				begin := time.Now()
				err := call(t.Context(), c)
				check(t, err, octomesh.Error{Code: octomesh.DeadlineExceeded, Reason: octomesh.ReasonDeadline})
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != time.Second {
					t.Fatalf("%v after %v", err, time.Since(begin))
				}
				if err := <-ended; !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("the handler's context ended with %v", err)
				}
			})
		})
	}
}

func TestMethodsTimeoutIsADefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := make(chan error, 8)
		ch := inProcess(t, sleepy(ended))
		brief := octomesh.Method{Service: testproto.EchoServiceName, Name: "Say", Kind: octomesh.Unary, Timeout: 50 * time.Millisecond}
		for _, test := range []struct {
			opts []octomesh.CallOption
			want time.Duration
		}{
			{nil, 50 * time.Millisecond},
			{[]octomesh.CallOption{octomesh.Timeout(2 * time.Second)}, 2 * time.Second},
			{[]octomesh.CallOption{octomesh.Timeout(time.Hour)}, 3 * time.Second}, // the context's
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			begin := time.Now()
			_, err := octomesh.CallUnary[message, message](ctx, ch, &brief, &message{}, test.opts)
			cancel()
			if octomesh.CodeOf(err) != octomesh.DeadlineExceeded || time.Since(begin) != test.want {
				t.Fatalf("%v after %v, want %v", err, time.Since(begin), test.want)
			}
		}
	})
}

func TestTimeoutOfNothingFailsBeforeSending(t *testing.T) {
	c := client(t, echo{say: func(ctx context.Context, m *message) (*message, error) {
		t.Error("the call was sent")
		return m, nil
	}})
	over, cancel := context.WithCancel(context.Background())
	cancel()
	for _, test := range []struct {
		ctx  context.Context
		opts []octomesh.CallOption
		code octomesh.Code
	}{
		{context.Background(), []octomesh.CallOption{octomesh.Timeout(0)}, octomesh.DeadlineExceeded},
		{context.Background(), []octomesh.CallOption{octomesh.Timeout(-1)}, octomesh.DeadlineExceeded},
		{over, nil, octomesh.Cancelled},
	} {
		_, err := c.Say(test.ctx, &message{}, test.opts...)
		var e *octomesh.Error
		if !errors.As(err, &e) || e.Code != test.code || e.Disposition != octomesh.DispositionNotProcessed {
			t.Fatalf("got %v", err)
		}
	}
}

func TestHugeDeadlineIsClampedAndNoneIsNone(t *testing.T) {
	var left time.Duration
	var has bool
	c := client(t, echo{say: func(ctx context.Context, m *message) (*message, error) {
		d, ok := ctx.Deadline()
		left, has = time.Until(d), ok
		return m, nil
	}})
	ctx, cancel := context.WithDeadline(context.Background(), time.Now().Add(1<<63-1))
	defer cancel()
	if _, err := c.Say(ctx, &message{}); err != nil || !has || left < 99*365*24*time.Hour {
		t.Fatal(err, has, left)
	}
	if _, err := c.Say(context.Background(), &message{}); err != nil || has {
		t.Fatal(err, has)
	}
}

func TestDeadlineShrinksFromHopToHop(t *testing.T) {
	left := make(chan time.Duration, 3)
	note := func(ctx context.Context) {
		d, _ := ctx.Deadline()
		left <- time.Until(d)
	}
	third := client(t, echo{say: func(ctx context.Context, m *message) (*message, error) { note(ctx); return m, nil }})
	second := client(t, echo{say: func(ctx context.Context, m *message) (*message, error) { note(ctx); return third.Say(ctx, m) }})
	first := client(t, echo{say: func(ctx context.Context, m *message) (*message, error) { note(ctx); return second.Say(ctx, m) }})
	if _, err := first.Say(within(t, 3*time.Second), &message{}); err != nil {
		t.Fatal(err)
	}
	a, b, c := <-left, <-left, <-left
	if a > 3*time.Second || b >= a || c >= b || c < time.Second {
		t.Fatal(a, b, c)
	}
}

func TestCancelReachesTheHandlerOverARelay(t *testing.T) {
	ended := make(chan error, 2)
	last := client(t, sleepy(ended))
	began := make(chan struct{}, 1)
	relay := client(t, echo{say: func(ctx context.Context, m *message) (*message, error) {
		began <- struct{}{}
		r, err := last.Say(ctx, m)
		ended <- err
		return r, err
	}})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-began
		time.Sleep(10 * time.Millisecond)
		cancel()
	}()
	_, err := relay.Say(ctx, &message{})
	check(t, err, octomesh.Error{Code: octomesh.Cancelled, Reason: octomesh.ReasonCancelled, Origin: octomesh.OriginClientSDK})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
}

func TestCancelOfStreams(t *testing.T) {
	ended := make(chan error, 1)
	everywhere(t, sleepy(ended), func(t *testing.T, c testproto.EchoClient) {
		for name, act := range map[string]func(s *octomesh.BidiStream[message, message], cancel func()){
			"before half-close": func(s *octomesh.BidiStream[message, message], cancel func()) { cancel() },
			"after half-close":  func(s *octomesh.BidiStream[message, message], cancel func()) { _ = s.CloseSend(); cancel(); cancel() },
			"by Close":          func(s *octomesh.BidiStream[message, message], cancel func()) { s.Close(); s.Close() },
		} {
			ctx, cancel := context.WithCancel(context.Background())
			s, err := c.Chat(ctx)
			if err != nil {
				t.Fatal(err)
			}
			s.Header()
			_ = s.Send(&message{})
			act(s, cancel)
			_, err = s.Receive()
			check(t, err, octomesh.Error{Code: octomesh.Cancelled, Reason: octomesh.ReasonCancelled, Origin: octomesh.OriginClientSDK})
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Fatalf("%s: the handler saw %v", name, err)
			}
			cancel()
		}
	})
}

func TestClosingTheChannelCancelsItsCalls(t *testing.T) {
	ended := make(chan error, 1)
	_, at := serve(t, sleepy(ended), "127.0.0.1:0")
	ch := dial(t, octomesh.WithDirect(at))
	s, err := testproto.NewEchoClient(ch).Watch(context.Background(), &message{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Receive(); err != nil {
		t.Fatal(err)
	}
	_ = ch.Close()
	_, err = s.Receive()
	check(t, err, octomesh.Error{Code: octomesh.Cancelled, Reason: octomesh.ReasonCancelled})
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	_, err = testproto.NewEchoClient(ch).Say(context.Background(), &message{})
	check(t, err, octomesh.Error{Code: octomesh.Cancelled, Reason: octomesh.ReasonCancelled, Disposition: octomesh.DispositionNotProcessed})
}

func TestContextsDerivedFromAHandlersContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := make(chan error, 2)
		c := testproto.NewEchoClient(inProcess(t, echo{say: func(ctx context.Context, m *message) (*message, error) {
			child, cancel := context.WithCancel(ctx)
			defer cancel()
			stop := context.AfterFunc(ctx, func() { seen <- ctx.Err() })
			defer stop()
			<-child.Done()
			seen <- child.Err()
			return nil, child.Err()
		}}))
		_, err := c.Say(t.Context(), &message{}, octomesh.Timeout(time.Second))
		check(t, err, octomesh.Error{Code: octomesh.DeadlineExceeded, Reason: octomesh.ReasonDeadline})
		if err := <-seen; !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
	})
}

func TestContextEndsWithItsHandler(t *testing.T) {
	kept := make(chan context.Context, 1)
	c := client(t, echo{say: func(ctx context.Context, m *message) (*message, error) {
		kept <- octomesh.ContextWithBaggage(ctx, "k", "v")
		return m, nil
	}})
	if _, err := c.Say(within(t, 5*time.Second), &message{}, octomesh.Header("x", "y")); err != nil {
		t.Fatal(err)
	}
	ctx := <-kept
	<-ctx.Done()
	if octomesh.SetHeader(ctx, "x", "y") == nil {
		t.Fatal("SetHeader after the handler")
	}
	if octomesh.IncomingMetadata(ctx).Get("x") != "y" || octomesh.Baggage(ctx).Get("k") != "v" {
		t.Fatal("a kept context lost what it carries")
	}
}
