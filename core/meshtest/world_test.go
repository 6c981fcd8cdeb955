package meshtest_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/octomesh/octomesh/conformance/faults/link"
	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/proxy"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type msg = wrapperspb.BytesValue

func text(s string) *msg { return wrapperspb.Bytes([]byte(s)) }

// The tests' service has a method of each kind.
const service = "octo.test.v1.Thing"

var (
	do      = &octomesh.Method{Service: service, Name: "Do", Kind: octomesh.Unary}
	again   = &octomesh.Method{Service: service, Name: "Again", Kind: octomesh.Unary, Idempotent: true}
	watch   = &octomesh.Method{Service: service, Name: "Watch", Kind: octomesh.ServerStreaming}
	collect = &octomesh.Method{Service: service, Name: "Collect", Kind: octomesh.ClientStreaming}
	chat    = &octomesh.Method{Service: service, Name: "Chat", Kind: octomesh.BidiStreaming}
)

// thing is the service. What is nil echoes: watch once for each byte of the request, collect with all bytes
// together.
type thing struct {
	do, again func(context.Context, *msg) (*msg, error)
	watch     func(context.Context, *msg, *octomesh.ServerSender[msg]) error
	collect   func(context.Context, *octomesh.ServerReceiver[msg]) (*msg, error)
	chat      func(context.Context, *octomesh.ServerStream[msg, msg]) error
}

func (h thing) desc() octomesh.ServiceDesc {
	echo := func(_ context.Context, m *msg) (*msg, error) { return m, nil }
	if h.do == nil {
		h.do = echo
	}
	if h.again == nil {
		h.again = echo
	}
	if h.watch == nil {
		h.watch = watchBytes
	}
	if h.collect == nil {
		h.collect = collectBytes
	}
	if h.chat == nil {
		h.chat = chatEcho
	}
	return octomesh.ServiceDesc{Name: service, Methods: []octomesh.MethodDesc{
		{Method: *do, Handler: octomesh.UnaryHandler(h.do)},
		{Method: *again, Handler: octomesh.UnaryHandler(h.again)},
		{Method: *watch, Handler: octomesh.ServerStreamHandler(h.watch)},
		{Method: *collect, Handler: octomesh.ClientStreamHandler(h.collect)},
		{Method: *chat, Handler: octomesh.BidiStreamHandler(h.chat)},
	}}
}

func watchBytes(_ context.Context, m *msg, out *octomesh.ServerSender[msg]) error {
	for _, b := range m.Value {
		if err := out.Send(text(string([]byte{b}))); err != nil {
			return err
		}
	}
	return nil
}

func collectBytes(_ context.Context, in *octomesh.ServerReceiver[msg]) (*msg, error) {
	all := &msg{}
	for m, err := range in.All() {
		if err != nil {
			return nil, err
		}
		all.Value = append(all.Value, m.Value...)
	}
	return all, nil
}

func chatEcho(_ context.Context, s *octomesh.ServerStream[msg, msg]) error {
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

// world is applications that serve and call. In the mesh each has a proxy of its own.
type world struct {
	t    testing.TB
	mesh bool
	// configure, if set, changes the configuration of an application's proxy.
	configure func(application string, cfg *proxy.Config)

	mu        sync.Mutex
	proxies   map[string]*meshtest.Proxy // by application
	endpoints map[string][]string        // of targets: proxies' addresses, or servers'
}

// everywhere runs a test in both topologies, at once.
func everywhere(t *testing.T, f func(t *testing.T, w *world)) {
	t.Parallel()
	for name, mesh := range map[string]bool{"mesh": true, "direct": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, newWorld(t, mesh))
		})
	}
}

func newWorld(t testing.TB, mesh bool) *world {
	return &world{t: t, mesh: mesh, proxies: make(map[string]*meshtest.Proxy), endpoints: make(map[string][]string)}
}

var quiet = octomesh.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil)))

// proxy returns the proxy beside an application.
func (w *world) proxy(application string) *meshtest.Proxy {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.proxies[application]
	if p == nil {
		var err error
		cfg := proxy.Config{Log: logTo(w.t)}
		if w.configure != nil {
			w.configure(application, &cfg)
		}
		if p, err = meshtest.StartProxy(w.t.TempDir(), cfg); err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(p.Close)
		w.proxies[application] = p
		w.publish(p)
	}
	return p
}

func (w *world) publish(p *meshtest.Proxy) {
	w.t.Helper()
	all := make(map[string][]string, len(w.endpoints))
	for target, addresses := range w.endpoints {
		all[target] = slices.Clone(addresses)
	}
	if err := p.Endpoints(all); err != nil {
		w.t.Fatal(err)
	}
}

// add makes an instance of a target known everywhere.
func (w *world) add(target, address string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if slices.Contains(w.endpoints[target], address) {
		return
	}
	w.endpoints[target] = append(w.endpoints[target], address)
	for _, p := range w.proxies {
		w.publish(p)
	}
}

// withdraw takes an instance out everywhere.
func (w *world) withdraw(target, address string) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.endpoints[target] = slices.DeleteFunc(w.endpoints[target], func(a string) bool { return a == address })
	for _, p := range w.proxies {
		w.publish(p)
	}
}

// serve starts a server of a target beside the target's proxy, or one that listens, and stops it at the end.
func (w *world) serve(target string, h thing, opts ...octomesh.ServerOption) *octomesh.Server {
	w.t.Helper()
	base := []octomesh.ServerOption{octomesh.WithApplication(target), octomesh.WithEnvironment(meshtest.Environment), quiet}
	if w.mesh {
		base = append(base, octomesh.WithMode("on"), octomesh.WithSocket(w.proxy(target).Socket))
	} else {
		base = append(base, octomesh.WithMode("off"), octomesh.WithListen("127.0.0.1:0"))
	}
	s := octomesh.NewServer(target, append(base, opts...)...)
	s.RegisterService(h.desc())
	run(w.t, s)
	if w.mesh {
		w.add(target, w.proxy(target).Address)
	} else {
		w.add(target, s.Addresses()[0].String())
	}
	return s
}

// run serves until the test's end and waits until the server is ready.
func run(t testing.TB, s *octomesh.Server) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background()) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if err := s.Ready(within(t, 10*time.Second)); err != nil {
		t.Fatalf("the server is not ready: %v", err)
	}
}

// dial returns an application's channel to a target that is served already.
func (w *world) dial(application, target string, opts ...octomesh.DialOption) *octomesh.Channel {
	w.t.Helper()
	base := []octomesh.DialOption{octomesh.WithApplication(application), octomesh.WithEnvironment(meshtest.Environment),
		octomesh.WithInstance(application + "@" + w.t.Name()), quiet}
	if w.mesh {
		base = append(base, octomesh.WithMode("on"), octomesh.WithSocket(w.proxy(application).Socket))
	} else {
		w.mu.Lock()
		base = append(base, octomesh.WithMode("off"), octomesh.WithDirect(w.endpoints[target]...))
		w.mu.Unlock()
	}
	ch, err := octomesh.Dial(target, append(base, opts...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = ch.Close() })
	return ch
}

// pair is a server and a channel to it.
func (w *world) pair(h thing, opts ...octomesh.Option) *octomesh.Channel {
	w.t.Helper()
	var forServer []octomesh.ServerOption
	var forDial []octomesh.DialOption
	for _, o := range opts {
		forServer, forDial = append(forServer, o), append(forDial, o)
	}
	w.serve("thing", h, forServer...)
	return w.dial("caller", "thing", forDial...)
}

// unary calls a unary method.
func unary(ctx context.Context, ch *octomesh.Channel, m *octomesh.Method, req *msg, opts ...octomesh.CallOption) (*msg, error) {
	return octomesh.CallUnary[msg, msg](ctx, ch, m, req, opts)
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// long is how long a test's calls may take before they count as hung.
const long = 30 * time.Second

// check compares an error with what the specification says; a zero field of want is not compared.
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

// eventually waits for what no event tells.
func eventually(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(long); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s did not come", what)
		}
	}
}

// await waits for an event.
func await[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(long):
		t.Fatalf("%s did not come", what)
		panic("unreachable")
	}
}

// cable lays a cable to a proxy's socket.
func cable(t testing.TB, p *meshtest.Proxy) (*link.Link, string) {
	t.Helper()
	c, err := link.To("unix", filepath.Join(t.TempDir(), "c.sock"), p.Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, c.Address()
}

// logTo shows a proxy's warnings where a test fails.
func logTo(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(&testLog{t: t}, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

type testLog struct{ t testing.TB }

func (l *testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

func asError(err error) *octomesh.Error {
	var e *octomesh.Error
	if !errors.As(err, &e) {
		return &octomesh.Error{}
	}
	return e
}
