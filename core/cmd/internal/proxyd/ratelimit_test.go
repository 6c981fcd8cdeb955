package proxyd

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/octomesh/octomesh/core/dispatcher/ratelimit"
	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/wire"
)

// TestAProxyAsksTheRateLimitServiceThatItsFileNames by a relative Unix socket, with a limit of calls a day.
func TestAProxyAsksTheRateLimitServiceThatItsFileNames(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "octo")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "rls.sock"))
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	ratelimit.New(ratelimit.Config{Store: ratelimit.NewMemory(nil), Log: slog.New(slog.NewTextHandler(io.Discard, nil))}).Register(g)
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	p := launchIn(t, dir, `
endpoints: [{target: stock, instance: one, mesh_address: "127.0.0.1:9"}]
policies:
- {target: stock, rate_limits: [{name: daily, side: SIDE_CLIENT, calls: 5, per: 86400s, global: {timeout: 1s}}]}
`, "rate_limit_services: {addresses: [\"unix:rls.sock\"]}\n")
	c, err := meshtest.DialCaller("unix", p.socket, wire.Hello{Kind: wire.PeerSDK, Environment: "test", Application: "web"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { c.Close(); <-c.Done() }()
	reasons := map[wire.Reason]int{}
	for range 8 { // nobody is at the endpoint
		got, err := c.Call(&wire.RequestHead{Target: []byte("stock"), Service: []byte("s.S"), Method: []byte("Do"), Kind: wire.KindUnary}, nil)
		if err != nil {
			t.Fatal(err)
		}
		a := <-got
		reasons[a.Status.Reason]++
	}
	if reasons[wire.ReasonRateLimited] != 3 || len(reasons) != 2 {
		t.Errorf("calls ended %v; three of eight are over the limit", reasons)
	}
	_, metrics := p.get("/metrics")
	for _, want := range []string{
		"octo_rate_limit_service_answers 1", `octo_rate_limit_calls_total{result="granted"} 5`,
		`octo_policy_calls_total{direction="outbound",outcome="refused",policy="rate_limit",rule="daily",target="stock"} 3`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if code, text := p.get("/ready"); code != http.StatusOK {
		t.Errorf("not ready: %d %s", code, text)
	}
}
