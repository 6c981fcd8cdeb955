package policy_test

import (
	"sync"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/proxy/policy"
	"github.com/octomesh/octomesh/core/wire"
)

// scripted answers each check with the next verdict, the last one again and again.
type scripted struct {
	verdicts      []policy.Verdict
	checked, done int
	lot           *policy.Bounded
}

func (s *scripted) Name() string { return "scripted" }

func (s *scripted) Check(policy.Request) policy.Decision {
	d := policy.Decision{Verdict: s.verdicts[min(s.checked, len(s.verdicts)-1)], Lot: s.lot}
	s.checked++
	return d
}

func (s *scripted) Done(policy.Outcome) { s.done++ }

func says(v ...policy.Verdict) *scripted { return &scripted{verdicts: v} }

func TestFirstThatDoesNotContinueDecides(t *testing.T) {
	a, b, c := says(policy.Continue), says(policy.Refuse), says(policy.Continue)
	chain := policy.NewChain(a, b, c)
	r := policy.Request{}
	if d := chain.Check(&r); d.Verdict != policy.Refuse {
		t.Fatalf("verdict %d", d.Verdict)
	}
	if c.checked != 0 || a.done != 1 || b.done != 0 || r.Passed != 0 {
		t.Errorf("after a refusal: third asked %d times, first gave back %d, second %d, passed %d", c.checked, a.done, b.done, r.Passed)
	}
}

func TestAdmittedCallGivesBackOnce(t *testing.T) {
	a, b := says(policy.Continue), says(policy.Continue)
	chain := policy.NewChain(a, b)
	r := policy.Request{}
	if d := chain.Check(&r); d.Verdict != policy.Continue || r.Passed != 2 {
		t.Fatalf("verdict %d, passed %d", d.Verdict, r.Passed)
	}
	chain.Done(r.Passed, policy.Outcome{})
	if a.done != 1 || b.done != 1 {
		t.Errorf("gave back %d and %d times", a.done, b.done)
	}
}

func TestParkedCallGoesOnWhereItStopped(t *testing.T) {
	a, b, c := says(policy.Continue), says(policy.Park, policy.Continue), says(policy.Continue)
	b.lot = policy.NewBounded(&policy.Lot{}, 1, time.Second, wire.OriginClientProxy)
	chain := policy.NewChain(a, b, c)
	r := policy.Request{}
	if d := chain.Check(&r); d.Verdict != policy.Park || d.Lot != b.lot || r.Passed != 1 || a.done != 0 {
		t.Fatalf("verdict %d, passed %d, given back %d", d.Verdict, r.Passed, a.done)
	}
	if d := chain.Check(&r); d.Verdict != policy.Continue || r.Passed != 3 {
		t.Fatalf("resumed: verdict %d, passed %d", d.Verdict, r.Passed)
	}
	if a.checked != 1 || b.checked != 2 {
		t.Errorf("checked %d and %d times", a.checked, b.checked)
	}
}

func TestParkedCallThatGivesUpGivesBackWhatItPassed(t *testing.T) {
	a, b := says(policy.Continue), says(policy.Park)
	chain := policy.NewChain(a, b)
	r := policy.Request{}
	chain.Check(&r)
	chain.Done(r.Passed, policy.Outcome{})
	if a.done != 1 || b.done != 0 {
		t.Errorf("gave back %d and %d times", a.done, b.done)
	}
}

func TestEmptyChainLetsPass(t *testing.T) {
	var chain policy.Chain
	if d := chain.Check(&policy.Request{}); d.Verdict != policy.Continue {
		t.Errorf("verdict %d", d.Verdict)
	}
}

func TestMaxOpenCallsRefusesBeyondItsBound(t *testing.T) {
	var slots policy.Slots
	chain := policy.NewChain(policy.NewMaxOpenCalls(&slots, 2, wire.OriginServerProxy))
	for i, want := range []policy.Verdict{policy.Continue, policy.Continue, policy.Refuse, policy.Refuse} {
		d := chain.Check(&policy.Request{})
		if d.Verdict != want {
			t.Fatalf("call %d: verdict %d", i, d.Verdict)
		}
		if st := d.Status; want == policy.Refuse && (st.Code != wire.ResourceExhausted || st.Reason != wire.ReasonOverloaded ||
			st.Disposition != wire.DispositionNotProcessed || st.Origin != wire.OriginServerProxy) {
			t.Errorf("refused with %+v", st)
		}
	}
	chain.Done(1, policy.Outcome{})
	if d := chain.Check(&policy.Request{}); d.Verdict != policy.Continue || slots.Open() != 2 {
		t.Errorf("after one ended: verdict %d, open %d", d.Verdict, slots.Open())
	}
}

func TestABoundMayChangeWhileCallsAreOpen(t *testing.T) {
	var slots policy.Slots
	before := policy.NewChain(policy.NewMaxOpenCalls(&slots, 10, wire.OriginClientProxy))
	for range 10 {
		before.Check(&policy.Request{})
	}
	after := policy.NewChain(policy.NewMaxOpenCalls(&slots, 5, wire.OriginClientProxy))
	if d := after.Check(&policy.Request{}); d.Verdict != policy.Refuse {
		t.Error("the lower bound must count the calls that were open before it")
	}
	for range 6 {
		before.Done(1, policy.Outcome{})
	}
	if d := after.Check(&policy.Request{}); d.Verdict != policy.Continue {
		t.Error("refused although four were open")
	}
}

func TestOpenCallsAreBoundedUnderConcurrency(t *testing.T) {
	var slots policy.Slots
	chain := policy.NewChain(policy.NewMaxOpenCalls(&slots, 8, wire.OriginClientProxy))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 2000 {
				r := policy.Request{}
				if chain.Check(&r).Verdict != policy.Continue {
					continue
				}
				if n := slots.Open(); n < 1 || n > 16 { // others may be between their count and their refusal
					t.Errorf("%d open", n)
				}
				chain.Done(r.Passed, policy.Outcome{})
			}
		})
	}
	wg.Wait()
	if slots.Open() != 0 {
		t.Errorf("%d slots are lost", slots.Open())
	}
}

func TestCheckDoesNotAllocate(t *testing.T) {
	var slots policy.Slots
	chain := policy.NewChain(policy.NewMaxOpenCalls(&slots, 1, wire.OriginClientProxy))
	head := wire.RequestHead{}
	n := testing.AllocsPerRun(1000, func() {
		r, refused := policy.Request{Head: &head}, policy.Request{Head: &head}
		chain.Check(&r)
		chain.Check(&refused)
		chain.Done(r.Passed, policy.Outcome{})
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkCheck(b *testing.B) {
	var slots policy.Slots
	chain := policy.NewChain(policy.NewMaxOpenCalls(&slots, 100, wire.OriginClientProxy))
	head := wire.RequestHead{}
	b.ReportAllocs()
	for b.Loop() {
		r := policy.Request{Head: &head}
		chain.Check(&r)
		chain.Done(r.Passed, policy.Outcome{})
	}
}
