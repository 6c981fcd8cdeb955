package admin_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/proxy/admin"
	"github.com/octomesh/octomesh/core/proxy/policy"
	"github.com/octomesh/octomesh/core/proxy/route"
	"github.com/octomesh/octomesh/core/proxy/store"
	"github.com/octomesh/octomesh/core/resource"
	"github.com/octomesh/octomesh/core/telemetry"
	"github.com/octomesh/octomesh/core/wire"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

const guarded = `
endpoints:
- {target: cart, instance: a, mesh_address: "h:1"}
- {target: cart, instance: b, mesh_address: "h:2"}
- {target: next, instance: n, mesh_address: "h:3"}
policies:
- target: cart
  rate_limits: [{name: all, calls: 1, per: 1h}]
  circuit_breaker: {min_calls: 1}
  routes: [{name: copied, match: {method: Copied}, destinations: [{}], mirror: {destination: {target: next}, permille: 1000}}]
  outlier_ejection: {consecutive_failures: 1}
  faults: [{name: put, match: {method: Put}, abort_permille: 1000}]
auth_policies:
- {target: cart, dry_run: true, allow: [{name: web, callers: [web]}]}
`

func TestMetricsSayWhatPoliciesDid(t *testing.T) {
	s := &resourcev1.Snapshot{}
	if _, err := resource.Parse("f", []byte(guarded), s); err != nil {
		t.Fatal(err)
	}
	st := store.New(store.Config{})
	if err := st.Apply("f", s); err != nil {
		t.Fatal(err)
	}
	table := st.Current().Table
	request := func(method string) *policy.Request {
		return &policy.Request{Head: &wire.RequestHead{Target: []byte("cart"), Method: []byte(method)}, Now: int64(time.Second)}
	}
	in, out := table.Target(route.Inbound, "cart"), table.Target(route.Outbound, "cart")
	in.Policies.Check(request("Get"))
	in.Policies.Check(request("Get")) // over the limit
	out.Policies.Check(request("Put"))
	lost := wire.Refuse(wire.ReasonConnectionLost, wire.OriginClientProxy, "")
	out.Policies.Done(3, policy.Outcome{Status: lost, Now: int64(time.Second)})
	d, _ := table.Match(request("Get").Head, nil)
	d.Ended(d.Cluster.Endpoints[0], &lost, int64(time.Second))
	d.Cluster.Endpoints[1].Strangers.Add(3)
	unready := wire.Refuse(wire.ReasonProxyUnready, wire.OriginServerProxy, "")
	d.Route.Retries.Again(policy.Attempt{Status: &unready, Kept: true, Elsewhere: true, Now: 1})
	d.Route.Retries.Succeeded()
	out.Routes[0].Mirror.Copies.Skip(policy.CopyUnsuited)

	metrics := telemetry.NewMetrics("octo-proxy", "test")
	metrics.Add(admin.NewCollector(st, nil).Clock(func() int64 { return int64(2 * time.Second) }))
	scrape := httptest.NewRecorder()
	metrics.Handler().ServeHTTP(scrape, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{
		`octo_circuit_breaker_state{target="cart"} 1`,
		`octo_identity_mismatches_total{target="cart"} 3`,
		`octo_mirrored_calls_total{outcome="unsuited",route="copied",target="cart"} 1`,
		`octo_retries_total{outcome="sent",target="cart"} 1`,
		`octo_retries_total{outcome="succeeded",target="cart"} 1`,
		`octo_endpoint_ejections_total{target="cart"} 1`,
		`octo_endpoints_ejected{target="cart"} 1`,
		`octo_policy_calls_total{direction="inbound",outcome="refused",policy="rate_limit",rule="all",target="cart"} 1`,
		`octo_policy_calls_total{direction="inbound",outcome="would_deny",policy="auth",rule="",target="cart"} 2`,
		`octo_policy_calls_total{direction="outbound",outcome="aborted",policy="fault",rule="put",target="cart"} 1`,
		`octo_policy_calls_total{direction="outbound",outcome="opened",policy="circuit_breaker",rule="",target="cart"} 1`,
	} {
		if !strings.Contains(scrape.Body.String(), want+"\n") {
			t.Errorf("%s is missing", want)
		}
	}
}

func TestEndpointsSayWhatSpeaksAgainstThem(t *testing.T) {
	s := &resourcev1.Snapshot{}
	if _, err := resource.Parse("f", []byte(`
endpoints:
- {target: cart, instance: absent, mesh_address: "h:1"}
- {target: cart, instance: backup, mesh_address: "h:2", backup: true}
- {target: cart, instance: disabled, mesh_address: "h:3", disabled: true}
- {target: cart, instance: ejected, mesh_address: "h:4"}
- {target: cart, instance: warm, mesh_address: "h:5"}
policies:
- target: cart
  outlier_ejection: {consecutive_failures: 1}
  balancing: {slow_start: {window: 10s, initial_permille: 200}}
`), s); err != nil {
		t.Fatal(err)
	}
	st := store.New(store.Config{})
	if err := st.Apply("f", s); err != nil {
		t.Fatal(err)
	}
	const second = int64(time.Second)
	for e := range st.Current().Table.Endpoints() {
		switch e.Instance {
		case "absent":
			e.Leave(21 * second)
		case "ejected":
			e.Eject(19*second, 5*second, 5*second)
		case "warm":
			e.Eject(second, 5*second, 5*second) // it returned at 6 s
		}
	}
	ask := httptest.NewRecorder()
	h := admin.Handler(admin.Config{Store: st, Now: func() int64 { return 20 * second }})
	h.ServeHTTP(ask, httptest.NewRequest(http.MethodGet, "/endpoints", nil))
	var got []map[string]any
	if err := json.Unmarshal(ask.Body.Bytes(), &got); err != nil || len(got) != 5 {
		t.Fatal(err, ask.Body)
	}
	for i, want := range []map[string]any{
		{"absent": true, "slow_start_permille": 200.}, {"backup": true, "slow_start_permille": 200.}, {"disabled": true},
		{"ejected": true, "slow_start_permille": 200.}, {},
	} {
		for _, flag := range []string{"absent", "backup", "disabled", "ejected", "draining", "stranger", "slow_start_permille"} {
			if got[i][flag] != want[flag] {
				t.Errorf("%v: %s is %v, want %v", got[i]["instance"], flag, got[i][flag], want[flag])
			}
		}
	}
}
