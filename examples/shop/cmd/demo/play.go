package main

import (
	"context"
	"fmt"
	"time"

	"github.com/octomesh/octomesh/examples/shop/trace"
)

// result is how long a step took.
type result struct {
	name string
	took time.Duration
	each bool
}

// settle bounds how long counters and logs may take to say what has happened.
const settle = 5 * time.Second

// play plays the script, prints it, and holds each step against what was expected.
func (s *shop) play(ctx context.Context, out *printer) ([]result, error) {
	var results []result
	for i, st := range script() {
		if st.meshOnly() && s.proxies == nil {
			continue // routes are the proxies', and who is alive is the control plane's to know
		}
		r, err := s.step(ctx, i+1, st, out)
		if err != nil {
			return nil, fmt.Errorf("step %d, %s: %w", i+1, st.name, err)
		}
		results = append(results, r)
	}
	return results, nil
}

func (s *shop) step(ctx context.Context, number int, st step, out *printer) (result, error) {
	if err := s.operate(ctx, st, out); err != nil {
		return result{}, err
	}
	called, traceID := traced(ctx)
	r := result{name: st.name, each: st.each != nil}
	var said string
	var err error
	if st.each != nil {
		r.took, err = st.each(called, s.customer)
		said = "the median of them"
	} else {
		began := time.Now()
		said, err = st.do(called, s.customer)
		r.took = time.Since(began)
	}
	if err != nil {
		return r, err
	}
	out.step(number, st.name, r.took, said)
	switch {
	case st.opens:
		s.customer.stockTrace = traceID
	case st.closes:
		traceID = s.customer.stockTrace
	}
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	calls := 0
	for _, h := range st.hops {
		calls += h.calls
	}
	spans, err := s.spans.await(ctx, traceID, calls)
	if err == nil {
		err = s.checkSpans(spans, st)
	}
	if err == nil {
		err = s.showPath(ctx, st, spans, out)
	}
	if err != nil {
		return r, err
	}
	if st.chain {
		out.chain(traceID, spans)
		out.timings(&s.customer.placed)
	}
	return r, nil
}

// showPath prints which way the calls of a step went.
func (s *shop) showPath(ctx context.Context, st step, spans []*trace.Span, out *printer) error {
	if s.proxies == nil {
		out.paths(directPaths(spans))
		return nil
	}
	delta, err := s.settled(ctx, st.hops)
	if err != nil {
		return err
	}
	out.paths(meshPaths(delta))
	if st.opens {
		open, err := s.open(ctx)
		out.paths(open)
		return err
	}
	return nil
}

// checkSpans holds what the services have logged against what was expected.
func (s *shop) checkSpans(spans []*trace.Span, st step) error {
	got, by := make(map[hop]int), make(map[string]int)
	for _, sp := range spans {
		got[hop{caller: sp.Caller, target: sp.Target}]++
		by[sp.Instance]++
		if mesh := s.proxies != nil; sp.Proxied != mesh {
			return fmt.Errorf("%s of %s came by a proxy: %v, expected %v", sp.Method, sp.Caller, sp.Proxied, mesh)
		}
		if sp.Baggage["tier"] != "gold" {
			return fmt.Errorf("%s came without the customer's baggage: %v", sp.Method, sp.Baggage)
		}
	}
	for _, h := range st.hops {
		if n := got[hop{caller: h.caller, target: h.target}]; n != h.calls {
			return fmt.Errorf("%s called %s %d times by the services' logs, expected %d", h.caller, h.target, n, h.calls)
		}
	}
	if st.split != nil {
		return st.split(s.proxies != nil, by["catalogue-a"], by["catalogue-b"])
	}
	return nil
}
