package policy

import (
	"sync/atomic"
	"time"

	"github.com/octomesh/octomesh/core/wire"
)

// FaultRules is a compiled octo.resource.v1.Fault.
type FaultRules struct {
	Name          string
	Condition     Condition
	DelayPermille uint32
	Delay         time.Duration
	AbortPermille uint32
	AbortCode     wire.Code
}

// FaultCounts outlives generations.
type FaultCounts struct{ delayed, aborted atomic.Uint64 }

// fault is one rule at work.
type fault struct {
	FaultRules
	counts *FaultCounts
	lot    *Bounded // where delayed calls wait; its time is the delay
	status wire.Status
}

// Faults delays and ends calls by rules, of which the first that a call matches decides.
type Faults struct {
	rules []fault
	draw  func(n uint32) uint32
}

// NewFaults makes the policy. Counts are by index of rules; at most limit calls are delayed by one rule at once. Draw
// returns a random number below n.
func NewFaults(rules []FaultRules, counts []*FaultCounts, limit uint32, origin wire.Origin, draw func(n uint32) uint32) *Faults {
	p := &Faults{draw: draw}
	for i, r := range rules {
		f := fault{FaultRules: r, counts: counts[i], status: wire.Refuse(wire.ReasonFaultInjected, origin, "fault "+r.Name)}
		f.status.Code = r.AbortCode
		f.lot = NewBounded(&Lot{}, limit, r.Delay, origin)
		f.lot.Resumes = true
		p.rules = append(p.rules, f)
	}
	return p
}

// Name implements [Policy].
func (p *Faults) Name() string { return "fault" }

// Check implements [Policy]. A call that was delayed comes here again.
func (p *Faults) Check(r Request) Decision {
	for i := range p.rules {
		if f := &p.rules[i]; holds(f.Condition, &r) {
			return p.inflict(f, &r)
		}
	}
	return Decision{}
}

func (p *Faults) inflict(f *fault, r *Request) Decision {
	switch {
	case r.Since == 0:
		if f.Delay > 0 && f.DelayPermille > 0 && p.draw(1000) < f.DelayPermille {
			f.counts.delayed.Add(1)
			return Decision{Verdict: Park, Lot: f.lot}
		}
	case r.Now-r.Since < int64(f.Delay):
		return Decision{Verdict: Park, Lot: f.lot}
	}
	if f.AbortPermille > 0 && p.draw(1000) < f.AbortPermille {
		f.counts.aborted.Add(1)
		return Decision{Verdict: Refuse, Status: f.status}
	}
	return Decision{}
}

// Counts implements [Counted].
func (p *Faults) Counts(yield func(rule, outcome string, n uint64)) {
	for i := range p.rules {
		yield(p.rules[i].Name, "delayed", p.rules[i].counts.delayed.Load())
		yield(p.rules[i].Name, "aborted", p.rules[i].counts.aborted.Load())
	}
}
