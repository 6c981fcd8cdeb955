package proxy_test

import (
	"bytes"
	"sync/atomic"
	"testing"

	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/transport/identity"
	"github.com/octomesh/octomesh/core/transport/identity/identitytest"
	"github.com/octomesh/octomesh/core/wire"
)

func source509(t *testing.T, f identity.Files) *identity.Source {
	t.Helper()
	s, err := identity.Load(f)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestProxiesProveWhoTheyAre(t *testing.T) {
	ca := identitytest.New(t)
	server := startSecureNode(t, wire.Limits{}, source509(t, ca.Files(t.TempDir(), "spiffe://example.org/test/proxy/b")))
	dir := t.TempDir()
	own := source509(t, ca.Files(dir, "spiffe://example.org/test/proxy/a"))
	client := startSecureNode(t, wire.Limits{}, own)
	client.configure(t, map[string][]string{"echo": {server.address}})
	var verified atomic.Value
	server.serve(t, "echo", func(r *meshtest.Raw, ev *wire.Event) {
		var h wire.RequestHead
		if ev.Kind == wire.EventRequest && h.Parse(bytes.Clone(ev.Frame.Head)) == nil {
			verified.Store(string(h.VerifiedCaller))
		}
		meshtest.Echo(r, ev)
	})
	c := client.caller(t)
	for i := range 50 {
		if i == 25 { // renewed while calls go on
			ca.Files(dir, "spiffe://example.org/test/proxy/a")
			if err := own.Reload(); err != nil {
				t.Fatal(err)
			}
		}
		body := bytes.Repeat([]byte{byte(i)}, 3000*i)
		if len(body) > wire.PreferredFragment {
			body = body[:wire.PreferredFragment]
		}
		got, err := c.Call(head("echo"), body)
		if a := get(t, got, err); a.Status.Code != wire.OK || !bytes.Equal(a.Body, body) {
			t.Fatalf("call %d: %+v", i, a.Status)
		}
	}
	if got := verified.Load(); got != "spiffe://example.org/test/proxy/a" {
		t.Fatalf("the server learned of %v", got)
	}
}

func TestLargeMessageStreamsThroughTLS(t *testing.T) {
	ca := identitytest.New(t)
	server := startSecureNode(t, wire.Limits{}, source509(t, ca.Files(t.TempDir(), "spiffe://example.org/test/proxy/b")))
	client := startSecureNode(t, wire.Limits{}, source509(t, ca.Files(t.TempDir(), "spiffe://example.org/test/proxy/a")))
	client.configure(t, map[string][]string{"echo": {server.address}})
	var arrived atomic.Int64
	server.serve(t, "echo", sink(&arrived))
	u := startUpload(t, client.rawCaller(t), "echo", make([]byte, 8<<20))
	if st := u.wait(t); st.Code != wire.OK || arrived.Load() != 8<<20 {
		t.Fatalf("%+v, %d bytes", st, arrived.Load())
	}
}

func TestProxiesOfAnotherEnvironmentAndPlainOnesAreRefused(t *testing.T) {
	ca := identitytest.New(t)
	server := startSecureNode(t, wire.Limits{}, source509(t, ca.Files(t.TempDir(), "spiffe://example.org/test/proxy/b")))
	server.serve(t, "echo", meshtest.Echo)
	foreign := source509(t, ca.Files(t.TempDir(), "spiffe://example.org/prod/proxy/a"))
	for name, id := range map[string]*identity.Source{"plain": nil, "foreign": foreign} {
		client := startSecureNode(t, wire.Limits{}, id)
		client.configure(t, map[string][]string{"echo": {server.address}})
		got, err := client.caller(t).Call(head("echo"), nil)
		if a := get(t, got, err); a.Status.Reason != wire.ReasonProxyUnreachable || a.Status.Disposition != wire.DispositionNotProcessed {
			t.Errorf("%s: got %+v", name, a.Status)
		}
	}
}
