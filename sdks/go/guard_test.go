package octomesh

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/octomesh/octomesh/core/wire"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
	"github.com/octomesh/octomesh/sdks/go/internal/meshswitch"
)

type word = wrapperspb.StringValue

var (
	sayWhere   = &Method{Service: "octo.sdk.test.v1.Where", Name: "Say", Kind: Unary}
	againWhere = &Method{Service: "octo.sdk.test.v1.Where", Name: "Say", Kind: Unary, Idempotent: true}
)

// inMemory is a server, reached by pipes.
type inMemory struct {
	*Server
	calls atomic.Int64
}

func newInMemory(where string) *inMemory {
	m := &inMemory{Server: NewServer("echo", WithMode("off"), WithLogger(slog.New(slog.DiscardHandler)))}
	m.RegisterService(ServiceDesc{Name: sayWhere.Service, Methods: []MethodDesc{{Method: *sayWhere, Handler: UnaryHandler(func(context.Context, *word) (*word, error) {
		m.calls.Add(1)
		return wrapperspb.String(where), nil
	})}}})
	return m
}

func (m *inMemory) connect(context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	m.take(newSession(m.Server, far, false))
	return near, nil
}

func (m *inMemory) end() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = m.Shutdown(ctx)
}

// theProxy is how dials of the proxy end, one after the other as a test sets it.
type theProxy struct {
	dial  atomic.Pointer[func(context.Context) (net.Conn, error)]
	dials atomic.Int64
}

func (p *theProxy) is(dial func(context.Context) (net.Conn, error)) { p.dial.Store(&dial) }

func (p *theProxy) connect(ctx context.Context) (net.Conn, error) {
	p.dials.Add(1)
	return (*p.dial.Load())(ctx)
}

func absent(context.Context) (net.Conn, error) { return nil, errors.New("nobody listens") }

// mute accepts and says nothing; silent says WELCOME and then nothing.
func mute(context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	go func() {
		for b := make([]byte, 1<<16); ; {
			if _, err := far.Read(b); err != nil {
				return
			}
		}
	}()
	return near, nil
}

func silent(context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	go silence(far)
	return near, nil
}

// bothWays is a channel between a proxy that the test sets and a direct server, in virtual time.
type bothWays struct {
	*Channel
	proxy  *theProxy
	direct *inMemory
	mesh   *inMemory
}

func inVirtualTime(t *testing.T, test func(t *testing.T, w *bothWays)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cfg := newConfig()
		cfg.mode, cfg.socket, cfg.application = modeAuto, "/nowhere", t.Name()
		cfg.directory, cfg.state, cfg.switchFile, cfg.permille = nil, "", "", ""
		if err := cfg.finish(); err != nil {
			t.Fatal(err)
		}
		w := &bothWays{Channel: newChannel("echo", cfg), proxy: &theProxy{}, direct: newInMemory("direct"), mesh: newInMemory("mesh")}
		mesh := newMeshPath(cfg, cfg.proxy)
		mesh.peer.connect = w.proxy.connect
		r := &route{ch: w.Channel, mesh: mesh, fixed: inProcessPool(cfg, w.direct.connect), word: meshswitch.Word{}}
		w.path, w.way = r, r
		defer func() {
			_ = w.Close()
			w.direct.end()
			w.mesh.end()
		}()
		test(t, w)
	})
}

func (w *bothWays) went(t *testing.T) Path {
	t.Helper()
	var p Path
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := CallUnary[word, word](ctx, w.Channel, sayWhere, &word{}, []CallOption{CapturePath(&p)}); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestProxyThatSaysNoWelcomeCostsCallsFiftyMilliseconds(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, w *bothWays) {
		w.proxy.is(mute)
		begin := time.Now()
		if p := w.went(t); p != PathDirect || time.Since(begin) != 50*time.Millisecond {
			t.Errorf("%v after %v", p, time.Since(begin))
		}
		begin = time.Now()
		if p := w.went(t); p != PathDirect || time.Since(begin) != 0 {
			t.Errorf("the second: %v after %v", p, time.Since(begin))
		}
		if s := w.Status(); s.Proxy != "suspect" {
			t.Error(s)
		}
		time.Sleep(2 * time.Second)
		if s := w.Status(); s.Proxy != "direct" {
			t.Error(s)
		}
	})
}

func TestProxyThatIsNotThereCostsCallsNothing(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, w *bothWays) {
		w.proxy.is(absent)
		begin := time.Now()
		if p := w.went(t); p != PathDirect || time.Since(begin) != 0 {
			t.Errorf("%v after %v", p, time.Since(begin))
		}
	})
}

// The first calls of a process wait for the switch, 50 ms at most.
func TestFirstCallsWaitForTheSwitch(t *testing.T) {
	for _, late := range []time.Duration{0, 49 * time.Millisecond, time.Second} {
		inVirtualTime(t, func(t *testing.T, w *bothWays) {
			watch := func(ctx context.Context, _ *directoryv1.WatchRequest, out *ServerSender[directoryv1.WatchResponse]) error {
				time.Sleep(late)
				_ = out.Send(&directoryv1.WatchResponse{Target: "echo", State: directoryv1.WatchResponse_STATE_PRESENT, MeshSwitch: &directoryv1.MeshSwitch{Revision: 1}})
				<-ctx.Done()
				return nil
			}
			w.mesh.RegisterService(ServiceDesc{Name: watchMethod.Service, Methods: []MethodDesc{{Method: watchMethod, Handler: ServerStreamHandler(watch)}}})
			w.proxy.is(w.mesh.connect)
			w.way.known = watchTarget(w)
			begin := time.Now()
			want := PathDirect
			if late > firstWordWait {
				want = PathMesh // the default
			}
			if p := w.went(t); p != want || time.Since(begin) != min(late, firstWordWait) {
				t.Errorf("%v late: %v after %v", late, p, time.Since(begin))
			}
			time.Sleep(time.Second)
			if p := w.went(t); p != PathDirect {
				t.Error(p)
			}
		})
	}
}

func watchTarget(w *bothWays) *watcher { return watch(w.cfg, "echo") }

// The proxy is stopped while a call waits: it is noticed within 3 s. What may run twice goes again; what may not ends UNKNOWN.
func TestStoppedProxyIsNoticedWhileACallWaits(t *testing.T) {
	for _, idempotent := range []bool{false, true} {
		inVirtualTime(t, func(t *testing.T, w *bothWays) {
			w.proxy.is(silent)
			m := sayWhere
			if idempotent {
				m = againWhere
			}
			var p Path
			begin := time.Now()
			done := make(chan error)
			go func() {
				_, err := CallUnary[word, word](t.Context(), w.Channel, m, &word{}, []CallOption{CapturePath(&p)})
				done <- err
			}()
			time.Sleep(1500*time.Millisecond + time.Millisecond) // a miss has been seen
			if s := w.Status(); s.Proxy != "suspect" {
				t.Error(s)
			}
			at := time.Now()
			if other := w.went(t); other != PathDirect || time.Since(at) > 50*time.Millisecond {
				t.Errorf("another call: %v after %v", other, time.Since(at))
			}
			err := <-done
			if took := time.Since(begin); took > 3*time.Second {
				t.Errorf("noticed after %v", took)
			}
			var e *Error
			switch {
			case idempotent && (err != nil || p != PathDirect):
				t.Error(err, p)
			case !idempotent && (!errors.As(err, &e) || e.Reason != ReasonConnectionLost || e.Disposition != DispositionUnknown):
				t.Error(err)
			}
			if s := w.Status(); s.Proxy != "direct" {
				t.Error(s)
			}
		})
	}
}

func TestStoppedProxyWithoutCallsIsNoticedWithinFifteenSeconds(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, w *bothWays) {
		w.proxy.is(silent)
		if err := w.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(16 * time.Second)
		if s := w.Status(); s.Proxy != "direct" && s.Proxy != "probe" {
			t.Error(s)
		}
	})
}

// The way back: probes after 1 s doubling to 10 s, ±50 %, then ten steps over 10 s.
func TestWayBackIsProbedAndRamped(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, w *bothWays) {
		w.proxy.is(absent)
		w.went(t)
		for n, pause := range []time.Duration{1, 2, 4, 8, 10, 10} {
			begin, dials := time.Now(), w.proxy.dials.Load()
			for w.proxy.dials.Load() == dials {
				time.Sleep(time.Millisecond)
				synctest.Wait()
			}
			if took := time.Since(begin); took < pause*time.Second/2 || took > pause*time.Second*3/2+time.Millisecond {
				t.Errorf("probe %d after %v", n, took)
			}
			if p := w.went(t); p != PathDirect {
				t.Error(p)
			}
		}
		w.proxy.is(w.mesh.connect)
		for w.Status().Proxy != "returning" {
			time.Sleep(time.Millisecond)
			synctest.Wait()
		}
		for tenths := 1; tenths <= 10; tenths++ {
			if s := w.Status(); s.Tenths != tenths {
				t.Fatalf("step %d: %v", tenths, s)
			}
			before := w.mesh.calls.Load()
			for range 1000 {
				w.went(t)
			}
			if n := w.mesh.calls.Load() - before; n != int64(100*tenths) {
				t.Errorf("step %d: %d of 1000 calls", tenths, n)
			}
			time.Sleep(time.Second)
			synctest.Wait()
		}
		if s := w.Status(); s.Proxy != "mesh" {
			t.Error(s)
		}
	})
}

func TestPausedProxyIsTrustedAgainWithItsFirstByte(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, w *bothWays) {
		w.proxy.is(silent)
		if err := w.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			_, err := CallUnary[word, word](ctx, w.Channel, sayWhere, &word{}, nil)
			done <- err
		}()
		time.Sleep(1500*time.Millisecond + time.Millisecond)
		if s := w.Status(); s.Proxy != "suspect" {
			t.Fatal(s)
		}
		l := w.way.mesh.peer.usable()
		_, _ = l.feed(wire.Header{Type: wire.TypePong, BodyLen: 8}.Append(nil)) // in place of the reader, who waits for bytes
		if s := w.Status(); s.Proxy != "mesh" || s.Tenths != 10 {
			t.Fatal(s)
		}
		cancel()
		<-done
	})
}

func TestConnectionsToInstancesAreBounded(t *testing.T) {
	var c connects
	now := time.Unix(1000, 0)
	for n := range connectsAtOnce {
		if !c.take(now, 0.5) {
			t.Fatalf("the %dth at once was refused", n)
		}
	}
	taken := 0
	for ms := range 10_000 {
		if c.take(now.Add(time.Duration(ms)*time.Millisecond), 0.5) {
			taken++
		}
	}
	if taken < 195 || taken > 205 {
		t.Errorf("%d in 10 s", taken)
	}
	if !c.take(now.Add(time.Hour), 0.5) || c.left != connectsAtOnce-1 {
		t.Errorf("%d after a pause", c.left)
	}
}

func TestBucketsAreThoseOfReports(t *testing.T) {
	for d, want := range map[time.Duration]int{
		0: 0, 1: 0, time.Microsecond: 0, 1001: 1, 2 * time.Microsecond: 1, 3 * time.Microsecond: 2, 4 * time.Microsecond: 2, 4001: 3,
		time.Millisecond: 10, 1024 * time.Microsecond: 10, 1025 * time.Microsecond: 11, time.Second: 20, time.Hour: latencyBuckets - 1, 1 << 62: latencyBuckets - 1,
	} {
		if got := bucket(d); got != want {
			t.Errorf("%v counts in %d, want %d", d, got, want)
		}
	}
}
