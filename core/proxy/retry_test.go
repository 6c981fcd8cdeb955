package proxy_test

import (
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/proxy/route"
	"github.com/octomesh/octomesh/core/wire"
)

// retried reads what retries of calls to echo came to.
func (f *fleet) retried() map[string]uint64 {
	out := map[string]uint64{}
	f.client.Store().Current().Table.Target(route.Outbound, "echo").Retried(func(outcome string, n uint64) { out[outcome] = n })
	return out
}

// answers has server i answer every call to echo as told; the returned count is of attempts.
func (f *fleet) answers(i int, how func(r *meshtest.Raw, ev *wire.Event)) {
	f.t.Helper()
	r, err := meshtest.Dial("unix", f.servers[i].Socket, wire.Hello{
		Role: wire.RoleServe, Kind: wire.PeerSDK, Environment: "test", Application: "echo", Targets: []string{"echo"},
	}, wire.Limits{}, func(r *meshtest.Raw, ev *wire.Event) {
		switch ev.Kind {
		case wire.EventRequest:
			f.calls[i].Add(1)
			how(r, ev)
		case wire.EventReset, wire.EventFailed:
			r.Wire.Release()
		}
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { r.Close(); <-r.Done() })
}

func saying(st wire.Status) func(r *meshtest.Raw, ev *wire.Event) {
	return func(r *meshtest.Raw, ev *wire.Event) {
		r.Wire.Send(ev.Stream, &wire.Out{Type: wire.TypeResponse, Flags: wire.FlagEnd, Head: wire.AppendStatus(nil, &st)})
	}
}

var down = wire.Status{Code: wire.Unavailable, Origin: wire.OriginApplication, Disposition: wire.DispositionProcessed}

func TestInstanceThatHasLeftCostsNoCall(t *testing.T) {
	f := newFleet(t, 3)
	f.attach(1, "echo")
	f.attach(2, "echo")
	f.publish(`
endpoints:
- {target: echo, instance: left, mesh_address: $0}
- {target: echo, instance: stays, mesh_address: $1}
- {target: echo, instance: too, mesh_address: $2}
`)
	if got := f.split(10_000, head("echo")); got[1]+got[2] != 10_000 {
		t.Fatalf("the calls went to %v", got)
	}
	// Few calls find out that it has left, since it then gets none for a while.
	if n := f.retried(); n["sent"] == 0 || n["sent"] > 1000 || n["sent"] != n["succeeded"] {
		t.Errorf("retries: %v", n)
	}
}

func TestOnlyIdempotentCallsGoAgainAfterAHandlerSawThem(t *testing.T) {
	f := newFleet(t, 2)
	f.answers(0, saying(down))
	f.attach(1, "echo")
	f.publish(`
endpoints:
- {target: echo, instance: bad, mesh_address: $0, weight: 1000000}
- {target: echo, instance: good, mesh_address: $1, backup: true}
policies:
- target: echo
  routes: [{name: marked, match: {method: Marked}, destinations: [{}], idempotent: true}]
  retries: {codes: [14], backoff: 1ms}
  balancing: {max_open_calls_per_endpoint: 1}
`)
	plain, idempotent, marked := head("echo"), head("echo"), head("echo")
	idempotent.Idempotent = true
	marked.Method = []byte("Marked")
	if a := f.call(plain); a.Status.Code != wire.Unavailable || a.Status.Origin != wire.OriginApplication {
		t.Errorf("a call that may run once ended %+v", a.Status)
	}
	// The other endpoint is a backup: it is asked since the first is to be avoided.
	for name, h := range map[string]*wire.RequestHead{"idempotent": idempotent, "marked": marked} {
		if a := f.call(h); a.Status.Code != wire.OK || string(a.Body) != "1" {
			t.Errorf("an %s call ended %+v", name, a.Status)
		}
	}
	if got := f.got(); got[0] != 3 || got[1] != 2 {
		t.Errorf("the instances got %v", got)
	}
}

func TestRetriesStayWithinTheirBudget(t *testing.T) {
	const calls = 10_000
	for name, c := range map[string]struct {
		policy string
		st     wire.Status
	}{
		"what a handler said":     {"retries: {max_attempts: 3, codes: [14], backoff: 1ms}", down},
		"what was not processed":  {"", wire.Refuse(wire.ReasonProxyDraining, wire.OriginServerSDK, "leaves")},
		"many attempts, no wait":  {"retries: {max_attempts: 10}", wire.Refuse(wire.ReasonProxyDraining, wire.OriginServerSDK, "leaves")},
		"an own budget, of 0.5 %": {"retries: {codes: [14], backoff: 1ms}, retry_budget: {min_per_second: 0, burst: 50}", down},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, 2)
			f.answers(0, saying(c.st))
			f.answers(1, saying(c.st))
			policy := c.policy
			if policy != "" {
				policy = ", " + policy
			}
			f.publish(`
endpoints: [{target: echo, instance: a, mesh_address: $0}, {target: echo, instance: b, mesh_address: $1}]
policies: [{target: echo` + policy + `}]
`)
			h := head("echo")
			h.Idempotent = true
			var open []<-chan meshtest.Answer
			for range calls {
				got, err := f.caller.Call(h, nil)
				if err != nil {
					t.Fatal(err)
				}
				if open = append(open, got); len(open) == 100 {
					for _, got := range open {
						if a := get(t, got, nil); a.Status.Code != wire.Unavailable {
							t.Fatalf("ended %+v", a.Status)
						}
					}
					open = open[:0]
				}
			}
			got := f.got()
			attempts := got[0] + got[1]
			n := f.retried()
			t.Logf("%d attempts of %d calls, retries: %v", attempts, calls, n)
			if attempts > calls*11/10 {
				t.Errorf("%d attempts of %d calls: more than 1.1 times", attempts, calls)
			}
			if n["sent"] == 0 || uint64(attempts) != calls+n["sent"] || n["over_budget"] == 0 {
				t.Errorf("%d attempts, retries: %v", attempts, n)
			}
			if name == "an own budget, of 0.5 %" && n["sent"] != 50 {
				t.Errorf("%d retries of a budget of 50", n["sent"])
			}
		})
	}
}

func TestRetryWaitsForWhatTheServerAsks(t *testing.T) {
	f := newFleet(t, 1)
	st := down
	st.RetryAfterMS = 300
	var first time.Time
	f.answers(0, func(r *meshtest.Raw, ev *wire.Event) {
		if first.IsZero() {
			first = time.Now()
			saying(st)(r, ev)
			return
		}
		if waited := time.Since(first); waited < 300*time.Millisecond {
			t.Errorf("it came again after %v", waited)
		}
		meshtest.Echo(r, ev)
	})
	f.publish(`
endpoints: [{target: echo, instance: a, mesh_address: $0}]
policies: [{target: echo, retries: {codes: [14], backoff: 1ms}}]
`)
	h := head("echo")
	h.Idempotent = true
	if a := f.call(h); a.Status.Code != wire.OK {
		t.Fatalf("ended %+v", a.Status)
	}
	h.TimeoutUS = 100_000 // less than the server asks for: the answer comes at once
	first = time.Time{}
	if a := f.call(h); a.Status.Code != wire.Unavailable || a.Status.RetryAfterMS != 300 {
		t.Fatalf("ended %+v", a.Status)
	}
	if n := f.retried(); n["sent"] != 1 || n["too_late"] != 1 {
		t.Errorf("retries: %v", n)
	}
}
