package proxy

import (
	"time"

	"github.com/octomesh/octomesh/core/proxy/cluster"
	"github.com/octomesh/octomesh/core/proxy/policy"
	"github.com/octomesh/octomesh/core/proxy/route"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/proxy/upstream"
	"github.com/octomesh/octomesh/core/wire"
)

// Serve decides about a call: where it goes, whether it may, and to which endpoint. A parked call comes
// here again when it is resumed, with what was decided before.
func (p *Proxy) Serve(c *session.Call, head *wire.RequestHead, d route.Direction) {
	if c.Decision.Target == nil && (!p.match(c, head, d) || p.full(c, d)) {
		return
	}
	r := &c.Request
	r.Head, r.Caller, r.Identity, r.Now, r.Unary = head, caller(c, head, d), c.Down().Peer().Identity, c.Now(), head.Kind == wire.KindUnary
	r.Route = c.Decision.Route.Name
	verdict := c.Decision.Target.Policies.Check(r)
	c.Request.Head, c.Request.Caller = nil, nil // they are borrowed
	switch {
	case verdict.Verdict == policy.Refuse:
		c.Refuse(verdict.Status)
	case verdict.Verdict == policy.Park:
		if !c.ParkIn(verdict.Lot) {
			c.Refuse(verdict.Lot.Full)
		} else if verdict.Arrange != nil {
			verdict.Arrange.Arrange()
		}
	case d == route.Outbound:
		p.forwardOutbound(c, head)
	default:
		p.forwardInbound(c, head)
	}
}

// match pins the current generation's decision to the call.
func (p *Proxy) match(c *session.Call, head *wire.RequestHead, d route.Direction) bool {
	g := p.store.Current()
	p.cfg.Tap.Begin(c, head, d, g.Number)
	known := true
	by := caller(c, head, d)
	if d == route.Outbound {
		c.Decision, known = g.Table.Match(head, by)
	} else if c.Decision, known = g.Table.Inbound(head, by); !known && p.attached.has(head.Target) {
		c.Decision, known = p.inboundTarget(head.Target).Match(head, by), true
	}
	if !known && (p.demands(c, string(head.Target), d) || d == route.Inbound && p.awaits(c, head.Target)) {
		return false
	}
	if to := c.Decision.Cluster; known && to != nil && len(to.Endpoints) == 0 && p.demands(c, to.Target, d) {
		return false // its endpoints are on their way
	}
	if !known {
		p.refuseUnmatched(c, head, d, g.Number > 0)
		return false
	}
	c.Observer = p
	c.Idempotent = head.Idempotent || c.Decision.Route.Idempotent
	if to := c.Decision.Cluster; to != nil && to.Target != string(head.Target) {
		c.Hop = wire.AppendHop(c.Hop, wire.HopTarget, to.Target)
	}
	c.Decision.Route.Calls.Begin()
	if budget := c.Decision.Budget(time.Duration(c.Left())); budget > 0 {
		c.Limit(int64(budget))
	}
	return true
}

// caller is the calling application: outbound as it said in its HELLO, inbound as its proxy passed it on.
func caller(c *session.Call, head *wire.RequestHead, d route.Direction) []byte {
	if d == route.Outbound {
		return c.Down().Caller()
	}
	return head.Caller
}

// refuseUnmatched refuses a call to a target that nobody here knows.
func (p *Proxy) refuseUnmatched(c *session.Call, head *wire.RequestHead, d route.Direction, complete bool) {
	reason, why := wire.ReasonUnknownTarget, "no such target: "+string(head.Target)
	switch {
	case d == route.Inbound:
		reason, why = p.absent()
	case !complete:
		reason, why = wire.ReasonProxyUnready, "the proxy has no configuration yet"
	case p.unheard(string(head.Target)):
		reason, why = wire.ReasonProxyUnready, "nothing is known about the target yet, and too much waits to be told"
	}
	p.store.Unmatched.Refuse(uint32(reason))
	if c.Note.On {
		c.Observer = unmatched{p}
	}
	c.Refuse(wire.Refuse(reason, d.Origin(), why))
}

// unmatched observes calls that no route took: only telemetry wants to know of them.
type unmatched struct{ *Proxy }

func (p unmatched) CallEnded(c *session.Call, st wire.Status, took time.Duration) {
	p.cfg.Tap.End(c, &st, c.Arrived()+int64(took), nil)
}

const (
	// maxPicks bounds the endpoints that are tried before a byte has been written to any.
	maxPicks = 3
	// maxWaits bounds how often a call waits for a connection: one may take no more calls when its turn has come.
	maxWaits = 3
)

// forwardOutbound hands the call to the proxy of an endpoint.
func (p *Proxy) forwardOutbound(c *session.Call, head *wire.RequestHead) {
	keep(c, head)
	avoid, last, stranger := c.Avoid, c.Avoid, false
	for range maxPicks {
		e := c.Decision.Pick(head, c.Request.Now, avoid)
		if e == nil && avoid != nil && avoid == c.Avoid && !c.Decision.Route.Retries.ElsewhereOnly {
			e = avoid // there is no other one
		}
		if e == nil {
			break
		}
		peer := way(c, e)
		last = e
		if now := c.Request.Now; !c.Direct && e.PassedBy(now) && !e.Absent(now) { // its proxy cannot reach it, and it does not answer itself
			e.Leave(now + absence)
			continue
		}
		c.Endpoint = e
		if s := peer.Session(); s != nil && !c.Direct && !e.Expects(s.Peer().Identity) {
			stranger = true
		} else if s != nil {
			mirror(c, head)
			if c.Forward(s, head) {
				return
			}
			if !c.Full { // it takes no more since it was looked up: that says nothing against the endpoint
				peer.Leaves(s)
				c.Endpoint = nil
				continue
			}
		} else if c.Waits++; c.Waits <= maxWaits && peer.Park(c, e.Direct != nil && !c.Direct && e.Direct.Ready()) {
			return
		} else if _, direct := e.Way(c.Request.Now); direct != c.Direct { // what speaks against the one way has just come
			c.Endpoint = nil
			continue
		}
		if stranger = stranger || peer.Stranger() != nil; stranger {
			e.Strangers.Add(1)
		}
		c.Endpoint, avoid = nil, e
	}
	c.Refuse(unforwarded(c, last, stranger))
}

// way chooses by which peer the call goes to the endpoint. A proxy that is passed by is dialed meanwhile: with its answer calls
// go there again.
func way(c *session.Call, e *cluster.Endpoint) *upstream.Peer {
	to, direct := e.Way(c.Request.Now)
	peer := to.(*upstream.Peer)
	if c.Direct = direct; direct {
		peer.Used()
		if e.Peer != nil {
			e.Peer.(*upstream.Peer).Wake()
		}
	}
	return peer
}

// unforwarded is the status of a call that no endpoint took, the last of which is given, or nil if there was none. That somebody
// else answered than whom the target expects is said first: it must not go around the mesh for that.
func unforwarded(c *session.Call, last *cluster.Endpoint, stranger bool) wire.Status {
	switch {
	case last == nil:
		return wire.Refuse(wire.ReasonNoEndpoint, wire.OriginClientProxy, "no instance of the target may take calls")
	case stranger:
		return wire.Refuse(wire.ReasonAuthDenied, wire.OriginClientProxy, "whoever answers at "+where(last)+" is not whom the target's configuration expects")
	case c.Full:
		return wire.Refuse(wire.ReasonQueueFull, wire.OriginClientProxy, "too much waits for "+where(last))
	}
	return wire.Refuse(wire.ReasonProxyUnreachable, wire.OriginClientProxy, "no connection to "+where(last))
}

// where names an endpoint's addresses.
func where(e *cluster.Endpoint) string {
	switch {
	case e.MeshAddress == "":
		return e.DirectAddress
	case e.DirectAddress == "":
		return e.MeshAddress
	}
	return e.MeshAddress + ", nor to the instance itself at " + e.DirectAddress
}

// forwardInbound hands the call to an attached instance.
func (p *Proxy) forwardInbound(c *session.Call, head *wire.RequestHead) {
	var m member
	for range maxPicks {
		var s *session.Session
		if m, s = p.attached.pick(head.Target); s == nil {
			if m.server.park(c) {
				return
			}
			break
		}
		if c.Forward(s, head) {
			return
		}
		m.server.full(s, c.Full)
	}
	if c.Full {
		c.Refuse(wire.Refuse(wire.ReasonQueueFull, wire.OriginServerProxy, "too much waits for the target's instances"))
		return
	}
	if p.awaits(c, head.Target) {
		return
	}
	reason, why := p.absent()
	if m.server != nil {
		why = m.server.absent()
	}
	c.Refuse(wire.Refuse(reason, wire.OriginServerProxy, why))
}

// absent says why no instance of a target takes calls here. At the successor there may be one (L-FINE-12).
func (p *Proxy) absent() (wire.Reason, string) {
	if p.yielded.Load() {
		return wire.ReasonProxyDraining, "no instance of the target is attached here any more: this proxy has a successor"
	}
	return wire.ReasonProxyUnready, "no instance of the target is attached here"
}

// CallEnded implements session.Observer.
func (p *Proxy) CallEnded(c *session.Call, st wire.Status, took time.Duration) {
	d := &c.Decision
	now := c.Arrived() + int64(took)
	d.Target.Policies.Done(c.Request.Passed, policy.Outcome{Status: st, Took: took, Now: now, Unary: c.Request.Unary})
	d.Route.Calls.End(int32(st.Code), took)
	p.cfg.Tap.End(c, &st, now, d.Route.Calls)
	if st.Reason != 0 && st.Origin == d.Target.Direction.Origin() {
		d.Route.Calls.Refuse(uint32(st.Reason))
	}
	if c.Endpoint != nil {
		p.attemptEnded(c, &st, now)
	}
	if c.Try > 0 && st.Code == wire.OK {
		d.Route.Retries.Succeeded()
	}
}
