package meshtest_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// flood makes n calls at once and returns the first error.
func flood(ctx context.Context, ch *octomesh.Channel, n int) error {
	var wg sync.WaitGroup
	errs := make(chan error, n)
	for i := range n {
		wg.Go(func() {
			want := fmt.Sprint("call ", i)
			switch got, err := unary(ctx, ch, do, text(want)); {
			case err != nil:
				errs <- err
			case string(got.Value) != want:
				errs <- fmt.Errorf("%s was answered by %q", want, got.Value)
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// barrier lets nobody pass before all are there: so many calls are open at once.
func barrier(n int) func() {
	var here atomic.Int64
	open := make(chan struct{})
	return func() {
		if here.Add(1) == int64(n) {
			close(open)
		}
		<-open
	}
}

func TestThousandCallsOnOneConnection(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		const n = 1000
		wait := barrier(n)
		ch := w.pair(thing{do: func(_ context.Context, m *msg) (*msg, error) {
			wait()
			return m, nil
		}})
		if err := flood(within(t, long), ch, n); err != nil {
			t.Fatal(err)
		}
		if w.mesh {
			if s := w.proxy("caller").Sessions(); s["caller"] != 1 || s["upstream"] != 1 {
				t.Fatalf("connections: %v", s)
			}
		}
	})
}

func TestThousandCallsBothWaysAtOnce(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		const n = 1000
		wait := barrier(2 * n) // so that all of both directions are open at once
		h := thing{do: func(_ context.Context, m *msg) (*msg, error) {
			wait()
			return m, nil
		}}
		w.serve("left", h)
		w.serve("right", h)
		ctx := within(t, long)
		errs := make(chan error, 2)
		toRight, toLeft := w.dial("left", "right"), w.dial("right", "left")
		go func() { errs <- flood(ctx, toRight, n) }()
		go func() { errs <- flood(ctx, toLeft, n) }()
		if err := errors.Join(<-errs, <-errs); err != nil {
			t.Fatal(err)
		}
	})
}

// More calls than a server takes at once wait for one another; none is lost.
func TestMoreCallsThanStreams(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		ch := w.pair(thing{}, octomesh.WithLimits(octomesh.Limits{MaxStreams: 3}))
		if err := flood(within(t, long), ch, 300); err != nil {
			t.Fatal(err)
		}
	})
}

func TestSlowReaderDelaysNoNeighbour(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		var sent atomic.Int64
		ch := w.pair(thing{watch: func(_ context.Context, _ *msg, out *octomesh.ServerSender[msg]) error {
			for {
				if err := out.Send(&msg{Value: make([]byte, 32<<10)}); err != nil {
					return err
				}
				sent.Add(1)
			}
		}})
		ctx := within(t, long)
		var slow []*octomesh.ReceiveStream[msg]
		for range 4 {
			s, err := octomesh.CallServerStream[msg, msg](ctx, ch, watch, text("x"), nil)
			if err != nil {
				t.Fatal(err)
			}
			slow = append(slow, s)
		}
		for _, s := range slow {
			if _, err := s.Receive(); err != nil { // and no more
				t.Fatal(err)
			}
		}
		if err := flood(ctx, ch, 200); err != nil {
			t.Fatal(err)
		}
		// Three windows of 256 KiB lie between the handler and the caller, and what they assemble.
		if n := sent.Load() * 32 << 10; n > 4*4*256<<10 {
			t.Fatalf("%d bytes were sent ahead to readers that do not read", n)
		}
		for _, s := range slow {
			s.Close()
		}
	})
}
