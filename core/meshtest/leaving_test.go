package meshtest_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/wire"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// underLoad runs a test of leaving at low and at high concurrency, at once.
func underLoad(t *testing.T, f func(t *testing.T, callers int)) {
	t.Parallel()
	for _, callers := range []int{2, 32} {
		t.Run(fmt.Sprint(callers, " callers"), func(t *testing.T) {
			t.Parallel()
			f(t, callers)
		})
	}
}

// instance starts another instance of target "thing", beside a proxy of its own.
func (w *world) instance(name string, h thing) *octomesh.Server {
	w.t.Helper()
	p := w.proxy(name)
	opts := []octomesh.ServerOption{octomesh.WithSocket(p.Socket), octomesh.WithInstance(name)}
	w.mu.Lock()
	w.proxies["thing"] = p // serve takes it
	w.mu.Unlock()
	return w.serve("thing", h, opts...)
}

func TestDrainOfAServersProxyFailsNoCall(t *testing.T) {
	underLoad(t, func(t *testing.T, callers int) {
		w, l := newWorld(t, true), newLedger()
		w.instance("one", l.thing())
		w.instance("two", l.thing())
		o := l.start(t, w.dial("caller", "thing"), callers)
		o.progress(200)
		if cut := w.proxy("one").Drain(context.Background()); cut != 0 {
			t.Errorf("%d calls were cut off", cut)
		}
		o.progress(200)
		o.end()
		l.check(t, nil)
	})
}

// Without a successor the callers' channel has nowhere to go: what it cannot send surely did not run.
func TestDrainOfTheCallersProxyLosesNoCall(t *testing.T) {
	underLoad(t, func(t *testing.T, callers int) {
		w, l := newWorld(t, true), newLedger()
		w.serve("thing", l.thing())
		o := l.start(t, w.dial("caller", "thing"), callers)
		o.progress(200)
		if cut := w.proxy("caller").Drain(context.Background()); cut != 0 {
			t.Errorf("%d calls were cut off", cut)
		}
		o.progress(10)
		o.end()
		l.check(t, func(e *octomesh.Error) bool {
			return e.Code == octomesh.Unavailable && e.Disposition == octomesh.DispositionNotProcessed
		})
	})
}

func TestShutdownOfAServerFailsNoCall(t *testing.T) {
	underLoad(t, func(t *testing.T, callers int) {
		t.Run("beside the same proxy", func(t *testing.T) {
			t.Parallel()
			w, l := newWorld(t, true), newLedger()
			leaving := w.instance("one", l.thing())
			w.instance("one", l.thing())
			shutdownUnderLoad(t, w, l, leaving, callers)
		})
		t.Run("withdrawn before", func(t *testing.T) {
			t.Parallel()
			w, l := newWorld(t, true), newLedger()
			leaving := w.instance("one", l.thing())
			w.instance("two", l.thing())
			ch := w.dial("caller", "thing")
			o := l.start(t, ch, callers)
			o.progress(200)
			w.withdraw("thing", w.proxy("one").Address)
			o.stopServer(leaving)
			// What was on its way to the instance comes back. The SDK sends unary calls again, streams it
			// does not.
			l.check(t, func(e *octomesh.Error) bool {
				return e.Reason == octomesh.ReasonProxyUnready && e.Disposition == octomesh.DispositionNotProcessed
			})
		})
		t.Run("direct", func(t *testing.T) {
			t.Parallel()
			w, l := newWorld(t, false), newLedger()
			leaving := w.serve("thing", l.thing())
			w.serve("thing", l.thing())
			shutdownUnderLoad(t, w, l, leaving, callers)
		})
	})
}

// Nobody has told the callers' proxy that the instance is gone: what it sends there comes back, and none
// of it has run.
func TestShutdownOfAServerThatIsStillKnownLosesNoCall(t *testing.T) {
	underLoad(t, func(t *testing.T, callers int) {
		w, l := newWorld(t, true), newLedger()
		leaving := w.instance("one", l.thing())
		w.instance("two", l.thing())
		o := l.start(t, w.dial("caller", "thing"), callers)
		o.progress(200)
		o.stopServer(leaving)
		l.check(t, func(e *octomesh.Error) bool {
			return e.Reason == octomesh.ReasonProxyUnready && e.Disposition == octomesh.DispositionNotProcessed
		})
	})
}

func shutdownUnderLoad(t *testing.T, w *world, l *ledger, leaving *octomesh.Server, callers int) {
	t.Helper()
	o := l.start(t, w.dial("caller", "thing"), callers)
	o.progress(200)
	o.stopServer(leaving)
	l.check(t, nil)
}

// stopServer stops a server while the load goes on, and then the load.
func (o *load) stopServer(s *octomesh.Server) {
	o.t.Helper()
	if err := s.Shutdown(within(o.t, long)); err != nil {
		o.t.Error(err)
	}
	o.progress(200)
	o.end()
}

// Between the two incarnations there is no instance: calls fail, and none of them has run.
func TestRestartOfAServerRunsNothingTwice(t *testing.T) {
	underLoad(t, func(t *testing.T, callers int) {
		w, l := newWorld(t, true), newLedger()
		before := w.instance("one", l.thing())
		ch := w.dial("caller", "thing")
		o := l.start(t, ch, callers)
		o.progress(200)
		if err := before.Shutdown(within(t, long)); err != nil {
			t.Error(err)
		}
		o.progress(20)
		w.instance("one", l.thing())
		o.progress(200)
		o.end()
		if _, err := unary(within(t, long), ch, do, text("after")); err != nil {
			t.Errorf("after the restart: %v", err)
		}
		l.check(t, func(e *octomesh.Error) bool {
			return e.Code == octomesh.Unavailable && e.Disposition == octomesh.DispositionNotProcessed
		})
	})
}

func TestRollingDrainOfAllProxiesButOne(t *testing.T) {
	underLoad(t, func(t *testing.T, callers int) {
		w, l := newWorld(t, true), newLedger()
		names := []string{"one", "two", "three", "four"}
		for _, n := range names {
			w.instance(n, l.thing())
		}
		o := l.start(t, w.dial("caller", "thing"), callers)
		for _, n := range names[:3] {
			o.progress(100)
			if cut := w.proxy(n).Drain(context.Background()); cut != 0 {
				t.Errorf("%d calls were cut off", cut)
			}
		}
		o.progress(100)
		o.end()
		l.check(t, nil)
	})
}

// A dialer whom the proxy was about to welcome when it began to leave would not be asked to move, and its
// calls would be cut off.
func TestDrainRefusesWhoIsNotWelcomedYet(t *testing.T) {
	t.Parallel()
	var p *meshtest.Proxy
	drained := make(chan int, 1)
	started := make(chan struct{})
	p, err := meshtest.StartProxy(t.TempDir(), proxy.Config{AdmitHello: func(peer *session.Peer) error {
		if <-started; peer.Application == "late" {
			go func() { drained <- p.Drain(context.Background()) }()
			eventually(t, "the end of its listener", func() bool { // from then on it welcomes nobody
				conn, err := net.Dial("unix", p.Socket)
				if err == nil {
					_ = conn.Close()
				}
				return err != nil
			})
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	close(started)
	hello := wire.Hello{Environment: meshtest.Environment, Application: "early"}
	early, err := meshtest.DialCaller("unix", p.Socket, hello)
	if err != nil {
		t.Fatal(err)
	}
	hello.Application = "late"
	if _, err = meshtest.DialCaller("unix", p.Socket, hello); err == nil || !strings.Contains(err.Error(), "DRAINING") {
		t.Errorf("the late dialer learned %v", err)
	}
	early.Lock() // it has kept the drain from its end
	early.Wire.Drained()
	early.FlushUnlock()
	early.Close()
	<-early.Done()
	if cut := await(t, "the end of the drain", drained); cut != 0 {
		t.Errorf("%d calls were cut off", cut)
	}
}
