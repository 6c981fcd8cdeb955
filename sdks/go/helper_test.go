package octomesh_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/transport/identity/identitytest"
	octomesh "github.com/octomesh/octomesh/sdks/go"
	"github.com/octomesh/octomesh/sdks/go/internal/testproto"
)

type message = testproto.Message

// echo is the tests' service. A method without a function of its own echoes.
type echo struct {
	say     func(context.Context, *message) (*message, error)
	watch   func(context.Context, *message, *octomesh.ServerSender[message]) error
	collect func(context.Context, *octomesh.ServerReceiver[message]) (*message, error)
	chat    func(context.Context, *octomesh.ServerStream[message, message]) error
	again   func(context.Context, *message) (*message, error)
}

func (e echo) Say(ctx context.Context, m *message) (*message, error) {
	if e.say != nil {
		return e.say(ctx, m)
	}
	return &message{Data: m.Data, Text: m.Text, Number: m.Number}, nil
}

func (e echo) Again(ctx context.Context, m *message) (*message, error) {
	if e.again != nil {
		return e.again(ctx, m)
	}
	return m, nil
}

func (e echo) Watch(ctx context.Context, m *message, out *octomesh.ServerSender[message]) error {
	if e.watch != nil {
		return e.watch(ctx, m, out)
	}
	for i := range m.Number {
		if err := out.Send(&message{Number: i, Data: m.Data}); err != nil {
			return err
		}
	}
	return nil
}

func (e echo) Collect(ctx context.Context, in *octomesh.ServerReceiver[message]) (*message, error) {
	if e.collect != nil {
		return e.collect(ctx, in)
	}
	sum := &message{}
	for m, err := range in.All() {
		if err != nil {
			return nil, err
		}
		sum.Number += m.Number
		sum.Data = append(sum.Data, m.Data...)
	}
	return sum, nil
}

func (e echo) Chat(ctx context.Context, s *octomesh.ServerStream[message, message]) error {
	if e.chat != nil {
		return e.chat(ctx, s)
	}
	for m, err := range s.All() {
		if err != nil {
			return err
		}
		if err := s.Send(m); err != nil {
			return err
		}
	}
	return nil
}

var quiet = octomesh.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))

// serve starts a direct server at address and stops it at the test's end. It returns where it listens.
func serve(t testing.TB, e testproto.EchoServer, address string, opts ...octomesh.ServerOption) (*octomesh.Server, string) {
	t.Helper()
	opts = append([]octomesh.ServerOption{octomesh.WithMode("off"), octomesh.WithListen(address), quiet}, opts...)
	s := octomesh.NewServer("echo", opts...)
	testproto.RegisterEcho(s, e)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	ready, stop := context.WithTimeout(ctx, 5*time.Second)
	defer stop()
	if err := s.Ready(ready); err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(address, "unix:") {
		return s, address
	}
	return s, s.Addresses()[0].String()
}

// dial returns a channel to direct servers, closed at the test's end, before the servers stop.
func dial(t testing.TB, opts ...octomesh.DialOption) *octomesh.Channel {
	t.Helper()
	ch, err := octomesh.Dial("echo", append([]octomesh.DialOption{octomesh.WithMode("off")}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ch.Close() })
	return ch
}

// topologies are the ways in which a client reaches a server in these tests. Each gives a client.
var topologies = map[string]func(t testing.TB, e testproto.EchoServer, opts ...octomesh.Option) testproto.EchoClient{
	"tcp": func(t testing.TB, e testproto.EchoServer, opts ...octomesh.Option) testproto.EchoClient {
		_, at := serve(t, e, "127.0.0.1:0", forServer(opts)...)
		return testproto.NewEchoClient(dial(t, append(forDial(opts), octomesh.WithDirect(at))...))
	},
	"tls": func(t testing.TB, e testproto.EchoServer, opts ...octomesh.Option) testproto.EchoClient {
		opts = append([]octomesh.Option{inTest, withTLS(identitytest.New(t).Files(t.TempDir(), id("echo")))}, opts...)
		_, at := serve(t, e, "127.0.0.1:0", forServer(opts)...)
		return testproto.NewEchoClient(dial(t, append(forDial(opts), octomesh.WithDirect(at))...))
	},
	"unix": func(t testing.TB, e testproto.EchoServer, opts ...octomesh.Option) testproto.EchoClient {
		_, at := serve(t, e, "unix:"+filepath.Join(t.TempDir(), "s"), forServer(opts)...)
		return testproto.NewEchoClient(dial(t, append(forDial(opts), octomesh.WithDirect(at))...))
	},
	"in process": func(t testing.TB, e testproto.EchoServer, opts ...octomesh.Option) testproto.EchoClient {
		return testproto.NewEchoClient(inProcess(t, e, opts...))
	},
}

func inProcess(t testing.TB, e testproto.EchoServer, opts ...octomesh.Option) *octomesh.Channel {
	t.Helper()
	s := octomesh.NewServer("echo", append(forServer(opts), octomesh.WithMode("off"), quiet)...)
	testproto.RegisterEcho(s, e)
	ch, err := octomesh.NewInProcess(s, forDial(opts)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = ch.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return ch
}

func forServer(opts []octomesh.Option) []octomesh.ServerOption {
	var all []octomesh.ServerOption
	for _, o := range opts {
		all = append(all, o)
	}
	return all
}

func forDial(opts []octomesh.Option) []octomesh.DialOption {
	var all []octomesh.DialOption
	for _, o := range opts {
		all = append(all, o)
	}
	return all
}

// client is the topology for tests to which it does not matter.
func client(t testing.TB, e testproto.EchoServer, opts ...octomesh.Option) testproto.EchoClient {
	return topologies["unix"](t, e, opts...)
}

// within gives a test's calls an end, so that a hang shows as an error.
func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// check compares an error with what the specification says of it; a zero field of want is not compared.
func check(t testing.TB, err error, want octomesh.Error) {
	t.Helper()
	var e *octomesh.Error
	if !errors.As(err, &e) {
		t.Fatalf("error is %v, want %v", err, &want)
	}
	if e.Code != want.Code || e.Reason != want.Reason ||
		want.Origin != 0 && e.Origin != want.Origin || want.Disposition != 0 && e.Disposition != want.Disposition {
		t.Fatalf("error is %v, want %v", e, &want)
	}
}

// goroutines returns the stacks of the SDK's goroutines.
func goroutines() []string {
	var b strings.Builder
	_ = pprof.Lookup("goroutine").WriteTo(&b, 2)
	var all []string
	for _, g := range strings.Split(b.String(), "\n\n") {
		if strings.Contains(g, "sdks/go.(*") && !strings.Contains(g, "_test.") {
			all = append(all, g)
		}
	}
	return all
}

// TestMain fails if the SDK leaves goroutines behind.
func TestMain(m *testing.M) {
	code := m.Run()
	for n := 0; len(goroutines()) > 0; n++ {
		if n == 50 {
			fmt.Fprintln(os.Stderr, "goroutines left:\n"+strings.Join(goroutines(), "\n\n"))
			code = 1
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	os.Exit(code)
}
