package proxy

import (
	"time"

	"github.com/octomesh/octomesh/core/proxy/policy"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/proxy/upstream"
	"github.com/octomesh/octomesh/core/wire"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
)

// maxKept bounds what the calls of a proxy keep for another attempt, all together. Calls beyond it go once.
const maxKept = 32 << 20

// absence is how long an endpoint gets no calls, as long as there are others, whose proxy said that it has no
// instance or leaves. One with an address of its own is called there meanwhile. Targets with outlier ejection have that instead.
const absence = int64(time.Second)

// keep has the call keep what it sends if it might go again.
func keep(c *session.Call, head *wire.RequestHead) {
	r := c.Decision.Route.Retries
	if r.MaxAttempts < 2 || r.ElsewhereOnly && c.Decision.Cluster.Places < 2 {
		return
	}
	c.Keep(r.MaxKept)
	if r.AttemptTimeout > 0 && head.Kind == wire.KindUnary && c.Idempotent {
		c.LimitAttempt(time.Duration(r.AttemptTimeout))
	}
}

// Again implements session.Observer.
func (p *Proxy) Again(c *session.Call, st *wire.Status, now int64) (wait int64, again bool) {
	r := c.Decision.Route.Retries
	if r == nil || c.Endpoint == nil {
		return 0, false
	}
	passBy := passesBy(c, st)
	wait, again = r.Again(policy.Attempt{
		Status: st, Number: c.Try, Idempotent: c.Idempotent, Kept: c.Kept(), Elsewhere: passBy || len(c.Decision.Cluster.Endpoints) > 1,
		Now: now, Deadline: c.Deadline(),
	})
	if again {
		p.attemptEnded(c, st, now)
		if c.Avoid = c.Endpoint; passBy {
			c.Avoid = nil // the instance is not to blame
		}
	}
	return wait, again
}

// passesBy tells whether an attempt that ended so speaks against the endpoint's proxy alone, since the instance may be called
// directly (S-CALLEE-3). Where it does not answer itself, it speaks against both.
func passesBy(c *session.Call, st *wire.Status) bool {
	return !c.Direct && c.Endpoint.Direct != nil && c.Endpoint.Direct.Ready() && (policy.Unprocessed(st) || st.Reason == wire.ReasonConnectionLost)
}

// attemptEnded books how a call to an endpoint ended.
func (p *Proxy) attemptEnded(c *session.Call, st *wire.Status, now int64) {
	e := c.Endpoint
	e.Calls.Add(1)
	if c.Direct {
		e.Directs.Add(1)
	}
	if st.Code == wire.OK {
		c.Decision.Ended(e, st, now)
		return
	}
	if st.Origin != wire.OriginApplication {
		e.Failures.Add(1)
	}
	if st.Reason == wire.ReasonProxyDraining && policy.Unprocessed(st) && st.Origin == wire.OriginServerProxy && c.Up() != nil && !c.Direct {
		e.Peer.(*upstream.Peer).Leaves(c.Up())
	}
	if passesBy(c, st) {
		if st.Origin == wire.OriginServerProxy && st.Reason != wire.ReasonProxyDraining { // whoever drains may have a successor
			e.PassBy(now + absence)
		}
		return
	}
	if policy.Unprocessed(st) && st.Origin != wire.OriginClientProxy && c.Decision.Outlier == nil {
		e.Leave(now + absence)
	}
	if c.Decision.Ended(e, st, now) {
		p.sees(e, controlv1.Anomaly_KIND_EJECTED, "ejected: its last call ended "+st.Code.String()+", "+st.Reason.String())
	}
}
