package proxy_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/proxy/tap"
	"github.com/octomesh/octomesh/core/wire"
)

// upload is a raw caller's stream that sends one message of any size as credit allows.
type upload struct {
	out  *wire.Out
	st   *wire.Stream
	sent atomic.Bool
	done chan wire.Status
	got  atomic.Int64
}

func uploads(r *meshtest.Raw, ev *wire.Event) {
	u, ok := ev.Call.(*upload)
	if !ok {
		return
	}
	switch ev.Kind {
	case wire.EventCredit:
		u.sent.Store(r.Wire.Send(u.st, u.out))
	case wire.EventResponse, wire.EventMessage:
		u.got.Add(int64(len(ev.Frame.Body)))
		if ev.Frame.Has(wire.FlagEnd) {
			u.done <- wire.ScanStatus(ev.Frame.Head).Clone()
			return
		}
		r.Wire.Consume(ev.Stream, ev.Frame.Cost())
	case wire.EventReset, wire.EventFailed:
		u.done <- ev.Status.Clone()
	}
}

func startUpload(t *testing.T, r *meshtest.Raw, target string, body []byte) *upload {
	t.Helper()
	u := &upload{done: make(chan wire.Status, 1)}
	h := head(target)
	h.Kind = wire.KindBidiStream
	r.Lock()
	defer r.FlushUnlock()
	var err error
	if u.st, err = r.Wire.Open(u); err != nil {
		t.Fatal(err)
	}
	u.out = &wire.Out{Type: wire.TypeRequest, Flags: wire.FlagMessage | wire.FlagEnd, Head: h.Append(nil), Body: body}
	u.sent.Store(r.Wire.Send(u.st, u.out))
	return u
}

func (n *node) rawCaller(t *testing.T) *meshtest.Raw {
	t.Helper()
	r, err := meshtest.Dial("unix", n.socket, wire.Hello{Role: wire.RoleCall, Environment: "test", Application: "up"}, wire.Limits{}, uploads)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); <-r.Done() })
	return r
}

func (u *upload) wait(t *testing.T) wire.Status {
	t.Helper()
	select {
	case st := <-u.done:
		return st
	case <-time.After(30 * time.Second):
		t.Fatalf("the stream did not end: %d bytes back, all sent: %v", u.got.Load(), u.sent.Load())
		return wire.Status{}
	}
}

// sink counts what arrives and answers with nothing.
func sink(arrived *atomic.Int64) func(*meshtest.Raw, *wire.Event) {
	return func(r *meshtest.Raw, ev *wire.Event) {
		if ev.Kind != wire.EventRequest && ev.Kind != wire.EventMessage {
			return
		}
		arrived.Add(int64(len(ev.Frame.Body)))
		r.Wire.Consume(ev.Stream, ev.Frame.Cost())
		if ev.Frame.Has(wire.FlagEnd) {
			r.Wire.Send(ev.Stream, &wire.Out{Type: wire.TypeResponse, Flags: wire.FlagEnd})
		}
	}
}

func TestLargeMessageStreamsThrough(t *testing.T) {
	client, server := mesh(t)
	var arrived atomic.Int64
	server.serve(t, "echo", sink(&arrived))
	body := make([]byte, 64<<20)
	u := startUpload(t, client.rawCaller(t), "echo", body)
	if st := u.wait(t); st.Code != wire.OK || arrived.Load() != int64(len(body)) {
		t.Fatalf("%+v, %d bytes arrived", st, arrived.Load())
	}
}

func TestSlowReaderStopsItsOwnStreamOnly(t *testing.T) {
	client, server := mesh(t)
	var arrived atomic.Int64
	server.serve(t, "echo", func(r *meshtest.Raw, ev *wire.Event) {
		if ev.Kind == wire.EventRequest && ev.Frame.Has(wire.FlagEnd) {
			meshtest.Echo(r, ev)
			return
		}
		if ev.Kind == wire.EventRequest || ev.Kind == wire.EventMessage {
			arrived.Add(int64(len(ev.Frame.Body))) // and gives no credit back
		}
	})
	slow := startUpload(t, client.rawCaller(t), "echo", make([]byte, 8<<20))
	waitFor(t, "a full window", func() bool { return arrived.Load() > 250<<10 })
	c := client.caller(t)
	for range 200 {
		got, err := c.Call(head("echo"), []byte("quick"))
		if a := get(t, got, err); string(a.Body) != "quick" {
			t.Fatalf("a neighbour: %+v", a)
		}
	}
	if slow.sent.Load() {
		t.Fatal("8 MiB went into windows of 256 KiB")
	}
	if n := arrived.Load(); n > 256<<10 {
		t.Fatalf("%d bytes arrived, more than the window", n)
	}
}

func TestLostServerEndsItsCallsUnknown(t *testing.T) {
	client, server := mesh(t)
	arrived := make(chan struct{}, 1)
	r := server.serve(t, "echo", func(_ *meshtest.Raw, ev *wire.Event) {
		if ev.Kind == wire.EventRequest {
			arrived <- struct{}{}
		}
	})
	got, err := client.caller(t).Call(head("echo"), nil)
	<-arrived
	r.Close()
	a := get(t, got, err)
	want := wire.Refuse(wire.ReasonConnectionLost, wire.OriginServerProxy, "")
	if a.Status.Code != want.Code || a.Status.Reason != want.Reason || a.Status.Origin != want.Origin || a.Status.Disposition != wire.DispositionUnknown {
		t.Fatalf("got %+v", a.Status)
	}
}

func TestLostCallerCancelsItsCalls(t *testing.T) {
	client, server := mesh(t)
	arrived := make(chan struct{}, 1)
	cancelled := make(chan wire.Status, 1)
	server.serve(t, "echo", func(r *meshtest.Raw, ev *wire.Event) {
		switch ev.Kind {
		case wire.EventRequest:
			arrived <- struct{}{}
		case wire.EventReset:
			r.Wire.Release()
			cancelled <- ev.Status.Clone()
		}
	})
	c := client.caller(t)
	if _, err := c.Call(head("echo"), nil); err != nil {
		t.Fatal(err)
	}
	<-arrived
	c.Close()
	if st := <-cancelled; st.Code != wire.Cancelled {
		t.Fatalf("the handler learned %+v", st)
	}
	waitFor(t, "the end of the call", func() bool { return openOn(client) == 0 && openOn(server) == 0 })
}

func TestDyingProxyEndsCallsOfItsPeersUnknown(t *testing.T) {
	client, server := mesh(t)
	arrived := make(chan struct{}, 1)
	server.serve(t, "echo", func(_ *meshtest.Raw, ev *wire.Event) {
		if ev.Kind == wire.EventRequest {
			arrived <- struct{}{}
		}
	})
	got, err := client.caller(t).Call(head("echo"), nil)
	<-arrived
	server.Close()
	// Whichever link is seen to end first.
	if a := get(t, got, err); a.Status.Reason != wire.ReasonConnectionLost || a.Status.Disposition != wire.DispositionUnknown {
		t.Fatalf("got %+v", a.Status)
	}
}

func TestMalformedBytesEndTheirOwnConnectionOnly(t *testing.T) {
	client, server := mesh(t)
	server.serve(t, "echo", meshtest.Echo)
	c := client.caller(t)
	for name, hexBytes := range map[string]string{
		"wrong magic":       "47455420202f20485454502f312e310d",
		"oversize body":     "0c7001100000000000000001ffffffff",
		"request first":     "0c700110090000000000000100000000",
		"hello with poison": "0c70010100000002000000000000000008ff",
		"half a header":     "0c7001",
	} {
		nc, err := net.Dial("unix", client.socket)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := hex.DecodeString(hexBytes)
		if _, err := nc.Write(b); err != nil {
			t.Fatal(err)
		}
		_ = nc.(*net.UnixConn).CloseWrite()
		_ = nc.SetReadDeadline(time.Now().Add(10 * time.Second))
		said, err := io.ReadAll(nc)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if name != "half a header" {
			if h, err := wire.ParseHeader(said, wire.MinFrameBody); err != nil || h.Type != wire.TypeGoAway {
				t.Errorf("%s: got %x", name, said)
			}
		}
		_ = nc.Close()
		got, err := c.Call(head("echo"), []byte("x"))
		if a := get(t, got, err); string(a.Body) != "x" {
			t.Fatalf("after %s: %+v", name, a)
		}
	}
}

func TestOversizeHeadIsRefusedAndTheConnectionLives(t *testing.T) {
	client, server := mesh(t)
	server.serve(t, "echo", meshtest.Echo)
	c := client.caller(t)
	big := head("echo")
	big.Metadata = []wire.Entry{{Key: []byte("k"), Value: bytes.Repeat([]byte("v"), wire.MaxSDKHead)}}
	got, err := c.Call(big, nil)
	if a := get(t, got, err); a.Status.Code != wire.ResourceExhausted || a.Status.Reason != wire.ReasonHeadTooLarge ||
		a.Status.Disposition != wire.DispositionNotProcessed {
		t.Fatalf("got %+v", a.Status)
	}
	got, err = c.Call(head("echo"), []byte("x"))
	if a := get(t, got, err); string(a.Body) != "x" {
		t.Fatalf("then: %+v", a)
	}
}

func TestForeignEnvironmentIsRefused(t *testing.T) {
	n := startNode(t, wire.Limits{})
	for _, at := range []struct{ network, address string }{{"unix", n.socket}, {"tcp", n.address}} {
		_, err := meshtest.DialCaller(at.network, at.address, wire.Hello{Environment: "prod", Application: "a"})
		if err == nil {
			t.Errorf("%s: a foreign environment was let in", at.network)
		}
	}
}

// TestUnaryCallAllocatesLittle counts what a call through two proxies and two raw ends allocates, all in
// this process: the ceiling is for all four together.
func TestUnaryCallAllocatesLittle(t *testing.T) {
	for name, endpoints := range map[string]int{"one endpoint": 1, "two, so that requests are kept": 2} {
		t.Run(name, func(t *testing.T) { allocatesLittle(t, endpoints, nil) })
	}
}

func allocatesLittle(t *testing.T, endpoints int, told *tap.Tap) {
	server, client := startNode(t, wire.Limits{}), startNodeWith(t, proxy.Config{Tap: told})
	client.configure(t, map[string][]string{"echo": {server.address}})
	server.serve(t, "echo", meshtest.Echo)
	if endpoints > 1 {
		client.configure(t, map[string][]string{"echo": slices.Repeat([]string{server.address}, endpoints)})
	}
	done := make(chan struct{}, 1)
	r, err := meshtest.Dial("unix", client.socket, wire.Hello{Role: wire.RoleCall, Environment: "test", Application: "a"}, wire.Limits{},
		func(_ *meshtest.Raw, ev *wire.Event) {
			if ev.Call != nil {
				done <- struct{}{}
			}
		})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { r.Close(); <-r.Done() }()
	h := head("echo")
	h.TimeoutUS = 10_000_000
	headBytes := h.Append(nil)
	body := make([]byte, 1024)
	out := &wire.Out{}
	call := func() {
		r.Lock()
		s, err := r.Wire.Open(done)
		if err != nil {
			r.Unlock()
			t.Error(err)
			return
		}
		*out = wire.Out{Type: wire.TypeRequest, Flags: wire.FlagMessage | wire.FlagEnd, Head: headBytes, Body: body}
		r.Wire.Send(s, out)
		r.FlushUnlock()
		<-done
	}
	for range 200 {
		call()
	}
	const ceiling = 0.5 // Echo makes its Out on the heap now and then; the proxies make nothing
	if n := testing.AllocsPerRun(2000, call); n > ceiling && !raceEnabled {
		t.Fatalf("%v allocations a call", n)
	}
}

func TestDrainedPeersAreClosedByTheirDialers(t *testing.T) {
	client, server := mesh(t)
	serving, err := meshtest.Dial("unix", server.socket, wire.Hello{
		Role: wire.RoleServe, Environment: "test", Application: "echo", Targets: []string{"echo"},
	}, wire.Limits{}, func(r *meshtest.Raw, ev *wire.Event) {
		meshtest.Echo(r, ev)
		if ev.Kind == wire.EventDrained {
			go r.Close()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := client.caller(t).Call(head("echo"), []byte("x"))
	if a := get(t, got, err); string(a.Body) != "x" {
		t.Fatalf("got %+v", a)
	}
	began := time.Now()
	if cut := server.Drain(context.Background()); cut != 0 {
		t.Fatalf("%d calls were cut off", cut)
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Fatalf("the drain took %v: somebody did not move", took)
	}
	<-serving.Done()
}

func TestCallsToAPeerThatDoesNotReadAreRefusedOnceItsQueueIsFull(t *testing.T) {
	server, client := startNodeWith(t, proxy.Config{MaxQueue: 1 << 20}), startNode(t, wire.Limits{})
	client.configure(t, map[string][]string{"echo": {server.address}})
	stop := make(chan struct{})
	defer close(stop) // before the end is closed
	server.serve(t, "echo", func(_ *meshtest.Raw, ev *wire.Event) {
		if ev.Kind == wire.EventRequest {
			<-stop // the end's reader stands still, and so does its socket
		}
	})
	c := client.caller(t)
	body := make([]byte, 60_000)
	var open []<-chan meshtest.Answer
	for range 200 { // 12 MB, where 1 MiB may wait for a peer beside what its socket takes
		got, err := c.Call(head("echo"), body)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, got)
	}
	refused := 0
	waitFor(t, "refusals", func() bool {
		for _, got := range open {
			select {
			case a := <-got:
				if a.Status.Code != wire.ResourceExhausted || a.Status.Reason != wire.ReasonQueueFull ||
					a.Status.Disposition != wire.DispositionNotProcessed {
					t.Fatalf("got %+v", a.Status)
				}
				refused++
			default:
			}
		}
		return refused > 0
	})
}
