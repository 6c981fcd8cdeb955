package proxy_test

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/resource"
	"github.com/octomesh/octomesh/core/wire"
)

// fleet is a caller's proxy in zone "near" and proxies with one instance each, which answer with their number.
type fleet struct {
	t       *testing.T
	client  *meshtest.Proxy
	servers []*meshtest.Proxy
	calls   []atomic.Int64 // that each instance got
	caller  *meshtest.Caller
}

func newFleet(t *testing.T, servers int) *fleet { return newFleetWith(t, servers, proxy.Config{}) }

// newFleetWith configures all proxies alike, but for the zone.
func newFleetWith(t *testing.T, servers int, cfg proxy.Config) *fleet {
	f := &fleet{t: t, calls: make([]atomic.Int64, servers)}
	cfg.Zone = "near"
	start := func() *meshtest.Proxy {
		p, err := meshtest.StartProxy(t.TempDir(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		return p
	}
	f.client = start()
	for range servers {
		f.servers = append(f.servers, start())
	}
	f.caller = f.dial("web")
	return f
}

func (f *fleet) dial(application string) *meshtest.Caller {
	c, err := meshtest.DialCaller("unix", f.client.Socket, wire.Hello{Kind: wire.PeerSDK, Environment: "test", Application: application})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close(); <-c.Done() })
	return c
}

// attach has server i serve targets until the returned function is called.
func (f *fleet) attach(i int, targets ...string) (detach func()) {
	f.t.Helper()
	number := fmt.Append(nil, i)
	r, err := meshtest.Dial("unix", f.servers[i].Socket, wire.Hello{
		Role: wire.RoleServe, Kind: wire.PeerSDK, Environment: "test", Application: targets[0], Targets: targets,
	}, wire.Limits{}, func(r *meshtest.Raw, ev *wire.Event) {
		switch ev.Kind {
		case wire.EventRequest:
			f.calls[i].Add(1)
			r.Wire.Send(ev.Stream, &wire.Out{Type: wire.TypeResponse, Flags: wire.FlagMessage | wire.FlagEnd, Body: number})
		case wire.EventReset, wire.EventFailed:
			r.Wire.Release()
		}
	})
	if err != nil {
		f.t.Fatal(err)
	}
	detach = func() { r.Close(); <-r.Done() }
	f.t.Cleanup(detach)
	return detach
}

func (f *fleet) attachAll(targets ...string) {
	for i := range f.servers {
		f.attach(i, targets...)
	}
}

// publish gives all proxies a configuration, in which $0 is the address of server 0, and so on.
func (f *fleet) publish(text string) {
	f.t.Helper()
	for i, s := range f.servers {
		text = strings.ReplaceAll(text, fmt.Sprintf("$%d", i), fmt.Sprintf("%q", s.Address))
	}
	for _, p := range append([]*meshtest.Proxy{f.client}, f.servers...) {
		snap := &resourcev1.Snapshot{}
		if _, err := resource.Parse("test.yaml", []byte(text), snap); err != nil {
			f.t.Fatal(err)
		}
		if err := p.Publish(snap); err != nil {
			f.t.Fatal(err)
		}
	}
}

// call makes a call and waits for its answer.
func (f *fleet) call(h *wire.RequestHead) meshtest.Answer {
	f.t.Helper()
	got, err := f.caller.Call(h, nil)
	return get(f.t, got, err)
}

// split makes n calls, up to 100 at once if they are many, which must all be answered, and returns who got how
// many.
func (f *fleet) split(n int, h *wire.RequestHead) []int64 {
	f.t.Helper()
	before := f.got()
	var open []<-chan meshtest.Answer
	for i := range n {
		got, err := f.caller.Call(h, nil)
		if err != nil {
			f.t.Fatal(err)
		}
		if open = append(open, got); n >= 1000 && len(open) < 100 && i < n-1 {
			continue
		}
		for _, got := range open {
			if a := get(f.t, got, nil); a.Status.Code != wire.OK {
				f.t.Fatalf("ended %+v", a.Status)
			}
		}
		open = open[:0]
	}
	after := f.got()
	for i := range after {
		after[i] -= before[i]
	}
	return after
}

func (f *fleet) got() (all []int64) {
	for i := range f.calls {
		all = append(all, f.calls[i].Load())
	}
	return all
}

func TestRoundRobinOnTheWire(t *testing.T) {
	f := newFleet(t, 3)
	f.attachAll("echo")
	f.publish(`
endpoints:
- {target: echo, instance: a, mesh_address: $0, weight: 100}
- {target: echo, instance: b, mesh_address: $1, weight: 200}
- {target: echo, instance: c, mesh_address: $2, weight: 300}
policies: [{target: echo, balancing: {balancer: BALANCER_WEIGHTED_ROUND_ROBIN}}]
`)
	got := f.split(10_000, head("echo"))
	for i, want := range []float64{10_000. / 6, 20_000. / 6, 30_000. / 6} {
		if math.Abs(float64(got[i])-want) > want*0.02 {
			t.Errorf("instances got %v of 10,000, want 1 : 2 : 3 within 2 %%", got)
		}
	}
}

func TestHashKeysOnTheWire(t *testing.T) {
	f := newFleet(t, 3)
	f.attachAll("echo")
	const endpoints = `
endpoints:
- {target: echo, instance: a, mesh_address: $0}
- {target: echo, instance: b, mesh_address: $1, disabled: %v}
- {target: echo, instance: c, mesh_address: $2}
policies: [{target: echo, balancing: {balancer: BALANCER_RING_HASH}}]
`
	owners := func() []string {
		var open []<-chan meshtest.Answer
		for i := range 900 {
			h := head("echo")
			h.HashKey = fmt.Append(nil, "user-", i)
			got, err := f.caller.Call(h, nil)
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, got)
		}
		var out []string
		for _, got := range open {
			out = append(out, string(get(t, got, nil).Body))
		}
		return out
	}
	f.publish(fmt.Sprintf(endpoints, false))
	before, again := owners(), owners()
	f.publish(fmt.Sprintf(endpoints, true))
	without := owners()
	for i := range before {
		if before[i] != again[i] || before[i] != "1" && without[i] != before[i] || without[i] == "1" {
			t.Fatalf("key %d went to %s, then %s, and without instance 1 to %s", i, before[i], again[i], without[i])
		}
	}
}

func TestZonesFailOverAndBackupsStandBy(t *testing.T) {
	f := newFleet(t, 3)
	f.attachAll("echo")
	f.publish(`
endpoints:
- {target: echo, instance: near, mesh_address: $0, zone: near}
- {target: echo, instance: far, mesh_address: $1, zone: far}
- {target: echo, instance: spare, mesh_address: $2, zone: near, backup: true}
policies: [{target: echo, balancing: {locality_first: true}, outlier_ejection: {}}]
`)
	for i, s := range f.servers {
		if got := f.split(100, head("echo")); got[i] != 100 {
			t.Errorf("with %d of them down the calls went to %v", i, got)
		}
		if i == 2 {
			break
		}
		s.Close()
		s.Wait()
		// The dials that find out are not repeated for 50 ms at first, and one call each may end for it.
		waitFor(t, "the fail-over", func() bool { return f.call(head("echo")).Status.Code == wire.OK })
	}
}

func TestOutlierGetsNothingAndComesBack(t *testing.T) {
	f := newFleet(t, 2)
	f.attach(1, "echo")
	f.publish(`
endpoints:
- {target: echo, instance: a, mesh_address: $0}
- {target: echo, instance: b, mesh_address: $1}
policies:
- target: echo
  balancing: {balancer: BALANCER_WEIGHTED_ROUND_ROBIN, slow_start: {window: 100ms}}
  retries: {max_attempts: 1} # else the calls go again, and no one sees the failures
  outlier_ejection: {consecutive_failures: 3, ejection_time: 4s} # longer than 200 calls take on a busy machine
`)
	failed := 0
	for range 100 { // instance 0 is not attached: its proxy says so
		if a := f.call(head("echo")); a.Status.Code != wire.OK {
			failed++
		}
	}
	if failed != 3 || f.calls[1].Load() != 97 {
		t.Fatalf("%d calls failed, want the 3 that eject; the other instance got %d", failed, f.calls[1].Load())
	}
	f.attach(0, "echo")
	if got := f.split(100, head("echo")); got[0] != 0 {
		t.Errorf("the ejected instance got %d calls", got[0])
	}
	waitFor(t, "the return", func() bool { return f.split(1, head("echo"))[0] == 1 })
	time.Sleep(150 * time.Millisecond) // slow start is over
	f.split(50, head("echo"))          // and so is the turn that it was given meanwhile
	if got := f.split(100, head("echo")); got[0] < 49 || got[0] > 51 {
		t.Errorf("after its return it got %d of 100", got[0])
	}
}

func TestRateLimitOnTheWire(t *testing.T) {
	f := newFleet(t, 1)
	f.attachAll("echo")
	f.publish(`
endpoints: [{target: echo, instance: a, mesh_address: $0}]
policies:
- target: echo
  rate_limits: [{name: each, calls: 1, per: 1h, burst: 10, per_caller: true}]
`)
	refusedOf := func(c *meshtest.Caller) (n int) {
		for range 25 {
			got, err := c.Call(head("echo"), nil)
			a := get(t, got, err)
			if a.Status.Code == wire.OK {
				continue
			}
			n++
			if st := a.Status; st.Reason != wire.ReasonRateLimited || st.Code != wire.ResourceExhausted || st.Origin != wire.OriginServerProxy ||
				st.RetryAfterMS < 3_500_000 || st.RetryAfterMS > 3_600_000 {
				t.Fatalf("refused %+v", st)
			}
		}
		return n
	}
	if n, m := refusedOf(f.caller), refusedOf(f.dial("other")); n != 15 || m != 15 || f.calls[0].Load() != 20 {
		t.Errorf("of 25 calls of each of two callers %d and %d were refused, %d came through", n, m, f.calls[0].Load())
	}
}

func TestCircuitBreakerOnTheWire(t *testing.T) {
	f := newFleet(t, 1)
	f.publish(`
endpoints: [{target: echo, instance: a, mesh_address: $0}]
policies: [{target: echo, circuit_breaker: {min_calls: 10, open_time: 2s, probes: 2}}]
`)
	reasons := map[wire.Reason]int{}
	for range 50 {
		reasons[f.call(head("echo")).Status.Reason]++
	}
	if reasons[wire.ReasonProxyUnready] != 10 || reasons[wire.ReasonCircuitOpen] != 40 {
		t.Fatalf("ended %v, want 10 failures and then none that reaches the target", reasons)
	}
	f.attach(0, "echo")
	waitFor(t, "a probe", func() bool { return f.call(head("echo")).Status.Code == wire.OK })
	f.split(100, head("echo"))
}

func TestFaultsOnTheWire(t *testing.T) {
	f := newFleet(t, 1)
	f.attachAll("echo")
	f.publish(`
endpoints: [{target: echo, instance: a, mesh_address: $0}]
policies:
- target: echo
  faults:
  - {name: abort, match: {method: Put}, abort_permille: 1000, abort_code: 8}
  - {name: slow, match: {method: Do}, delay: 200ms, delay_permille: 1000}
`)
	begin, body := time.Now(), bytes.Repeat([]byte("x"), 1000)
	var open []<-chan meshtest.Answer
	for range 100 {
		got, err := f.caller.Call(head("echo"), body)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, got)
	}
	hurried := head("echo")
	hurried.TimeoutUS = 50_000
	if a := f.call(hurried); a.Status.Code != wire.DeadlineExceeded || a.Status.Disposition != wire.DispositionNotProcessed {
		t.Errorf("a call whose time ends in the delay ended %+v", a.Status)
	}
	for _, got := range open {
		if a := get(t, got, nil); a.Status.Code != wire.OK || time.Since(begin) < 200*time.Millisecond {
			t.Fatalf("ended %+v after %v", a.Status, time.Since(begin))
		}
	}
	if took := time.Since(begin); took > 5*time.Second || f.calls[0].Load() != 100 {
		t.Errorf("100 calls that wait side by side took %v; %d came through", took, f.calls[0].Load())
	}
	put, other := head("echo"), head("echo")
	put.Method, other.Method = []byte("Put"), []byte("Get")
	if st := f.call(put).Status; st.Code != wire.ResourceExhausted || st.Reason != wire.ReasonFaultInjected || st.Origin != wire.OriginClientProxy {
		t.Errorf("aborted with %+v", st)
	}
	f.split(10, other)
	if n := f.client.OpenCalls(); len(n) != 0 {
		t.Errorf("%d calls are open still", len(n))
	}
}

func TestAuthorizationOnTheWire(t *testing.T) {
	f := newFleet(t, 1)
	f.attachAll("echo", "dry", "proved")
	f.publish(`
endpoints:
- {target: echo, instance: a, mesh_address: $0}
- {target: dry, instance: a, mesh_address: $0}
- {target: proved, instance: a, mesh_address: $0}
auth_policies:
- {target: echo, deny: [{name: delete, callers: [web], methods: [Delete]}], allow: [{name: shop, callers: [web]}]}
- {target: dry, dry_run: true, allow: [{name: nobody, callers: [nobody]}]}
- {target: proved, allow: [{name: prod, identities: ["spiffe://example.org/prod/*"]}]}
`)
	other := f.dial("other")
	for _, c := range []struct {
		caller         *meshtest.Caller
		target, method string
		want           wire.Code
	}{
		{f.caller, "echo", "Get", wire.OK}, {f.caller, "echo", "Delete", wire.PermissionDenied}, {other, "echo", "Get", wire.PermissionDenied},
		{f.caller, "dry", "Get", wire.OK}, {f.caller, "proved", "Get", wire.Unauthenticated},
	} {
		h := head(c.target)
		h.Method = []byte(c.method)
		got, err := c.caller.Call(h, nil)
		a := get(t, got, err)
		if a.Status.Code != c.want || c.want != wire.OK && (a.Status.Reason != wire.ReasonAuthDenied || a.Status.Origin != wire.OriginServerProxy) {
			t.Errorf("%s/%s ended %+v, want %v", c.target, c.method, a.Status, c.want)
		}
	}
	if n := f.calls[0].Load(); n != 2 {
		t.Errorf("%d calls came through, want 2", n)
	}
}

func TestLanesOnTheWire(t *testing.T) {
	f := newFleet(t, 5)
	for i, target := range []string{"front", "front", "middle", "back", "back"} {
		f.attach(i, target)
	}
	f.publish(`
endpoints:
- {target: front, instance: base, mesh_address: $0}
- {target: front, instance: blue, mesh_address: $1, tags: {lane: blue}}
- {target: middle, instance: base, mesh_address: $2}
- {target: back, instance: base, mesh_address: $3}
- {target: back, instance: blue, mesh_address: $4, tags: {lane: blue}}
`)
	// A chain of calls has one baggage: what is said of each link is said of the chain.
	for lane, want := range map[string]string{"": "0 2 3", "blue": "1 2 4", "green": "0 2 3"} {
		for range 50 {
			var went []string
			for _, target := range []string{"front", "middle", "back"} {
				h := head(target)
				h.Baggage = []wire.Entry{{Key: []byte("user"), Value: []byte("7")}, {Key: []byte("lane"), Value: []byte(lane)}}
				went = append(went, string(f.call(h).Body))
			}
			if got := strings.Join(went, " "); got != want {
				t.Fatalf("lane %q went by %s, want %s", lane, got, want)
			}
		}
	}
}
