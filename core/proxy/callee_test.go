package proxy_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/transport/identity/identitytest"
	"github.com/octomesh/octomesh/core/wire"
)

// place listens as an instance, or its proxy, would.
type place struct {
	net.Listener
	calls atomic.Int64
	mute  atomic.Bool // it answers no call
	heads chan wire.RequestHead
}

func (p *place) serve(l net.Listener) {
	meshtest.Serve(l, wire.Limits{}, func(r *meshtest.Raw, ev *wire.Event) {
		if ev.Kind == wire.EventRequest {
			p.calls.Add(1)
			var h wire.RequestHead
			if h.Parse(append([]byte(nil), ev.Frame.Head...)) == nil {
				select {
				case p.heads <- h:
				default:
				}
			}
			if p.mute.Load() {
				return
			}
		}
		meshtest.Echo(r, ev)
	})
}

// listen listens at an address; empty: any.
func listen(t *testing.T, address string) *place {
	t.Helper()
	p := &place{heads: make(chan wire.RequestHead, 1)}
	var err error
	if p.Listener, err = net.Listen("tcp", max(address, "127.0.0.1:0")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	go p.serve(p.Listener)
	return p
}

// calleeFleet is a proxy in front of one instance of echo behind server 0, which has an address of its own besides.
func calleeFleet(t *testing.T, more string) (*fleet, *place) {
	f, own := newFleet(t, 1), listen(t, "")
	f.attach(0, "echo")
	f.publish(fmt.Sprintf("endpoints: [{target: echo, instance: a, mesh_address: $0, direct_address: %q}]\n%s", own.Addr(), more))
	return f, own
}

// ok makes calls that must all be answered.
func (f *fleet) ok(n int) {
	f.t.Helper()
	for range n {
		if a := f.call(head("echo")); a.Status.Code != wire.OK {
			f.t.Fatalf("a call ended %+v", a.Status)
		}
	}
}

func TestCallsGoToTheInstanceItselfWhileItsProxyIsDead(t *testing.T) {
	f, own := calleeFleet(t, "")
	f.ok(100)
	if n := own.calls.Load(); n != 0 || f.calls[0].Load() != 100 {
		t.Fatalf("%d calls went around a proxy that lives", n)
	}
	address := f.servers[0].Address
	f.servers[0].Close()
	waitFor(t, "the loss", func() bool { return f.call(head("echo")).Status.Code == wire.OK }) // a call may be on its way there
	before := own.calls.Load()
	f.ok(100)
	if n := own.calls.Load(); n != before+100 {
		t.Fatalf("%d of 100 calls went to the instance itself", n-before)
	}
	if h := <-own.heads; string(h.Caller) != "web" {
		t.Errorf("the instance heard of caller %q", h.Caller)
	}
	again := listen(t, address)
	waitFor(t, "the way back", func() bool { f.ok(1); return again.calls.Load() > 0 })
	before = own.calls.Load()
	f.ok(100)
	if n := own.calls.Load(); n != before {
		t.Errorf("%d calls went around a proxy that is back", n-before)
	}
}

func TestAProxyThatSaysNothingHoldsNoCallThatHasAnotherWay(t *testing.T) {
	f, own := newFleet(t, 0), listen(t, "")
	silent, err := net.Listen("tcp", "127.0.0.1:0") // connections stand, and nobody reads them
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	f.publish(fmt.Sprintf("endpoints: [{target: echo, instance: a, mesh_address: %q, direct_address: %q}]", silent.Addr(), own.Addr()))
	h := head("echo")
	h.TimeoutUS = 1_500_000 // less than a dial may take
	for range 50 {
		if a := f.call(h); a.Status.Code != wire.OK {
			t.Fatalf("a call ended %+v", a.Status)
		}
	}
}

func TestAProxyThatFallsSilentIsGoneRound(t *testing.T) {
	f, own, proxy := newFleet(t, 0), listen(t, ""), listen(t, "")
	proxy.mute.Store(true)
	l := stopped(t, proxy)
	f.publish(fmt.Sprintf("endpoints: [{target: echo, instance: a, mesh_address: %q, direct_address: %q}]", l, own.Addr()))
	waits, err := f.caller.Call(head("echo"), nil) // written to a proxy that stands still
	if err != nil {
		t.Fatal(err)
	}
	if a := get(t, waits, nil); a.Status.Reason != wire.ReasonConnectionLost || a.Status.Disposition != wire.DispositionUnknown {
		t.Fatalf("the call that had been written ended %+v", a.Status)
	}
	f.ok(100)
	if n := own.calls.Load(); n != 100 {
		t.Errorf("%d of 100 calls went to the instance itself", n)
	}
}

// stopped is the address of a proxy whose connections stand still behind the first call.
func stopped(t *testing.T, behind *place) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", behind.Addr().String())
			if err != nil {
				_ = near.Close()
				return
			}
			t.Cleanup(func() { _, _ = near.Close(), far.Close() })
			go func() { // the WELCOME, and nothing else
				b := make([]byte, 4096)
				if n, err := far.Read(b); err == nil {
					_, _ = near.Write(b[:n])
				}
			}()
			go func() {
				b := make([]byte, 4096)
				for behind.calls.Load() == 0 {
					n, err := near.Read(b)
					if err != nil {
						return
					}
					if _, err := far.Write(b[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

func TestAnInstanceThatItsProxyDoesNotHaveIsCalledItself(t *testing.T) {
	f, own := newFleet(t, 1), listen(t, "")
	f.publish(fmt.Sprintf("endpoints: [{target: echo, instance: a, mesh_address: $0, direct_address: %q}]", own.Addr()))
	f.ok(100)
	if n := own.calls.Load(); n != 100 {
		t.Fatalf("%d of 100 calls went to the instance itself", n)
	}
	f.attach(0, "echo")
	waitFor(t, "the way back", func() bool { f.ok(1); return f.calls[0].Load() > 0 })
}

func TestAnInstanceWithoutAProxyIsCalledItself(t *testing.T) {
	f, own := newFleet(t, 0), listen(t, "")
	f.publish(fmt.Sprintf("endpoints: [{target: echo, instance: a, direct_address: %q}]", own.Addr()))
	f.ok(10)
	if n := own.calls.Load(); n != 10 {
		t.Fatalf("it got %d of 10 calls", n)
	}
}

func TestNobodyGoesWhereItIsForbidden(t *testing.T) {
	for name, text := range map[string]string{
		"by the policy":      "endpoints: [{target: echo, instance: a, mesh_address: $0, direct_address: %q}]\npolicies: [{target: echo, direct_forbidden: true}]",
		"another protocol":   "endpoints: [{target: echo, instance: a, mesh_address: $0, direct_address: %q, direct_protocol: PROTOCOL_GRPC}]",
		"TLS is asked for":   "endpoints: [{target: echo, instance: a, mesh_address: $0, direct_address: %q, direct_identity: \"spiffe://example.org/test/app/echo\"}]",
		"it is taken out":    "endpoints: [{target: echo, instance: a, mesh_address: $0, direct_address: %q, disabled: true}]",
		"there is no weight": "endpoints: [{target: echo, instance: a, mesh_address: $0, direct_address: %q, weight: 0}]",
	} {
		t.Run(name, func(t *testing.T) {
			f, own := newFleet(t, 1), listen(t, "")
			f.servers[0].Close()
			f.servers = f.servers[:0:0]
			f.publish(strings.ReplaceAll(fmt.Sprintf(text, own.Addr()), "$0", `"127.0.0.1:1"`))
			a := f.call(head("echo"))
			if a.Status.Code != wire.Unavailable || a.Status.Disposition != wire.DispositionNotProcessed || own.calls.Load() != 0 {
				t.Errorf("a call ended %+v", a.Status)
			}
		})
	}
}

func TestInstancesThemselvesProveWhoTheyAre(t *testing.T) {
	ca := identitytest.New(t)
	own := source509(t, ca.Files(t.TempDir(), domain+"app/echo"))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	instance := &place{heads: make(chan wire.RequestHead, 1)}
	go instance.serve(tls.NewListener(l, own.Server(own.SameEnvironment)))
	for id, good := range map[string]bool{"app/echo": true, "app/cart": false, "": false} {
		client, _ := secure(t, ca, t.TempDir(), "proxy/web-1")
		if id != "" {
			id = domain + id
		}
		publish(t, client, `endpoints: [{target: echo, instance: a, mesh_address: "127.0.0.1:1", direct_address: %q, direct_identity: %q}]`, l.Addr(), id)
		before := instance.calls.Load()
		st := callEcho(t, callerOf(t, client))
		if good != (st.Code == wire.OK) || !good && (instance.calls.Load() != before || st.Disposition != wire.DispositionNotProcessed) {
			t.Errorf("%q is expected, and a call ended %+v", id, st)
		}
	}
}

func TestAStrangerInTheProxysPlaceIsNotGoneRound(t *testing.T) {
	ca := identitytest.New(t)
	stranger := source509(t, ca.Files(t.TempDir(), domain+"app/echo"))
	var places [2]*place
	for i := range places {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		places[i] = &place{Listener: l, heads: make(chan wire.RequestHead, 1)}
		go places[i].serve(tls.NewListener(l, stranger.Server(stranger.SameEnvironment)))
	}
	client, _ := secure(t, ca, t.TempDir(), "proxy/web-1")
	publish(t, client, `endpoints: [{target: echo, instance: a, mesh_address: %q, identity: %q, direct_address: %q, direct_identity: %q}]`,
		places[0].Addr(), domain+"proxy/*", places[1].Addr(), domain+"app/echo")
	caller := callerOf(t, client)
	for range 3 {
		if st := callEcho(t, caller); !isStranger(st) {
			t.Errorf("a call ended %+v", st)
		}
	}
	if n := places[1].calls.Load(); n != 0 {
		t.Errorf("%d calls went around a stranger", n)
	}
}

// One of two instances has crashed; its proxy lives. Nothing was processed there, so that no call may fail.
func TestACrashedInstanceBehindALivingProxyFailsNoCall(t *testing.T) {
	for name, text := range map[string]string{
		"mesh only": `endpoints: [{target: echo, instance: a, mesh_address: $0}, {target: echo, instance: b, mesh_address: $1}]`,
		"both":      `endpoints: [{target: echo, instance: a, mesh_address: $0, direct_address: "127.0.0.1:1"}, {target: echo, instance: b, mesh_address: $1}]`,
	} {
		for _, inFlight := range []int{1, 16} {
			t.Run(fmt.Sprintf("%s/%d", name, inFlight), func(t *testing.T) {
				f := newFleet(t, 2)
				f.attach(1, "echo")
				f.publish(text)
				var bad atomic.Int64
				var wg sync.WaitGroup
				for range inFlight {
					caller := f.dial("web")
					wg.Go(func() {
						for range 48_000 / inFlight {
							c, err := caller.Call(head("echo"), nil)
							if err != nil {
								t.Error(err)
								return
							}
							if a := <-c; a.Status.Code != wire.OK {
								bad.Add(1)
							}
						}
					})
				}
				wg.Wait()
				if n := bad.Load(); n > 0 {
					t.Errorf("%d calls failed", n)
				}
			})
		}
	}
}
