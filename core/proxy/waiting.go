package proxy

import (
	"math"
	"runtime/debug"

	"github.com/octomesh/octomesh/core/proxy/route"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/wire"
)

// MaxWaiting is the share of the process' memory, as GOMEMLIMIT has it, that may wait for peers and calls: the rest is for what
// passes through, for buffers that grow, and for garbage. 0: no limit is set.
func MaxWaiting() int64 {
	if n := debug.SetMemoryLimit(-1); n != math.MaxInt64 {
		return n / 4
	}
	return 0
}

// Waiting tells how much waits in the proxy.
func (p *Proxy) Waiting() session.Load { return p.waiting.Load() }

// full refuses a call that begins while much waits in the proxy.
func (p *Proxy) full(c *session.Call, d route.Direction) bool {
	if !p.waiting.Refuses() {
		return false
	}
	c.Refuse(wire.Refuse(wire.ReasonOverloaded, d.Origin(), "too much waits in the proxy"))
	return true
}
