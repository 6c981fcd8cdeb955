package proxy_test

import (
	"context"
	"net"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/transport"
	"github.com/octomesh/octomesh/core/wire"
)

// peer calls as another proxy does.
func (n *node) peer(t *testing.T) *meshtest.Caller {
	t.Helper()
	c, err := meshtest.DialCaller("tcp", n.address, wire.Hello{Kind: wire.PeerProxy, Environment: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); <-c.Done() })
	return c
}

// parks makes a call and waits until it is parked.
func parks(t *testing.T, n *node, c *meshtest.Caller, target string) <-chan meshtest.Answer {
	t.Helper()
	before := openOn(n)
	got, err := c.Call(head(target), []byte("parked"))
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the parked call", func() bool {
		parked := 0
		for _, i := range n.OpenCalls() {
			if i.Parked {
				parked++
			}
		}
		return parked == before+1
	})
	return got
}

func awaitedInstance(name, target string) *session.Peer {
	return &session.Peer{Application: target, Instance: name, Incarnation: 1, Targets: []string{target}}
}

// comes attaches an instance of a name.
func (n *node) comes(t *testing.T, name, target string) {
	t.Helper()
	r, err := meshtest.Dial("unix", n.socket, wire.Hello{
		Role: wire.RoleServe, Environment: "test", Application: target, Instance: name, Incarnation: 1, Targets: []string{target},
	}, wire.Limits{}, meshtest.Echo)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); <-r.Done() })
}

func answers(t *testing.T, got <-chan meshtest.Answer) {
	t.Helper()
	if a := get(t, got, nil); a.Status.Code != wire.OK || string(a.Body) != "parked" {
		t.Errorf("got %+v", a)
	}
}

func refuses(t *testing.T, got <-chan meshtest.Answer, err error, want wire.Reason) {
	t.Helper()
	if a := get(t, got, err); a.Status.Reason != want || a.Status.Disposition != wire.DispositionNotProcessed {
		t.Errorf("got %+v, want %v", a.Status, want)
	}
}

func TestCallsWaitForInstancesOfThePredecessor(t *testing.T) {
	n := startNode(t, wire.Limits{})
	n.Expect([]*session.Peer{awaitedInstance("one", "echo"), awaitedInstance("two", "gone"), awaitedInstance("three", "gone")}, true)
	c := n.peer(t)
	first, second := parks(t, n, c, "echo"), parks(t, n, c, "echo")
	got, err := c.Call(head("stranger"), nil)
	refuses(t, got, err, wire.ReasonProxyUnready) // nobody has told of it
	n.comes(t, "one", "echo")
	answers(t, first)
	answers(t, second)

	waits := parks(t, n, c, "gone")
	settled := make(chan error, 1)
	go func() { settled <- n.Settled(context.Background()) }()
	n.Disinherit(proxy.ToInstance(awaitedInstance("two", "gone")))
	select {
	case a := <-waits:
		t.Errorf("one of two leaves, and the call ended %+v", a.Status)
	case err := <-settled:
		t.Errorf("settled: %v", err)
	case <-time.After(10 * time.Millisecond): // may only be too short to notice
	}
	n.Disinherit(proxy.ToInstance(awaitedInstance("three", "gone")))
	refuses(t, waits, nil, wire.ReasonProxyUnready)
	if err := <-settled; err != nil {
		t.Error(err)
	}
	got, err = c.Call(head("gone"), nil)
	refuses(t, got, err, wire.ReasonProxyUnready)
}

func TestCallsWaitForAnybodyWhereThePredecessorDied(t *testing.T) {
	n := startNode(t, wire.Limits{})
	n.Expect(nil, false)
	got := parks(t, n, n.peer(t), "echo")
	n.comes(t, "one", "echo")
	answers(t, got)
	if err := n.Settled(context.Background()); err != nil { // after five seconds
		t.Fatal(err)
	}
	late, err := n.peer(t).Call(head("other"), nil)
	refuses(t, late, err, wire.ReasonProxyUnready)
}

func TestHeldProxyWelcomesNobodyAndLosesNobody(t *testing.T) {
	n := startNode(t, wire.Limits{})
	n.comes(t, "one", "echo")
	n.Expect([]*session.Peer{awaitedInstance("two", "echo")}, true)
	waitFor(t, "the instance", func() bool { return n.Sessions()["instance"] == 1 })
	silent, err := net.Dial("unix", n.socket) // accepted, and has not said HELLO
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	n.comes(t, "three", "echo") // behind it in the queue
	gone := make(chan string, 1)
	all := n.Hold(func(p *session.Peer) { gone <- p.Instance })
	if len(all) != 3 {
		t.Fatalf("%d instances", len(all))
	}
	waits := make(chan error, 1)
	go func() { // in the socket's queue
		c, err := meshtest.DialCaller("unix", n.socket, wire.Hello{Environment: "test", Application: "a"})
		if err == nil {
			c.Close()
			<-c.Done()
		}
		waits <- err
	}()
	n.Disinherit(proxy.ToInstance(awaitedInstance("two", "echo")))
	if name := <-gone; name != "two" {
		t.Errorf("%s is gone", name)
	}
	select {
	case err := <-waits:
		t.Errorf("somebody was answered: %v", err)
	case <-time.After(10 * time.Millisecond): // may only be too short to notice
	}
	n.Release()
	if err := <-waits; err != nil {
		t.Errorf("after the release: %v", err)
	}
	got, err := n.peer(t).Call(head("echo"), []byte("parked"))
	if err != nil {
		t.Fatal(err)
	}
	answers(t, got)
}

// Two processes with the same sockets, as after a hand-over.
func TestYieldingProxySendsItsPeersToItsSuccessor(t *testing.T) {
	before := startNode(t, wire.Limits{})
	instance := before.serve(t, "echo", func(r *meshtest.Raw, ev *wire.Event) {
		if ev.Kind == wire.EventDrained {
			go r.Close()
			return
		}
		meshtest.Echo(r, ev)
	})
	moved := make(chan struct{})
	callers, left := make([]*meshtest.Raw, 40), make(chan struct{}, 40)
	for i := range callers {
		c, err := meshtest.Dial("tcp", before.address, wire.Hello{Role: wire.RoleCall, Kind: wire.PeerProxy, Environment: "test"}, wire.Limits{},
			func(r *meshtest.Raw, ev *wire.Event) {
				if ev.Kind == wire.EventGoAway {
					r.Wire.Drained()
					left <- struct{}{}
				}
			})
		if err != nil {
			t.Fatal(err)
		}
		callers[i] = c
	}
	c := before.peer(t)
	go func() {
		defer close(moved)
		for range callers {
			<-left
		}
	}()
	drained := make(chan int, 1)
	before.Hold(func(*session.Peer) {})
	go func() { drained <- before.Yield(context.Background()) }()
	<-moved
	got, err := c.Call(head("echo"), []byte("parked")) // has not drained: it is served
	if err != nil {
		t.Fatal(err)
	}
	answers(t, got)
	got, err = c.Call(head("elsewhere"), nil)
	refuses(t, got, err, wire.ReasonProxyDraining)
	for _, r := range append(callers, c.Raw) {
		r.Lock()
		r.Wire.Drained()
		r.FlushUnlock()
		r.Close()
		<-r.Done()
	}
	<-instance.Done() // it was told DRAINED, and closes
	if cut := <-drained; cut != 0 {
		t.Errorf("%d calls were cut off", cut)
	}
}

func TestSelfCheck(t *testing.T) {
	src := &source{make(chan *resourcev1.Snapshot)}
	start := func(cfg proxy.Config) *proxy.Proxy {
		cfg.Environment, cfg.Source = "test", src
		p, err := proxy.Start(context.Background(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		return p
	}
	p := start(proxy.Config{AdmitHello: func(*session.Peer) error { return net.ErrClosed }})
	if err := p.SelfCheck(t.Context()); err != nil {
		t.Error(err)
	}
	for target := range p.InboundTargets {
		t.Errorf("it has left %s behind", target.Name)
	}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := p.Configured(short); err == nil {
		t.Error("it is configured by nobody")
	}
	src.snapshots <- &resourcev1.Snapshot{}
	if err := p.Configured(t.Context()); err != nil {
		t.Error(err)
	}
	// It listens in the end, where it is told.
	out, err := transport.ListenUnix(filepath.Join(t.TempDir(), "o.sock"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	p.Listen(out, nil)
	c, err := meshtest.DialCaller("unix", out.Addr().String()[:len(out.Addr().String())-len(".new")], wire.Hello{Environment: "test"})
	if err == nil {
		c.Close()
		<-c.Done()
		t.Error("whom nobody admits was welcomed")
	}
}

// A leaving proxy refuses a call whose instance is at its successor only: the callers' proxy takes that for a GOAWAY.
func TestRefusalOfALeavingProxyMovesCallsToANewConnection(t *testing.T) {
	n := startNode(t, wire.Limits{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	drained := make(chan *meshtest.Raw, 1)
	var first atomic.Pointer[meshtest.Raw]
	go meshtest.Serve(l, wire.Limits{}, func(r *meshtest.Raw, ev *wire.Event) {
		switch {
		case ev.Kind == wire.EventDrained:
			drained <- r
		case ev.Kind == wire.EventRequest && (first.CompareAndSwap(nil, r) || r == first.Load()): // a second one here would be refused, too
			r.Wire.Reset(ev.Stream, &wire.ResetHead{Status: wire.Refuse(wire.ReasonProxyDraining, wire.OriginServerProxy, "")})
			r.Wire.Release()
		default:
			meshtest.Echo(r, ev)
		}
	})
	n.configure(t, map[string][]string{"echo": {l.Addr().String()}})
	c := n.caller(t)
	got, err := c.Call(head("echo"), nil)
	refuses(t, got, err, wire.ReasonProxyDraining)
	for range 10 {
		got, err := c.Call(head("echo"), []byte("parked"))
		if err != nil {
			t.Fatal(err)
		}
		answers(t, got)
	}
	if r := <-drained; r != first.Load() {
		t.Error("another connection was left")
	}
}

// A connection may end before a call's turn to go by it has come, or between the look at it and the call: the call goes by the next one.
func TestCallsThatWaitForAStreamGoByTheNextConnection(t *testing.T) {
	n := startNode(t, wire.Limits{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	first := make(chan *meshtest.Raw, 1)
	go meshtest.Serve(l, wire.Limits{MaxStreams: 1}, func(r *meshtest.Raw, ev *wire.Event) {
		if ev.Kind != wire.EventRequest || string(ev.Frame.Body) == "parked" {
			meshtest.Echo(r, ev)
			return
		}
		first <- r // this one is not answered
	})
	n.configure(t, map[string][]string{"echo": {l.Addr().String()}})
	c := n.caller(t)
	held, err := c.Call(head("echo"), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := <-first
	var waiting []<-chan meshtest.Answer
	for range 5 {
		got, err := c.Call(head("echo"), []byte("parked"))
		if err != nil {
			t.Fatal(err)
		}
		waiting = append(waiting, got)
	}
	waitFor(t, "the calls that wait", func() bool {
		return len(slices.DeleteFunc(n.OpenCalls(), func(i session.CallInfo) bool { return !i.Parked })) == len(waiting)
	})
	r.Close()
	if a := get(t, held, nil); a.Status.Reason != wire.ReasonConnectionLost {
		t.Errorf("got %+v", a.Status)
	}
	for _, got := range waiting {
		answers(t, got)
	}
}
