package proxy_test

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/proxy/policy"
	"github.com/octomesh/octomesh/core/proxy/route"
	"github.com/octomesh/octomesh/core/wire"
)

// copies is the counters of copies of calls on echo's first route.
func (f *fleet) copies() *policy.Copies {
	return f.client.Store().Current().Table.Target(route.Outbound, "echo").Routes[0].Mirror.Copies
}

func (f *fleet) copied() map[string]uint64 {
	out := map[string]uint64{}
	f.copies().Counts(func(outcome string, n uint64) { out[outcome] = n })
	return out
}

const mirrored = `
endpoints:
- {target: echo, instance: real, mesh_address: $0}
- {target: shadow, instance: copy, mesh_address: $1}
policies:
- target: echo
  routes: [{name: all, destinations: [{}], mirror: {destination: {target: shadow}, `

// heads has server i serve a target, and returns a function that lists the heads of the requests that it got.
func (f *fleet) heads(i int, target string, then func(r *meshtest.Raw, ev *wire.Event)) func() []wire.RequestHead {
	f.t.Helper()
	var mu sync.Mutex
	var all []wire.RequestHead
	r, err := meshtest.Dial("unix", f.servers[i].Socket, wire.Hello{
		Role: wire.RoleServe, Kind: wire.PeerSDK, Environment: "test", Application: target, Targets: []string{target},
	}, wire.Limits{}, func(r *meshtest.Raw, ev *wire.Event) {
		switch ev.Kind {
		case wire.EventRequest:
			f.calls[i].Add(1)
			var h wire.RequestHead
			if err := h.Parse(bytes.Clone(ev.Frame.Head)); err != nil {
				f.t.Error(err)
			}
			mu.Lock()
			all = append(all, h)
			mu.Unlock()
			then(r, ev)
		case wire.EventReset, wire.EventFailed:
			r.Wire.Release()
		}
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { r.Close(); <-r.Done() })
	return func() []wire.RequestHead {
		mu.Lock()
		defer mu.Unlock()
		return append([]wire.RequestHead(nil), all...)
	}
}

// connect makes calls until the first copy has left, and returns how many: those before had no connection to go by.
func (f *fleet) connect() (made int) {
	f.t.Helper()
	waitFor(f.t, "a connection for copies", func() bool {
		made++
		return f.call(head("echo")).Status.Code == wire.OK && f.copied()["sent"] > 0
	})
	return made
}

func TestCopiesOfCallsGoElsewhere(t *testing.T) {
	f := newFleet(t, 2)
	originals, copies := f.heads(0, "echo", meshtest.Echo), f.heads(1, "shadow", saying(down))
	f.publish(mirrored + `permille: 1000, timeout: 3s, max_open: 10000}}]`)
	made := f.connect()
	h := head("echo")
	h.TimeoutUS = 60_000_000
	for range 1000 { // each is answered by the original, though every copy fails
		got, err := f.caller.Call(h, []byte("body"))
		if a := get(t, got, err); a.Status.Code != wire.OK || string(a.Body) != "body" {
			t.Fatalf("ended %+v", a)
		}
	}
	waitFor(t, "the copies", func() bool { n := f.copied(); return n["failed"] == n["sent"] })
	n := f.copied()
	if n["sent"] != 1001 || n["not_connected"] != uint64(made-1) || len(copies()) != 1001 || len(originals()) != 1000+made {
		t.Fatalf("%d originals and %d copies arrived, counted %v", len(originals()), len(copies()), n)
	}
	for _, c := range copies()[1:] {
		if !c.Shadow || string(c.Target) != "shadow" || c.TimeoutUS == 0 || c.TimeoutUS > 3_000_000 || string(c.Method) != string(h.Method) || string(c.Caller) != "web" {
			t.Fatalf("a copy: %+v", c)
		}
	}
	for _, o := range originals()[made:] {
		if o.Shadow || string(o.Target) != "echo" || o.TimeoutUS < 30_000_000 || o.TimeoutUS > 60_000_000 {
			t.Fatalf("an original: %+v", o)
		}
	}
}

func TestSharesOfCallsAreCopied(t *testing.T) {
	f := newFleet(t, 2)
	f.attach(0, "echo")
	f.heads(1, "shadow", meshtest.Echo)
	f.publish(mirrored + `permille: 100, max_open: 10000}}]`)
	f.connect()
	before := f.copied()["sent"]
	f.split(10_000, head("echo"))
	if n := f.copied()["sent"] - before; n < 850 || n > 1150 { // five standard deviations
		t.Errorf("%d of 10,000 calls were copied, want about 1000: %v", n, f.copied())
	}
}

func TestSlowMirrorHoldsNothingUp(t *testing.T) {
	f := newFleet(t, 2)
	f.attach(0, "echo")
	silent := f.heads(1, "shadow", func(*meshtest.Raw, *wire.Event) {}) // never answers
	f.publish(mirrored + `permille: 1000, timeout: 2s, max_open: 7}}]`)
	f.connect()
	f.split(2000, head("echo"))
	if n := f.copied(); n["too_many"] < 1000 || len(silent()) > int(n["sent"]) || n["sent"] > 100 {
		t.Errorf("counted %v", n)
	}
	waitFor(t, "the end of the copies", func() bool { n := f.copied(); return n["expired"] == n["sent"] && f.copies().Open() == 0 })
}

func TestLostMirrorHoldsNothingUp(t *testing.T) {
	f := newFleet(t, 2)
	f.attach(0, "echo")
	f.heads(1, "shadow", func(*meshtest.Raw, *wire.Event) {})
	f.publish(mirrored + `permille: 1000, timeout: 60s, max_open: 50}}]`)
	f.connect()
	f.split(100, head("echo"))
	f.servers[1].Close()
	waitFor(t, "calls without copies", func() bool { f.split(1000, head("echo")); return f.copied()["not_connected"] >= 1000 })
	waitFor(t, "the end of the copies", func() bool { n := f.copied(); return n["failed"] == n["sent"] && f.copies().Open() == 0 })
}

func TestStreamsOfAnswersAreCopiedAndDiscarded(t *testing.T) {
	f := newFleet(t, 2)
	f.attach(0, "echo")
	const messages, size = 100, 32 << 10 // more than a window, so that the copy must be read
	var left *wire.Out
	sent := 0
	stream := func(r *meshtest.Raw, st *wire.Stream) {
		for sent < messages {
			if left == nil {
				left = &wire.Out{Type: wire.TypeMessage, Flags: wire.FlagMessage, Body: make([]byte, size)}
			}
			if !r.Wire.Send(st, left) {
				return
			}
			left, sent = nil, sent+1
		}
		r.Wire.Send(st, &wire.Out{Type: wire.TypeResponse, Flags: wire.FlagEnd})
	}
	r, err := meshtest.Dial("unix", f.servers[1].Socket, wire.Hello{
		Role: wire.RoleServe, Kind: wire.PeerSDK, Environment: "test", Application: "shadow", Targets: []string{"shadow"},
	}, wire.Limits{}, func(r *meshtest.Raw, ev *wire.Event) {
		var h wire.RequestHead
		switch {
		case ev.Kind == wire.EventCredit:
			stream(r, ev.Stream)
		case ev.Kind != wire.EventRequest || h.Parse(ev.Frame.Head) != nil:
		case h.Kind == wire.KindServerStream:
			stream(r, ev.Stream)
		default:
			meshtest.Echo(r, ev)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); <-r.Done() })
	f.publish(mirrored + `permille: 1000}}]`)
	f.connect()
	waitFor(t, "the first copy", func() bool { n := f.copied(); return n["answered"] == n["sent"] })
	before := f.copied()["answered"]
	h := head("echo")
	h.Kind = wire.KindServerStream
	if a := f.call(h); a.Status.Code != wire.OK {
		t.Fatalf("ended %+v", a.Status)
	}
	waitFor(t, "the whole answer of the copy", func() bool { return f.copied()["answered"] > before })

	got := make(chan meshtest.Answer, 1)
	f.caller.Lock()
	st, err := f.caller.Wire.Open(got)
	if err == nil {
		f.caller.Wire.Send(st, &wire.Out{Type: wire.TypeRequest, Flags: wire.FlagMessage, Head: head("echo").Append(nil)})
	}
	f.caller.FlushUnlock()
	if a := get(t, got, err); a.Status.Code != wire.OK || f.copied()["unsuited"] != 1 {
		t.Errorf("a stream of requests ended %+v, counted %v", a.Status, f.copied())
	}
}

func TestRouteToAnotherTargetReachesItsInstances(t *testing.T) {
	f := newFleet(t, 1)
	got := f.heads(0, "next", meshtest.Echo)
	f.publish(`
endpoints: [{target: next, instance: a, mesh_address: $0}]
policies: [{target: echo, routes: [{name: moved, destinations: [{target: next}]}]}]
`)
	if a := f.call(head("echo")); a.Status.Code != wire.OK {
		t.Fatalf("ended %+v", a.Status)
	}
	if all := got(); len(all) != 1 || string(all[0].Target) != "next" || all[0].Shadow {
		t.Errorf("it got %+v", all)
	}
}

func TestLeavingProxyWaitsForNoCopy(t *testing.T) {
	f := newFleet(t, 2)
	f.attach(0, "echo")
	f.heads(1, "shadow", func(*meshtest.Raw, *wire.Event) {})
	f.publish(mirrored + `permille: 1000, timeout: 60s}}]`)
	f.connect()
	f.caller.Close()
	<-f.caller.Done()
	began := time.Now()
	if cut := f.client.Drain(t.Context()); cut != 0 || f.copies().Open() != 0 {
		t.Errorf("%d calls were cut off, %d copies are open", cut, f.copies().Open())
	}
	if took := time.Since(began); took > 8*time.Second { // the deadline is 10 s
		t.Errorf("the drain took %v", took)
	}
}
