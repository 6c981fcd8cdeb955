package stocktest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/octomesh/octomesh/core/meshtest/loopback"
	"github.com/octomesh/octomesh/core/meshtest/planetest"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// envoy is one that runs.
type envoy struct {
	*planetest.Process
	// all and cart are where calls to all targets, and those to one, come in.
	all, cart string
}

// envoy starts one that follows the Pilots, by either variant of the protocol.
func (w *world) envoy(program, variant string) *envoy {
	w.t.Helper()
	port := func(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }
	x := &envoy{all: loopback.Free(w.t), cart: loopback.Free(w.t)}
	text := block(w.t, "xds.md", "yaml")
	pilot := "        - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 7600}}}\n"
	var pilots string
	for _, p := range w.PilotAddresses() {
		pilots += strings.Replace(pilot, "7600", port(p), 1)
	}
	for old, now := range map[string]string{
		pilot: pilots, "port_value: 8080}": "port_value: " + port(x.all) + "}", "port_value: 8081}": "port_value: " + port(x.cart) + "}",
		"api_type: DELTA_GRPC": "api_type: " + variant,
	} {
		if strings.Count(text, old) != 1 {
			w.t.Fatalf("the guide's file for Envoy has %q %d times", old, strings.Count(text, old))
		}
		text = strings.Replace(text, old, now, 1)
	}
	config := filepath.Join(planetest.Dir(w.t), "envoy.yaml")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	x.Process = planetest.Start(w.t, "envoy", program, "--config-path", config, "--concurrency", "1", "--log-level", "warning", "--use-dynamic-base-id")
	return x
}

// through calls a target through Envoy, as a client that knows no more than an address.
func (w *world) through(address, target string) *client {
	w.t.Helper()
	c, err := grpc.NewClient("passthrough:"+address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority(target))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = c.Close() })
	return &client{c, w.t}
}

// envoyProgram is the one that `make bench-peers` installs, or another one.
func envoyProgram(t *testing.T) string {
	t.Helper()
	if installed, err := filepath.Abs("../../../tools/bench/envoy"); err == nil {
		if _, err := os.Stat(installed); err == nil {
			return installed
		}
	}
	program, err := exec.LookPath("envoy")
	if err != nil {
		t.Skip("there is no Envoy: make bench-peers installs one into tools/bench")
	}
	return program
}

// TestEnvoy: calls through Envoy go by what the registry and policies say, in both variants of the protocol, and go on without
// Pilots.
func TestEnvoy(t *testing.T) {
	program := envoyProgram(t)
	for _, variant := range []string{"GRPC", "DELTA_GRPC"} {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, programs.Cluster(t))
			one := w.serve(&resourcev1.Endpoint{Target: "shop.cart", Instance: "cart-1"})
			w.serve(&resourcev1.Endpoint{Target: "shop.mail", Instance: "mail-1"})
			x := w.envoy(program, variant)
			cart, mail, alone := w.through(x.all, "shop.cart"), w.through(x.all, "shop.mail:8080"), w.through(x.cart, "anything")
			cart.comes("cart-1")
			mail.comes("mail-1")
			alone.comes("cart-1")

			two := w.serve(&resourcev1.Endpoint{Target: "shop.cart", Instance: "cart-2", Tags: map[string]string{"version": "2"}, Weight: weight(900)})
			cart.awaitShares("cart-1", "cart-2")
			if n := cart.shares(1000)["cart-2"]; n < 800 || n == 1000 {
				t.Errorf("%d of 1000 calls go to an instance of weight 900 beside one of 100", n)
			}
			one.Disabled = true
			w.PutEndpoint(one)
			cart.comes("cart-2")

			w.serve(&resourcev1.Endpoint{Target: "stock", Instance: "stock-1"})
			w.apply(`
policies:
- target: shop.cart
  balancing: {balancer: BALANCER_WEIGHTED_ROUND_ROBIN, slow_start: {window: 1s}}
  outlier_ejection: {failure_permille: 500}
  routes:
  - {name: canary, match: {metadata: [{key: canary, exact: "yes"}]}, destinations: [{subset: {version: "2"}}]}
  - {name: elsewhere, match: {method: Check, metadata: [{key: elsewhere, present: true}]}, destinations: [{target: stock}], timeout: 5s}
`)
			cart.comes("stock-1", "elsewhere", "1")
			alone.comes("stock-1", "elsewhere", "1")
			cart.comes("cart-2", "canary", "yes")

			for _, p := range w.Pilots {
				p.Kill()
				cart.reaches("cart-2")
			}
			two.Disabled, one.Disabled = true, false
			w.PutEndpoint(one)
			w.PutEndpoint(two)
			w.Pilots[0].Restart()
			cart.comes("cart-1")
			if out, err := w.Octo(w.Configs[0], "", "delete", "policy", "shop.cart", "-m", "a test"); err != nil {
				t.Fatal(out, err)
			}
			cart.comes("cart-1", "elsewhere", "1")
			w.Pilots[1].Restart()
			w.tookAll()
			if strings.Contains(string(x.Written()), "fetch timed out") {
				t.Errorf("Envoy waited for what it was not told:\n%s", x.Written())
			}
		})
	}
}
