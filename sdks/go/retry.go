package octomesh

import (
	"sync/atomic"
	"time"

	"github.com/octomesh/octomesh/core/wire"
)

// retryBudget bounds how often idempotent calls go again: at most 10 tokens, a tenth back per success.
type retryBudget struct{ tenths atomic.Int64 }

const (
	fullRetryBudget = 100
	retryCost       = 10
)

func (b *retryBudget) init() { b.tenths.Store(fullRetryBudget) }

func (b *retryBudget) take() bool {
	if b.tenths.Add(-retryCost) >= 0 {
		return true
	}
	b.tenths.Add(retryCost)
	return false
}

func (b *retryBudget) succeeded() {
	if n := b.tenths.Load(); n < fullRetryBudget {
		b.tenths.CompareAndSwap(n, n+1)
	}
}

// maySendAgain decides from how an attempt ended whether the call may be sent again: what surely ran
// nowhere because the path failed; and, of what may run twice, what was lost, within the budget. The first
// time after the call's connection died is free.
func maySendAgain(err *Error, idempotent bool, freeUsed *bool, budget *retryBudget) bool {
	switch {
	case err.Disposition == DispositionNotProcessed:
		return wire.Reason(err.Reason).Rule().Path
	case err.Code != Unavailable || err.Disposition != DispositionUnknown || !idempotent:
		return false
	case err.Reason == ReasonConnectionLost && err.Origin == OriginClientSDK && !*freeUsed:
		*freeUsed = true
		return true
	}
	return budget.take()
}

// maxAgain is how often a call is sent again at most.
const maxAgain = 2

// again prepares the call for being sent again after err, or tells that it ends so.
func (c *clientCall) again(err *Error) bool {
	if c.resent >= maxAgain || c.expired() {
		return false
	}
	if err.Reason == ReasonProxyUnreachable && err.Origin == OriginClientSDK {
		return false // pick has tried what there is
	}
	if !maySendAgain(err, c.idempotent(), &c.freeUsed, &c.ch.retry) {
		return false
	}
	c.resent++
	c.rewind()
	return true
}

// expired tells whether the call's time is over.
func (c *clientCall) expired() bool {
	return c.ctx.Err() != nil || c.hasDeadline && !time.Now().Before(c.deadline)
}

func (c *clientCall) idempotent() bool { return c.method.Idempotent || c.opt.idempotent }
