package policy

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/octomesh/octomesh/core/wire"
)

// Bucket is a token bucket in one word: the time at which it will be full again. It needs no refilling and no lock.
// The zero value is full.
type Bucket struct{ full atomic.Int64 }

// take takes a token that costs so many nanoseconds of refilling, from a bucket that holds slack nanoseconds
// beside that token. It returns 0, or how long to wait for a token.
func (b *Bucket) take(now, cost, slack int64) int64 {
	for {
		was := b.full.Load()
		begin := max(was, now)
		if wait := begin - now - slack; wait > 0 {
			return wait
		}
		if b.full.CompareAndSwap(was, begin+cost) {
			return 0
		}
	}
}

// Buckets is what goes on of a rate limit from one generation to the next: the tokens, and counters.
type Buckets struct {
	shared         Bucket // everybody's, or that of callers who came too late
	refused, would atomic.Uint64

	mu     sync.RWMutex
	caller map[string]*Bucket
}

// of returns the bucket of a caller. The first limit callers get one of their own.
func (b *Buckets) of(caller []byte, limit int) *Bucket {
	b.mu.RLock()
	own, n := b.caller[string(caller)], len(b.caller)
	b.mu.RUnlock()
	if own != nil {
		return own
	}
	if n >= limit {
		return &b.shared
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if own = b.caller[string(caller)]; own != nil {
		return own
	}
	if b.caller == nil {
		b.caller = make(map[string]*Bucket)
	}
	if len(b.caller) >= limit {
		return &b.shared
	}
	own = &Bucket{}
	b.caller[string(caller)] = own
	return own
}

// LimitRules is a compiled octo.resource.v1.RateLimit.
type LimitRules struct {
	Name       string
	Condition  Condition
	Route      string // empty: any
	Calls      uint32 // in the time Per
	Per        time.Duration
	Burst      uint32
	MaxCallers int // with a bucket of their own; 0: all share one
	DryRun     bool
	Origin     wire.Origin
}

// RateLimit refuses calls that come faster than its tokens.
type RateLimit struct {
	rules       LimitRules
	cost, slack int64
	buckets     *Buckets
	refusal     wire.Status
}

// NewRateLimit makes the policy. Calls and Per are above 0.
func NewRateLimit(rules LimitRules, buckets *Buckets) *RateLimit {
	cost := max(int64(rules.Per)/int64(rules.Calls), 1)
	burst := max(int64(rules.Burst), 1)
	return &RateLimit{
		rules: rules, cost: cost, slack: (burst - 1) * min(cost, math.MaxInt64/4/burst), buckets: buckets,
		refusal: wire.Refuse(wire.ReasonRateLimited, rules.Origin, "over the rate limit "+rules.Name),
	}
}

// Name implements [Policy].
func (p *RateLimit) Name() string { return "rate_limit" }

// Rule is the limit's name.
func (p *RateLimit) Rule() string { return p.rules.Name }

// Check implements [Policy]: it takes a token.
func (p *RateLimit) Check(r Request) Decision {
	if p.rules.Route != "" && p.rules.Route != r.Route || !holds(p.rules.Condition, &r) {
		return Decision{}
	}
	b := &p.buckets.shared
	if p.rules.MaxCallers > 0 {
		b = p.buckets.of(r.Caller, p.rules.MaxCallers)
	}
	wait := b.take(r.Now, p.cost, p.slack)
	if wait == 0 {
		return Decision{}
	}
	if p.rules.DryRun {
		p.buckets.would.Add(1)
		return Decision{}
	}
	p.buckets.refused.Add(1)
	return refuseFor(&p.refusal, wait)
}

// refuseFor refuses with a status and the nanoseconds after which to come again.
func refuseFor(st *wire.Status, wait int64) Decision {
	d := Decision{Verdict: Refuse, Status: *st}
	d.Status.RetryAfterMS = uint32(min((wait+int64(time.Millisecond)-1)/int64(time.Millisecond), math.MaxUint32))
	return d
}

// Counts implements [Counted].
func (p *RateLimit) Counts(yield func(rule, outcome string, n uint64)) {
	yield(p.rules.Name, "refused", p.buckets.refused.Load())
	yield(p.rules.Name, "would_refuse", p.buckets.would.Load())
}
