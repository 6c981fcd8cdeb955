package meshtest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	octomesh "github.com/octomesh/octomesh/sdks/go"
)

func TestEveryKindOfCall(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		ch := w.pair(thing{})
		ctx := within(t, long)
		if got, err := unary(ctx, ch, do, text("hello")); err != nil || string(got.Value) != "hello" {
			t.Fatalf("unary: %v, %v", got, err)
		}
		for _, n := range []int{0, 1, 1000} {
			if got := watched(t, ctx, ch, bytes.Repeat([]byte("x"), n)); len(got) != n {
				t.Fatalf("server stream: %d messages, want %d", len(got), n)
			}
			if got := collected(t, ctx, ch, n, "x"); len(got) != n {
				t.Fatalf("client stream: %d bytes, want %d", len(got), n)
			}
			chatted(t, ctx, ch, n)
		}
	})
}

// watched is the messages of a server stream.
func watched(t *testing.T, ctx context.Context, ch *octomesh.Channel, req []byte) (all []*msg) {
	t.Helper()
	s, err := octomesh.CallServerStream[msg, msg](ctx, ch, watch, text(string(req)), nil)
	if err != nil {
		t.Fatal(err)
	}
	for m, err := range s.All() {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

// collected is the response to n messages.
func collected(t *testing.T, ctx context.Context, ch *octomesh.Channel, n int, each string) []byte {
	t.Helper()
	s, err := octomesh.CallClientStream[msg, msg](ctx, ch, collect, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		if err := s.Send(text(each)); err != nil {
			t.Fatal(err)
		}
	}
	got, err := s.CloseAndReceive()
	if err != nil {
		t.Fatal(err)
	}
	return got.Value
}

// chatted has each of n messages answered before the next.
func chatted(t *testing.T, ctx context.Context, ch *octomesh.Channel, n int) {
	t.Helper()
	s, err := octomesh.CallBidiStream[msg, msg](ctx, ch, chat, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		want := []byte{byte(i), byte(i >> 8)}
		if err := s.Send(text(string(want))); err != nil {
			t.Fatal(err)
		}
		if got, err := s.Receive(); err != nil || !bytes.Equal(got.Value, want) {
			t.Fatalf("answer %d: %v, %v", i, got, err)
		}
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if m, err := s.Receive(); !errors.Is(err, io.EOF) {
		t.Fatalf("after the last: %v, %v", m, err)
	}
}

func TestEmptyMessageIsAMessage(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		seen := make(chan int, 1)
		ch := w.pair(thing{
			watch: func(_ context.Context, _ *msg, out *octomesh.ServerSender[msg]) error { return out.Send(&msg{}) },
			collect: func(_ context.Context, in *octomesh.ServerReceiver[msg]) (*msg, error) {
				n := 0
				for _, err := range in.All() {
					if err != nil {
						return nil, err
					}
					n++
				}
				seen <- n
				return &msg{}, nil
			},
		})
		ctx := within(t, long)
		if got, err := unary(ctx, ch, do, &msg{}); err != nil || got == nil {
			t.Fatalf("unary: %v, %v", got, err)
		}
		if got := watched(t, ctx, ch, nil); len(got) != 1 {
			t.Fatalf("%d messages, want an empty one", len(got))
		}
		for _, n := range []int{0, 1, 3} {
			collected(t, ctx, ch, n, "")
			if got := await(t, "the count", seen); got != n {
				t.Fatalf("the handler saw %d messages, want %d empty ones", got, n)
			}
		}
		chatted(t, ctx, ch, 0)
	})
}

// overhead is what a message of this size has beside its bytes: a tag and a length of four bytes.
const overhead = 1 + 4

func TestMessagesUpToTheLimitPassBothWays(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		const limit = 4 << 20
		ch := w.pair(thing{})
		answers := w.dial("caller", "thing")
		ctx := within(t, long)
		for _, size := range []int{1, limit - 1, limit} {
			body := make([]byte, max(size-overhead, 1))
			body[len(body)-1] = 7
			got, err := unary(ctx, ch, do, text(string(body)))
			if err != nil || !bytes.Equal(got.Value, body) {
				t.Fatalf("%d bytes: %v", size, err)
			}
		}
		_, err := unary(ctx, ch, do, &msg{Value: make([]byte, limit+1-overhead)})
		check(t, err, octomesh.Error{Code: octomesh.ResourceExhausted, Reason: octomesh.ReasonMessageTooLarge, Origin: octomesh.OriginServerSDK})
		_, err = unary(ctx, answers, do, &msg{Value: make([]byte, 2000)}, octomesh.MaxReceive(1000))
		check(t, err, octomesh.Error{Code: octomesh.ResourceExhausted, Reason: octomesh.ReasonMessageTooLarge, Origin: octomesh.OriginClientSDK})
		if got, err := unary(ctx, ch, do, text("then")); err != nil || string(got.Value) != "then" {
			t.Fatalf("a call after it: %v", err)
		}
	})
}

func TestAnswerOverTheLimitEndsItsCallOnly(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		const limit = 4 << 20
		ch := w.pair(thing{do: func(_ context.Context, m *msg) (*msg, error) {
			if len(m.Value) == 0 {
				return m, nil
			}
			return &msg{Value: make([]byte, limit+1-overhead)}, nil
		}})
		ctx := within(t, long)
		_, err := unary(ctx, ch, do, text("large"))
		check(t, err, octomesh.Error{Code: octomesh.ResourceExhausted, Reason: octomesh.ReasonMessageTooLarge, Origin: octomesh.OriginClientSDK})
		if _, err := unary(ctx, ch, do, &msg{}); err != nil {
			t.Fatalf("a call after it: %v", err)
		}
	})
}

func TestLargeStreamBothWays(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		ch := w.pair(thing{})
		s, err := octomesh.CallBidiStream[msg, msg](within(t, long), ch, chat, nil)
		if err != nil {
			t.Fatal(err)
		}
		const each, n = 1 << 20, much
		sent := make(chan error, 1)
		go func() {
			for i := range n {
				if err := s.Send(&msg{Value: bytes.Repeat([]byte{byte(i)}, each)}); err != nil {
					sent <- err
					return
				}
			}
			sent <- s.CloseSend()
		}()
		for i := range n {
			m, err := s.Receive()
			if err != nil || len(m.Value) != each || m.Value[0] != byte(i) || m.Value[each-1] != byte(i) {
				t.Fatalf("message %d: %d bytes, %v", i, len(m.GetValue()), err)
			}
		}
		if _, err := s.Receive(); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	})
}

func TestCompressedMessages(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		ch := w.pair(thing{})
		body := bytes.Repeat([]byte("squeeze me "), 100_000)
		got, err := unary(within(t, long), ch, do, text(string(body)), octomesh.Compress("gzip"))
		if err != nil || !bytes.Equal(got.Value, body) {
			t.Fatalf("%d bytes, %v", len(got.GetValue()), err)
		}
	})
}

func TestUnknownServiceMethodAndKind(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		ch := w.pair(thing{})
		ctx := within(t, long)
		for _, c := range []struct {
			m      *octomesh.Method
			reason octomesh.Reason
		}{
			{&octomesh.Method{Service: "octo.test.v1.Nothing", Name: "Do", Kind: octomesh.Unary}, octomesh.ReasonUnknownService},
			{&octomesh.Method{Service: service, Name: "Nothing", Kind: octomesh.Unary}, octomesh.ReasonUnknownMethod},
			{&octomesh.Method{Service: service, Name: "Chat", Kind: octomesh.Unary}, octomesh.ReasonUnknownMethod},
		} {
			_, err := unary(ctx, ch, c.m, text("x"))
			check(t, err, octomesh.Error{Code: octomesh.Unimplemented, Reason: c.reason, Origin: octomesh.OriginServerSDK,
				Disposition: octomesh.DispositionNotProcessed})
		}
	})
}

func TestInterceptorsStandInOrder(t *testing.T) {
	everywhere(t, func(t *testing.T, w *world) {
		order := make(chan string, 16)
		mark := func(name string) octomesh.Interceptor {
			return func(ctx context.Context, call *octomesh.Call, next octomesh.Next) error {
				side := "client "
				if call.Server {
					side = "server "
				}
				order <- side + name + " in"
				err := next(ctx, call)
				order <- side + name + " out"
				return err
			}
		}
		ch := w.pair(thing{}, octomesh.WithInterceptors(mark("1"), mark("2")))
		if _, err := unary(within(t, long), ch, do, text("x")); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			"client 1 in", "client 2 in", "server 1 in", "server 2 in",
			"server 2 out", "server 1 out", "client 2 out", "client 1 out",
		} {
			if got := await(t, "an interceptor", order); got != want {
				t.Fatalf("%q, want %q", got, want)
			}
		}
	})
}
