package proxy_test

import (
	"sync/atomic"
	"testing"

	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/wire"
)

// bounded is a mesh in whose caller's proxy so much may wait. The server gives no credit back; it answers unary calls.
func bounded(t *testing.T, limit int64) (client *node) {
	t.Helper()
	server := startNode(t, wire.Limits{})
	client = startNodeWith(t, proxy.Config{MaxWaiting: limit})
	client.configure(t, map[string][]string{"echo": {server.address}})
	server.serve(t, "echo", func(r *meshtest.Raw, ev *wire.Event) {
		if ev.Kind == wire.EventRequest && ev.Frame.Has(wire.FlagEnd) {
			meshtest.Echo(r, ev)
			return
		}
		if ev.Kind == wire.EventReset {
			r.Wire.Release()
		}
	})
	return client
}

// cancel ends an upload.
func (u *upload) cancel(r *meshtest.Raw) {
	r.Lock()
	defer r.FlushUnlock()
	r.Wire.Reset(u.st, &wire.ResetHead{Status: wire.Refuse(wire.ReasonCancelled, wire.OriginClientSDK, "")})
}

func TestCallsAreRefusedWhileMuchWaitsInTheProxy(t *testing.T) {
	const limit = 8 << 20
	client := bounded(t, limit)
	c, r := client.caller(t), client.rawCaller(t)
	call := func() meshtest.Answer {
		got, err := c.Call(head("echo"), []byte("x"))
		return get(t, got, err)
	}
	if a := call(); a.Status.Code != wire.OK {
		t.Fatalf("with room: %+v", a.Status)
	}
	var heavy []*upload // each has more than half a window waiting, and at most a whole one
	for b := int64(0); b < limit/4*3; b = client.Waiting().Bytes {
		heavy = append(heavy, startUpload(t, r, "echo", make([]byte, 8<<20)))
		// The last but one may still be filling its window as b is read: with three quarters waiting, this one is refused.
		waitFor(t, "what waits", func() bool { w := client.Waiting().Bytes; return w > b+128<<10 || w >= limit/4*3 })
	}
	a := call().Status
	if a.Code != wire.ResourceExhausted || a.Reason != wire.ReasonOverloaded || a.Disposition != wire.DispositionNotProcessed || a.Origin != wire.OriginClientProxy {
		t.Errorf("refused with %+v", a)
	}
	for _, u := range heavy {
		u.cancel(r)
	}
	waitFor(t, "room", func() bool { return client.Waiting().Bytes == 0 })
	if a := call(); a.Status.Code != wire.OK {
		t.Errorf("with room again: %+v", a.Status)
	}
	if w := client.Waiting(); w.Ended != 0 || w.Limit != limit {
		t.Errorf("%+v: nothing had to end", w)
	}
}

// Who waits and goes on sending ends; who has nothing waiting goes on.
func TestCallsOfWhichTooMuchWouldWaitEnd(t *testing.T) {
	client := bounded(t, 128<<10) // half a window
	r := client.rawCaller(t)
	light := startUpload(t, r, "echo", make([]byte, 1000))
	if st := light.wait(t); st.Code != wire.OK { // a call that waits for a connection waits, too
		t.Fatalf("with room: %+v", st)
	}
	light = startUpload(t, r, "echo", make([]byte, 1000))
	heavy := startUpload(t, client.rawCaller(t), "echo", make([]byte, 8<<20))
	st := heavy.wait(t)
	if st.Code != wire.ResourceExhausted || st.Reason != wire.ReasonOverloaded || st.Disposition != wire.DispositionUnknown || st.Origin != wire.OriginClientProxy {
		t.Errorf("ended with %+v", st)
	}
	waitFor(t, "room", func() bool { return client.Waiting().Bytes == 0 })
	if w := client.Waiting(); w.Ended != 1 {
		t.Errorf("%+v, want one call to have ended", w)
	}
	if st := light.wait(t); st.Code != wire.OK {
		t.Errorf("a call of which nothing waited ended with %+v", st)
	}
}

// What callers do not read waits at their own proxy, in the output of their connections, and is bounded as well.
func TestAnswersThatNobodyReadsAreBounded(t *testing.T) {
	const limit = 1 << 20
	server := startNode(t, wire.Limits{})
	client := startNodeWith(t, proxy.Config{MaxWaiting: limit})
	client.configure(t, map[string][]string{"echo": {server.address}})
	// Answers are large and requests small: what waits is then in the output for who does not read, and stays until it does.
	server.serve(t, "echo", func(r *meshtest.Raw, ev *wire.Event) {
		if ev.Kind == wire.EventRequest && len(ev.Frame.Body) > 1 {
			large := *ev
			large.Frame.Body = make([]byte, 60_000)
			ev = &large
		}
		meshtest.Echo(r, ev)
	})
	c := client.caller(t)
	call := func() bool {
		got, err := c.Call(head("echo"), []byte("x"))
		return get(t, got, err).Status.Code == wire.OK
	}
	if !call() { // there is a connection from here on
		t.Fatal("a call failed with room")
	}
	stop := make(chan struct{})
	var shed atomic.Int64
	slow, err := meshtest.Dial("unix", client.socket, wire.Hello{Role: wire.RoleCall, Environment: "test", Application: "slow"}, wire.Limits{},
		func(_ *meshtest.Raw, ev *wire.Event) {
			if ev.Kind == wire.EventResponse || ev.Kind == wire.EventReset {
				<-stop
			}
			if ev.Kind == wire.EventReset && ev.Status.Reason == wire.ReasonOverloaded {
				shed.Add(1)
			}
		})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slow.Close(); <-slow.Done() })
	slow.Lock()     // its reader holds it while it stands still
	for range 200 { // 12 MB of answers
		st, err := slow.Wire.Open(new(int))
		if err != nil {
			t.Fatal(err)
		}
		slow.Wire.Send(st, &wire.Out{Type: wire.TypeRequest, Flags: wire.FlagMessage | wire.FlagEnd, Head: head("echo").Append(nil), Body: []byte("large")})
	}
	slow.FlushUnlock()
	waitFor(t, "calls that end", func() bool { return client.Waiting().Ended > 0 })
	if w := client.Waiting(); w.Bytes > 2*limit {
		t.Errorf("%+v waits", w)
	}
	close(stop)
	waitFor(t, "room", func() bool { return client.Waiting().Bytes == 0 })
	waitFor(t, "word of calls that were refused or ended", func() bool { return shed.Load() > 0 })
	waitFor(t, "a call that goes", call) // the server's proxy may have much waiting for its instance yet
}
