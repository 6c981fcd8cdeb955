package policy

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/octomesh/octomesh/core/wire"
)

// BreakerRules is a compiled octo.resource.v1.CircuitBreaker. Times are nanoseconds.
type BreakerRules struct {
	Window       int64
	MinCalls     uint32
	Permille     uint32 // of failures; 0: they do not open
	Codes        Codes
	SlowCall     time.Duration // 0: none is slow
	SlowPermille uint32
	OpenTime     int64
	Probes       uint32
}

// BreakerState is what a circuit breaker is in.
type BreakerState int32

// The states.
const (
	Closed BreakerState = iota
	Open
	HalfOpen
)

// parts is how many parts a window has: it slides by one of them.
const parts = 10

// part counts the calls that ended in one part of the window.
type part struct {
	number                int64 // since the clock began
	calls, failures, slow uint32
}

// Circuit is what goes on of a circuit breaker from one generation to the next.
type Circuit struct {
	state           atomic.Int32
	opened, refused atomic.Uint64

	mu    sync.Mutex
	parts [parts]part
	since int64  // when it opened, or began to probe
	sent  uint32 // probes that passed
	well  uint32 // of them
}

// Breaker keeps calls from a target that fails or is slow. It has no timer: a call that comes after the time is
// up is the first probe.
type Breaker struct {
	rules   BreakerRules
	circuit *Circuit
	refusal wire.Status
}

// NewBreaker makes the policy.
func NewBreaker(rules BreakerRules, circuit *Circuit, origin wire.Origin) *Breaker {
	return &Breaker{rules, circuit, wire.Refuse(wire.ReasonCircuitOpen, origin, "the target's circuit breaker is open")}
}

// Name implements [Policy].
func (p *Breaker) Name() string { return "circuit_breaker" }

// State returns what the breaker is in; Open until a call comes that may probe.
func (p *Breaker) State() BreakerState { return BreakerState(p.circuit.state.Load()) }

// Check implements [Policy].
func (p *Breaker) Check(r Request) Decision {
	c := p.circuit
	if BreakerState(c.state.Load()) == Closed || p.probe(r.Now) {
		return Decision{}
	}
	c.refused.Add(1)
	return Decision{Verdict: Refuse, Status: p.refusal}
}

// probe tells whether a call may pass a breaker that was not closed.
func (p *Breaker) probe(now int64) bool {
	c := p.circuit
	c.mu.Lock()
	defer c.mu.Unlock()
	switch BreakerState(c.state.Load()) {
	case Closed:
		return true
	case Open:
		if now-c.since < p.rules.OpenTime {
			return false
		}
		c.enter(HalfOpen, now)
	case HalfOpen:
		if c.sent >= p.rules.Probes {
			if now-c.since < p.rules.OpenTime {
				return false
			}
			c.enter(HalfOpen, now) // probes that never came back do not keep it so for ever
		}
	}
	c.sent++
	return true
}

// enter begins a state. The lock is held.
func (c *Circuit) enter(s BreakerState, now int64) {
	c.since, c.sent, c.well = now, 0, 0
	c.state.Store(int32(s))
}

// Done implements [Holder]: it counts how the call ended.
func (p *Breaker) Done(o Outcome) {
	result := Judge(&o.Status, p.rules.Codes)
	slow := p.rules.SlowCall > 0 && o.Unary && o.Took >= p.rules.SlowCall && (result != Unsaid || o.Status.Reason == wire.ReasonCancelled)
	c := p.circuit
	c.mu.Lock()
	defer c.mu.Unlock()
	switch BreakerState(c.state.Load()) {
	case Closed:
		if result != Unsaid || slow {
			p.count(result == Failure, slow, o.Now)
		}
	case HalfOpen:
		if o.Now-int64(o.Took) >= c.since {
			p.probed(result, slow, o.Now)
		}
	}
}

// probed takes the end of a probe. The lock is held.
func (p *Breaker) probed(result Result, slow bool, now int64) {
	c := p.circuit
	switch {
	case result == Failure && p.rules.Permille > 0, slow:
		p.open(now)
	case result == Unsaid:
		c.sent = max(c.sent, 1) - 1
	default:
		if c.well++; c.well >= p.rules.Probes {
			c.parts = [parts]part{}
			c.enter(Closed, now)
		}
	}
}

// count notes a call in the window and opens the breaker where that was one too many. The lock is held.
func (p *Breaker) count(failed, slow bool, now int64) {
	c := p.circuit
	number := now / max(p.rules.Window/parts, 1)
	at := &c.parts[number%parts]
	if at.number != number {
		*at = part{number: number}
	}
	at.calls++
	if failed {
		at.failures++
	}
	if slow {
		at.slow++
	}
	if !failed && !slow {
		return // this one did not open it
	}
	var sum part
	for i := range c.parts {
		if q := &c.parts[i]; number-q.number < parts {
			sum.calls += q.calls
			sum.failures += q.failures
			sum.slow += q.slow
		}
	}
	if sum.calls >= p.rules.MinCalls && (reaches(sum.failures, sum.calls, p.rules.Permille) || reaches(sum.slow, sum.calls, p.rules.SlowPermille)) {
		p.open(now)
	}
}

func reaches(n, of, permille uint32) bool {
	return permille > 0 && uint64(n)*1000 >= uint64(of)*uint64(permille)
}

// open opens the breaker. The lock is held.
func (p *Breaker) open(now int64) {
	p.circuit.enter(Open, now)
	p.circuit.opened.Add(1)
}

// Counts implements [Counted].
func (p *Breaker) Counts(yield func(rule, outcome string, n uint64)) {
	yield("", "opened", p.circuit.opened.Load())
	yield("", "refused", p.circuit.refused.Load())
}
