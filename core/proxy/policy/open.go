package policy

import (
	"sync/atomic"

	"github.com/octomesh/octomesh/core/wire"
)

// Slots counts calls that are open. It outlives generations.
type Slots struct{ open atomic.Int64 }

// Open returns how many calls are open.
func (s *Slots) Open() int64 { return s.open.Load() }

// MaxOpenCalls bounds the calls of a target that are open at once, waiting ones included; beyond it calls
// are refused RESOURCE_EXHAUSTED, OVERLOADED.
type MaxOpenCalls struct {
	slots   *Slots
	max     int64
	refusal wire.Status
}

// NewMaxOpenCalls makes the policy. Slots are the target's.
func NewMaxOpenCalls(slots *Slots, limit uint32, origin wire.Origin) *MaxOpenCalls {
	return &MaxOpenCalls{slots, int64(limit), wire.Refuse(wire.ReasonOverloaded, origin, "too many open calls to the target")}
}

// Name implements [Policy].
func (p *MaxOpenCalls) Name() string { return "max_open_calls" }

// Max returns the bound.
func (p *MaxOpenCalls) Max() int64 { return p.max }

// Check implements [Policy]: it takes a slot.
func (p *MaxOpenCalls) Check(Request) Decision {
	if p.slots.open.Add(1) > p.max {
		p.slots.open.Add(-1)
		return Decision{Verdict: Refuse, Status: p.refusal}
	}
	return Decision{}
}

// Done implements [Holder]: it gives the slot back.
func (p *MaxOpenCalls) Done(Outcome) { p.slots.open.Add(-1) }
