package main

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/octomesh/octomesh/examples/shop/trace"
)

// ledger is what the services themselves say that they have served, by trace.
type ledger struct {
	mu      sync.Mutex
	spans   map[string][]*trace.Span
	changed chan struct{}
}

func newLedger() *ledger {
	return &ledger{spans: make(map[string][]*trace.Span), changed: make(chan struct{})}
}

func (l *ledger) add(s *trace.Span) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spans[s.Trace] = append(l.spans[s.Trace], s)
	close(l.changed)
	l.changed = make(chan struct{})
}

// await waits until n calls of a trace were served, and returns them in the order in which they began.
func (l *ledger) await(ctx context.Context, traceID string, n int) ([]*trace.Span, error) {
	for {
		l.mu.Lock()
		spans, changed := slices.Clone(l.spans[traceID]), l.changed
		l.mu.Unlock()
		if len(spans) >= n {
			slices.SortFunc(spans, func(a, b *trace.Span) int { return a.Begin.Compare(b.Begin) })
			return spans, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("of %d calls the services have logged %d", n, len(spans))
		}
	}
}
