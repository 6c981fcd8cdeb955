package side

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/octomesh/octomesh/tools/octobench/pace"
)

// Message is what all sides that have handlers send.
type Message = wrapperspb.BytesValue

// Caller makes calls on one connection. What a library or its settings here do not offer is nil.
type Caller struct {
	Unary        func(ctx context.Context, in *Message) (*Message, error)
	ServerStream func(ctx context.Context, in *Message) (Receiver, error)
	Bidi         func(ctx context.Context) (Exchange, error)
}

// Receiver is a stream of answers. The error after the last is io.EOF.
type Receiver interface {
	Receive() (*Message, error)
}

// Exchange is a stream of messages each way.
type Exchange interface {
	Receiver
	Send(*Message) error
}

// Echo is the handler of all unary methods.
func Echo(_ context.Context, in *Message) (*Message, error) { return &Message{Value: in.Value}, nil }

// SendAll is the handler of all server streams.
func SendAll(in *Message, send func(*Message) error) error {
	for range StreamMessages {
		if err := send(&Message{Value: in.Value}); err != nil {
			return err
		}
	}
	return nil
}

// EchoAll is the handler of all bidi streams.
func EchoAll(x Exchange) error {
	for {
		in, err := x.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := x.Send(&Message{Value: in.Value}); err != nil {
			return err
		}
	}
}

// maxLag is how many calls of an open loop are handed out ahead of workers that are late. Where it is not
// enough, calls wait longer; the times at which they were to go stay what they are.
const maxLag = 1 << 14

// StartWorkers runs a goroutine per call in flight, as users of an RPC library do. stop closes the
// connections.
func StartWorkers(s *Spec, connections []Caller, stop func()) (*Side, error) {
	failed := &Failures{}
	start := time.Now()
	var counters []*Counter
	ctx, cancel := context.WithCancel(context.Background())
	for i := range connections {
		due := paced(s.Load, start, i)
		for range s.Load.On(i) {
			w := &worker{ctx: ctx, load: s.Load, caller: &connections[i], in: &Message{Value: make([]byte, s.Load.Size)}}
			counters = append(counters, &w.counter)
			call, err := w.operation()
			if err != nil {
				cancel()
				stop()
				return nil, err
			}
			go func() {
				if err := w.work(call, due); ctx.Err() == nil {
					failed.Add(err.Error())
				}
			}()
		}
	}
	return &Side{Sample: func() Sample { return failed.Sample(start, counters) }, Stop: func() { cancel(); stop() }}, nil
}

// paced says when the calls of connection i are to go; nil where they follow each other.
func paced(l Load, start time.Time, i int) <-chan time.Time {
	if l.Rate == 0 {
		return nil
	}
	due := make(chan time.Time, maxLag)
	schedule := pace.Split(start, l.Rate, i, l.Connections)
	go func() {
		sent := uint64(0)
		schedule.Run(func(now uint64) bool {
			for ; sent < now; sent++ {
				due <- schedule.At(sent)
			}
			return true
		})
	}()
	return due
}

// worker is one call in flight.
type worker struct {
	ctx      context.Context
	load     Load
	caller   *Caller
	in       *Message
	exchange Exchange
	counter  Counter
}

// operation is what the worker does again and again.
func (w *worker) operation() (func(ctx context.Context) error, error) {
	var call func(context.Context) error
	offered := false
	switch w.load.Kind {
	case Unary:
		call, offered = w.unary, w.caller.Unary != nil
	case ServerStream:
		call, offered = w.serverStream, w.caller.ServerStream != nil
	case Bidi:
		call, offered = w.bidi, w.caller.Bidi != nil
	}
	if !offered {
		return nil, fmt.Errorf("this side makes no calls of the kind %q", w.load.Kind)
	}
	if w.load.Timeout == 0 || w.load.Kind == Bidi {
		return call, nil
	}
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, w.load.Timeout)
		defer cancel()
		return call(ctx)
	}, nil
}

// work makes one call after the other, at their times if they have any, until one fails.
func (w *worker) work(call func(context.Context) error, due <-chan time.Time) error {
	for {
		began := time.Now()
		if due != nil {
			began = <-due
		}
		if err := call(w.ctx); err != nil {
			return err
		}
		w.counter.Observe(time.Since(began))
	}
}

func (w *worker) unary(ctx context.Context) error {
	out, err := w.caller.Unary(ctx, w.in)
	if err != nil {
		return err
	}
	return w.got(out)
}

func (w *worker) serverStream(ctx context.Context) error {
	r, err := w.caller.ServerStream(ctx, w.in)
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		out, err := r.Receive()
		switch {
		case errors.Is(err, io.EOF) && n == StreamMessages:
			return nil
		case errors.Is(err, io.EOF):
			return fmt.Errorf("the stream had %d messages", n)
		case err != nil:
			return err
		}
		if err := w.got(out); err != nil {
			return err
		}
	}
}

func (w *worker) bidi(ctx context.Context) error {
	if w.exchange == nil {
		var err error
		if w.exchange, err = w.caller.Bidi(ctx); err != nil {
			return err
		}
	}
	if err := w.exchange.Send(w.in); err != nil {
		return err
	}
	out, err := w.exchange.Receive()
	if err != nil {
		return err
	}
	return w.got(out)
}

func (w *worker) got(out *Message) error {
	if len(out.Value) != w.load.Size {
		return fmt.Errorf("an answer has %d bytes", len(out.Value))
	}
	w.counter.Got(1)
	return nil
}
