package policy_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/proxy/policy"
	"github.com/octomesh/octomesh/core/wire"
)

// method is a condition.
type method string

func (m method) Holds(h *wire.RequestHead, _ []byte) bool { return string(h.Method) == string(m) }

func call(caller, method string, now int64) policy.Request {
	return policy.Request{
		Head: &wire.RequestHead{Service: []byte("shop.v1.Cart"), Method: []byte(method)}, Caller: []byte(caller), Route: "default", Now: now,
	}
}

// passed counts how many of n calls a policy lets pass.
func passed(p policy.Policy, n int, r policy.Request) (count int) {
	for range n {
		if p.Check(r).Verdict == policy.Continue {
			count++
		}
	}
	return count
}

func TestRateLimitLetsItsBurstAndThenItsRatePass(t *testing.T) {
	p := policy.NewRateLimit(policy.LimitRules{Name: "l", Calls: 100, Per: time.Second, Burst: 20, Origin: wire.OriginServerProxy}, &policy.Buckets{})
	for _, c := range []struct {
		at   time.Duration
		want int
	}{{time.Second, 20}, {time.Second, 0}, {1010 * time.Millisecond, 1}, {1015 * time.Millisecond, 0}, {1060 * time.Millisecond, 5}, {time.Hour, 20}} {
		if got := passed(p, 50, call("a", "Get", int64(c.at))); got != c.want {
			t.Errorf("at %v: %d passed, want %d", c.at, got, c.want)
		}
	}
	d := p.Check(call("a", "Get", int64(time.Hour)))
	if st := d.Status; d.Verdict != policy.Refuse || st.Code != wire.ResourceExhausted || st.Reason != wire.ReasonRateLimited ||
		st.RetryAfterMS != 10 || st.Origin != wire.OriginServerProxy || st.Disposition != wire.DispositionNotProcessed {
		t.Errorf("refused with %+v", st)
	}
	if d = p.Check(call("a", "Get", int64(time.Hour+9500*time.Microsecond))); d.Status.RetryAfterMS != 1 {
		t.Errorf("half a millisecond early: retry after %d ms", d.Status.RetryAfterMS)
	}
}

func TestRateLimitHoldsItsRateForLong(t *testing.T) {
	for _, rate := range []uint32{1, 7, 1000, 300_000} {
		p := policy.NewRateLimit(policy.LimitRules{Calls: rate, Per: time.Second, Burst: 2}, &policy.Buckets{})
		got, gap := 0, int64(time.Second)/int64(rate)/3
		steps := int64(10*time.Second) / gap
		steps = min(steps, 300_000)
		for i := range steps {
			got += passed(p, 1, call("a", "Get", 1+i*gap))
		}
		if want := float64(steps) / 3; math.Abs(float64(got)-want) > 1+want/1000 {
			t.Errorf("%d a second: %d passed, want %.0f", rate, got, want)
		}
	}
}

func TestRateLimitCountsWhatItMatches(t *testing.T) {
	limit := func(r policy.LimitRules) policy.Policy {
		r.Calls, r.Per, r.Burst = 1, time.Hour, 2
		return policy.NewRateLimit(r, &policy.Buckets{})
	}
	for _, c := range []struct {
		name string
		p    policy.Policy
		want string // of calls by a, b and c to Get, and by a to Put
	}{
		{"all", limit(policy.LimitRules{}), "[2 0 0 0]"},
		{"a method", limit(policy.LimitRules{Condition: method("Put")}), "[5 5 5 2]"},
		{"a route", limit(policy.LimitRules{Route: "default"}), "[2 0 0 0]"},
		{"another route", limit(policy.LimitRules{Route: "slow"}), "[5 5 5 5]"},
		{"each caller", limit(policy.LimitRules{MaxCallers: 10}), "[2 2 2 0]"},
		{"each of few callers", limit(policy.LimitRules{MaxCallers: 1}), "[2 2 0 0]"},
	} {
		var got []int
		for _, r := range []policy.Request{call("a", "Get", 1), call("b", "Get", 1), call("c", "Get", 1), call("a", "Put", 1)} {
			got = append(got, passed(c.p, 5, r))
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("%s: %v passed, want %s", c.name, got, c.want)
		}
	}
}

// breaking are rules with a window of 10 s, of which each part is 1 s.
var breaking = policy.BreakerRules{
	Window: 10 * second, MinCalls: 10, Permille: 500, SlowCall: time.Second, SlowPermille: 300, OpenTime: 5 * second, Probes: 2,
}

// end has n calls begin and end with a status after a time, whether the breaker lets them or not.
func end(b *policy.Breaker, n int, st wire.Status, took time.Duration, now int64) {
	for range n {
		b.Done(policy.Outcome{Status: st, Took: took, Now: now, Unary: true})
	}
}

func TestBreakerOpensByShareWithinItsWindow(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(b *policy.Breaker)
		want policy.BreakerState
	}{
		{"too few", func(b *policy.Breaker) { end(b, 9, lost, 0, 20*second) }, policy.Closed},
		{"all failed", func(b *policy.Breaker) { end(b, 10, lost, 0, 20*second) }, policy.Open},
		{"just half", func(b *policy.Breaker) { end(b, 5, fine, 0, 20*second); end(b, 5, lost, 0, 21*second) }, policy.Open},
		{"less than half", func(b *policy.Breaker) { end(b, 6, fine, 0, 20*second); end(b, 5, lost, 0, 21*second) }, policy.Closed},
		{"slid out", func(b *policy.Breaker) { end(b, 9, lost, 0, 20*second); end(b, 9, lost, 0, 30*second) }, policy.Closed},
		{"not yet slid out", func(b *policy.Breaker) { end(b, 9, lost, 0, 20*second); end(b, 1, lost, 0, 29*second) }, policy.Open},
		{"refusals say nothing", func(b *policy.Breaker) {
			end(b, 100, wire.Refuse(wire.ReasonRateLimited, wire.OriginServerProxy, ""), 0, 20*second)
		}, policy.Closed},
		{"the application's word", func(b *policy.Breaker) { end(b, 100, application(wire.Internal), 0, 20*second) }, policy.Closed},
		{"slow", func(b *policy.Breaker) { end(b, 7, fine, 0, 20*second); end(b, 3, fine, time.Second, 20*second) }, policy.Open},
		{"few slow", func(b *policy.Breaker) { end(b, 8, fine, 0, 20*second); end(b, 3, fine, time.Second, 20*second) }, policy.Closed},
		{"streams are long", func(b *policy.Breaker) {
			for range 100 {
				b.Done(policy.Outcome{Status: fine, Took: time.Hour, Now: 20 * second})
			}
		}, policy.Closed},
	} {
		b := policy.NewBreaker(breaking, &policy.Circuit{}, wire.OriginClientProxy)
		c.do(b)
		if b.State() != c.want {
			t.Errorf("%s: state %d, want %d", c.name, b.State(), c.want)
		}
	}
}

func TestBreakerProbesAndCloses(t *testing.T) {
	circuit := &policy.Circuit{}
	b := policy.NewBreaker(breaking, circuit, wire.OriginClientProxy)
	end(b, 10, lost, 0, 20*second)
	d := b.Check(call("a", "Get", 24*second))
	if st := d.Status; d.Verdict != policy.Refuse || st.Code != wire.Unavailable || st.Reason != wire.ReasonCircuitOpen ||
		st.Disposition != wire.DispositionNotProcessed {
		t.Fatalf("while open: %+v", d)
	}
	if n := passed(b, 10, call("a", "Get", 25*second)); n != 2 || b.State() != policy.HalfOpen {
		t.Fatalf("%d probes passed, want 2", n)
	}
	end(b, 1, lost, 10*time.Second, 26*second) // it began before
	end(b, 1, wire.Refuse(wire.ReasonRateLimited, wire.OriginServerProxy, ""), 0, 26*second)
	if n := passed(b, 10, call("a", "Get", 26*second)); n != 1 {
		t.Fatalf("%d probes passed in place of one that said nothing", n)
	}
	again := policy.NewBreaker(breaking, circuit, wire.OriginClientProxy) // of the next generation
	end(again, 2, fine, 0, 27*second)
	if again.State() != policy.Closed || passed(again, 100, call("a", "Get", 27*second)) != 100 {
		t.Fatal("good probes did not close the breaker")
	}
	end(again, 1, lost, 0, 27*second)
	if again.State() != policy.Closed {
		t.Error("what was counted before it opened must be forgotten")
	}
}

func TestBreakerOpensAgainAndOutlivesLostProbes(t *testing.T) {
	for _, bad := range []struct {
		st   wire.Status
		took time.Duration
	}{{lost, 0}, {fine, time.Second}} {
		b := policy.NewBreaker(breaking, &policy.Circuit{}, wire.OriginClientProxy)
		end(b, 10, lost, 0, 20*second)
		passed(b, 1, call("a", "Get", 25*second))
		end(b, 1, bad.st, bad.took, 26*second)
		if b.State() != policy.Open || passed(b, 1, call("a", "Get", 30*second)) != 0 || passed(b, 3, call("a", "Get", 31*second)) != 2 {
			t.Error("a bad probe must open it for the whole time")
		}
		if passed(b, 3, call("a", "Get", 35*second)) != 0 || passed(b, 3, call("a", "Get", 36*second)) != 2 {
			t.Error("probes that never end must be followed by others")
		}
	}
}

func TestFaultsAreInflictedByShare(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	counts := []*policy.FaultCounts{{}, {}}
	p := policy.NewFaults([]policy.FaultRules{
		{Name: "put", Condition: method("Put"), AbortPermille: 1000, AbortCode: wire.ResourceExhausted},
		{Name: "all", DelayPermille: 200, Delay: time.Second, AbortPermille: 100, AbortCode: wire.Unavailable},
	}, counts, 7, wire.OriginClientProxy, r.Uint32N)
	var delayed, aborted int
	for range 10_000 {
		d := p.Check(call("a", "Get", second))
		if d.Verdict == policy.Park {
			delayed++
			if d.Lot.For != time.Second || !d.Lot.Resumes || d.Lot.Max != 7 {
				t.Fatalf("lot %+v", d.Lot)
			}
			again := call("a", "Get", 2*second)
			again.Since = second
			if d = p.Check(again); d.Verdict == policy.Park {
				t.Fatal("delayed twice")
			}
		}
		if d.Verdict == policy.Refuse {
			aborted++
		}
	}
	if math.Abs(float64(delayed-2000)) > 120 || math.Abs(float64(aborted-1000)) > 100 {
		t.Errorf("%d delayed and %d ended of 10,000, want 2,000 and 1,000", delayed, aborted)
	}
	if d := p.Check(call("a", "Put", second)); d.Status.Code != wire.ResourceExhausted || d.Status.Reason != wire.ReasonFaultInjected {
		t.Errorf("ended with %+v", d.Status)
	}
	early := call("a", "Get", second+1)
	early.Since = second
	if p.Check(early).Verdict != policy.Park {
		t.Error("a call that is resumed early must wait on")
	}
	got := map[string]uint64{}
	p.Counts(func(rule, outcome string, n uint64) { got[rule+" "+outcome] = n })
	if got["all delayed"] != uint64(delayed) || got["all aborted"] != uint64(aborted) || got["put aborted"] != 1 {
		t.Errorf("counted %v", got)
	}
}

func TestAccessIsDecidedByDenyAndThenAllow(t *testing.T) {
	const web, job = "spiffe://example.org/prod/proxy/web", "spiffe://example.org/prod/job/nightly"
	rule := func(callers, identities, methods string) policy.AccessRule {
		list := func(s string) []string {
			if s == "" {
				return nil
			}
			return []string{s}
		}
		return policy.AccessRule{
			Callers: policy.NamesOf(list(callers)), Identities: policy.NamesOf(list(identities)), Methods: policy.NamesOf(list(methods)),
		}
	}
	const pass, forbidden, anonymous = wire.OK, wire.PermissionDenied, wire.Unauthenticated
	for _, c := range []struct {
		name                     string
		deny, allow              []policy.AccessRule
		caller, identity, method string
		want                     wire.Code
	}{
		{"no rule", nil, nil, "a", "", "Get", pass},
		{"denied caller", []policy.AccessRule{rule("a", "", "")}, nil, "a", "", "Get", forbidden},
		{"other caller", []policy.AccessRule{rule("a", "", "")}, nil, "ab", "", "Get", pass},
		{"denied prefix", []policy.AccessRule{rule("a*", "", "")}, nil, "ab", "", "Get", forbidden},
		{"denied method", []policy.AccessRule{rule("a", "", "Put")}, nil, "a", "", "Put", forbidden},
		{"other method", []policy.AccessRule{rule("a", "", "Put")}, nil, "a", "", "Get", pass},
		{"denied identity", []policy.AccessRule{rule("", web, "")}, nil, "a", web, "Get", forbidden},
		{"nobody has no denied identity", []policy.AccessRule{rule("", web, "")}, nil, "a", "", "Get", pass},
		{"allowed caller", nil, []policy.AccessRule{rule("a", "", "")}, "a", "", "Get", pass},
		{"not allowed", nil, []policy.AccessRule{rule("a", "", "")}, "b", "", "Get", forbidden},
		{"not allowed, proved", nil, []policy.AccessRule{rule("a", "", "")}, "b", web, "Get", forbidden},
		{"deny goes first", []policy.AccessRule{rule("a", "", "")}, []policy.AccessRule{rule("a", "", "")}, "a", "", "Get", forbidden},
		{"allowed identity", nil, []policy.AccessRule{rule("", web, "")}, "a", web, "Get", pass},
		{"allowed domain", nil, []policy.AccessRule{rule("", "spiffe://example.org/prod/*", "")}, "a", job, "Get", pass},
		{"other identity", nil, []policy.AccessRule{rule("", web, "")}, "a", job, "Get", forbidden},
		{"no identity", nil, []policy.AccessRule{rule("", web, "")}, "a", "", "Get", anonymous},
		{"no identity would help", nil, []policy.AccessRule{rule("", web, "Put")}, "a", "", "Get", forbidden},
		{"the second rule", nil, []policy.AccessRule{rule("", web, ""), rule("a", "", "Get")}, "a", "", "Get", pass},
	} {
		for _, dry := range []bool{false, true} {
			p := policy.NewAccess(c.deny, c.allow, dry, &policy.AccessCounts{}, wire.OriginServerProxy)
			r := call(c.caller, c.method, 1)
			r.Identity = c.identity
			d := p.Check(r)
			if want := c.want; !dry && (d.Status.Code != want || (want == pass) != (d.Verdict == policy.Continue)) {
				t.Errorf("%s: got %v", c.name, d.Status.Code)
			}
			counted := map[string]uint64{}
			p.Counts(func(_, outcome string, n uint64) { counted[outcome] = n })
			if c.want != pass && (dry && (d.Verdict != policy.Continue || counted["would_deny"] != 1) || !dry && counted["denied"] != 1) {
				t.Errorf("%s, dry run %v: verdict %d, counted %v", c.name, dry, d.Verdict, counted)
			}
			if d.Verdict == policy.Refuse && d.Status.Reason != wire.ReasonAuthDenied {
				t.Errorf("%s: reason %v", c.name, d.Status.Reason)
			}
		}
	}
}

// everything is a chain of all policies that lets calls pass.
func everything() policy.Chain {
	var slots policy.Slots
	return policy.NewChain(
		policy.NewAccess(
			[]policy.AccessRule{{Callers: policy.NamesOf([]string{"evil", "bad-*"})}},
			[]policy.AccessRule{{Callers: policy.NamesOf([]string{"web"}), Services: policy.NamesOf([]string{"shop.v1.*"})}},
			false, &policy.AccessCounts{}, wire.OriginServerProxy),
		policy.NewRateLimit(policy.LimitRules{Condition: method("Get"), Calls: 1e9, Per: time.Second, Burst: 1e9, MaxCallers: 10}, &policy.Buckets{}),
		policy.NewMaxOpenCalls(&slots, 100, wire.OriginClientProxy),
		policy.NewBreaker(breaking, &policy.Circuit{}, wire.OriginClientProxy),
		policy.NewFaults([]policy.FaultRules{{Condition: method("Put"), AbortPermille: 1000}, {Delay: 1, DelayPermille: 1}},
			[]*policy.FaultCounts{{}, {}}, 1, wire.OriginClientProxy, func(uint32) uint32 { return 999 }),
	)
}

func TestAllPoliciesTogetherDoNotAllocate(t *testing.T) {
	chain, r := everything(), call("web", "Get", second)
	n := testing.AllocsPerRun(1000, func() {
		r.Passed = 0
		if chain.Check(&r).Verdict != policy.Continue || r.Passed != 5 {
			t.Fatal("refused")
		}
		chain.Done(r.Passed, policy.Outcome{Status: fine, Now: r.Now})
		r.Now += 1000
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCheckAll(b *testing.B) {
	chain, r := everything(), call("web", "Get", second)
	b.ReportAllocs()
	for b.Loop() {
		r.Passed = 0
		chain.Check(&r)
		chain.Done(r.Passed, policy.Outcome{Status: fine, Now: r.Now})
		r.Now += 1000
	}
}
