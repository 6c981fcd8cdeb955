package meshtest_test

import (
	"context"
	"testing"

	"github.com/octomesh/octomesh/conformance/faults/link"
	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/wire"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// hanging is a handler of every kind that holds its call until the call's end.
func hanging(began chan<- struct{}, ended chan<- error) thing {
	hold := func(ctx context.Context) error {
		began <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	}
	return thing{
		do: func(ctx context.Context, m *msg) (*msg, error) { return nil, hold(ctx) },
		chat: func(ctx context.Context, s *octomesh.ServerStream[msg, msg]) error {
			if err := s.Send(text("first")); err != nil {
				return err
			}
			return hold(ctx)
		},
	}
}

// openBoth opens a unary call and a stream; their ends come on the channel.
func openBoth(t *testing.T, ch *octomesh.Channel) <-chan error {
	t.Helper()
	done := make(chan error, 2)
	go func() {
		_, err := unary(context.Background(), ch, do, text("x"))
		done <- err
	}()
	s, err := octomesh.CallBidiStream[msg, msg](context.Background(), ch, chat, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Receive(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, err := s.Receive()
		done <- err
	}()
	return done
}

// severed returns a channel and the cable through which the given end is reached.
func (w *world) severed(h thing, serverSide bool) (*octomesh.Channel, *link.Link) {
	w.t.Helper()
	if w.mesh && serverSide {
		c, at := cable(w.t, w.proxy("thing"))
		w.serve("thing", h, octomesh.WithSocket(at))
		return w.dial("caller", "thing"), c
	}
	s := w.serve("thing", h)
	if w.mesh {
		c, at := cable(w.t, w.proxy("caller"))
		return w.dial("caller", "thing", octomesh.WithSocket(at)), c
	}
	c, err := link.To("tcp", "127.0.0.1:0", s.Addresses()[0].String())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.Close() })
	w.endpoints["thing"] = []string{c.Address()}
	return w.dial("caller", "thing"), c
}

func TestDeathOfTheServerEndsItsCallsUnknown(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		began, ended := make(chan struct{}, 2), make(chan error, 2)
		ch, c := w.severed(hanging(began, ended), true)
		done := openBoth(t, ch)
		await(t, "a handler", began)
		await(t, "a handler", began)
		c.Cut()
		origin := octomesh.OriginServerProxy
		if !w.mesh {
			origin = octomesh.OriginClientSDK
		}
		for range 2 {
			err := await(t, "the end of a call", done)
			check(t, err, octomesh.Error{Code: octomesh.Unavailable, Reason: octomesh.ReasonConnectionLost, Origin: origin})
			if asError(err).Disposition != octomesh.DispositionUnknown {
				t.Fatalf("got %v", err)
			}
			await(t, "the end of a handler", ended)
		}
		// The server attaches anew, the channel dials anew.
		ctx := within(t, long)
		eventually(t, "a call after the loss", func() bool {
			_, err := unary(ctx, ch, again, text("x"))
			return err == nil
		})
	})
}

func TestDeathOfTheCallerCancelsItsCalls(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		began, ended := make(chan struct{}, 2), make(chan error, 2)
		ch, c := w.severed(hanging(began, ended), false)
		done := openBoth(t, ch)
		await(t, "a handler", began)
		await(t, "a handler", began)
		c.Cut()
		for range 2 {
			if err := await(t, "the end of a handler", ended); err != context.Canceled {
				t.Fatalf("the handler learned %v", err)
			}
			await(t, "the end of a call", done)
		}
		if w.mesh {
			eventually(t, "the end of the calls in the proxies", func() bool {
				return len(w.proxy("caller").OpenCalls())+len(w.proxy("thing").OpenCalls()) == 0
			})
		}
	})
}

func TestForgedHopFieldsAreRefused(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		s := w.serve("thing", thing{})
		network, at := "tcp", ""
		if w.mesh {
			network, at = "unix", w.proxy("caller").Socket
		} else {
			at = s.Addresses()[0].String()
		}
		c, err := meshtest.DialCaller(network, at, wire.Hello{Kind: wire.PeerSDK, Environment: meshtest.Environment, Application: "forger"})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { c.Close(); <-c.Done() }()
		head := func() *wire.RequestHead {
			return &wire.RequestHead{Target: []byte("thing"), Service: []byte(service), Method: []byte("Do"), Kind: wire.KindUnary}
		}
		caller, verified := head(), head()
		caller.Caller = []byte("root")
		verified.VerifiedCaller, verified.HasVerifiedCaller = []byte("root"), true
		for _, h := range []*wire.RequestHead{caller, verified} {
			answer, err := c.Call(h, nil)
			if err != nil {
				t.Fatal(err)
			}
			if a := await(t, "the refusal", answer); a.Status.Code != wire.InvalidArgument || a.Status.Reason != wire.ReasonBadHead ||
				a.Status.Disposition != wire.DispositionNotProcessed {
				t.Fatalf("got %+v", a.Status)
			}
		}
		answer, err := c.Call(head(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if a := await(t, "the neighbour's answer", answer); a.Status.Code != wire.OK {
			t.Fatalf("got %+v", a.Status)
		}
	})
}
