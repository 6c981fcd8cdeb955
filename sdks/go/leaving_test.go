package octomesh_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/wire"
	octomesh "github.com/octomesh/octomesh/sdks/go"
	"github.com/octomesh/octomesh/sdks/go/internal/testproto"
)

// throughProxy returns a client whose proxy the test plays.
func throughProxy(t *testing.T, opts ...octomesh.DialOption) (testproto.EchoClient, *octomesh.Channel, *socket) {
	t.Helper()
	at := newSocket(t)
	ch, err := octomesh.Dial("echo", append([]octomesh.DialOption{octomesh.WithSocket(at.path), octomesh.WithMode("auto")}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ch.Close() })
	return testproto.NewEchoClient(ch), ch, at
}

// result is what a call in a goroutine of its own came to.
type result struct {
	m   *message
	err error
}

func start(f func(context.Context, *message, ...octomesh.CallOption) (*message, error), text string) chan result {
	done := make(chan result, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		m, err := f(ctx, &message{Text: text})
		done <- result{m, err}
	}()
	return done
}

func TestChannelsToOneProxyShareAConnection(t *testing.T) {
	c, ch, at := throughProxy(t)
	other, err := octomesh.Dial("cart", octomesh.WithSocket(at.path), octomesh.WithMode("auto"))
	if err != nil {
		t.Fatal(err)
	}
	first := start(c.Say, "a")
	r := at.accept(t)
	if r.next(t, wire.EventHello); r.hello.Role != wire.RoleCall {
		t.Fatalf("HELLO is %+v", r.hello)
	}
	ev := r.next(t, wire.EventRequest)
	second := start(testproto.NewEchoClient(other).Say, "b")
	ev2 := r.next(t, wire.EventRequest)
	r.answer(ev, &message{})
	r.answer(ev2, &message{})
	if a, b := <-first, <-second; a.err != nil || b.err != nil {
		t.Fatal(a.err, b.err)
	}
	var h wire.RequestHead
	if _ = h.Parse(ev2.head); string(h.Target) != "cart" {
		t.Fatalf("target is %q", h.Target)
	}
	_ = ch.Close()
	third := start(testproto.NewEchoClient(other).Say, "c")
	r.answer(r.next(t, wire.EventRequest), &message{})
	if got := <-third; got.err != nil {
		t.Fatal("closing one channel cut the other:", got.err)
	}
	_ = other.Close()
	r.waitClosed(t)
}

func TestClientMovesWhenItsProxyLeaves(t *testing.T) {
	c, _, at := throughProxy(t)
	open := start(c.Say, "open")
	old := at.accept(t)
	ev := old.next(t, wire.EventRequest)
	old.do(func(wc *wire.Conn) { wc.Leave(wire.GoAwayDraining, "restart") })
	next := at.accept(t)
	old.next(t, wire.EventDrained)
	later := start(c.Say, "later")
	next.answer(next.next(t, wire.EventRequest), &message{Text: "new"})
	if got := <-later; got.err != nil || got.m.Text != "new" {
		t.Fatal(got)
	}
	old.answer(ev, &message{Text: "old"})
	if got := <-open; got.err != nil || got.m.Text != "old" {
		t.Fatal(got)
	}
	old.waitClosed(t)
}

func TestClientUsesALeavingProxyUntilTheSuccessorAnswers(t *testing.T) {
	c, _, at := throughProxy(t)
	first := start(c.Say, "")
	old := at.accept(t)
	old.answer(old.next(t, wire.EventRequest), &message{})
	<-first
	old.do(func(wc *wire.Conn) { wc.Leave(wire.GoAwayDraining, "restart") })
	next := at.acceptWith(t, nil) // no WELCOME yet
	next.next(t, wire.EventHello)
	second := start(c.Say, "")
	old.answer(old.next(t, wire.EventRequest), &message{})
	if got := <-second; got.err != nil {
		t.Fatal(got.err)
	}
	next.do(func(wc *wire.Conn) { wc.Welcome(wire.Welcome{}) })
	old.next(t, wire.EventDrained)
	old.waitClosed(t)
}

func TestCallGoesAgainOnANewConnectionWhenTheProxyDrains(t *testing.T) {
	c, _, at := throughProxy(t)
	done := start(c.Say, "")
	old := at.accept(t)
	old.reset(old.next(t, wire.EventRequest), wire.Refuse(wire.ReasonProxyDraining, wire.OriginClientProxy, ""))
	next := at.accept(t)
	ev := next.next(t, wire.EventRequest)
	var h wire.RequestHead
	if _ = h.Parse(ev.head); h.Attempt != 1 {
		t.Fatalf("attempt is %d, want 1", h.Attempt)
	}
	next.answer(ev, &message{})
	if got := <-done; got.err != nil {
		t.Fatal(got.err)
	}
}

func TestCallGoesAgainAtMostTwice(t *testing.T) {
	c, _, at := throughProxy(t)
	done := start(c.Say, "")
	r := at.accept(t)
	for range 3 {
		r.reset(r.next(t, wire.EventRequest), wire.Refuse(wire.ReasonProxyUnready, wire.OriginClientProxy, ""))
	}
	check(t, (<-done).err, octomesh.Error{Code: octomesh.Unavailable, Reason: octomesh.ReasonProxyUnready,
		Disposition: octomesh.DispositionNotProcessed})
}

func TestPolicyRefusalsAreFinal(t *testing.T) {
	for _, reason := range []wire.Reason{wire.ReasonAuthDenied, wire.ReasonRateLimited, wire.ReasonCircuitOpen,
		wire.ReasonNoEndpoint, wire.ReasonQueueFull, wire.ReasonOverloaded} {
		c, _, at := throughProxy(t)
		done := start(c.Again, "")
		r := at.accept(t)
		st := wire.Refuse(reason, wire.OriginClientProxy, "no")
		st.RetryAfterMS = 1500
		r.reset(r.next(t, wire.EventRequest), st)
		err := (<-done).err
		check(t, err, octomesh.Error{Code: octomesh.Code(reason.Rule().Code), Reason: octomesh.Reason(reason),
			Origin: octomesh.OriginClientProxy, Disposition: octomesh.DispositionNotProcessed})
		var e *octomesh.Error
		if errors.As(err, &e); e.RetryAfter != 1500*time.Millisecond || e.Message != "no" {
			t.Fatalf("%v: retry after %v", e, e.RetryAfter)
		}
	}
}

func TestLostCallGoesAgainOnlyIfItIsIdempotent(t *testing.T) {
	t.Run("not", func(t *testing.T) {
		c, _, at := throughProxy(t)
		done := start(c.Say, "")
		r := at.accept(t)
		r.next(t, wire.EventRequest)
		r.tc.Close()
		check(t, (<-done).err, octomesh.Error{Code: octomesh.Unavailable, Reason: octomesh.ReasonConnectionLost})
	})
	t.Run("idempotent", func(t *testing.T) {
		c, _, at := throughProxy(t)
		done := start(c.Again, "")
		r := at.accept(t)
		r.next(t, wire.EventRequest)
		r.tc.Close()
		next := at.accept(t)
		next.answer(next.next(t, wire.EventRequest), &message{})
		if got := <-done; got.err != nil {
			t.Fatal(got.err)
		}
	})
}

func TestFinalGoAwayTellsWhatGoesAgain(t *testing.T) {
	c, _, at := throughProxy(t)
	first := start(c.Say, "")
	old := at.accept(t)
	ev := old.next(t, wire.EventRequest)
	second := start(c.Say, "")
	old.next(t, wire.EventRequest)
	old.do(func(wc *wire.Conn) {
		wc.Started(ev.stream)
		wc.Leave(wire.GoAwayDraining, "")
	})
	next := at.acceptWith(t, nil)
	// By hand: Finish would also send the RESET that says the same of the second call.
	g := wire.GoAway{Code: wire.GoAwayDraining, Final: true, Last: ev.id}
	head := g.Append(nil)
	old.write(append(wire.Header{Type: wire.TypeGoAway, HeadLen: uint16(len(head))}.Append(nil), head...))
	check(t, (<-first).err, octomesh.Error{Code: octomesh.Unavailable, Reason: octomesh.ReasonDrainDeadline})
	next.do(func(wc *wire.Conn) {})
	next.next(t, wire.EventHello)
	next.do(func(wc *wire.Conn) { wc.Welcome(wire.Welcome{}) })
	next.answer(next.next(t, wire.EventRequest), &message{Text: "again"})
	if got := <-second; got.err != nil || got.m.Text != "again" {
		t.Fatal(got)
	}
}

func TestRefusedHandshake(t *testing.T) {
	c, _, at := throughProxy(t)
	done := start(c.Say, "")
	r := at.acceptWith(t, nil)
	r.next(t, wire.EventHello)
	r.do(func(wc *wire.Conn) { wc.Refuse(wire.GoAway{Code: wire.GoAwayRefused, Message: "wrong environment"}) })
	err := (<-done).err
	check(t, err, octomesh.Error{Code: octomesh.Unavailable, Reason: octomesh.ReasonProxyUnreachable,
		Origin: octomesh.OriginClientSDK, Disposition: octomesh.DispositionNotProcessed})
	r.waitClosed(t)
}

func TestDrainingAnswersAreRedialedAtOnce(t *testing.T) {
	c, _, at := throughProxy(t)
	done := start(c.Say, "")
	for range 2 {
		r := at.acceptWith(t, nil)
		r.next(t, wire.EventHello)
		r.do(func(wc *wire.Conn) { wc.Refuse(wire.GoAway{Code: wire.GoAwayDraining}) })
	}
	r := at.accept(t)
	r.answer(r.next(t, wire.EventRequest), &message{})
	if got := <-done; got.err != nil {
		t.Fatal(got.err)
	}
}

func TestMissingProxyFailsAtOnceUnlessTheCallWaits(t *testing.T) {
	path := t.TempDir() + "/p"
	ch, err := octomesh.Dial("echo", octomesh.WithSocket(path), octomesh.WithMode("auto"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ch.Close() })
	c := testproto.NewEchoClient(ch)
	_, err = c.Say(within(t, 5*time.Second), &message{})
	check(t, err, octomesh.Error{Code: octomesh.Unavailable, Reason: octomesh.ReasonProxyUnreachable,
		Origin: octomesh.OriginClientSDK, Disposition: octomesh.DispositionNotProcessed})
	_, err = c.Say(within(t, 100*time.Millisecond), &message{}, octomesh.WaitForReady())
	check(t, err, octomesh.Error{Code: octomesh.DeadlineExceeded, Reason: octomesh.ReasonDeadline,
		Disposition: octomesh.DispositionNotProcessed})
	waiting := make(chan error, 1)
	go func() {
		_, err := c.Say(within(t, 5*time.Second), &message{}, octomesh.WaitForReady())
		waiting <- err
	}()
	time.Sleep(20 * time.Millisecond)
	serve(t, echo{}, "unix:"+path)
	if err := <-waiting; err != nil {
		t.Fatal(err)
	}
	_ = ch.Close() // before the server stops: nobody follows it at this address
}

func TestCallsQueueAtThePeersStreamLimit(t *testing.T) {
	c, _, at := throughProxy(t)
	at2 := make(chan *raw, 1)
	go func() {
		nc := <-at.conns
		r := play(nc, nil)
		at2 <- r
	}()
	const limit, calls = 2, 9
	var wg sync.WaitGroup
	for range calls {
		wg.Go(func() {
			if got := <-start(c.Say, ""); got.err != nil {
				t.Error(got.err)
			}
		})
	}
	r := <-at2
	defer r.tc.Close()
	r.next(t, wire.EventHello)
	// WELCOME by hand, with a limit of 2.
	w := wire.Welcome{Version: 1, Limits: wire.Limits{MaxStreams: limit}}
	head := w.Append(nil)
	r.do(func(wc *wire.Conn) { wc.Resume(wire.RoleCall, wire.Limits{}) })
	r.write(append(wire.Header{Type: wire.TypeWelcome, HeadLen: uint16(len(head))}.Append(nil), head...))
	for range calls {
		ev := r.next(t, wire.EventRequest)
		r.tc.Lock()
		open := r.wc.OpenStreams()
		r.tc.Unlock()
		if open > limit {
			t.Fatalf("%d calls open", open)
		}
		r.answer(ev, &message{})
	}
	wg.Wait()
}

// connected plays the proxy that a channel has connected to: on a slow machine the first dial takes longer than calls wait for it.
func connected(t *testing.T, ch *octomesh.Channel, at *socket) *raw {
	t.Helper()
	ready := make(chan error, 1)
	go func() { ready <- ch.Ready(within(t, 5*time.Second)) }()
	r := at.accept(t)
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	return r
}

// besides gives a channel a direct way, which counts its calls.
func besides(t *testing.T) (octomesh.DialOption, *atomic.Int64) {
	t.Helper()
	n := &atomic.Int64{}
	return octomesh.WithDirect(counting(t, n)), n
}

// A proxy that leaves with a successor costs no call the mesh, however long the successor takes for its WELCOME (SEM-40).
func TestLeavingProxyWithASuccessorIsNoFallback(t *testing.T) {
	direct, n := besides(t)
	c, ch, at := throughProxy(t, direct, octomesh.WithApplication(t.Name()))
	old := connected(t, ch, at)
	first := start(c.Say, "")
	old.answer(old.next(t, wire.EventRequest), &message{})
	<-first
	old.do(func(wc *wire.Conn) { wc.Leave(wire.GoAwayDraining, "restart") })
	next := at.acceptWith(t, nil) // no WELCOME yet
	next.next(t, wire.EventHello)
	for range 3 {
		done := start(c.Say, "")
		old.answer(old.next(t, wire.EventRequest), &message{})
		if got := <-done; got.err != nil {
			t.Fatal(got.err)
		}
	}
	refused := start(c.Say, "")
	old.reset(old.next(t, wire.EventRequest), wire.Refuse(wire.ReasonProxyDraining, wire.OriginClientProxy, ""))
	next.do(func(wc *wire.Conn) { wc.Welcome(wire.Welcome{}) })
	next.answer(next.next(t, wire.EventRequest), &message{})
	if got := <-refused; got.err != nil || n.Load() != 0 {
		t.Fatal(got.err, n.Load(), ch.Status())
	}
	if s := ch.Status(); s.Proxy != "mesh" || s.Tenths != 10 {
		t.Fatal(s)
	}
}

func TestRefusalsDoNotFallBack(t *testing.T) {
	for _, reason := range []wire.Reason{wire.ReasonAuthDenied, wire.ReasonRateLimited, wire.ReasonCircuitOpen,
		wire.ReasonNoEndpoint, wire.ReasonQueueFull, wire.ReasonOverloaded} {
		direct, n := besides(t)
		c, ch, at := throughProxy(t, direct, octomesh.WithApplication(t.Name()))
		r := connected(t, ch, at)
		done := start(c.Again, "")
		r.reset(r.next(t, wire.EventRequest), wire.Refuse(reason, wire.OriginClientProxy, "no"))
		check(t, (<-done).err, octomesh.Error{Code: octomesh.Code(reason.Rule().Code), Reason: octomesh.Reason(reason),
			Origin: octomesh.OriginClientProxy, Disposition: octomesh.DispositionNotProcessed})
		if n.Load() != 0 {
			t.Errorf("%v went round the mesh", reason)
		}
	}
}

func TestProxyThatIsNotReadyOrRefusesIsGoneRound(t *testing.T) {
	direct, n := besides(t)
	c, ch, at := throughProxy(t, direct, octomesh.WithApplication(t.Name()))
	r := connected(t, ch, at)
	done := start(c.Say, "")
	r.reset(r.next(t, wire.EventRequest), wire.Refuse(wire.ReasonProxyUnready, wire.OriginClientProxy, ""))
	if got := <-done; got.err != nil || n.Load() != 1 {
		t.Fatal(got.err, n.Load())
	}
	s, err := c.Watch(within(t, 5*time.Second), &message{Number: 2})
	if err != nil {
		t.Fatal(err)
	}
	r.reset(r.next(t, wire.EventRequest), wire.Refuse(wire.ReasonProxyUnreachable, wire.OriginClientProxy, ""))
	if m, err := s.Receive(); err != nil || m.Number != 0 {
		t.Fatal("a stream whose REQUEST is all that was sent goes the other way:", err)
	}
	s.Close()
	r.tc.Close()
	refusing := at.acceptWith(t, nil)
	refusing.next(t, wire.EventHello)
	refusing.do(func(wc *wire.Conn) { wc.Refuse(wire.GoAway{Code: wire.GoAwayRefused, Message: "wrong environment"}) })
	if got := <-start(c.Say, ""); got.err != nil || n.Load() != 2 {
		t.Fatal(got.err, n.Load(), ch.Status())
	}
}
