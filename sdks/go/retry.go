package octomesh

import (
	"sync/atomic"
	"time"

	"github.com/octomesh/octomesh/core/wire"
	"github.com/octomesh/octomesh/sdks/go/internal/fallback"
)

// retryBudget bounds how often idempotent calls go again: at most 10 tokens, a tenth back per success.
type retryBudget struct{ tenths atomic.Int64 }

func (b *retryBudget) init() { b.tenths.Store(fallback.Budget) }

// take takes what a re-send costs, if it is there.
func (b *retryBudget) take(cost int64) bool {
	if b.tenths.Add(-cost) >= 0 {
		return true
	}
	b.tenths.Add(cost)
	return false
}

func (b *retryBudget) succeeded() {
	if n := b.tenths.Load(); n < fallback.Budget {
		b.tenths.CompareAndSwap(n, n+1)
	}
}

// ended is what matters of an error for whether the call goes again.
func (e *Error) ended() fallback.Ended {
	return fallback.Ended{Code: wire.Code(e.Code), Reason: wire.Reason(e.Reason), Origin: wire.Origin(e.Origin), Disposition: wire.Disposition(e.Disposition)}
}

// again prepares the call for being sent again after err, or tells that it ends so.
func (c *clientCall) again(err *Error) bool {
	if c.expired() {
		return false
	}
	next, cost, free := fallback.Again(err.ended(), fallback.Call{
		Idempotent: c.idempotent(), FirstRequest: true, FreeUsed: c.freeUsed, Resent: c.resent,
		Other: c.ch.way != nil && c.ch.way.other(&c.route), Tokens: c.ch.shared.retry.tenths.Load(),
	})
	if next == fallback.End || !c.ch.shared.retry.take(cost) {
		return false
	}
	if next == fallback.Other {
		c.route.cross()
	}
	c.freeUsed = c.freeUsed || free
	c.resent++
	c.rewind()
	return true
}

// expired tells whether the call's time is over.
func (c *clientCall) expired() bool {
	return c.ctx.Err() != nil || c.hasDeadline && !time.Now().Before(c.deadline)
}

func (c *clientCall) idempotent() bool { return c.method.Idempotent || c.opt.idempotent }
