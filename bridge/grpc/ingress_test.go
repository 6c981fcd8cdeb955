package grpc_test

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// everyKind makes a call of each kind.
func everyKind(t *testing.T, cc *grpc.ClientConn) {
	t.Helper()
	ctx := within(t)
	got, err := do(ctx, cc, []byte("hello"))
	if err != nil || string(got) != "hello" {
		t.Fatalf("unary: %q, %v", got, err)
	}
	s := stream(t, ctx, cc, "Watch")
	send(t, s, []byte("abc"))
	_ = s.CloseSend()
	for _, want := range []string{"a", "b", "c"} {
		if got := receive(t, s); got != want {
			t.Fatalf("watch: %q, want %q", got, want)
		}
	}
	ended(t, s)
	s = stream(t, ctx, cc, "Collect")
	for range 3 {
		send(t, s, []byte("xy"))
	}
	_ = s.CloseSend()
	if got := receive(t, s); got != "xyxyxy" {
		t.Fatalf("collect: %q", got)
	}
	ended(t, s)
	s = stream(t, ctx, cc, "Chat")
	for _, one := range []string{"1", "", "3"} {
		send(t, s, []byte(one))
		if got := receive(t, s); got != one {
			t.Fatalf("chat: %q, want %q", got, one)
		}
	}
	_ = s.CloseSend()
	ended(t, s)
}

func TestStockClientReachesAServiceOfTheSDK(t *testing.T) {
	m := startMesh(t, nil)
	m.serve(t, thing{})
	for name, address := range map[string]string{"tcp": m.tcp, "unix": "unix:" + m.client.Socket} {
		t.Run(name, func(t *testing.T) { everyKind(t, dial(t, address, nil)) })
	}
}

func TestMessagesOfAnySizePassWhole(t *testing.T) {
	m := startMesh(t, nil)
	m.serve(t, thing{})
	cc := dial(t, m.tcp, nil)
	for _, size := range []int{0, 1, 100, 16379, 16384, 60 << 10, 64<<10 + 1, 256 << 10, 3 << 20} {
		body := bytes.Repeat([]byte{byte(size), 7, 3}, size/3+1)[:size]
		got, err := do(within(t), cc, body)
		if err != nil || !bytes.Equal(got, body) {
			t.Fatalf("%d bytes: got %d, %v", size, len(got), err)
		}
	}
	s := stream(t, within(t), cc, "Chat")
	body := bytes.Repeat([]byte("0123456789abcdef"), 40<<10) // 640 KiB
	for range 5 {
		send(t, s, body)
		if got := receive(t, s); got != string(body) {
			t.Fatalf("got %d bytes", len(got))
		}
	}
	_ = s.CloseSend()
	ended(t, s)
}

func TestErrorsMetadataAndTrailersPass(t *testing.T) {
	m := startMesh(t, nil)
	m.serve(t, thing{do: func(ctx context.Context, in *msg) (*msg, error) {
		for k, v := range octomesh.IncomingMetadata(ctx).All() {
			switch k {
			case "octo-origin", "te":
				return nil, octomesh.Errorf(octomesh.Internal, "%s came through", k)
			case "asked", "asked-bin":
				_ = octomesh.SetHeader(ctx, k, v)
			}
		}
		_ = octomesh.SetTrailer(ctx, "last", "word")
		_ = octomesh.SetTrailer(ctx, "last-bin", "\x00\xff")
		if len(in.Value) > 0 {
			return nil, octomesh.Errorf(octomesh.FailedPrecondition, "nicht möglich: 100%%\n")
		}
		return in, nil
	}})
	cc := dial(t, m.tcp, nil)
	for _, fails := range []bool{false, true} {
		ctx := metadata.AppendToOutgoingContext(within(t), "asked", "one", "asked", "two", "asked-bin", "\x01\x02\xfe", "octo-origin", "forged")
		var header, trailer metadata.MD
		var body []byte
		if fails {
			body = []byte("x")
		}
		_, err := do(ctx, cc, body, grpc.Header(&header), grpc.Trailer(&trailer))
		if fails {
			if s := status.Convert(err); s.Code() != codes.FailedPrecondition || s.Message() != "nicht möglich: 100%\n" {
				t.Fatalf("%v", err)
			}
		} else if err != nil {
			t.Fatal(err)
		} else if got := header["asked"]; len(got) != 2 || got[0] != "one" || got[1] != "two" || header.Get("asked-bin")[0] != "\x01\x02\xfe" {
			t.Fatalf("headers %v", header)
		}
		if got := trailer.Get("last"); len(got) != 1 || got[0] != "word" || trailer.Get("last-bin")[0] != "\x00\xff" {
			t.Fatalf("trailers %v", trailer)
		}
		if got := trailer.Get("octo-origin"); len(got) != 0 {
			t.Fatalf("an answer of the application's says it is of %v", got)
		}
	}
}

func TestDeadlinesAndCancellationReachTheHandler(t *testing.T) {
	m := startMesh(t, nil)
	over := make(chan error, 2)
	left := make(chan time.Duration, 2)
	m.serve(t, thing{do: func(ctx context.Context, _ *msg) (*msg, error) {
		d := time.Duration(0)
		if end, ok := ctx.Deadline(); ok {
			d = time.Until(end)
		}
		left <- d
		<-ctx.Done()
		over <- ctx.Err()
		return nil, ctx.Err()
	}})
	cc := dial(t, m.tcp, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	_, err := do(ctx, cc, nil)
	want(t, err, codes.DeadlineExceeded)
	if d := <-left; d <= 0 || d > 200*time.Millisecond {
		t.Fatalf("the handler had %v", d)
	}
	<-over
	ctx, cancel = context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { _, err := do(ctx, cc, nil); done <- err }()
	if d := <-left; d != 0 {
		t.Fatalf("the handler had a deadline: %v", d)
	}
	cancel()
	want(t, <-done, codes.Canceled)
	if err := <-over; !errors.Is(err, context.Canceled) {
		t.Fatalf("the handler's context ended: %v", err)
	}
}

func TestTheMeshSaysThatItRefused(t *testing.T) {
	m := startMesh(t, nil)
	m.serve(t, thing{})
	cc := dial(t, m.tcp, nil)
	for path, code := range map[string]codes.Code{
		"/octo.test.v1.Nobody/Do":   codes.Unavailable,
		"/octo.test.v1.Thing/Never": codes.Unimplemented,
	} {
		var trailer metadata.MD
		err := cc.Invoke(within(t), path, &msg{}, &msg{}, grpc.Trailer(&trailer))
		if path == "/octo.test.v1.Nobody/Do" {
			code = status.Code(err)
			if code != codes.Unimplemented && code != codes.Unavailable {
				t.Fatalf("%v", err)
			}
		}
		want(t, err, code)
		if len(trailer.Get("octo-origin")) != 1 || len(trailer.Get("octo-reason")) != 1 {
			t.Errorf("%s: %v, trailers %v", path, err, trailer)
		}
	}
}

func TestASlowReaderHoldsUpItselfAlone(t *testing.T) {
	m := startMesh(t, nil)
	var sent atomic.Int64
	m.serve(t, thing{chat: func(ctx context.Context, s *octomesh.ServerStream[msg, msg]) error {
		body := text(string(make([]byte, 32<<10)))
		for range 512 { // 16 MiB
			if err := s.Send(body); err != nil {
				return err
			}
			sent.Add(32 << 10)
		}
		return nil
	}})
	cc := dial(t, m.tcp, nil)
	slow := stream(t, within(t), cc, "Chat")
	for range 50 {
		if _, err := do(within(t), cc, make([]byte, 20<<10)); err != nil {
			t.Fatal(err)
		}
	}
	if n := sent.Load(); n > 4<<20 {
		t.Errorf("%d bytes wait for a client that reads none", n)
	}
	for range 512 {
		if got := receive(t, slow); len(got) != 32<<10 {
			t.Fatalf("%d bytes", len(got))
		}
	}
	ended(t, slow)
}

func TestClientsMoveWhenTheProxyLeaves(t *testing.T) {
	m := startMesh(t, nil)
	release := make(chan struct{})
	entered := make(chan struct{})
	m.serve(t, thing{do: func(_ context.Context, in *msg) (*msg, error) {
		close(entered)
		<-release
		return in, nil
	}})
	cc := dial(t, m.tcp, nil)
	done := make(chan error, 1)
	go func() { _, err := do(within(t), cc, []byte("x")); done <- err }()
	<-entered
	drained := make(chan int, 1)
	go func() { drained <- m.client.Drain(context.Background()) }()
	close(release)
	if err := <-done; err != nil {
		t.Errorf("the call that was open: %v", err)
	}
	if cut := <-drained; cut != 0 {
		t.Errorf("%d calls were cut off", cut)
	}
}
