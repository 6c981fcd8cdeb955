package octomesh_test

import (
	"context"
	"io"
	"testing"
	"time"

	octomesh "github.com/octomesh/octomesh/sdks/go"
	"github.com/octomesh/octomesh/sdks/go/internal/testproto"
)

// everywhere runs a test in each topology.
func everywhere(t *testing.T, e testproto.EchoServer, f func(t *testing.T, c testproto.EchoClient), opts ...octomesh.Option) {
	for name, connect := range topologies {
		t.Run(name, func(t *testing.T) { f(t, connect(t, e, opts...)) })
	}
}

func TestUnary(t *testing.T) {
	everywhere(t, echo{}, func(t *testing.T, c testproto.EchoClient) {
		got, err := c.Say(within(t, 5*time.Second), &message{Text: "hello", Data: []byte{0, 1}, Number: -1})
		if err != nil || got.Text != "hello" || string(got.Data) != "\x00\x01" || got.Number != -1 {
			t.Fatalf("got %v, %v", got, err)
		}
	})
}

func TestServerStreamOfNoneOneAndMany(t *testing.T) {
	everywhere(t, echo{}, func(t *testing.T, c testproto.EchoClient) {
		for _, want := range []int32{0, 1, 1000} {
			s, err := c.Watch(within(t, 5*time.Second), &message{Number: want})
			if err != nil {
				t.Fatal(err)
			}
			var n int32
			for m, err := range s.All() {
				if err != nil {
					t.Fatal(err)
				}
				if m.Number != n {
					t.Fatalf("message %d came as number %d", m.Number, n)
				}
				n++
			}
			if n != want {
				t.Fatalf("got %d messages, want %d", n, want)
			}
		}
	})
}

func TestClientStreamOfNoneOneAndMany(t *testing.T) {
	everywhere(t, echo{}, func(t *testing.T, c testproto.EchoClient) {
		for _, n := range []int32{0, 1, 1000} {
			s, err := c.Collect(within(t, 5*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			for range n {
				if err := s.Send(&message{Number: 2}); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := s.CloseAndReceive(); err != nil || got.Number != 2*n {
				t.Fatalf("got %v, %v, want %d", got, err, 2*n)
			}
		}
	})
}

func TestBidiFullDuplexAndHalfDuplex(t *testing.T) {
	everywhere(t, echo{}, func(t *testing.T, c testproto.EchoClient) {
		s, err := c.Chat(within(t, 5*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		for i := range int32(100) {
			if err := s.Send(&message{Number: i}); err != nil {
				t.Fatal(err)
			}
			if m, err := s.Receive(); err != nil || m.Number != i {
				t.Fatalf("got %v, %v, want %d", m, err, i)
			}
		}
		for i := range int32(100) {
			if err := s.Send(&message{Number: i}); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		for i := range int32(100) {
			if m, err := s.Receive(); err != nil || m.Number != i {
				t.Fatalf("got %v, %v, want %d", m, err, i)
			}
		}
		if m, err := s.Receive(); err != io.EOF {
			t.Fatalf("got %v, %v after the end", m, err)
		}
	})
}

func TestEmptyMessagesAreMessages(t *testing.T) {
	everywhere(t, echo{}, func(t *testing.T, c testproto.EchoClient) {
		if _, err := c.Say(within(t, 5*time.Second), &message{}); err != nil {
			t.Fatal(err)
		}
		s, err := c.Chat(within(t, 5*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := s.Send(&message{}); err != nil {
				t.Fatal(err)
			}
		}
		_ = s.CloseSend()
		n := 0
		for _, err := range s.All() {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != 3 {
			t.Fatalf("got %d empty messages of 3", n)
		}
	})
}

func TestServerMayFinishWhileTheClientSends(t *testing.T) {
	e := echo{chat: func(ctx context.Context, s *octomesh.ServerStream[message, message]) error {
		if _, err := s.Receive(); err != nil {
			return err
		}
		return octomesh.Errorf(octomesh.OutOfRange, "enough")
	}}
	everywhere(t, e, func(t *testing.T, c testproto.EchoClient) {
		s, err := c.Chat(within(t, 5*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			err = s.Send(&message{Data: make([]byte, 1000)})
		}
		if err != io.EOF {
			t.Fatalf("Send ended with %v, want io.EOF", err)
		}
		_, err = s.Receive()
		check(t, err, octomesh.Error{Code: octomesh.OutOfRange, Origin: octomesh.OriginApplication,
			Disposition: octomesh.DispositionProcessed})
		if s.Unsent() != 1 {
			t.Fatalf("%d unsent, want 1", s.Unsent())
		}
	})
}

func TestACancelledStreamIsNotHalfClosed(t *testing.T) {
	whole := make(chan struct{}, 1000)
	c := client(t, echo{collect: func(_ context.Context, in *octomesh.ServerReceiver[message]) (*message, error) {
		for {
			if _, err := in.Receive(); err == io.EOF {
				whole <- struct{}{}
				return &message{}, nil
			} else if err != nil {
				return nil, err
			}
		}
	}})
	for range cap(whole) {
		ctx, cancel := context.WithCancel(within(t, 10*time.Second))
		s, err := c.Collect(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Send(&message{}); err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, err := s.CloseAndReceive(); octomesh.CodeOf(err) != octomesh.Cancelled {
			t.Fatal(err)
		}
	}
	if n := len(whole); n > 0 {
		t.Fatalf("%d handlers took a part for the whole", n)
	}
}
