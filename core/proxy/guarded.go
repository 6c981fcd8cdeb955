package proxy

import (
	"context"
	"time"

	"github.com/octomesh/octomesh/core/proxy/cluster"
	"github.com/octomesh/octomesh/core/proxy/control"
	"github.com/octomesh/octomesh/core/proxy/route"
	"github.com/octomesh/octomesh/core/proxy/upstream"
	"github.com/octomesh/octomesh/core/wire"
)

// guarded is a source that keeps endpoints in rotation which may be gone, and leaves targets that nobody calls: the control
// plane. It wants to know what only the data path can tell.
type guarded interface {
	Held() []control.Held
	Drop(target, why string, instances ...string) int
	Uses(func(target string) (calls uint64, attached bool))
}

// judgeEvery is how often held endpoints are looked at.
const judgeEvery = time.Second

// judge drops held endpoints that have proved dead: at whose address nobody listens, or whose calls fail so that they are
// ejected. That an address does not answer at all proves nothing: it may be this host that is cut off.
func (p *Proxy) judge(ctx context.Context, source guarded) {
	tick := time.NewTicker(judgeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		table := p.store.Current().Table
		for _, h := range source.Held() {
			e := table.Endpoint(h.Target, h.Instance)
			if e == nil || !e.InRotation() {
				continue
			}
			if e.Ejected(p.clock.Now()) {
				source.Drop(h.Target, "calls to it fail", h.Instance)
			} else if deserted(e.Peer) && deserted(e.Direct) {
				source.Drop(h.Target, "nobody listens at "+where(e), h.Instance)
			}
		}
	}
}

// deserted tells whether nobody listens at an endpoint's address, or it has none of that kind.
func deserted(peer cluster.Peer) bool {
	p, ok := peer.(*upstream.Peer)
	return !ok || p.Deserted()
}

// useOf tells how often a target was called, in either direction, and whether an instance of it is attached here.
func (p *Proxy) useOf(target string) (calls uint64, attached bool) {
	table := p.store.Current().Table
	for _, d := range []route.Direction{route.Outbound, route.Inbound} {
		t := table.Target(d, target)
		if t == nil {
			continue
		}
		for _, routes := range [][]*route.Route{t.Routes, t.Former} {
			for _, r := range routes {
				calls += uint64(r.Calls.Open())
				for code := range int32(wire.Unauthenticated) + 1 {
					calls += r.Calls.Ended(code)
				}
			}
		}
	}
	return calls, p.attached.has([]byte(target)) || p.local.targets.Watched(target)
}
