package policy_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/proxy/policy"
	"github.com/octomesh/octomesh/core/wire"
)

// outcomes is what a policy counted and is not 0.
func outcomes(p policy.Counted) string {
	var all []string
	p.Counts(func(_, outcome string, n uint64) {
		if n > 0 {
			all = append(all, fmt.Sprint(outcome, "=", n))
		}
	})
	return strings.Join(all, " ")
}

func service(limit int64) *counting {
	return &counting{limit: limit, per: int64(time.Second), hits: map[string]int64{}}
}

// settle lets all questions be answered.
func (n *node) settle() {
	for range 100 {
		n.step(n.now + n.latency)
	}
}

func TestTheFirstCallWaitsForItsAnswer(t *testing.T) {
	n := newNode(t, policy.GlobalRules{Calls: 2, Per: time.Second, Origin: wire.OriginServerProxy}, service(2))
	n.step(10 * second)
	n.arrive(call("a", "Get", n.now))
	if len(n.delays) != 0 {
		t.Fatal("a call passed before anybody was asked")
	}
	n.step(n.now)
	n.step(10*second + 1*ms/2)
	n.step(10*second + 1*ms)
	if len(n.delays) != 1 || n.delays[0] != ms {
		t.Fatalf("it waited for %v", n.delays)
	}
	n.arrive(call("a", "Get", n.now))
	n.arrive(call("a", "Get", n.now))
	n.settle()
	if len(n.delays) != 2 || n.refused != 1 || n.service.asked > 3 {
		t.Fatalf("%d passed, %d were refused after %d questions", len(n.delays), n.refused, n.service.asked)
	}
	asked := n.service.asked
	d := n.limit.Check(call("a", "Get", 10*second+600*ms))
	if st := d.Status; d.Verdict != policy.Refuse || st.Code != wire.ResourceExhausted || st.Reason != wire.ReasonRateLimited ||
		st.Origin != wire.OriginServerProxy || st.Disposition != wire.DispositionNotProcessed || st.RetryAfterMS < 399 || st.RetryAfterMS > 400 {
		t.Errorf("refused with %+v", st)
	}
	if n.settle(); n.service.asked != asked {
		t.Error("what is known to be used up was asked about")
	}
	n.step(11 * second)
	n.arrive(call("a", "Get", n.now))
	if n.settle(); len(n.delays) != 3 {
		t.Error("in the next window a call does not pass")
	}
	if got := outcomes(n.limit); got != "refused=2 waited=4" {
		t.Errorf("counted %s", got)
	}
}

func TestWhatWasGrantedLapsesWithItsWindow(t *testing.T) {
	n := newNode(t, policy.GlobalRules{Calls: 1000, Per: time.Second}, service(1000))
	for now := 10 * second; now < 10*second+900*ms; now += ms {
		n.step(now)
		n.arrive(call("a", "Get", now))
	}
	n.settle()
	before := len(n.delays)
	n.now = 10*second + 995*ms
	if n.arrive(call("a", "Get", n.now)); len(n.delays) != before+1 {
		t.Fatal("nothing was granted in advance")
	}
	n.now = 11 * second
	if n.arrive(call("a", "Get", n.now)); len(n.delays) != before+1 {
		t.Error("what was granted in the window before was used")
	}
}

func TestOfManyWhoWaitTheFirstPassFirst(t *testing.T) {
	n := newNode(t, policy.GlobalRules{Calls: 30, Per: time.Second}, service(30))
	n.step(10 * second)
	for range 50 {
		n.arrive(call("a", "Get", n.now))
	}
	n.settle()
	if len(n.delays) != 30 || n.refused != 20 {
		t.Errorf("%d of 50 passed, %d were refused", len(n.delays), n.refused)
	}
	for i, d := range n.delays[1:] {
		if d < n.delays[i] {
			t.Errorf("call %d passed before the one that came first", i+1)
		}
	}
}

func TestACallThatIsGoneUsesNothingUp(t *testing.T) {
	n := newNode(t, policy.GlobalRules{Calls: 10, Per: time.Second}, service(10))
	n.step(10 * second)
	gone := n.arrive(call("a", "Get", n.now))
	n.arrive(call("a", "Get", n.now))
	if !gone.lot.Remove(gone) {
		t.Fatal("it does not wait")
	}
	n.settle()
	if len(n.delays) != 1 || n.service.hits[fmt.Sprint([]string{}, 10)] != 1 {
		t.Errorf("%d passed; the service counted %v", len(n.delays), n.service.hits)
	}
}

func TestWithoutAnAnswerTheFailureModeDecides(t *testing.T) {
	for _, deny := range []bool{false, true} {
		n := newNode(t, policy.GlobalRules{Calls: 10, Per: time.Second, Deny: deny, Origin: wire.OriginClientProxy}, service(10))
		n.step(10 * second)
		v := n.arrive(call("a", "Get", n.now))
		if !v.lot.Resumes || v.lot.For != 50*time.Millisecond {
			t.Fatalf("it waits in %+v", v.lot)
		}
		n.latency = second // nobody answers
		n.step(10*second + 50*ms)
		v.lot.Remove(v)
		v.check() // as the sweep does
		ended := func() int64 { return int64(len(n.delays)) + n.refused }
		if ended() != 1 || (n.refused == 1) != deny {
			t.Errorf("deny %v: %d passed, %d were refused", deny, len(n.delays), n.refused)
		}
		c := n.flying[0].counter
		n.flying = nil
		c.Failed(n.now)
		c.End()
		if n.arrive(call("a", "Get", n.now)); ended() != 2 {
			t.Errorf("deny %v: just after a failure a call waits again", deny)
		}
		n.now += 100 * ms
		if n.arrive(call("a", "Get", n.now)); ended() != 2 {
			t.Errorf("deny %v: later nobody is asked again", deny)
		}
		n.down = true
		if n.arrive(call("b", "Get", n.now)); ended() != 3 {
			t.Errorf("deny %v: a call waits for a service that is known not to answer", deny)
		}
		want := "waited=2 unanswered_allowed=3"
		if deny {
			want = "waited=2 unanswered_refused=3"
		}
		if got := outcomes(n.limit); got != want {
			t.Errorf("deny %v: counted %s, want %s", deny, got, want)
		}
	}
}

func TestThoseWhoWaitGoOnWhenTheServiceFails(t *testing.T) {
	n := newNode(t, policy.GlobalRules{Calls: 10, Per: time.Second}, service(10))
	n.step(10 * second)
	for range 3 {
		n.arrive(call("a", "Get", n.now))
	}
	n.step(n.now)
	if len(n.flying) != 1 {
		t.Fatalf("%d questions for one counter", len(n.flying))
	}
	n.flying[0].counter.Failed(n.now)
	if len(n.delays) != 3 {
		t.Errorf("%d passed", len(n.delays))
	}
}

func TestOneCallLooksWhetherTheServiceIsBack(t *testing.T) {
	n := newNode(t, policy.GlobalRules{Calls: 10, Per: time.Second}, service(10))
	n.down, n.probe = true, true
	n.now = 10 * second
	n.arrive(call("a", "Get", n.now))
	n.arrive(call("a", "Get", n.now))
	if len(n.delays) != 2 || len(n.queue) != 1 {
		t.Errorf("%d passed at once, %d are asked about", len(n.delays), len(n.queue))
	}
}

func TestWithoutAServiceTheFailureModeDecides(t *testing.T) {
	rules := policy.GlobalRules{Name: "l", Calls: 1, Per: time.Second, Parts: []policy.Part{{Key: "caller", Property: policy.Caller}}, MaxCounters: 10}
	if p := policy.NewGlobalLimit(rules, nil, &policy.Counters{}); passed(p, 5, call("a", "Get", second)) != 5 {
		t.Error("calls are not let pass")
	}
	rules.Deny, rules.Parts = true, nil
	p := policy.NewGlobalLimit(rules, nil, &policy.Counters{})
	if d := p.Check(call("a", "Get", second)); d.Verdict != policy.Refuse || d.Status.RetryAfterMS != 1000 {
		t.Errorf("%+v", d)
	}
}

func TestADryRunCountsAndNeverWaits(t *testing.T) {
	n := newNode(t, policy.GlobalRules{Calls: 10, Per: time.Second, DryRun: true}, service(10))
	n.step(10 * second)
	for range 25 {
		n.arrive(call("a", "Get", n.now))
	}
	if len(n.delays) != 25 {
		t.Fatalf("%d passed", len(n.delays))
	}
	n.settle()
	for range 5 {
		n.arrive(call("a", "Get", n.now))
	}
	if got := outcomes(n.limit); got != "would_refuse=20" {
		t.Errorf("counted %s", got)
	}
}

func TestWhatHasACounterOfItsOwn(t *testing.T) {
	head := func(service, method string, metadata ...string) *wire.RequestHead {
		h := &wire.RequestHead{Service: []byte(service), Method: []byte(method)}
		for i := 0; i < len(metadata); i += 2 {
			h.Metadata = append(h.Metadata, wire.Entry{Key: []byte(metadata[i]), Value: []byte(metadata[i+1])})
		}
		return h
	}
	n := newNode(t, policy.GlobalRules{Calls: 1, Per: time.Second, Condition: method("Get"), Parts: []policy.Part{
		{Key: "app", From: "octo"}, {Key: "service", Property: policy.Service}, {Key: "user", Property: policy.Metadata, From: "user-id"},
		{Key: "route", Property: policy.Route},
	}}, service(1))
	n.step(10 * second)
	long := strings.Repeat("x", 300)
	for _, r := range []policy.Request{
		{Head: head("s.S", "Get", "user-id", "1"), Route: "r"},
		{Head: head("s.S", "Get", "other", "x", "user-id", "1", "user-id", "2"), Route: "r"}, // the same counter
		{Head: head("s.S", "Get", "user-id", "2"), Route: "r"},
		{Head: head("s.S", "Get", "user-id", "2"), Route: "r2"},
		{Head: head("s.", "Get", "user-id", "S2"), Route: "r"},
		{Head: head("s.S", "Get", "user-id", long), Route: "r"},
		{Head: head("s.S", "Get", "user-id", "\xff"), Route: "r"},
		{Head: head("s.S", "Get"), Route: "r"}, // does not count
		{Head: head("s.S", "Put", "user-id", "1"), Route: "r"},
	} {
		r.Now = n.now
		n.arrive(r)
	}
	n.settle()
	if len(n.delays) != 8 || n.refused != 1 {
		t.Errorf("%d passed, %d were refused", len(n.delays), n.refused)
	}
	for _, key := range []string{"[octo s.S 1 r]", "[octo s.S 2 r]", "[octo s.S 2 r2]", "[octo s. S2 r]",
		"[octo s.S " + policy.Sendable([]byte(long)) + " r]", "[octo s.S " + policy.Sendable([]byte("\xff")) + " r]"} {
		if n.service.hits[key+" 10"] == 0 {
			t.Errorf("the service was not asked about %s", key)
		}
	}
	if len(n.service.hits) != 6 || len(policy.Sendable([]byte(long))) != len("sha256:")+64 {
		t.Errorf("asked about %v", n.service.hits)
	}
}

func TestCountersAreBounded(t *testing.T) {
	n := newNode(t, policy.GlobalRules{Calls: 5, Per: time.Second, MaxCounters: 4, Parts: []policy.Part{{Key: "caller", Property: policy.Caller}}}, service(5))
	n.step(10 * second)
	for i := range 6 {
		n.arrive(call(fmt.Sprint("early", i), "Get", n.now))
	}
	if len(n.delays) != 2 {
		t.Errorf("%d of 6 passed at once; four are asked about", len(n.delays))
	}
	n.settle()
	for i := range 20 { // they take the places of those that nobody asks about
		n.arrive(call(fmt.Sprint("late", i), "Get", n.now))
		n.settle()
	}
	if got := outcomes(n.limit); got != "waited=24 unanswered_allowed=2" {
		t.Errorf("counted %s", got)
	}
}

func TestWhatWasGrantedGoesOnWithTheNextGeneration(t *testing.T) {
	counters := &policy.Counters{}
	n := newNode(t, policy.GlobalRules{}, service(2))
	rules := policy.GlobalRules{Name: "l", Calls: 2, Per: time.Second, Timeout: time.Second, MaxCounters: 1}
	n.limit = policy.NewGlobalLimit(rules, n, counters)
	n.step(10 * second)
	for range 3 {
		n.arrive(call("a", "Get", n.now))
	}
	n.settle()
	rules.Deny = true // what is asked is the same
	n.limit = policy.NewGlobalLimit(rules, n, counters)
	asked := n.service.asked
	n.arrive(call("a", "Get", n.now))
	if n.settle(); n.refused != 2 || n.service.asked != asked {
		t.Errorf("%d were refused; %d more questions", n.refused, n.service.asked-asked)
	}
	rules.Calls = 100
	n.limit = policy.NewGlobalLimit(rules, n, counters)
	n.arrive(call("a", "Get", n.now))
	if n.settle(); n.service.asked == asked {
		t.Error("a limit with other figures goes by what was said of the old ones")
	}
	if got := outcomes(n.limit); got != "refused=3 waited=4" { // this service did not learn of the figures
		t.Errorf("counted %s", got)
	}
}

func TestNoGrantIsUsedTwiceUnderConcurrency(t *testing.T) {
	p := policy.NewGlobalLimit(policy.GlobalRules{Calls: 1 << 30, Per: time.Second, Timeout: time.Second, MaxCounters: 1}, silent{}, &policy.Counters{})
	d := p.Check(call("a", "Get", second))
	c := d.Arrange.(*policy.Counter)
	var passes atomic.Int64
	var hits int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 1000 {
			got := c.Begin(second, 1)
			hits += got
			c.Granted(policy.Answer{Until: 2 * second, Remaining: 1 << 30, Limit: 1 << 30}, second)
			c.End()
		}
	}()
	resumed := call("a", "Get", second)
	resumed.Since = second // those who have not waited queue up behind those who wait
	together(func(int) { passes.Add(int64(passed(p, 10_000, resumed))) })
	<-done
	passes.Add(int64(passed(p, int(hits)+1, resumed)))
	if passes.Load() != hits {
		t.Errorf("%d passed of %d that were granted", passes.Load(), hits)
	}
}

// silent is asked and does nothing.
type silent struct{}

func (silent) Ask(*policy.Counter)     {}
func (silent) Down(int64) (bool, bool) { return false, false }

// hot returns a limit with much granted to callers "a".
func hot() *policy.GlobalLimit {
	p := policy.NewGlobalLimit(policy.GlobalRules{
		Name: "l", Parts: []policy.Part{{Key: "target", From: "t"}, {Key: "caller", Property: policy.Caller}, {Key: "method", Property: policy.Method}},
		Timeout: time.Second, MaxCounters: 10,
	}, silent{}, &policy.Counters{})
	c := p.Check(call("a", "Get", second)).Arrange.(*policy.Counter)
	c.Begin(second, 1<<40)
	c.Granted(policy.Answer{Until: 1 << 62}, second)
	c.End()
	return p
}

func TestAGrantedCallDoesNotAllocate(t *testing.T) {
	p, r := hot(), call("a", "Get", second)
	if n := testing.AllocsPerRun(1000, func() {
		if p.Check(r).Verdict != policy.Continue {
			t.Fatal("it does not pass")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCheckGlobalLimit(b *testing.B) {
	p, r := hot(), call("a", "Get", second)
	b.ReportAllocs()
	for b.Loop() {
		p.Check(r)
	}
}
