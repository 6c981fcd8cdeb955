package upstream_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/octomesh/octomesh/core/lifecycle"
	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/proxy/cluster"
	"github.com/octomesh/octomesh/core/proxy/route"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/proxy/upstream"
	"github.com/octomesh/octomesh/core/transport"
	"github.com/octomesh/octomesh/core/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is callers' sessions in front of one peer, whose other end is raw.
type rig struct {
	t     testing.TB
	pool  *upstream.Pool
	peer  *upstream.Peer
	first func(*session.Call) bool // what Serve tries before the peer's session; nil: nothing
	dials atomic.Int64
	down  atomic.Bool  // dials fail
	leave atomic.Int64 // so many dials are answered by one who leaves

	l      net.Listener
	events chan event
	caller *meshtest.Caller
}

// event is what happened at the peer's far end.
type event struct {
	kind   wire.EventKind
	end    *meshtest.Raw
	stream *wire.Stream
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, events: make(chan event, 1024)}
	var err error
	if r.l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	go meshtest.Serve(r.l, wire.Limits{}, func(end *meshtest.Raw, ev *wire.Event) { r.events <- event{ev.Kind, end, ev.Stream} })
	group, clock := lifecycle.New(context.Background()), session.NewClock()
	opts := session.Options{Clock: clock, Direction: route.Outbound, Origin: wire.OriginClientProxy}
	r.pool = upstream.NewPool(upstream.Config{
		Group: group, Session: opts, Hello: wire.Hello{Role: wire.RoleCall, Kind: wire.PeerProxy},
		Opened: func(*session.Session) {}, Closed: func(*session.Session) {},
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Dial: r.dial, Idle: time.Nanosecond,
	})
	r.peer = r.pool.Peer(cluster.Place{Address: r.l.Addr().String()})
	at := filepath.Join(t.TempDir(), "s")
	in, err := transport.ListenUnix(at, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	opts.Handler = r
	group.Go(func(ctx context.Context) { r.accept(ctx, in, opts, group) })
	if r.caller, err = meshtest.DialCaller("unix", at, wire.Hello{Application: "a"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.caller.Close()
		<-r.caller.Done()
		_ = in.Close()
		_ = r.l.Close()
		group.Stop()
	})
	return r
}

func (r *rig) dial(ctx context.Context, address string) (net.Conn, error) {
	r.dials.Add(1)
	if r.down.Load() {
		return nil, errors.New("down")
	}
	if r.leave.Add(-1) >= 0 {
		return leaving(r.t), nil
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", address)
}

// leaving is a connection to a proxy that leaves.
func leaving(t testing.TB) net.Conn {
	near, far := net.Pipe()
	go func() {
		defer far.Close()
		wc, ev, b := wire.NewConn(wire.Config{Side: wire.Acceptor}), wire.Event{}, make([]byte, 1<<10)
		for have := 0; ev.Kind != wire.EventHello; {
			n, err := far.Read(b[have:])
			if err != nil {
				t.Error(err)
				return
			}
			have += n
			_, _ = wc.Feed(b[:have], &ev)
		}
		wc.Refuse(wire.GoAway{Code: wire.GoAwayDraining, Last: wire.LastGraceful})
		_, _ = far.Write(wc.Take(nil))
	}()
	return near
}

func TestPeerThatLeavesIsDialedAgainAtOnce(t *testing.T) {
	r := newRig(t)
	r.leave.Store(2)
	got := r.call()
	r.next(wire.EventRequest).answer()
	if st := r.get(got); st.Code != wire.OK || r.dials.Load() != 3 {
		t.Fatalf("got %+v by %d dials", st, r.dials.Load())
	}
}

func TestThreeAnswersOfThoseWhoLeaveAreAFailedDial(t *testing.T) {
	r := newRig(t)
	r.leave.Store(1000)
	if st := r.get(r.call()); st.Reason != wire.ReasonProxyUnreachable || st.Disposition != wire.DispositionNotProcessed {
		t.Fatalf("got %+v", st)
	}
	if n := r.dials.Load(); n != 3 {
		t.Fatalf("%d dials", n)
	}
}

func (r *rig) accept(ctx context.Context, l net.Listener, opts session.Options, group *lifecycle.Group) {
	for {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		s := session.New(nc, wire.Acceptor, opts)
		group.Go(func(ctx context.Context) {
			defer context.AfterFunc(ctx, s.Kill)()
			_ = s.Run()
		})
	}
}

func (r *rig) Hello(s *session.Session, _ *wire.Hello) *wire.GoAway {
	s.Welcome(wire.Welcome{})
	return nil
}
func (r *rig) Open(*session.Session)                 {}
func (r *rig) GoAway(*session.Session, *wire.GoAway) {}
func (r *rig) Drained(*session.Session)              {}
func (r *rig) Closed(*session.Session, error)        {}

// Serve does what the proxy does with one endpoint.
func (r *rig) Serve(c *session.Call, head *wire.RequestHead) {
	if r.first != nil && r.first(c) {
		return
	}
	if s := r.peer.Session(); s != nil {
		if c.Forward(s, head) {
			return
		}
	} else if r.peer.Park(c, false) {
		return
	}
	c.Refuse(wire.Refuse(wire.ReasonProxyUnreachable, wire.OriginClientProxy, ""))
}

func (r *rig) call() <-chan meshtest.Answer {
	r.t.Helper()
	got, err := r.caller.Call(&wire.RequestHead{Target: []byte("t"), Kind: wire.KindUnary}, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return got
}

const limit = 20 * time.Second

func (r *rig) next(kind wire.EventKind) event {
	r.t.Helper()
	for {
		select {
		case e := <-r.events:
			if e.kind == kind {
				return e
			}
		case <-time.After(limit):
			r.t.Fatalf("no %v came", kind)
		}
	}
}

func (e event) answer() {
	e.end.Lock()
	e.end.Wire.Send(e.stream, &wire.Out{Type: wire.TypeResponse, Flags: wire.FlagMessage | wire.FlagEnd})
	e.end.FlushUnlock()
}

func (r *rig) get(got <-chan meshtest.Answer) wire.Status {
	r.t.Helper()
	select {
	case a := <-got:
		return a.Status
	case <-time.After(limit):
		r.t.Fatal("no answer")
		return wire.Status{}
	}
}

func (r *rig) eventually(what string, done func() bool) {
	r.t.Helper()
	for end := time.Now().Add(limit); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("%s did not come", what)
		}
	}
}

func TestCallsThatWaitForTheFirstDialShareIt(t *testing.T) {
	r := newRig(t)
	var all []<-chan meshtest.Answer
	for range 50 {
		all = append(all, r.call())
	}
	for range all {
		r.next(wire.EventRequest).answer()
	}
	for _, got := range all {
		if st := r.get(got); st.Code != wire.OK {
			t.Fatalf("got %+v", st)
		}
	}
	if n := r.dials.Load(); n != 1 {
		t.Fatalf("%d dials", n)
	}
}

// Between a look at the session and Park the dial may have ended.
func TestParkWhileAConnectionStandsDialsNoSecond(t *testing.T) {
	r := newRig(t)
	got := r.call()
	r.next(wire.EventRequest).answer()
	r.get(got)
	var once sync.Once
	r.first = func(c *session.Call) (parked bool) {
		once.Do(func() { parked = r.peer.Park(c, false) })
		return parked
	}
	got = r.call()
	r.next(wire.EventRequest).answer()
	if st := r.get(got); st.Code != wire.OK || r.dials.Load() != 1 {
		t.Fatalf("got %+v, %d dials", st, r.dials.Load())
	}
}

func TestFailedDialRests(t *testing.T) {
	r := newRig(t)
	r.down.Store(true)
	if !r.peer.Ready() {
		t.Fatal("a peer that was never asked must be ready")
	}
	const calls = 200
	for range calls {
		if st := r.get(r.call()); st.Reason != wire.ReasonProxyUnreachable || st.Disposition != wire.DispositionNotProcessed {
			t.Fatalf("got %+v", st)
		}
	}
	if n := r.dials.Load(); n > calls/4 {
		t.Fatalf("%d dials for %d calls", n, calls)
	}
	r.down.Store(false)
	r.eventually("a dial that is due", r.peer.Ready)
	got := r.call()
	r.next(wire.EventRequest).answer()
	if st := r.get(got); st.Code != wire.OK {
		t.Fatalf("got %+v", st)
	}
}

// TestNobodyWaitsForAPeerWhoseDialFailed: it is dialed again when that is due, and not ready before one has worked.
func TestNobodyWaitsForAPeerWhoseDialFailed(t *testing.T) {
	r := newRig(t)
	r.down.Store(true)
	if st := r.get(r.call()); st.Reason != wire.ReasonProxyUnreachable {
		t.Fatalf("got %+v", st)
	}
	r.eventually("another dial", func() bool {
		if r.peer.Ready() {
			t.Fatal("it is ready, and its last dial failed")
		}
		return r.dials.Load() >= 4
	})
	r.down.Store(false)
	r.eventually("a dial that works", r.peer.Ready)
	n := r.dials.Load()
	got := r.call()
	r.next(wire.EventRequest).answer()
	if st := r.get(got); st.Code != wire.OK || r.dials.Load() != n {
		t.Fatalf("got %+v, %d dials behind the one that worked", st, r.dials.Load()-n)
	}
}

func TestUnusedConnectionsToInstancesThemselvesAreGivenUp(t *testing.T) {
	r := newRig(t)
	r.peer = r.pool.Peer(cluster.Place{Address: r.l.Addr().String(), Direct: true})
	r.peer.Used()
	got := r.call()
	e := r.next(wire.EventRequest)
	if r.pool.Tidy(); r.peer.Session() == nil {
		t.Fatal("it was given up under an open call")
	}
	e.answer()
	r.get(got)
	r.eventually("the end of the connection", func() bool { r.pool.Tidy(); return r.peer.Session() == nil })
	if d := r.next(wire.EventDrained); d.end != e.end {
		t.Fatal("DRAINED came on the wrong connection")
	}
	got = r.call()
	r.next(wire.EventRequest).answer()
	if st := r.get(got); st.Code != wire.OK || r.dials.Load() != 2 {
		t.Fatalf("got %+v by %d dials", st, r.dials.Load())
	}
}

func TestNewCallsMoveWhenThePeerLeaves(t *testing.T) {
	r := newRig(t)
	held := r.call()
	old := r.next(wire.EventRequest)
	old.end.Lock()
	old.end.Wire.Leave(wire.GoAwayDraining, "")
	old.end.FlushUnlock()
	if e := r.next(wire.EventDrained); e.end != old.end {
		t.Fatal("DRAINED came on the wrong connection")
	}
	got := r.call()
	e := r.next(wire.EventRequest)
	if e.end == old.end {
		t.Fatal("a call came on the old connection behind DRAINED")
	}
	e.answer()
	old.answer()
	if a, b := r.get(got), r.get(held); a.Code != wire.OK || b.Code != wire.OK || r.dials.Load() != 2 {
		t.Fatalf("got %+v, %+v by %d dials", a, b, r.dials.Load())
	}
}

func TestCallsGoElsewhereWhenThePeerLeavesForGood(t *testing.T) {
	r := newRig(t)
	held := r.call()
	old := r.next(wire.EventRequest)
	r.down.Store(true)
	old.end.Lock()
	old.end.Wire.Leave(wire.GoAwayDraining, "")
	old.end.FlushUnlock()
	r.next(wire.EventDrained)
	if r.peer.Session() != nil {
		t.Fatal("new calls would go to a connection that says DRAINED")
	}
	if st := r.get(r.call()); st.Reason != wire.ReasonProxyUnreachable || st.Disposition != wire.DispositionNotProcessed {
		t.Fatalf("got %+v", st)
	}
	old.answer()
	if st := r.get(held); st.Code != wire.OK {
		t.Fatalf("got %+v", st)
	}
}
