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
// instance or leaves. Targets with outlier ejection have that instead.
const absence = int64(time.Second)

// keep has the call keep what it sends if it might go again.
func keep(c *session.Call, head *wire.RequestHead) {
	r := c.Decision.Route.Retries
	if r.MaxAttempts < 2 || r.ElsewhereOnly && len(c.Decision.Cluster.Endpoints) < 2 {
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
	wait, again = r.Again(policy.Attempt{
		Status: st, Number: c.Try, Idempotent: c.Idempotent, Kept: c.Kept(), Elsewhere: len(c.Decision.Cluster.Endpoints) > 1,
		Now: now, Deadline: c.Deadline(),
	})
	if again {
		p.attemptEnded(c, st, now)
		c.Avoid = c.Endpoint
	}
	return wait, again
}

// attemptEnded books how a call to an endpoint ended.
func (p *Proxy) attemptEnded(c *session.Call, st *wire.Status, now int64) {
	e := c.Endpoint
	e.Calls.Add(1)
	if st.Code == wire.OK {
		c.Decision.Ended(e, st, now)
		return
	}
	if st.Origin != wire.OriginApplication {
		e.Failures.Add(1)
	}
	if st.Reason == wire.ReasonProxyDraining && policy.Unprocessed(st) && st.Origin == wire.OriginServerProxy && c.Up() != nil {
		e.Peer.(*upstream.Peer).Leaves(c.Up())
	}
	if policy.Unprocessed(st) && st.Origin != wire.OriginClientProxy && c.Decision.Outlier == nil {
		e.Leave(now + absence)
	}
	if c.Decision.Ended(e, st, now) {
		p.sees(e, controlv1.Anomaly_KIND_EJECTED, "ejected: its last call ended "+st.Code.String()+", "+st.Reason.String())
	}
}
