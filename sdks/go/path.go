package octomesh

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/octomesh/octomesh/core/wire"
)

// meshPath sends all calls to the local proxy.
type meshPath struct {
	key  peerKey
	peer *peer
}

func newMeshPath(cfg *config) *meshPath {
	m := &meshPath{key: peerKey{cfg.socket, cfg.environment, cfg.application, cfg.instance, cfg.limits}}
	m.peer = process.share(m.key, func() *peer {
		hello := func() wire.Hello { return cfg.hello(wire.RoleCall) }
		p := newPeer(Endpoint{"unix:" + cfg.socket, 1}, cfg.limits, hello, dialer("unix", cfg.socket))
		p.patience = proxyPatience
		return p
	})
	return m
}

func (m *meshPath) pick(c *clientCall) (*link, *peer, *Error) {
	l, err := m.peer.get(c, c.opt.waitForReady)
	return l, m.peer, err
}

func (m *meshPath) ready(w waiter) *Error {
	_, err := m.peer.get(w, true)
	return err
}

func (m *meshPath) close() { process.unshare(m.key) }

// directPath spreads calls over static endpoints: power of two choices on calls in flight over weight,
// leaving out for a while what could not be reached. Nothing else: governance is the proxy's.
type directPath struct {
	peers []*peer // those of a weight above 0
}

func newDirectPath(cfg *config) *directPath {
	d := &directPath{}
	hello := func() wire.Hello { return cfg.hello(wire.RoleCall) }
	for _, e := range cfg.direct {
		if e.Weight > 0 {
			network, at, _ := splitAddress(e.Address) // checked when the option was given
			d.peers = append(d.peers, newPeer(e, cfg.limits, hello, cfg.secure.dialer(dialer(network, at))))
		}
	}
	return d
}

// maxPicks bounds how many endpoints a call tries to dial.
const maxPicks = 3

func (d *directPath) pick(c *clientCall) (*link, *peer, *Error) {
	if len(d.peers) == 0 {
		return nil, nil, unsent(wire.ReasonNoEndpoint, "no endpoint of %s has a weight above 0", c.ch.target)
	}
	if len(d.peers) == 1 {
		p := d.peers[0]
		l, err := p.get(c, c.opt.waitForReady)
		return l, p, err
	}
	var tried []*peer // that this call found closed: an ejection may have ended meanwhile
	for {
		p := d.choose(time.Now().UnixNano(), tried)
		l, err := p.get(c, false)
		if err == nil || c.expired() {
			return l, p, err
		}
		if tried = append(tried, p); len(tried) < min(maxPicks, len(d.peers)) {
			continue
		}
		if !c.opt.waitForReady {
			return nil, nil, err
		}
		if err := sleep(c, firstBackoff); err != nil {
			return nil, nil, err
		}
		tried = tried[:0]
	}
}

// choose takes two at random of those that are not ejected, and the less loaded of them. If all are
// ejected it takes the one whose time is over first: better a dial too many than no call at all. Those that
// the call has tried, fewer than there are, are left out.
func (d *directPath) choose(now int64, tried []*peer) *peer {
	var open []*peer
	var stack [16]*peer
	open = stack[:0]
	var first *peer
	for _, p := range d.peers {
		if slices.Contains(tried, p) {
			continue
		}
		if p.ejected.Load() <= now {
			open = append(open, p)
		}
		if first == nil || p.ejected.Load() < first.ejected.Load() {
			first = p
		}
	}
	switch len(open) {
	case 0:
		return first
	case 1:
		return open[0]
	}
	i := drawByWeight(open)
	j := rand.IntN(len(open) - 1)
	if j >= i {
		j++
	}
	return lighter(open[i], open[j])
}

// drawByWeight draws one of several peers, all of a weight above 0.
func drawByWeight(open []*peer) int {
	total := 0
	for _, p := range open {
		total += p.weight
	}
	at := rand.IntN(total)
	for i, p := range open {
		if at -= p.weight; at < 0 {
			return i
		}
	}
	return len(open) - 1 // not reached
}

// lighter returns the peer with fewer calls in flight for its weight, this call counted. If both are idle
// the first, which was drawn by weight, takes the call: else calls that come one by one would all go to
// the heavier.
func lighter(a, b *peer) *peer {
	if a.inFlight.Load() == 0 && b.inFlight.Load() == 0 {
		return a
	}
	if (a.inFlight.Load()+1)*int64(b.weight) <= (b.inFlight.Load()+1)*int64(a.weight) {
		return a
	}
	return b
}

func (d *directPath) ready(w waiter) *Error {
	if len(d.peers) == 0 {
		return unsent(wire.ReasonNoEndpoint, "no endpoint has a weight above 0")
	}
	for {
		for _, p := range d.peers {
			if _, err := p.get(w, len(d.peers) == 1); err == nil || err.Reason != ReasonProxyUnreachable {
				return err
			}
		}
		if err := sleep(w, firstBackoff); err != nil {
			return err
		}
	}
}

func (d *directPath) close() {
	for _, p := range d.peers {
		p.close()
	}
}
