package session_test

import (
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/proxy/route"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/transport"
	"github.com/octomesh/octomesh/core/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hub is sessions with no proxy around them: what Serve decides is the test's.
type hub struct {
	t     testing.TB
	clock *session.Clock
	at    string
	serve func(c *session.Call, head *wire.RequestHead)
	again func(c *session.Call, st *wire.Status, now int64) (int64, bool)
	kept  *session.Memory

	mu       sync.Mutex
	serving  []*session.Session // that were opened by servers, in their order
	calling  []*session.Session
	observed []wire.Status // how calls ended
}

// newHub accepts raw ends. Unless serve says otherwise, calls go to the first server that takes them.
func newHub(t testing.TB, limits wire.Limits) *hub {
	t.Helper()
	h := &hub{t: t, clock: session.NewClock(), kept: session.NewMemory(1 << 20), at: filepath.Join(t.TempDir(), "h")}
	l, err := transport.ListenUnix(h.at, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { h.accept(l, limits, &wg) })
	t.Cleanup(func() {
		_ = l.Close()
		h.each(func(s *session.Session) { s.Kill() })
		wg.Wait()
	})
	return h
}

func (h *hub) accept(l net.Listener, limits wire.Limits, wg *sync.WaitGroup) {
	for {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		s := session.New(nc, wire.Acceptor, session.Options{
			Handler: h, Clock: h.clock, Direction: route.Outbound, Origin: wire.OriginClientProxy, Local: limits, Kept: h.kept,
		})
		wg.Go(func() { _ = s.Run() })
	}
}

func (h *hub) each(f func(*session.Session)) {
	h.mu.Lock()
	all := append(append([]*session.Session(nil), h.serving...), h.calling...)
	h.mu.Unlock()
	for _, s := range all {
		f(s)
	}
}

func (h *hub) Hello(s *session.Session, _ *wire.Hello) *wire.GoAway {
	s.Welcome(wire.Welcome{Kind: wire.PeerProxy})
	return nil
}

func (h *hub) Open(s *session.Session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.Peer().Role == wire.RoleServe {
		h.serving = append(h.serving, s)
	} else {
		h.calling = append(h.calling, s)
	}
}

func (h *hub) Serve(c *session.Call, head *wire.RequestHead) {
	c.Observer = h
	if h.serve != nil {
		h.serve(c, head)
		return
	}
	h.forward(c, head)
}

// forward hands a call to the first server that takes it.
func (h *hub) forward(c *session.Call, head *wire.RequestHead) {
	h.mu.Lock()
	all := h.serving
	h.mu.Unlock()
	for _, s := range all {
		if c.Forward(s, head) {
			return
		}
	}
	c.Refuse(wire.Refuse(wire.ReasonProxyUnready, wire.OriginClientProxy, "nobody serves"))
}

func (h *hub) CallEnded(_ *session.Call, st wire.Status, _ time.Duration) {
	h.mu.Lock()
	h.observed = append(h.observed, st.Clone())
	h.mu.Unlock()
}

func (h *hub) Again(c *session.Call, st *wire.Status, now int64) (int64, bool) {
	if h.again == nil {
		return 0, false
	}
	return h.again(c, st, now)
}

func (h *hub) GoAway(*session.Session, *wire.GoAway) {}
func (h *hub) Drained(*session.Session)              {}
func (h *hub) Closed(*session.Session, error)        {}

// up returns the session of the i-th server, down that of the i-th caller.
func (h *hub) up(i int) *session.Session   { return h.nth(&h.serving, i) }
func (h *hub) down(i int) *session.Session { return h.nth(&h.calling, i) }

func (h *hub) nth(all *[]*session.Session, i int) *session.Session {
	h.t.Helper()
	waitFor(h.t, "the session", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(*all) > i
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	return (*all)[i]
}

// calls is what is known of the calls that are open.
func (h *hub) calls() (all []session.CallInfo) {
	h.mu.Lock()
	calling := h.calling
	h.mu.Unlock()
	for _, s := range calling {
		all = s.AppendCalls(all, h.clock.Now())
	}
	return all
}

// parked waits until so many calls are parked.
func (h *hub) parked(n int) {
	h.t.Helper()
	waitFor(h.t, "parked calls", func() bool {
		got := 0
		for _, c := range h.calls() {
			if c.Parked {
				got++
			}
		}
		return got == n
	})
}

// sweep does what the proxy's sweep does at the given time.
func (h *hub) sweep(now int64) {
	b := session.Batch{Now: now}
	h.each(func(s *session.Session) { s.Sweep(&b) })
	b.Flush()
}

// ended is how calls ended so far.
func (h *hub) ended() []wire.Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]wire.Status(nil), h.observed...)
}

// server is a raw end that takes calls and does with them what it is told.
type server struct {
	*meshtest.Raw
	events chan event
}

// event is what happened at a server; what it borrowed is copied.
type event struct {
	kind   wire.EventKind
	stream *wire.Stream
	flags  wire.Flags
	body   string
	cost   int64
	status wire.Status
	goAway wire.GoAway
	head   wire.RequestHead
}

func (h *hub) server(limits wire.Limits) *server {
	h.t.Helper()
	v := &server{events: make(chan event, 4096)}
	h.mu.Lock()
	before := len(h.serving)
	h.mu.Unlock()
	r, err := meshtest.Dial("unix", h.at, wire.Hello{Role: wire.RoleServe, Kind: wire.PeerSDK, Targets: []string{"t"}}, limits, v.on)
	if err != nil {
		h.t.Fatal(err)
	}
	v.Raw = r
	h.t.Cleanup(func() { r.Close(); <-r.Done() })
	h.up(before)
	return v
}

func (v *server) on(r *meshtest.Raw, ev *wire.Event) {
	e := event{kind: ev.Kind, stream: ev.Stream, flags: ev.Frame.Flags, body: string(ev.Frame.Body), cost: ev.Frame.Cost()}
	switch ev.Kind {
	case wire.EventRequest:
		_ = e.head.Parse(append([]byte(nil), ev.Frame.Head...))
	case wire.EventReset, wire.EventFailed:
		e.status = ev.Status.Clone()
		r.Wire.Release()
	case wire.EventGoAway:
		e.goAway = ev.GoAway
	}
	v.events <- e
}

// next returns the next event of a kind; others are passed over.
func (v *server) next(t testing.TB, kind wire.EventKind) event {
	t.Helper()
	for {
		select {
		case e := <-v.events:
			if e.kind == kind {
				return e
			}
		case <-time.After(limit):
			t.Fatalf("no %v came", kind)
		}
	}
}

// send sends a frame of a call.
func (v *server) send(s *wire.Stream, typ wire.Type, flags wire.Flags, body string) (sent bool) {
	v.Lock()
	defer v.FlushUnlock()
	return v.Wire.Send(s, &wire.Out{Type: typ, Flags: flags, Body: []byte(body)})
}

func (v *server) answer(s *wire.Stream, body string) {
	v.send(s, wire.TypeResponse, wire.FlagMessage|wire.FlagEnd, body)
}

// consume gives credit back.
func (v *server) consume(s *wire.Stream, cost int64) {
	v.Lock()
	defer v.FlushUnlock()
	v.Wire.Consume(s, cost)
}

// caller is a raw end that opens calls.
type caller struct{ *meshtest.Caller }

func (h *hub) caller() *caller {
	h.t.Helper()
	c, err := meshtest.DialCaller("unix", h.at, wire.Hello{Kind: wire.PeerSDK, Application: "a"})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close(); <-c.Done() })
	return &caller{c}
}

func head() *wire.RequestHead {
	return &wire.RequestHead{Target: []byte("t"), Service: []byte("s"), Method: []byte("m"), Kind: wire.KindUnary}
}

// open sends a REQUEST with a message.
func (c *caller) open(t testing.TB, h *wire.RequestHead, body string, end bool) (*wire.Stream, <-chan meshtest.Answer) {
	t.Helper()
	got := make(chan meshtest.Answer, 1)
	flags := wire.FlagMessage
	if end {
		flags |= wire.FlagEnd
	}
	c.Lock()
	defer c.FlushUnlock()
	s, err := c.Wire.Open(got)
	if err != nil {
		t.Fatal(err)
	}
	c.Wire.Send(s, &wire.Out{Type: wire.TypeRequest, Flags: flags, Head: h.Append(nil), Body: []byte(body)})
	return s, got
}

// call makes a unary call.
func (c *caller) call(t testing.TB, body string) <-chan meshtest.Answer {
	t.Helper()
	_, got := c.open(t, head(), body, true)
	return got
}

func (c *caller) send(s *wire.Stream, flags wire.Flags, body string) (sent bool) {
	c.Lock()
	defer c.FlushUnlock()
	return c.Wire.Send(s, &wire.Out{Type: wire.TypeMessage, Flags: flags, Body: []byte(body)})
}

func (c *caller) cancel(s *wire.Stream) {
	c.Lock()
	defer c.FlushUnlock()
	c.Wire.Reset(s, &wire.ResetHead{Status: wire.Refuse(wire.ReasonCancelled, wire.OriginClientSDK, "")})
}

// limit is how long something may take before it counts as hung: less than a call waits for a stream.
const limit = session.StreamWait - time.Second

func get(t testing.TB, what string, ch <-chan meshtest.Answer) meshtest.Answer {
	t.Helper()
	select {
	case a := <-ch:
		return a
	case <-time.After(limit):
		t.Fatalf("%s was not answered", what)
		return meshtest.Answer{}
	}
}

func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s did not come", what)
		}
	}
}
