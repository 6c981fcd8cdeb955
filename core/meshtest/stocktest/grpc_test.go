package stocktest_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/meshtest/planetest"
	"github.com/octomesh/octomesh/core/transport/identity"
	"github.com/octomesh/octomesh/core/transport/identity/identitytest"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// TestGRPCWithTLS: a client proves to be the node that it says to be, and one that does not learns nothing.
func TestGRPCWithTLS(t *testing.T) {
	t.Parallel()
	ca := identitytest.New(t)
	files := func(name string) identity.Files { return ca.Files(planetest.Dir(t), "spiffe://example.org/test/"+name) }
	own := files("control/all-1")
	w := newWorld(t, programs.Up(t, "--certificate", own.Certificate, "--key", own.Key, "--authorities", own.Authorities, "--writers", "spiffe://example.org/test/operator/*"))
	w.serve(&resourcev1.Endpoint{Target: "cart", Instance: "cart-1"})
	w.dial("cart", "web-1", "", tlsServer(w.PilotAddresses()[0], files("proxy/web-1"))).reaches("cart-1")
	stranger := w.dial("cart", "web-2", "", tlsServer(w.PilotAddresses()[0], files("proxy/web-3")))
	for until := time.Now().Add(20 * time.Second); ; {
		who, err := stranger.call()
		if err == nil {
			t.Fatalf("%q answers whoever calls itself web-2", who)
		}
		if strings.Contains(err.Error(), `is not the proxy "web-2"`) {
			return
		}
		if time.Now().After(until) { // gRPC's own words come first, before it has heard why
			t.Fatal(err)
		}
	}
}

func tlsServer(pilot string, f identity.Files) json.RawMessage {
	return fmt.Appendf(nil, `{"server_uri": %q, "channel_creds": [{"type": "tls", "config": {
		"certificate_file": %q, "private_key_file": %q, "ca_certificate_file": %q}}]}`, pilot, f.Certificate, f.Key, f.Authorities)
}

func weight(n uint32) *uint32 { return &n }

// TestGRPC: a client that knows nothing of OctoMesh calls servers that do not, by what the registry and policies say.
func TestGRPC(t *testing.T) {
	t.Parallel()
	w := newWorld(t, programs.Up(t))
	one := w.serve(&resourcev1.Endpoint{Target: "cart", Instance: "cart-1"})
	c := w.dial("cart", "web-1", "")
	c.reaches("cart-1")

	two := w.serve(&resourcev1.Endpoint{Target: "cart", Instance: "cart-2", Tags: map[string]string{"version": "2"}})
	c.awaitShares("cart-1", "cart-2")

	two.Weight = weight(900)
	w.PutEndpoint(two)
	for n := 0; n < 800; n = c.shares(1000)["cart-2"] { // of 1000; the standard deviation is 10
	}
	if n := c.shares(1000)["cart-2"]; n < 800 || n == 1000 {
		t.Errorf("%d of 1000 calls go to an instance of weight 900 beside one of 100", n)
	}

	one.Disabled = true
	w.PutEndpoint(one)
	c.comes("cart-2")
	one.Disabled = false
	w.PutEndpoint(one)
	c.awaitShares("cart-1", "cart-2")

	w.serve(&resourcev1.Endpoint{Target: "mail", Instance: "mail-1"})
	w.apply(`
policies:
- target: cart
  routes:
  - {name: canary, match: {metadata: [{key: canary, exact: "yes"}]}, destinations: [{subset: {version: "2"}}]}
  - {name: method, match: {service: grpc.health.v1.Health, method: Check, metadata: [{key: elsewhere, present: true}]}, destinations: [{target: mail}]}
`)
	c.comes("cart-2", "canary", "yes")
	c.comes("mail-1", "elsewhere", "1")
	c.awaitShares("cart-1", "cart-2")

	w.Remove("cart", "cart-2")
	c.comes("cart-1")
	w.tookAll()
}

// TestGRPCWithoutPilot: calls go on when Pilots are gone, what is called first finds the other one, and what
// has changed meanwhile arrives.
func TestGRPCWithoutPilot(t *testing.T) {
	t.Parallel()
	w := newWorld(t, programs.Cluster(t))
	w.serve(&resourcev1.Endpoint{Target: "cart", Instance: "cart-1"})
	c := w.dial("cart", "web-1", "")
	c.reaches("cart-1")

	w.Pilots[0].Kill()
	c.reaches("cart-1")
	w.serve(&resourcev1.Endpoint{Target: "mail", Instance: "mail-1"})
	w.dial("mail", "web-2", "").reaches("mail-1")

	w.Pilots[1].Kill()
	c.reaches("cart-1")
	w.serve(&resourcev1.Endpoint{Target: "cart", Instance: "cart-2"})
	w.Pilots[0].Restart()
	c.awaitShares("cart-1", "cart-2")
	w.Pilots[1].Restart()
	w.tookAll()
}
