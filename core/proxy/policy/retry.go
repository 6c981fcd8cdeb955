package policy

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/octomesh/octomesh/core/wire"
)

// RetryRules is a compiled octo.resource.v1.RetryPolicy. Times are nanoseconds.
type RetryRules struct {
	MaxAttempts int
	// Codes with which idempotent calls go again.
	Codes Codes
	// AttemptTimeout is how long one attempt of an idempotent unary call may take; 0: as long as the call.
	AttemptTimeout int64
	// Backoff is the wait before the second attempt; it doubles up to MaxBackoff.
	Backoff, MaxBackoff int64
	// MaxKept bounds what is kept of a call's requests, in bytes.
	MaxKept int
	// ElsewhereOnly says that calls go again only to another endpoint, at once: what holds where nobody configured
	// anything.
	ElsewhereOnly bool
}

// maxPushback is the longest retry_after that is waited for: a call that shall come back later ends now, so that its
// caller learns of it.
const maxPushback = 10_000_000_000

// RetryCounts is what the retries of a target's calls came to. It outlives generations.
type RetryCounts struct {
	sent, succeeded, overBudget, notKept, tooLate atomic.Uint64
}

// Retries decides which calls of a route go again.
type Retries struct {
	RetryRules
	budget *Budget
	counts *RetryCounts
}

// NewRetries makes the policy.
func NewRetries(rules RetryRules, budget *Budget, counts *RetryCounts) *Retries {
	return &Retries{rules, budget, counts}
}

// Attempt is one that has failed.
type Attempt struct {
	Status *wire.Status
	Number int // 0 for the first
	// Idempotent: the call may run twice.
	Idempotent bool
	// Kept: all that was sent has been kept.
	Kept bool
	// Elsewhere: there is another endpoint.
	Elsewhere bool
	Now       int64
	Deadline  int64 // of the call; 0: none
}

// Again decides whether a call goes again after an attempt, and how long it waits before.
func (r *Retries) Again(a Attempt) (wait int64, again bool) {
	if a.Number+1 >= r.MaxAttempts {
		return 0, false
	}
	unprocessed := Unprocessed(a.Status)
	switch {
	case unprocessed && r.ElsewhereOnly && !a.Elsewhere:
		return 0, false
	case !unprocessed && !(a.Idempotent && r.repeats(a.Status)):
		return 0, false
	case !a.Kept:
		r.counts.notKept.Add(1)
		return 0, false
	}
	if !unprocessed || !a.Elsewhere {
		wait = r.wait(a.Number)
	}
	pushback := int64(a.Status.RetryAfterMS) * 1_000_000
	wait = max(wait, pushback)
	switch {
	case pushback > maxPushback, a.Deadline != 0 && a.Now+wait >= a.Deadline:
		r.counts.tooLate.Add(1)
		return 0, false
	case !r.budget.take(a.Now):
		r.counts.overBudget.Add(1)
		return 0, false
	}
	r.counts.sent.Add(1)
	return wait, true
}

// Unprocessed tells of a status that the path failed and that surely no handler saw the call: it permits
// another path whatever the call is (E-DISP-7).
func Unprocessed(st *wire.Status) bool {
	return st.Disposition == wire.DispositionNotProcessed && st.Reason.Rule().Path
}

// repeats tells whether an idempotent call goes again after a status that leaves open whether it ran.
func (r *Retries) repeats(st *wire.Status) bool {
	if st.Reason == wire.ReasonDeadline && r.AttemptTimeout > 0 {
		return true
	}
	return st.Code > 0 && st.Code <= 16 && r.Codes&(1<<uint32(st.Code)) != 0 && !final(st.Reason)
}

// final: governance refused, the caller went away, or the call itself is at fault: another endpoint would say
// the same, or must not be asked (L-FINE-6).
func final(r wire.Reason) bool {
	return r >= wire.ReasonAuthDenied && r <= wire.ReasonStreamProtocol || r == wire.ReasonCancelled
}

// wait is the pause after so many attempts, ±50 %.
func (r *Retries) wait(attempts int) int64 {
	d := min(r.Backoff<<min(attempts, 20), r.MaxBackoff)
	return d/2 + rand.Int64N(d+1)
}

// Succeeded notes that a call that went again was answered.
func (r *Retries) Succeeded() { r.counts.succeeded.Add(1) }

// Counts yields each counter of the target, by what was done.
func (c *RetryCounts) Counts(yield func(outcome string, n uint64)) {
	yield("sent", c.sent.Load())
	yield("succeeded", c.succeeded.Load())
	yield("over_budget", c.overBudget.Load())
	yield("not_kept", c.notKept.Load())
	yield("too_late", c.tooLate.Load())
}

// BudgetRules is a compiled octo.resource.v1.RetryBudget.
type BudgetRules struct {
	// SuccessPermille is the tokens that 1000 calls that succeed bring.
	SuccessPermille uint64
	// MinPerSecond is the tokens that come in each second where calls bring fewer.
	MinPerSecond int64
	// Burst is the tokens that the bucket holds.
	Burst int64
}

// Tokens is the content of a target's budget. It outlives generations. The zero value is full.
type Tokens struct {
	mu        sync.Mutex
	thousands int64 // of a token
	at        int64 // when it was filled up last
	succeeded uint64
}

// Budget bounds what goes again to a target. It is filled when somebody asks, from what has been counted
// anyway, so that calls that need no retry do not know of it.
type Budget struct {
	rules     BudgetRules
	tokens    *Tokens
	succeeded func() uint64 // calls to the target, so far
}

// NewBudget makes a budget. Succeeded returns how many calls have succeeded so far.
func NewBudget(rules BudgetRules, tokens *Tokens, succeeded func() uint64) *Budget {
	return &Budget{rules, tokens, succeeded}
}

const wholeToken = 1000

func (b *Budget) take(now int64) bool {
	t := b.tokens
	t.mu.Lock()
	defer t.mu.Unlock()
	total := b.succeeded()
	if t.at == 0 { // the clock is never 0
		t.thousands, t.at, t.succeeded = b.rules.Burst*wholeToken, now, total
	}
	fill := int64(0)
	if total > t.succeeded {
		fill = int64(min(total-t.succeeded, 1<<30) * b.rules.SuccessPermille * wholeToken / 1000)
	}
	if elapsed := min(now-t.at, 1<<40); elapsed > 0 { // 18 minutes fill any bucket, and 2^40 overflows nothing
		fill = max(fill, elapsed/1000*b.rules.MinPerSecond*wholeToken/1_000_000)
	}
	if fill > 0 {
		t.thousands = min(t.thousands+fill, b.rules.Burst*wholeToken)
		t.at, t.succeeded = now, total
	}
	if t.thousands < wholeToken {
		return false
	}
	t.thousands -= wholeToken
	return true
}
