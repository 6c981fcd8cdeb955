package octomesh_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	octomesh "github.com/octomesh/octomesh/sdks/go"
	"github.com/octomesh/octomesh/sdks/go/internal/testproto"
)

// journal notes what interceptors see.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) note(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
}

func (j *journal) take() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	lines := j.lines
	j.lines = nil
	return lines
}

// watching is an interceptor that notes a whole call.
func (j *journal) watching(name string) octomesh.Interceptor {
	return func(ctx context.Context, call *octomesh.Call, next octomesh.Next) error {
		call.OnSend(func(m proto.Message) error { j.note("%s sends %d", name, m.(*message).Number); return nil })
		call.OnReceive(func(m proto.Message) error { j.note("%s receives %d", name, m.(*message).Number); return nil })
		call.OnEnd(func(err error) { j.note("%s ends %v", name, octomesh.CodeOf(err)) })
		j.note("%s begins %s", name, call.Method.Name)
		return next(ctx, call)
	}
}

func TestInterceptorsSeeUnaryCallsAndStreamsAtBothEnds(t *testing.T) {
	var j, far journal
	s := octomesh.NewServer("echo", octomesh.WithMode("off"), octomesh.WithInterceptors(far.watching("s")))
	testproto.RegisterEcho(s, echo{})
	ch, err := octomesh.NewInProcess(s, octomesh.WithInterceptors(j.watching("a"), j.watching("b")))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown(within(t, 5*time.Second))
	defer ch.Close()
	c := testproto.NewEchoClient(ch)
	if _, err := c.Say(within(t, 5*time.Second), &message{Number: 7}); err != nil {
		t.Fatal(err)
	}
	want := []string{"a begins Say", "b begins Say", "a sends 7", "b sends 7", "b receives 7", "a receives 7", "b ends OK", "a ends OK"}
	if got := j.take(); !slices.Equal(got, want) {
		t.Fatalf("got %q\nwant %q", got, want)
	}
	if got, want := far.take(), []string{"s begins Say", "s receives 7", "s sends 7", "s ends OK"}; !slices.Equal(got, want) {
		t.Fatalf("got %q\nwant %q", got, want)
	}
	stream, err := c.Watch(within(t, 5*time.Second), &message{Number: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range stream.All() {
		if err != nil {
			t.Fatal(err)
		}
	}
	want = []string{"a begins Watch", "b begins Watch", "a sends 2", "b sends 2", "b receives 0", "a receives 0",
		"b receives 1", "a receives 1", "b ends OK", "a ends OK"}
	if got := j.take(); !slices.Equal(got, want) {
		t.Fatalf("got %q\nwant %q", got, want)
	}
	if got, want := far.take(), []string{"s begins Watch", "s receives 2", "s sends 0", "s sends 1", "s ends OK"}; !slices.Equal(got, want) {
		t.Fatalf("got %q\nwant %q", got, want)
	}
}

func TestInterceptorMayAnswerChangeAndRefuse(t *testing.T) {
	sentinel := errors.New("not today")
	handled := 0
	around := func(i octomesh.Interceptor) testproto.EchoClient {
		s := octomesh.NewServer("echo", octomesh.WithMode("off"))
		testproto.RegisterEcho(s, echo{say: func(ctx context.Context, m *message) (*message, error) {
			handled++
			m.Text += octomesh.IncomingMetadata(ctx).Get("x-added")
			return m, nil
		}})
		ch, err := octomesh.NewInProcess(s, octomesh.WithInterceptors(i))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ch.Close(); _ = s.Shutdown(within(t, 5*time.Second)) })
		return testproto.NewEchoClient(ch)
	}
	c := around(func(_ context.Context, call *octomesh.Call, _ octomesh.Next) error {
		call.Response = &message{Text: "from memory"}
		return nil
	})
	if m, err := c.Say(within(t, 5*time.Second), &message{}); err != nil || m.Text != "from memory" || handled != 0 {
		t.Fatal(m, err)
	}
	c = around(func(context.Context, *octomesh.Call, octomesh.Next) error { return sentinel })
	_, err := c.Say(within(t, 5*time.Second), &message{})
	check(t, err, octomesh.Error{Code: octomesh.Unknown, Origin: octomesh.OriginClientSDK})
	if !errors.Is(err, sentinel) || handled != 0 {
		t.Fatal(err)
	}
	if _, err = c.Chat(within(t, 5*time.Second)); !errors.Is(err, sentinel) {
		t.Fatal(err)
	}
	c = around(func(ctx context.Context, call *octomesh.Call, next octomesh.Next) error {
		call.With(octomesh.Header("x-added", "!"))
		call.Request = &message{Text: "changed"}
		return next(ctx, call)
	})
	if m, err := c.Say(within(t, 5*time.Second), &message{Text: "as it was"}); err != nil || m.Text != "changed!" {
		t.Fatal(m, err)
	}
}

func TestServersInterceptorMayRefuseAndAddToTheContext(t *testing.T) {
	type key struct{}
	guard := func(ctx context.Context, call *octomesh.Call, next octomesh.Next) error {
		if octomesh.IncomingMetadata(ctx).Get("x-token") == "" {
			return octomesh.Errorf(octomesh.Unauthenticated, "no token")
		}
		return next(context.WithValue(ctx, key{}, "known"), call)
	}
	s := octomesh.NewServer("echo", octomesh.WithMode("off"), octomesh.WithInterceptors(guard))
	testproto.RegisterEcho(s, echo{say: func(ctx context.Context, m *message) (*message, error) {
		return &message{Text: ctx.Value(key{}).(string)}, nil
	}})
	ch, err := octomesh.NewInProcess(s)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Shutdown(within(t, 5*time.Second))
	defer ch.Close()
	c := testproto.NewEchoClient(ch)
	_, err = c.Say(within(t, 5*time.Second), &message{})
	check(t, err, octomesh.Error{Code: octomesh.Unauthenticated, Origin: octomesh.OriginApplication})
	if m, err := c.Say(within(t, 5*time.Second), &message{}, octomesh.Header("x-token", "t")); err != nil || m.Text != "known" {
		t.Fatal(m, err)
	}
	chat, err := c.Chat(within(t, 5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	_, err = chat.Receive()
	check(t, err, octomesh.Error{Code: octomesh.Unauthenticated, Origin: octomesh.OriginApplication})
}
