package meshtest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"

	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// ledger is the test's own count of calls: what the mesh says of itself is not asked.
type ledger struct {
	mu       sync.Mutex
	ran      map[string]int   // how often a handler saw the call
	answered map[string]error // how it ended at its caller; nil: well

	next    atomic.Int64
	settled atomic.Int64
}

func newLedger() *ledger { return &ledger{ran: make(map[string]int), answered: make(map[string]error)} }

func (l *ledger) id() string { return fmt.Sprint("call-", l.next.Add(1)) }

func (l *ledger) run(id []byte) {
	l.mu.Lock()
	l.ran[string(id)]++
	l.mu.Unlock()
}

func (l *ledger) answer(id string, err error) {
	l.mu.Lock()
	l.answered[id] = err
	l.mu.Unlock()
	l.settled.Add(1)
}

// thing executes calls for the ledger. A stream's first message is its id.
func (l *ledger) thing() thing {
	return thing{
		do: func(_ context.Context, m *msg) (*msg, error) {
			l.run(m.Value)
			return m, nil
		},
		chat: func(_ context.Context, s *octomesh.ServerStream[msg, msg]) error {
			first := true
			for m, err := range s.All() {
				if err != nil {
					return err
				}
				if first {
					l.run(m.Value)
				}
				first = false
				if err := s.Send(m); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// load is callers that call until they are stopped.
type load struct {
	*ledger
	t    testing.TB
	stop chan struct{}
	wg   sync.WaitGroup
}

// start has so many callers make unary calls, and a quarter as many, at least one, streams.
func (l *ledger) start(t testing.TB, ch *octomesh.Channel, callers int) *load {
	o := &load{ledger: l, t: t, stop: make(chan struct{})}
	ctx := within(t, 2*long)
	loop := func(call func(string) error) {
		o.wg.Go(func() {
			for {
				select {
				case <-o.stop:
					return
				default:
					id := l.id()
					l.answer(id, call(id))
				}
			}
		})
	}
	for range callers {
		loop(func(id string) error {
			_, err := unary(ctx, ch, do, text(id))
			return err
		})
	}
	for range max(callers/4, 1) {
		loop(func(id string) error { return converse(ctx, ch, id) })
	}
	return o
}

// converse makes a stream of a few messages.
func converse(ctx context.Context, ch *octomesh.Channel, id string) error {
	s, err := octomesh.CallBidiStream[msg, msg](ctx, ch, chat, nil)
	if err != nil {
		return err
	}
	defer s.Close()
	for range 5 {
		if err := s.Send(text(id)); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if _, err := s.Receive(); err != nil {
			return err
		}
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	if _, err := s.Receive(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("after the last message: %w", err)
	}
	return nil
}

// progress waits until n more calls have ended.
func (o *load) progress(n int64) {
	o.t.Helper()
	until := o.settled.Load() + n
	eventually(o.t, "progress of the load", func() bool { return o.settled.Load() >= until })
}

func (o *load) end() {
	close(o.stop)
	o.wg.Wait()
}

// check fails the test for what ran twice, what was called not processed and ran, what is said to be well
// and did not run, and for errors that the test does not allow. It returns how many calls failed.
func (l *ledger) check(t testing.TB, allowed func(*octomesh.Error) bool) (failed int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for id, err := range l.answered {
		e, ran := asError(err), l.ran[id]
		switch {
		case ran > 1:
			t.Errorf("%s ran %d times, answered %v", id, ran, err)
		case err == nil && ran == 0:
			t.Errorf("%s was answered and did not run", id)
		case err != nil && ran > 0 && e.Disposition == octomesh.DispositionNotProcessed:
			t.Errorf("%s ran and is called not processed: %v", id, err)
		case err != nil:
			if failed++; allowed == nil || !allowed(e) {
				t.Errorf("%s failed: %v", id, err)
			}
		}
		if t.Failed() && failed > 5 {
			t.Fatalf("and more; %d calls in all", len(l.answered))
		}
	}
	if len(l.answered) != int(l.next.Load()) {
		t.Errorf("%d calls, %d answers", l.next.Load(), len(l.answered))
	}
	t.Logf("%d calls, %d failed, none ran twice", len(l.answered), failed)
	return failed
}
