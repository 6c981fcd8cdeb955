package octomesh_test

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	octomesh "github.com/octomesh/octomesh/sdks/go"
	"github.com/octomesh/octomesh/sdks/go/internal/testproto"
)

// sized returns a message of n wire bytes.
func sized(n int) *message {
	// The field's tag and length take 5 bytes for lengths from 2 MiB.
	return &message{Data: make([]byte, n-5)}
}

const limit = 4 << 20

func TestMessagesUpToTheLimitPass(t *testing.T) {
	everywhere(t, echo{}, func(t *testing.T, c testproto.EchoClient) {
		ctx := within(t, 20*time.Second)
		for _, n := range []int{limit - 1, limit} {
			if m, err := c.Say(ctx, sized(n)); err != nil || len(m.Data) != n-5 {
				t.Fatalf("%d bytes: %v", n, err)
			}
		}
		_, err := c.Say(ctx, sized(limit+1))
		check(t, err, octomesh.Error{Code: octomesh.ResourceExhausted, Reason: octomesh.ReasonMessageTooLarge, Origin: octomesh.OriginServerSDK})
		_, err = c.Say(ctx, sized(limit), octomesh.MaxReceive(limit-1))
		check(t, err, octomesh.Error{Code: octomesh.ResourceExhausted, Reason: octomesh.ReasonMessageTooLarge, Origin: octomesh.OriginClientSDK})
		s, err := c.Chat(ctx)
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Send(sized(limit + 1))
		_, err = s.Receive()
		check(t, err, octomesh.Error{Code: octomesh.ResourceExhausted, Reason: octomesh.ReasonMessageTooLarge, Origin: octomesh.OriginServerSDK})
		if _, err := c.Say(ctx, &message{}); err != nil {
			t.Fatal("the connection did not go on:", err)
		}
	})
}

func TestGzipBothWaysAndItsBombs(t *testing.T) {
	c := client(t, echo{}, octomesh.WithLimits(octomesh.Limits{MaxReceive: 1 << 20}))
	ctx := within(t, 20*time.Second)
	noise := make([]byte, 300<<10) // more than the window, whatever gzip does
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	for _, data := range [][]byte{nil, bytes.Repeat([]byte("a"), 100_000), noise} {
		if m, err := c.Say(ctx, &message{Data: data}, octomesh.Compress("gzip")); err != nil || !bytes.Equal(m.Data, data) {
			t.Fatal(err)
		}
		s, err := c.Chat(ctx, octomesh.Compress("gzip"))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := s.Send(&message{Data: data}); err != nil {
				t.Fatal(err)
			}
			if m, err := s.Receive(); err != nil || !bytes.Equal(m.Data, data) {
				t.Fatal(err)
			}
		}
		s.Close()
	}
	_, err := c.Say(ctx, sized(4<<20), octomesh.Compress("gzip")) // a few KiB on the wire
	check(t, err, octomesh.Error{Code: octomesh.ResourceExhausted, Reason: octomesh.ReasonMessageTooLarge, Origin: octomesh.OriginServerSDK})
	if _, err := c.Say(ctx, &message{}); err != nil {
		t.Fatal(err)
	}
}

func TestThousandCallsInTheirHandlersAtOnceOnOneConnection(t *testing.T) {
	const calls = 1000
	for name, connect := range topologies {
		t.Run(name, func(t *testing.T) {
			var together sync.WaitGroup
			together.Add(calls)
			c := connect(t, echo{say: func(ctx context.Context, m *message) (*message, error) {
				together.Done()
				together.Wait()
				return m, nil
			}})
			ctx := within(t, 20*time.Second)
			var wg sync.WaitGroup
			for i := range int32(calls) {
				wg.Go(func() {
					m, err := c.Say(ctx, &message{Number: i, Data: make([]byte, 1024)})
					if err != nil || m.Number != i {
						t.Errorf("%d: %v, %v", i, m, err)
					}
				})
			}
			wg.Wait()
		})
	}
}

func TestBothEndsCallEachOtherInTheirHandlers(t *testing.T) {
	var a, b testproto.EchoClient
	relay := func(next *testproto.EchoClient) echo {
		return echo{say: func(ctx context.Context, m *message) (*message, error) {
			if m.Number == 0 {
				return m, nil
			}
			return (*next).Say(ctx, &message{Number: m.Number - 1, Data: m.Data})
		}}
	}
	a = client(t, relay(&b))
	b = client(t, relay(&a))
	ctx := within(t, 20*time.Second)
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if _, err := a.Say(ctx, &message{Number: 6, Data: make([]byte, 4096)}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestStreamOf64MiB(t *testing.T) {
	c := client(t, echo{collect: func(ctx context.Context, in *octomesh.ServerReceiver[message]) (*message, error) {
		sum := &message{}
		for m, err := range in.All() {
			if err != nil {
				return nil, err
			}
			sum.Number += int32(len(m.Data))
		}
		return sum, nil
	}})
	s, err := c.Collect(within(t, 20*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	m := &message{Data: make([]byte, 1<<20)}
	for range 64 {
		if err := s.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	if m, err := s.CloseAndReceive(); err != nil || m.Number != 64<<20 {
		t.Fatal(m, err)
	}
}

func TestSlowReaderStopsItsOwnStreamOnly(t *testing.T) {
	sent := make(chan int32, 1<<16)
	everywhere(t, echo{watch: func(ctx context.Context, m *message, out *octomesh.ServerSender[message]) error {
		for i := range m.Number {
			if err := out.Send(&message{Data: make([]byte, 16<<10)}); err != nil {
				return err
			}
			sent <- i
		}
		return nil
	}}, func(t *testing.T, c testproto.EchoClient) {
		ctx := within(t, 20*time.Second)
		const all = 200 // 3.2 MB, far over the window
		slow, err := c.Watch(ctx, &message{Number: all})
		if err != nil {
			t.Fatal(err)
		}
		for range 100 { // others go on while nobody reads the first
			if _, err := c.Say(ctx, &message{Data: make([]byte, 16<<10)}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(20 * time.Millisecond)
		if n := len(sent); n == 0 || n > 20 {
			t.Fatalf("the sender is %d messages ahead of a reader that does not read", n)
		}
		n := 0
		for _, err := range slow.All() {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != all {
			t.Fatalf("got %d of %d", n, all)
		}
		for range all {
			<-sent
		}
	})
}

func TestSlowHandlerStopsItsOwnStreamOnly(t *testing.T) {
	release := make(chan struct{})
	c := client(t, echo{chat: func(ctx context.Context, s *octomesh.ServerStream[message, message]) error {
		<-release
		for _, err := range s.All() {
			if err != nil {
				return err
			}
		}
		return nil
	}})
	ctx := within(t, 20*time.Second)
	s, err := c.Chat(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var sent int
	done := make(chan error)
	progress := make(chan int, 1000)
	go func() {
		for sent = range 100 {
			if err := s.Send(&message{Data: make([]byte, 16<<10)}); err != nil {
				done <- err
				return
			}
			progress <- sent
		}
		done <- s.CloseSend()
	}()
	for range 100 {
		if _, err := c.Say(ctx, &message{}); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(20 * time.Millisecond)
	if n := len(progress); n > 20 {
		t.Fatalf("sent %d messages to a handler that does not read", n)
	}
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, err := s.Receive(); err != io.EOF {
		t.Fatal(err)
	}
}

func TestGracefulStopLosesNothing(t *testing.T) {
	var handled sync.Map
	s := octomesh.NewServer("echo", octomesh.WithMode("off"), octomesh.WithListen("127.0.0.1:0"), quiet)
	testproto.RegisterEcho(s, echo{say: func(ctx context.Context, m *message) (*message, error) {
		time.Sleep(time.Millisecond)
		handled.Store(m.Number, true)
		return m, nil
	}})
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	if err := s.Ready(within(t, 5*time.Second)); err != nil {
		t.Fatal(err)
	}
	c := testproto.NewEchoClient(dial(t, octomesh.WithDirect(s.Addresses()[0].String())))
	var wg sync.WaitGroup
	for w := range int32(32) {
		wg.Go(func() {
			for i := w * 10_000; ; i++ {
				_, err := c.Say(within(t, 10*time.Second), &message{Number: i})
				if err == nil {
					continue
				}
				// The end: the server is gone, which the call surely has not reached.
				check(t, err, octomesh.Error{Code: octomesh.Unavailable, Reason: octomesh.ReasonProxyUnreachable,
					Disposition: octomesh.DispositionNotProcessed})
				if _, ok := handled.Load(i); ok {
					t.Errorf("call %d failed and ran", i)
				}
				return
			}
		})
	}
	time.Sleep(50 * time.Millisecond)
	cancel()
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	wg.Wait()
}

func TestStopDoesNotHangOnAHandlerThatIgnoresItsContext(t *testing.T) {
	release, began := make(chan struct{}), make(chan struct{})
	s := octomesh.NewServer("echo", octomesh.WithMode("off"), quiet)
	testproto.RegisterEcho(s, echo{say: func(ctx context.Context, m *message) (*message, error) {
		close(began)
		<-release
		return m, nil
	}})
	ch, err := octomesh.NewInProcess(s)
	if err != nil {
		t.Fatal(err)
	}
	done := start(testproto.NewEchoClient(ch).Say, "")
	<-began
	if err := s.Shutdown(within(t, 20*time.Millisecond)); err == nil {
		t.Fatal("Shutdown says that all handlers have returned")
	}
	check(t, (<-done).err, octomesh.Error{Code: octomesh.Unavailable, Reason: octomesh.ReasonDrainDeadline})
	close(release)
	_ = ch.Close()
}
