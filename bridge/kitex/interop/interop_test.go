// Package interop holds the bridge to unmodified clients and servers of Kitex v0.16.3. It is a module of its own, since nobody else
// needs what Kitex brings.
package interop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bytedance/gopkg/cloud/metainfo"
	"github.com/cloudwego/kitex/client"
	"github.com/cloudwego/kitex/pkg/connpool"
	"github.com/cloudwego/kitex/pkg/kerrors"
	"github.com/cloudwego/kitex/pkg/remote"
	"github.com/cloudwego/kitex/server"
	"github.com/cloudwego/kitex/transport"

	"github.com/octomesh/octomesh/bridge/kitex"
	"github.com/octomesh/octomesh/bridge/message"
	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/proxy/session"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// startClients is a client's proxy: Kitex's clients come in at l.
func startClients(t *testing.T, l net.Listener, targets map[string][]string) *meshtest.Proxy {
	t.Helper()
	p := &message.Protocol{Config: message.Config{Codec: &kitex.Codec{Multiplexed: true}, Environment: meshtest.Environment, Application: "shops"}}
	return start(t, proxy.Config{Entrances: []proxy.Entrance{{Listener: l, Protocols: []session.Protocol{p}}}}, targets)
}

// startServers is the proxy of a server of Kitex's.
func startServers(t *testing.T, at, instance string, multiplexed bool) *meshtest.Proxy {
	t.Helper()
	return start(t, proxy.Config{
		Dials: map[resourcev1.Protocol]session.Protocol{
			resourcev1.Protocol_PROTOCOL_KITEX: &message.Protocol{Config: message.Config{Codec: &kitex.Codec{Multiplexed: multiplexed}}},
		},
		Servers: []proxy.Server{{
			Application: target, Instance: instance, Targets: []string{target}, Address: at, Protocol: resourcev1.Protocol_PROTOCOL_KITEX,
		}},
	}, nil)
}

func start(t *testing.T, cfg proxy.Config, targets map[string][]string) *meshtest.Proxy {
	t.Helper()
	p, err := meshtest.StartProxy(t.TempDir(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	if err := p.Endpoints(targets); err != nil {
		t.Fatal(err)
	}
	return p
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// reached waits until the server is an instance.
func reached(t *testing.T, c client.Client) {
	t.Helper()
	for until := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		_, err := charge(context.Background(), c, "x")
		if err == nil {
			return
		}
		if time.Now().After(until) {
			t.Fatal(err)
		}
	}
}

// kinds are the ways in which Kitex's clients use connections.
var kinds = map[string][]client.Option{
	"a connection a call": {client.WithShortConnection()},
	"a pool":              {client.WithLongConnection(connpool.IdleConfig{MaxIdlePerAddress: 64, MaxIdleGlobal: 256, MaxIdleTimeout: time.Minute})},
	// One connection, which the first call makes: Kitex's pool of several (v0.16.3) writes its list while other calls read it.
	"multiplexed": {client.WithMuxConnection(1)},
	"framed":      {client.WithTransportProtocol(transport.TTHeaderFramed)},
}

// every runs a test with each kind of client and of server.
func every(t *testing.T, test func(t *testing.T, c client.Client, b *billing)) {
	for _, multiplexed := range []bool{false, true} {
		for name, opts := range kinds {
			t.Run(fmt.Sprintf("%s, server multiplexed=%v", name, multiplexed), func(t *testing.T) {
				b := newBilling()
				var of []server.Option
				if multiplexed {
					of = append(of, server.WithMuxTransport())
				}
				at := startServers(t, startServer(t, b, of...), "billing-1", multiplexed)
				l := listen(t)
				startClients(t, l, map[string][]string{target: {at.Address}})
				c := newClient(t, l.Addr().String(), opts...)
				reached(t, c)
				test(t, c, b)
			})
		}
	}
}

func TestCallsAndTheirOutcomesPass(t *testing.T) {
	every(t, func(t *testing.T, c client.Client, b *billing) {
		ctx := context.Background()
		for _, in := range []string{"", "ten", strings.Repeat("x", 70<<10), strings.Repeat("y", 3<<20)} {
			if out, err := charge(ctx, c, in); err != nil || out.value != in {
				t.Fatalf("%d bytes: %d, %v", len(in), len(out.value), err)
			}
		}
		if out, err := charge(ctx, c, "exception"); err != nil || out.broke == nil || out.broke.value != "the till is empty" {
			t.Errorf("a declared exception: %+v, %v", out, err)
		}
		for in, why := range map[string]string{"error": "the till burns", "panic": "the till exploded"} {
			var remoteErr *remote.TransError
			if _, err := charge(ctx, c, in); !errors.As(err, &remoteErr) || remoteErr.TypeID() != remote.InternalError || !strings.Contains(err.Error(), why) {
				t.Errorf("%s: %v", in, err)
			}
		}
		_, err := charge(ctx, c, "business")
		biz, ok := kerrors.FromBizStatusError(err)
		if !ok || biz.BizStatusCode() != 40001 || biz.BizMessage() != "no money" || biz.BizExtra()["left"] != "0" {
			t.Errorf("a business status: %v", err)
		}
		var remoteErr *remote.TransError
		if err := c.Call(ctx, "Missing", &text{"x"}, &outcome{}); !errors.As(err, &remoteErr) || remoteErr.TypeID() != remote.UnknownMethod {
			t.Errorf("an unknown method: %v", err)
		}
		if err := c.Call(ctx, "Note", &text{"write it down"}, nil); err != nil {
			t.Errorf("a one-way call: %v", err)
		}
		select {
		case got := <-b.noted:
			if got != "write it down" {
				t.Errorf("noted: %q", got)
			}
		case <-time.After(patience):
			t.Error("the one-way call has not come")
		}
	})
}

func TestMetainfoCallerAndTimeoutPass(t *testing.T) {
	every(t, func(t *testing.T, c client.Client, _ *billing) {
		const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
		ctx := metainfo.WithBackwardValues(context.Background())
		ctx = metainfo.WithValue(metainfo.WithPersistentValue(ctx, "lane", "blue"), "once", "only")
		ctx = metainfo.WithValue(ctx, "traceparent", parent)
		out, err := charge(ctx, c, "metainfo")
		if err != nil || out.value != "blue only "+parent {
			t.Errorf("%q, %v", out.value, err)
		}
		if back, _ := metainfo.RecvBackwardValue(ctx, "back"); back != "wards" {
			t.Errorf("backward: %q", back)
		}
		if out, err := charge(context.Background(), c, "caller"); err != nil || out.value != "shop "+patience.String() {
			t.Errorf("%q, %v", out.value, err)
		}
	})
}

func TestATimeoutEndsItsCallAlone(t *testing.T) {
	every(t, func(t *testing.T, c client.Client, b *billing) {
		impatient, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		if _, err := charge(impatient, c, "wait"); err == nil || !kerrors.IsTimeoutError(err) {
			t.Errorf("%v", err)
		}
		close(b.may) // the answer that nobody waits for
		for n := range 20 {
			in := fmt.Sprint("after ", n)
			if out, err := charge(context.Background(), c, in); err != nil || out.value != in {
				t.Fatalf("%q, %v", out.value, err)
			}
		}
	})
}

func TestManyAtOnce(t *testing.T) {
	every(t, func(t *testing.T, c client.Client, b *billing) {
		const slow, callers, each = 50, 16, 25
		var wg sync.WaitGroup
		for range slow {
			wg.Go(func() {
				if out, err := charge(context.Background(), c, "wait"); err != nil || out.value != "wait" {
					t.Errorf("%q, %v", out.value, err)
				}
			})
		}
		for range slow {
			<-b.came // all of them are with the handler at once
		}
		var quick sync.WaitGroup
		for k := range callers {
			quick.Go(func() {
				for n := range each {
					in := fmt.Sprint(k, "/", n)
					if out, err := charge(context.Background(), c, in); err != nil || out.value != in {
						t.Errorf("%q, %v", out.value, err)
						return
					}
				}
			})
		}
		quick.Wait()
		close(b.may)
		wg.Wait()
	})
}

func TestAnUnknownTargetIsTheMeshsError(t *testing.T) {
	l := listen(t)
	startClients(t, l, nil)
	var remoteErr *remote.TransError
	_, err := charge(context.Background(), newClient(t, l.Addr().String()), "x")
	if !errors.As(err, &remoteErr) || remoteErr.TypeID() != remote.UnknownService || !strings.Contains(err.Error(), "octo: CLIENT_PROXY") {
		t.Errorf("%v", err)
	}
}

// calling makes calls until the returned function is called; none may fail.
func calling(t *testing.T, c client.Client, callers int, done *atomic.Int64) (stop func()) {
	t.Helper()
	var wg sync.WaitGroup
	stopped := make(chan struct{})
	for range callers {
		wg.Go(func() {
			for {
				select {
				case <-stopped:
					return
				default:
				}
				if out, err := charge(context.Background(), c, "go on"); err != nil || out.value != "go on" {
					t.Errorf("call %d: %q, %v", done.Load(), out.value, err)
					return
				}
				done.Add(1)
			}
		})
	}
	return func() { close(stopped); wg.Wait() }
}

// progress waits for more calls.
func progress(t *testing.T, done *atomic.Int64, more int64) {
	t.Helper()
	want, until := done.Load()+more, time.Now().Add(patience)
	for done.Load() < want && !t.Failed() {
		if time.Now().After(until) {
			t.Fatalf("%d calls, and %d are waited for", done.Load(), want)
		}
		time.Sleep(time.Millisecond)
	}
}

// patient accepts nobody until its proxy has its configuration, as a successor does.
type patient struct {
	net.Listener
	ready chan struct{}
}

func (p *patient) Accept() (net.Conn, error) {
	<-p.ready
	return p.Listener.Accept()
}

// TestASuccessorTakesOverWithoutALostCall gives the socket where clients come in from proxy to proxy, as a hot restart does.
func TestASuccessorTakesOverWithoutALostCall(t *testing.T) {
	for name, opts := range kinds {
		if name == "multiplexed" { // these know one word alone for leaving, a frame of number 0 at which v0.16.3's own client panics
			continue
		}
		t.Run(name, func(t *testing.T) {
			at := startServers(t, startServer(t, newBilling()), "billing-1", false)
			targets := map[string][]string{target: {at.Address}}
			l := listen(t)
			address := l.Addr().String()
			next := func() net.Listener {
				f, err := l.(*net.TCPListener).File()
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = f.Close() }()
				again, err := net.FileListener(f)
				if err != nil {
					t.Fatal(err)
				}
				return again
			}
			after := next()
			old := startClients(t, l, targets)
			c := newClient(t, address, opts...)
			reached(t, c)
			var done atomic.Int64
			stop := calling(t, c, 4, &done)
			for range 3 {
				progress(t, &done, 50)
				l, after = after, nil
				successor := &patient{Listener: l, ready: make(chan struct{})}
				after = next()
				fresh := startClients(t, successor, targets)
				close(successor.ready)
				if cut := old.Drain(context.Background()); cut != 0 {
					t.Errorf("%d calls were cut off", cut)
				}
				old = fresh
			}
			progress(t, &done, 50)
			stop()
			_ = after.Close()
			t.Logf("%d calls", done.Load())
		})
	}
}

func TestAServersProxyThatLeavesLosesNoCall(t *testing.T) {
	address := startServer(t, newBilling())
	one, two := startServers(t, address, "billing-1", false), startServers(t, address, "billing-2", false)
	l := listen(t)
	startClients(t, l, map[string][]string{target: {one.Address, two.Address}})
	c := newClient(t, l.Addr().String(), kinds["a pool"]...)
	for range 20 { // both are there
		reached(t, c)
	}
	var done atomic.Int64
	stop := calling(t, c, 8, &done)
	progress(t, &done, 100)
	if cut := one.Drain(context.Background()); cut != 0 {
		t.Errorf("%d calls were cut off", cut)
	}
	progress(t, &done, 100)
	stop()
}
