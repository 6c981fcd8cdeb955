package proxy

import (
	"math/rand/v2"

	"github.com/octomesh/octomesh/core/proxy/policy"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/proxy/upstream"
	"github.com/octomesh/octomesh/core/wire"
)

// mirror sends a copy of the call elsewhere, if its route says so and nothing speaks against it. The call
// itself never waits for that.
func mirror(c *session.Call, head *wire.RequestHead) {
	m := c.Decision.Route.Mirror
	if m == nil || c.Mirrored || head.Shadow {
		return
	}
	c.Mirrored = true
	if m.Permille < 1000 && rand.Uint32N(1000) >= m.Permille {
		return
	}
	if !c.WholeRequest() {
		m.Copies.Skip(policy.CopyUnsuited)
		return
	}
	if !m.Copies.Begin(m.MaxOpen) {
		return
	}
	e := m.Pick(head, c.Request.Now)
	if e == nil {
		m.Copies.Drop(policy.CopyNoEndpoint)
		return
	}
	to, direct := e.Way(c.Request.Now)
	peer := to.(*upstream.Peer)
	s := peer.Session()
	if s == nil || !direct && !e.Expects(s.Peer().Identity) {
		peer.Wake()
		m.Copies.Drop(policy.CopyNotConnected)
		return
	}
	if !c.Copy(head, session.CopyTo{Session: s, Endpoint: e, Copies: m.Copies, Target: m.Cluster.Target, Timeout: m.Timeout}) {
		m.Copies.Drop(policy.CopyBusy)
		return
	}
	m.Copies.Sent()
}
