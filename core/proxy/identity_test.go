package proxy_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/resource"
	"github.com/octomesh/octomesh/core/transport/identity"
	"github.com/octomesh/octomesh/core/transport/identity/identitytest"
	"github.com/octomesh/octomesh/core/wire"
)

const domain = "spiffe://example.org/test/"

// secure starts a proxy that proves an id, in a folder where the id may be changed.
func secure(t *testing.T, ca *identitytest.Authority, dir, id string) (*meshtest.Proxy, *identity.Source) {
	t.Helper()
	cfg := proxy.Config{}
	var src *identity.Source
	if id != "" {
		src = source509(t, ca.Files(dir, domain+id))
		cfg.TLS = src
	}
	p, err := meshtest.StartProxy(t.TempDir(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p, src
}

func publish(t *testing.T, p *meshtest.Proxy, format string, args ...any) {
	t.Helper()
	snap := &resourcev1.Snapshot{}
	if _, err := resource.Parse("test.yaml", fmt.Appendf(nil, format, args...), snap); err != nil {
		t.Fatal(err)
	}
	if err := p.Publish(snap); err != nil {
		t.Fatal(err)
	}
}

// echo has a proxy's instance answer calls to echo, and counts them.
func echo(t *testing.T, p *meshtest.Proxy) *atomic.Int64 {
	t.Helper()
	n := new(atomic.Int64)
	r, err := meshtest.Dial("unix", p.Socket, wire.Hello{
		Role: wire.RoleServe, Kind: wire.PeerSDK, Environment: "test", Application: "echo", Targets: []string{"echo"},
	}, wire.Limits{}, func(r *meshtest.Raw, ev *wire.Event) {
		if ev.Kind == wire.EventRequest {
			n.Add(1)
		}
		meshtest.Echo(r, ev)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); <-r.Done() })
	return n
}

func callerOf(t *testing.T, p *meshtest.Proxy) *meshtest.Caller {
	t.Helper()
	c, err := meshtest.DialCaller("unix", p.Socket, wire.Hello{Kind: wire.PeerSDK, Environment: "test", Application: "web"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); <-c.Done() })
	return c
}

func callEcho(t *testing.T, c *meshtest.Caller) wire.Status {
	t.Helper()
	got, err := c.Call(head("echo"), []byte("x"))
	return get(t, got, err).Status
}

func isStranger(st wire.Status) bool {
	return st.Reason == wire.ReasonAuthDenied && st.Code == wire.PermissionDenied && st.Origin == wire.OriginClientProxy &&
		st.Disposition == wire.DispositionNotProcessed
}

func TestPeersMustBeWhomTheirTargetExpects(t *testing.T) {
	ca := identitytest.New(t)
	server, _ := secure(t, ca, t.TempDir(), "proxy/cart-1")
	arrived := echo(t, server)
	for name, c := range map[string]struct {
		endpoint, policy string
		good             bool
	}{
		"nobody in particular":   {"", "", true},
		"the endpoint's":         {domain + "proxy/cart-1", "", true},
		"the policy's":           {"", "\"" + domain + "proxy/other\", \"" + domain + "proxy/cart-*\"", true},
		"the endpoint's is over": {domain + "proxy/cart-1", "\"" + domain + "proxy/other\"", true},
		"another of endpoint":    {domain + "proxy/cart-2", "\"" + domain + "proxy/cart-*\"", false},
		"another of policy":      {"", "\"" + domain + "proxy/cart\"", false},
	} {
		t.Run(name, func(t *testing.T) {
			client, _ := secure(t, ca, t.TempDir(), "proxy/web-1")
			publish(t, client, `
endpoints: [{target: echo, instance: a, mesh_address: %q, identity: %q}]
policies: [{target: echo, identities: [%s]}]
`, server.Address, c.endpoint, c.policy)
			caller := callerOf(t, client)
			before := arrived.Load()
			for range 5 {
				if st := callEcho(t, caller); c.good != (st.Code == wire.OK) || !c.good && !isStranger(st) {
					t.Fatalf("ended %+v", st)
				}
			}
			for e := range client.Store().Current().Table.Endpoints() {
				if n := e.Strangers.Load(); c.good != (n == 0) {
					t.Errorf("%d calls were counted", n)
				}
			}
			if !c.good && (arrived.Load() != before || client.Sessions()["upstream"] != 0) {
				t.Errorf("%d calls arrived at a stranger, %d connections stand", arrived.Load()-before, client.Sessions()["upstream"])
			}
		})
	}
}

func TestStrangersAreLeftOutWhileThereAreOthers(t *testing.T) {
	ca := identitytest.New(t)
	good, _ := secure(t, ca, t.TempDir(), "proxy/cart-1")
	bad, _ := secure(t, ca, t.TempDir(), "proxy/mail-1")
	arrived, stolen := echo(t, good), echo(t, bad)
	client, _ := secure(t, ca, t.TempDir(), "proxy/web-1")
	publish(t, client, `
endpoints: [{target: echo, instance: good, mesh_address: %q}, {target: echo, instance: bad, mesh_address: %q}]
policies: [{target: echo, identities: [%q]}]
`, good.Address, bad.Address, domain+"proxy/cart-*")
	caller := callerOf(t, client)
	for range 200 {
		if st := callEcho(t, caller); st.Code != wire.OK {
			t.Fatalf("ended %+v", st)
		}
	}
	if arrived.Load() != 200 || stolen.Load() != 0 {
		t.Errorf("%d calls arrived, %d at a stranger", arrived.Load(), stolen.Load())
	}
}

func TestExpectedPeersNeedTLS(t *testing.T) {
	server, _ := secure(t, nil, "", "")
	arrived := echo(t, server)
	client, _ := secure(t, nil, "", "")
	publish(t, client, `
endpoints: [{target: echo, instance: a, mesh_address: %q, identity: "*"}]
`, server.Address)
	if st := callEcho(t, callerOf(t, client)); !isStranger(st) || arrived.Load() != 0 {
		t.Errorf("ended %+v", st)
	}
}

func TestNewExpectationsHoldForConnectionsThatStand(t *testing.T) {
	ca := identitytest.New(t)
	server, _ := secure(t, ca, t.TempDir(), "proxy/cart-1")
	echo(t, server)
	client, _ := secure(t, ca, t.TempDir(), "proxy/web-1")
	const config = `endpoints: [{target: echo, instance: a, mesh_address: %q, identity: %q}]`
	publish(t, client, config, server.Address, "")
	caller := callerOf(t, client)
	if st := callEcho(t, caller); st.Code != wire.OK {
		t.Fatalf("ended %+v", st)
	}
	publish(t, client, config, server.Address, domain+"proxy/other")
	if st := callEcho(t, caller); !isStranger(st) {
		t.Fatalf("ended %+v", st)
	}
	waitFor(t, "the end of the connection", func() bool { return client.Sessions()["upstream"] == 0 })
	publish(t, client, config, server.Address, domain+"proxy/cart-1")
	waitFor(t, "a connection again", func() bool { return callEcho(t, caller).Code == wire.OK })
}

// TestCertificatesChangeUnderLoad renews the certificates of both proxies twenty times while calls go on and new
// connections are made; then the server comes back as somebody else.
func TestCertificatesChangeUnderLoad(t *testing.T) {
	ca := identitytest.New(t)
	serverDir, clientDir := t.TempDir(), t.TempDir()
	server, serverID := secure(t, ca, serverDir, "proxy/cart-1")
	echo(t, server)
	client, clientID := secure(t, ca, clientDir, "proxy/web-1")
	config := fmt.Sprintf(`endpoints: [{target: echo, instance: a, mesh_address: %q, identity: %q}]`, server.Address, domain+"proxy/cart-1")
	publish(t, client, "%s", config)

	stop, done := make(chan struct{}), make(chan error, 4)
	for range cap(done) {
		caller := callerOf(t, client)
		go func() {
			for n := 0; ; n++ {
				got, err := caller.Call(head("echo"), []byte("x"))
				if err != nil {
					done <- err
					return
				}
				select {
				case a := <-got:
					if a.Status.Code != wire.OK {
						done <- fmt.Errorf("call %d ended %+v", n, a.Status)
						return
					}
				case <-time.After(10 * time.Second):
					done <- fmt.Errorf("call %d was not answered", n)
					return
				}
				select {
				case <-stop:
					done <- nil
					return
				default:
				}
			}
		}()
	}
	renew := func(dir, id string, src *identity.Source) {
		ca.Files(dir, domain+id)
		if err := src.Reload(); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 {
		renew(serverDir, "proxy/cart-1", serverID)
		renew(clientDir, "proxy/web-1", clientID)
		other, _ := secure(t, ca, t.TempDir(), "proxy/web-2") // shakes hands with what is new
		publish(t, other, "%s", config)
		if st := callEcho(t, callerOf(t, other)); st.Code != wire.OK {
			t.Fatalf("a new connection: %+v", st)
		}
		other.Close()
	}
	close(stop)
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}

	renew(serverDir, "proxy/mail-1", serverID)
	if st := callEcho(t, callerOf(t, client)); st.Code != wire.OK {
		t.Errorf("on a connection that stood before: %+v", st)
	}
	late, _ := secure(t, ca, t.TempDir(), "proxy/web-3")
	publish(t, late, "%s", config)
	if st := callEcho(t, callerOf(t, late)); !isStranger(st) {
		t.Errorf("the server is somebody else now, and a call ended %+v", st)
	}
}

// TestServersWithoutAProxyMustBeWhomTheirTargetExpects calls an application's own server by TLS.
func TestServersWithoutAProxyMustBeWhomTheirTargetExpects(t *testing.T) {
	ca := identitytest.New(t)
	own := source509(t, ca.Files(t.TempDir(), domain+"app/echo"))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	arrived := new(atomic.Int64)
	go meshtest.Serve(tls.NewListener(l, own.Server(own.SameEnvironment)), wire.Limits{}, func(r *meshtest.Raw, ev *wire.Event) {
		if ev.Kind == wire.EventRequest {
			arrived.Add(1)
		}
		meshtest.Echo(r, ev)
	})
	for id, good := range map[string]bool{"app/echo": true, "app/*": true, "app/cart": false, "proxy/*": false} {
		client, _ := secure(t, ca, t.TempDir(), "proxy/web-1")
		publish(t, client, `endpoints: [{target: echo, instance: a, mesh_address: %q, identity: %q}]`, l.Addr(), domain+id)
		before := arrived.Load()
		st := callEcho(t, callerOf(t, client))
		if good != (st.Code == wire.OK) || !good && (!isStranger(st) || arrived.Load() != before) {
			t.Errorf("%s is expected, and a call ended %+v", id, st)
		}
	}
}
