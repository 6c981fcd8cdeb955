package end

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/octomesh/octomesh/tools/octobench/histogram"
)

// caller makes one call on one connection.
type caller func(ctx context.Context, in *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error)

// startWorkers runs a goroutine per call in flight, as users of an RPC library do.
func startWorkers(s *Spec, connections []caller, stop func()) *side {
	failed := &failures{}
	start := time.Now()
	var recorders []*histogram.Recorder
	for i, call := range connections {
		for range s.Load.on(i) {
			r := &histogram.Recorder{}
			recorders = append(recorders, r)
			go work(s.Load, call, r, failed)
		}
	}
	return &side{sample: func() Sample { return failed.sample(start, recorders) }, stop: stop}
}

// work makes one call after the other, until one fails.
func work(l Load, call caller, r *histogram.Recorder, failed *failures) {
	in := &wrapperspb.BytesValue{Value: make([]byte, l.Size)}
	for {
		began := time.Now()
		out, err := within(l.Timeout, call, in)
		if err != nil {
			failed.add(err.Error())
			return
		}
		if len(out.Value) != l.Size {
			failed.add(fmt.Sprintf("the answer has %d bytes", len(out.Value)))
			return
		}
		r.Observe(time.Since(began))
	}
}

// within gives a call its deadline, if it has one.
func within(timeout time.Duration, call caller, in *wrapperspb.BytesValue) (*wrapperspb.BytesValue, error) {
	if timeout == 0 {
		return call(context.Background(), in)
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return call(ctx, in)
}
