package octomesh_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
	octomesh "github.com/octomesh/octomesh/sdks/go"
	"github.com/octomesh/octomesh/sdks/go/directory"
	"github.com/octomesh/octomesh/sdks/go/internal/testproto"
)

// known is a Directory that says what a test wants.
type known struct {
	directory.UnimplementedDirectory
	mu      sync.Mutex
	now     *directoryv1.WatchResponse
	changed chan struct{}
	reports chan *directoryv1.ReportRequest
	asked   atomic.Int64
}

func newKnown(m *directoryv1.WatchResponse) *known {
	return &known{now: m, changed: make(chan struct{}), reports: make(chan *directoryv1.ReportRequest, 100)}
}

func (k *known) say(change func(m *directoryv1.WatchResponse)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.now = proto.CloneOf(k.now)
	change(k.now)
	close(k.changed)
	k.changed = make(chan struct{})
}

func (k *known) Watch(ctx context.Context, _ *directoryv1.WatchRequest, out *octomesh.ServerSender[directoryv1.WatchResponse]) error {
	k.asked.Add(1)
	for {
		k.mu.Lock()
		m, changed := k.now, k.changed
		k.mu.Unlock()
		if err := out.Send(m); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (k *known) Report(_ context.Context, r *directoryv1.ReportRequest) (*directoryv1.ReportResponse, error) {
	k.reports <- r
	return &directoryv1.ReportResponse{IntervalMs: 10_000}, nil
}

// present is what a Directory says of a target with instances at addresses.
func present(addresses ...string) *directoryv1.WatchResponse {
	m := &directoryv1.WatchResponse{Environment: "default", Target: "echo", State: directoryv1.WatchResponse_STATE_PRESENT, EndpointsRevision: 1}
	for _, a := range addresses {
		m.Endpoints = append(m.Endpoints, &directoryv1.Endpoint{Instance: a, DirectAddress: a, Weight: 100, DirectHealthy: true})
	}
	return m
}

func share(permille uint32, revision uint64) func(*directoryv1.WatchResponse) {
	return func(m *directoryv1.WatchResponse) {
		m.MeshSwitch = &directoryv1.MeshSwitch{Permille: permille, Revision: revision}
	}
}

// standIn is a server on a socket in the place of a proxy: it answers the calls itself, and as a Directory. It can die as a process does.
type standIn struct {
	*octomesh.Server
	mu    sync.Mutex
	l     net.Listener
	conns []net.Conn
	dead  bool
}

// Accept implements net.Listener.
func (s *standIn) Accept() (net.Conn, error) {
	nc, err := s.l.Accept()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead {
		_ = nc.Close()
		return nil, net.ErrClosed
	}
	s.conns = append(s.conns, nc)
	return nc, nil
}

func (s *standIn) Close() error { return s.l.Close() }

func (s *standIn) Addr() net.Addr { return s.l.Addr() }

// kill ends all that the others see of it, without a word.
func (s *standIn) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = true
	_ = s.l.Close()
	for _, nc := range s.conns {
		_ = nc.Close()
	}
}

func inPlaceOfProxy(t testing.TB, path string, e echo, k *known) *standIn {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &standIn{l: l}
	s.Server = octomesh.NewServer("echo", octomesh.WithMode("off"), octomesh.WithListener(s), quiet)
	testproto.RegisterEcho(s.Server, e)
	if k != nil {
		directory.RegisterDirectory(s.Server, k)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(context.Background()) }()
	t.Cleanup(func() {
		s.kill()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
		<-done
	})
	if err := s.Ready(within(t, 5*time.Second)); err != nil {
		t.Fatal(err)
	}
	return s
}

// saying is an echo whose answers say where it is.
func saying(where string) echo {
	return echo{say: func(context.Context, *message) (*message, error) { return &message{Text: where}, nil }}
}

// ways is a channel between a stand-in for the proxy and a direct server.
type ways struct {
	testproto.EchoClient
	ch     *octomesh.Channel
	known  *known
	proxy  *standIn
	socket string
	direct string
}

func newWays(t testing.TB, change func(*directoryv1.WatchResponse), opts ...octomesh.DialOption) *ways {
	t.Helper()
	w := &ways{socket: filepath.Join(t.TempDir(), "p")}
	_, w.direct = serve(t, saying("direct"), "127.0.0.1:0")
	w.known = newKnown(present(w.direct))
	if change != nil {
		w.known.say(change)
	}
	w.proxy = inPlaceOfProxy(t, w.socket, saying("mesh"), w.known)
	w.dial(t, opts...)
	if ready := within(t, 10*time.Second); w.ch.Ready(ready) != nil { // on a slow machine what is first tried takes longer than calls wait
		t.Fatal(w.ch.Status())
	}
	if s := w.ch.Status(); s.By != "environment" || s.Permille < 1000 { // else it asks nobody
		w.status(t, "the Directory's word", func(s octomesh.ChannelStatus) bool { return s.Source == "proxy" })
	}
	return w
}

func (w *ways) dial(t testing.TB, opts ...octomesh.DialOption) {
	t.Helper()
	ch, err := octomesh.Dial("echo", append([]octomesh.DialOption{octomesh.WithMode("auto"), octomesh.WithSocket(w.socket), quiet,
		octomesh.WithApplication(t.Name())}, opts...)...) // tests that run beside share no blocks
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ch.Close() })
	w.ch, w.EchoClient = ch, testproto.NewEchoClient(ch)
}

// went makes a call and returns which way it went, by both ends' word.
func (w *ways) went(t *testing.T, opts ...octomesh.CallOption) string {
	t.Helper()
	var p octomesh.Path
	m, err := w.Say(within(t, 10*time.Second), &message{}, append(opts, octomesh.CapturePath(&p))...)
	if err != nil {
		t.Fatal(err, w.ch.Status())
	}
	if m.Text != p.String() {
		t.Errorf("the call went %v, and %s answered", p, m.Text)
	}
	return m.Text
}

// status waits until the channel's status is as wanted.
func (w *ways) status(t testing.TB, want string, ok func(octomesh.ChannelStatus) bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(w.ch.Status()); {
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", want, w.ch.Status())
		}
		time.Sleep(time.Millisecond)
	}
}

func (w *ways) meshOf(t *testing.T, n int) (mesh int) {
	t.Helper()
	for range n {
		if w.went(t) == "mesh" {
			mesh++
		}
	}
	return mesh
}

// TestModeOnAsksNobody: whatever a Directory says, calls take the mesh (S-SWITCH-6).
func TestModeOnAsksNobody(t *testing.T) {
	t.Parallel()
	w := newWays(t, share(0, 1), octomesh.WithMode("on"))
	if n := w.meshOf(t, 20); n != 20 {
		t.Errorf("%d of 20 calls took the mesh", n)
	}
	if err := w.ch.Close(); err != nil { // which reports what is left, where anything is
		t.Error(err)
	}
	if n := w.known.asked.Load(); n != 0 || len(w.known.reports) > 0 {
		t.Errorf("it was asked %d times, and told %d times", n, len(w.known.reports))
	}
}

func TestShareIsExactAndChangesLive(t *testing.T) {
	t.Parallel()
	w := newWays(t, share(500, 1))
	if n := w.meshOf(t, 1000); n != 500 {
		t.Errorf("%d of 1000 calls at 500", n)
	}
	revision := uint64(1)
	for _, permille := range []uint32{0, 1000, 50, 1} {
		revision++
		w.known.say(share(permille, revision))
		w.status(t, "the new switch", func(s octomesh.ChannelStatus) bool { return s.Revision == revision })
		if s := w.ch.Status(); s.Permille != int(permille) || s.By != "console" || s.Source != "proxy" || s.Direct != 1 {
			t.Error(s)
		}
		if n := w.meshOf(t, 1000); n != int(permille) {
			t.Errorf("%d of 1000 calls at %d", n, permille)
		}
	}
	w.known.say(share(700, 2)) // an older word
	w.known.say(func(m *directoryv1.WatchResponse) { m.EndpointsRevision = 99; share(700, 3)(m) })
	if s := w.ch.Status(); s.Permille != 1 {
		t.Error(s)
	}
}

func TestChannelsAndGoroutinesShareABlock(t *testing.T) {
	t.Parallel()
	w := newWays(t, share(300, 1))
	other := *w
	other.dial(t)
	var calls, mesh atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			at := []*ways{w, &other}[i%2]
			for calls.Add(1) <= 3000 {
				if at.went(t) == "mesh" {
					mesh.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if mesh.Load() != 900 {
		t.Errorf("%d of 3000 calls at 300", mesh.Load())
	}
}

func TestKeysStay(t *testing.T) {
	t.Parallel()
	w := newWays(t, share(0, 1))
	const keys = 60
	inMesh := map[string]bool{}
	for i, permille := range []uint32{0, 100, 500, 900, 1000} {
		w.known.say(share(permille, uint64(i+2)))
		w.status(t, "the new switch", func(s octomesh.ChannelStatus) bool { return s.Revision == uint64(i+2) })
		for k := range keys {
			key := "user-" + strings.Repeat("x", k)
			where := w.went(t, octomesh.HashKey(key))
			if again := w.went(t, octomesh.HashKey(key)); again != where {
				t.Errorf("%s went %s and %s", key, where, again)
			}
			if inMesh[key] && where != "mesh" {
				t.Errorf("%s has left the mesh at %d", key, permille)
			}
			inMesh[key] = where == "mesh"
		}
	}
	// A trace that the caller carries is a key; one that an interceptor begins for the call is none.
	trace := octomesh.TraceContext{Traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
	ctx := octomesh.ContextWithTrace(within(t, 5*time.Second), trace)
	w.known.say(share(500, 50))
	w.status(t, "the new switch", func(s octomesh.ChannelStatus) bool { return s.Revision == 50 })
	began := *w
	began.dial(t, octomesh.WithInterceptors(func(ctx context.Context, call *octomesh.Call, next octomesh.Next) error {
		return next(octomesh.ContextWithTrace(ctx, trace), call)
	}))
	seen := map[octomesh.Path]int{}
	var p octomesh.Path
	for range 50 {
		if _, err := w.Say(ctx, &message{}, octomesh.CapturePath(&p)); err != nil {
			t.Fatal(err)
		}
		seen[p]++
	}
	if len(seen) != 1 {
		t.Error("calls of one trace went both ways:", seen)
	}
	if n := began.meshOf(t, 100); n == 0 || n == 100 {
		t.Error("a trace begun for a call decided for it")
	}
}

func TestKilledProxyIsGoneRoundAndComesBack(t *testing.T) {
	t.Parallel()
	w := newWays(t, nil)
	if n := w.meshOf(t, 20); n != 20 {
		t.Fatal(n)
	}
	var ran, failed, sent atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				sent.Add(1)
				if _, err := w.Say(within(t, 10*time.Second), &message{}); err != nil {
					if failed.Add(1); octomesh.CodeOf(err) != octomesh.Unavailable {
						t.Error(err)
					}
				} else {
					ran.Add(1)
				}
			}
		})
	}
	w.proxy.kill()
	w.status(t, "the proxy is away", func(s octomesh.ChannelStatus) bool { return s.Proxy == "direct" || s.Proxy == "probe" })
	close(stop)
	wg.Wait()
	if failed.Load() > 8 {
		t.Errorf("%d of %d calls failed: more than were in flight", failed.Load(), sent.Load())
	}
	if n := w.meshOf(t, 20); n != 0 {
		t.Errorf("%d calls went to a proxy that is dead", n)
	}
	inPlaceOfProxy(t, w.socket, saying("mesh"), w.known)
	w.status(t, "the proxy is back", func(s octomesh.ChannelStatus) bool { return s.Proxy == "returning" })
	if n := w.meshOf(t, 50); n == 50 {
		t.Error("all calls have returned at once")
	}
	w.status(t, "half of the way", func(s octomesh.ChannelStatus) bool { return s.Tenths >= 3 })
	if n := w.meshOf(t, 1000); n < 200 {
		t.Errorf("%d of 1000 calls on the way back", n)
	}
}

func TestProxyThatWasNeverThere(t *testing.T) {
	t.Parallel()
	_, direct := serve(t, saying("direct"), "127.0.0.1:0")
	w := &ways{socket: filepath.Join(t.TempDir(), "p")}
	w.dial(t, octomesh.WithDirect(direct))
	if n := w.meshOf(t, 20); n != 0 {
		t.Fatal(n)
	}
	if s := w.ch.Status(); s.Source != "option" || s.Proxy != "direct" && s.Proxy != "probe" || !s.Fallback {
		t.Error(s)
	}
	stream, err := w.Watch(within(t, 5*time.Second), &message{Number: 3})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err := range stream.All() {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 3 {
		t.Error(n)
	}
}

func TestWithoutFallbackCallsEndUnavailable(t *testing.T) {
	t.Parallel()
	forbid := func(m *directoryv1.WatchResponse) { m.DirectForbidden = true; share(0, 1)(m) }
	want := octomesh.Error{Code: octomesh.Unavailable, Reason: octomesh.ReasonProxyUnreachable,
		Origin: octomesh.OriginClientSDK, Disposition: octomesh.DispositionNotProcessed}
	for name, test := range map[string]struct {
		change func(*directoryv1.WatchResponse)
		opts   []octomesh.DialOption
		by     string
	}{
		"forbidden":            {forbid, nil, "target"},
		"forbidden by options": {nil, []octomesh.DialOption{octomesh.WithFallback(false)}, "default"},
		"mode on":              {nil, []octomesh.DialOption{octomesh.WithMode("on")}, "environment"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWays(t, test.change, test.opts...)
			if where := w.went(t); where != "mesh" {
				t.Fatal(where)
			}
			if s := w.ch.Status(); s.By != test.by || s.Fallback {
				t.Error(s)
			}
			w.proxy.kill()
			w.status(t, "the proxy is away", func(s octomesh.ChannelStatus) bool { return s.Proxy == "direct" || s.Proxy == "probe" })
			for range 3 {
				_, err := w.Say(within(t, 5*time.Second), &message{})
				check(t, err, want)
			}
		})
	}
}

// What is forbidden while the proxy is away and the disk knows it.
func TestForbiddenIsKnownWithoutAProxy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWays(t, func(m *directoryv1.WatchResponse) { m.DirectForbidden = true }, octomesh.WithState(dir))
	w.went(t)
	_ = w.ch.Close()
	w.proxy.kill()
	w.dial(t, octomesh.WithState(dir))
	_, err := w.Say(within(t, 5*time.Second), &message{})
	check(t, err, octomesh.Error{Code: octomesh.Unavailable, Reason: octomesh.ReasonProxyUnreachable, Disposition: octomesh.DispositionNotProcessed})
}

func TestColdStartFromTheDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWays(t, share(1000, 8), octomesh.WithState(dir))
	w.went(t)
	_ = w.ch.Close()
	w.proxy.kill()
	w.dial(t, octomesh.WithState(dir))
	if n := w.meshOf(t, 10); n != 0 {
		t.Fatal(n)
	}
	if s := w.ch.Status(); s.Source != "disk" || !s.Stale || s.Revision != 8 || s.Direct != 1 {
		t.Error(s)
	}
	// Not even the name of a proxy is needed.
	ch, err := octomesh.Dial("echo", octomesh.WithMode("off"), octomesh.WithState(dir), octomesh.WithSocket(""), octomesh.WithApplication(t.Name()), quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer ch.Close()
	if _, err := testproto.NewEchoClient(ch).Say(within(t, 5*time.Second), &message{}); err != nil {
		t.Fatal(err)
	}
}

func TestControlPlaneIsAskedWithoutAProxy(t *testing.T) {
	t.Parallel()
	_, direct := serve(t, saying("direct"), "127.0.0.1:0")
	plane := newKnown(present(direct))
	s := octomesh.NewServer("octo.directory", octomesh.WithMode("off"), octomesh.WithListen("127.0.0.1:0"), quiet)
	directory.RegisterDirectory(s, plane)
	run(t, s)
	at := octomesh.WithDirectory(s.Addresses()[0].String())
	w := &ways{socket: filepath.Join(t.TempDir(), "p")}
	w.dial(t, at)
	if err := w.ch.Ready(within(t, 5*time.Second)); err != nil {
		t.Fatal(err)
	}
	w.status(t, "instances by the control plane", func(s octomesh.ChannelStatus) bool { return s.Direct == 1 })
	if n := w.meshOf(t, 10); n != 0 {
		t.Fatal(n)
	}
	if s := w.ch.Status(); s.Source != "control plane" || s.Stale {
		t.Error(s)
	}
	// Where there is a proxy nobody asks the control plane.
	asked := plane.asked.Load()
	other := newWays(t, nil, at)
	other.went(t)
	if n := plane.asked.Load(); n != asked {
		t.Error("it was asked beside a proxy")
	}
	// But beside one that is stale.
	other.known.say(func(m *directoryv1.WatchResponse) { m.Stale, m.AgeMs = true, 10_000 })
	other.status(t, "the control plane's word", func(s octomesh.ChannelStatus) bool { return s.Source == "control plane" })
	other.known.say(func(m *directoryv1.WatchResponse) { m.Stale, m.AgeMs = false, 0 })
	other.status(t, "the proxy's word", func(s octomesh.ChannelStatus) bool { return s.Source == "proxy" })
}

// run serves until the test ends.
func run(t *testing.T, s *octomesh.Server) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	if err := s.Ready(within(t, 5*time.Second)); err != nil {
		t.Fatal(err)
	}
}

func TestInstancesComeAndGo(t *testing.T) {
	t.Parallel()
	w := newWays(t, share(0, 1))
	w.went(t)
	_, other := serve(t, saying("direct"), "127.0.0.1:0")
	w.known.say(func(m *directoryv1.WatchResponse) { m.Endpoints = present(other).Endpoints })
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for !stop.Load() {
				w.went(t)
			}
		})
	}
	for i := range 50 {
		all := [][]string{{w.direct}, {other}, {w.direct, other}}[i%3]
		w.known.say(func(m *directoryv1.WatchResponse) {
			m.Endpoints, m.EndpointsRevision = present(all...).Endpoints, uint64(10+i)
		})
		w.status(t, "the instances", func(s octomesh.ChannelStatus) bool { return s.Direct == len(all) })
	}
	stop.Store(true)
	wg.Wait()
	w.known.say(func(m *directoryv1.WatchResponse) { m.Endpoints = nil })
	w.status(t, "no instance", func(s octomesh.ChannelStatus) bool { return s.Direct == 0 })
	if where := w.went(t); where != "mesh" { // the share says direct, and nothing direct is known
		t.Error(where)
	}
}

func TestKillSwitchByFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "switch")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	w := newWays(t, share(1000, 1), octomesh.WithSwitchFile(file), octomesh.WithPermille(0))
	if where := w.went(t); where != "direct" {
		t.Fatal(where)
	}
	for _, step := range []struct{ text, by, where string }{
		{"echo on\n", "file", "mesh"}, {"* off\n", "file", "direct"}, {"other 0\necho auto\n", "console", "mesh"}, {"echo 0\n* 1000\n", "file", "direct"},
	} {
		write(step.text)
		before := w.ch.Status()
		w.status(t, step.text, func(s octomesh.ChannelStatus) bool { return s.By != before.By || s.Permille != before.Permille })
		if s := w.ch.Status(); s.By != step.by {
			t.Errorf("%q: %v", step.text, s)
		}
		if where := w.went(t); where != step.where {
			t.Errorf("%q: %s", step.text, where)
		}
	}
	write("echo 1000\nnonsense\n")
	time.Sleep(600 * time.Millisecond) // long enough to be looked at
	if where := w.went(t); where != "direct" {
		t.Error("a bad file has changed something")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	w.status(t, "without a file", func(s octomesh.ChannelStatus) bool { return s.By == "environment" })
}

func TestKillSwitchByEnvironment(t *testing.T) {
	_, direct := serve(t, saying("direct"), "127.0.0.1:0")
	w := newWays(t, share(1000, 1))
	t.Setenv("OCTO_PERMILLE", "0")
	w.dial(t)
	if s := w.ch.Status(); s.By != "environment" || w.went(t) != "direct" {
		t.Error(s)
	}
	for _, bad := range []string{"1001", "-1", "many", "on"} {
		t.Setenv("OCTO_PERMILLE", bad)
		if ch, err := octomesh.Dial("echo", octomesh.WithMode("auto"), octomesh.WithDirect(direct)); err == nil {
			_ = ch.Close()
			t.Errorf("OCTO_PERMILLE=%s was taken", bad)
		}
	}
}

func TestReportsTellWhatFallbackSaved(t *testing.T) {
	t.Parallel()
	w := newWays(t, nil)
	w.meshOf(t, 7)
	w.proxy.kill()
	w.status(t, "the proxy is away", func(s octomesh.ChannelStatus) bool { return s.Proxy == "direct" || s.Proxy == "probe" })
	w.meshOf(t, 5)
	if _, err := w.Say(within(t, 5*time.Second), &message{}, octomesh.Timeout(-1)); err == nil {
		t.Fatal("a call without time succeeded")
	}
	stream, err := w.Watch(within(t, 5*time.Second), &message{Number: 1})
	if err != nil {
		t.Fatal(err)
	}
	for range stream.All() {
	}
	inPlaceOfProxy(t, w.socket, saying("mesh"), w.known)
	w.status(t, "the proxy is back", func(s octomesh.ChannelStatus) bool { return s.Proxy == "returning" })
	_ = w.ch.Close() // which reports what is left
	r := <-w.known.reports
	got := map[directoryv1.PathReport_Path]*directoryv1.PathReport{}
	for _, p := range r.Paths {
		got[p.Path] = p
		var unary uint64
		for _, n := range p.LatencyBuckets {
			unary += n
		}
		if p.Target != "echo" || unary != map[directoryv1.PathReport_Path]uint64{1: 7, 2: 5}[p.Path] {
			t.Errorf("%v", p)
		}
	}
	mesh, direct := got[directoryv1.PathReport_PATH_MESH], got[directoryv1.PathReport_PATH_DIRECT]
	if mesh.GetCalls() != 7 || mesh.GetSavedByFallback() != 6 || direct.GetCalls() != 6 || direct.GetSavedByFallback() != 0 || len(mesh.Errors)+len(direct.Errors) > 0 {
		t.Errorf("mesh %v, direct %v", mesh, direct)
	}
	if r.Application == "" || r.Instance == "" || r.Incarnation != octomesh.ProcessIncarnation() {
		t.Error(r)
	}
}

func TestErrorsAreReportedByCodeAndOrigin(t *testing.T) {
	t.Parallel()
	w := newWays(t, nil)
	ctx := within(t, 5*time.Second)
	method := &octomesh.Method{Service: "octo.sdk.test.v1.Echo", Name: "Nothing"}
	for range 3 {
		if _, err := octomesh.CallUnary[message, message](ctx, w.ch, method, &message{}, nil); octomesh.CodeOf(err) != octomesh.Unimplemented {
			t.Fatal(err)
		}
	}
	_ = w.ch.Close()
	r := <-w.known.reports
	if len(r.Paths) != 1 || r.Paths[0].Calls != 3 || !slices.EqualFunc(r.Paths[0].Errors,
		[]*directoryv1.ErrorCount{{Code: int32(octomesh.Unimplemented), Origin: int32(octomesh.OriginServerSDK), Count: 3}},
		func(a, b *directoryv1.ErrorCount) bool { return proto.Equal(a, b) }) {
		t.Fatal(r)
	}
}

// A channel that knows of nothing but a Directory waits for what that says.
func TestFirstCallWaitsForASlowDirectory(t *testing.T) {
	t.Parallel()
	_, direct := serve(t, saying("direct"), "127.0.0.1:0")
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and serves later
	if err != nil {
		t.Fatal(err)
	}
	w := &ways{}
	ch, err := octomesh.Dial("echo", octomesh.WithMode("auto"), octomesh.WithSocket(""), octomesh.WithApplication(t.Name()),
		octomesh.WithDirectory(l.Addr().String()), quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ch.Close() })
	w.ch, w.EchoClient = ch, testproto.NewEchoClient(ch)
	time.AfterFunc(150*time.Millisecond, func() {
		s := octomesh.NewServer("octo.directory", octomesh.WithMode("off"), octomesh.WithListener(l), quiet)
		directory.RegisterDirectory(s, newKnown(present(direct)))
		go func() { _ = s.Serve(t.Context()) }()
	})
	if where := w.went(t); where != "direct" {
		t.Error(where)
	}
}

func TestNobodyKnowsAnInstance(t *testing.T) {
	t.Parallel()
	ch, err := octomesh.Dial("echo", octomesh.WithMode("off"), octomesh.WithState(t.TempDir()), octomesh.WithApplication(t.Name()), quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer ch.Close()
	c := testproto.NewEchoClient(ch)
	_, err = c.Say(within(t, 5*time.Second), &message{})
	check(t, err, octomesh.Error{Code: octomesh.Unavailable, Reason: octomesh.ReasonNoEndpoint, Origin: octomesh.OriginClientSDK, Disposition: octomesh.DispositionNotProcessed})
	_, err = c.Say(within(t, 100*time.Millisecond), &message{}, octomesh.WaitForReady())
	check(t, err, octomesh.Error{Code: octomesh.DeadlineExceeded, Reason: octomesh.ReasonDeadline, Disposition: octomesh.DispositionNotProcessed})
}
