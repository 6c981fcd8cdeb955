package octomesh

import (
	"context"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/octomesh/octomesh/core/wire"
	"github.com/octomesh/octomesh/sdks/go/internal/balancer"
)

// instance is one that can be called direct: its balancer.Instance, and who it must show itself to be.
type instance struct {
	balancer.Instance
	identity string // a SPIFFE id; empty: as the channel has it
}

// instanceKey is what makes connections to an instance interchangeable.
type instanceKey struct{ address, identity string }

// pool spreads calls over the instances of one target (S-DIRECT). Nothing else: governance is the proxy's.
type pool struct {
	cfg     *config
	current atomic.Pointer[lanes]

	mu     sync.Mutex
	peers  map[instanceKey]*peer
	left   map[*peer]struct{} // those that are no instance any more, and have calls
	leaves sync.WaitGroup
	closed bool
}

// lanes are the instances that calls of each lane go to, the nearest first; those of "" are the baseline's.
type lanes map[string][][]*peer

func (l lanes) of(lane string) [][]*peer {
	if tiers, ok := l[lane]; ok {
		return tiers
	}
	return l[""]
}

func newPool(cfg *config) *pool {
	d := &pool{cfg: cfg, peers: make(map[instanceKey]*peer), left: make(map[*peer]struct{})}
	d.current.Store(&lanes{})
	return d
}

// fixedPool is one of the endpoints that an option has given.
func fixedPool(cfg *config, endpoints []Endpoint) *pool {
	d := newPool(cfg)
	all := make([]instance, len(endpoints))
	for i, e := range endpoints {
		all[i].Instance = balancer.Instance{Address: e.Address, Weight: e.Weight, Healthy: true}
	}
	d.update(all)
	return d
}

// update makes the pool's instances those that are given. What is open to others goes on.
func (d *pool) update(all []instance) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	plain := make([]balancer.Instance, len(all))
	at := make([]*peer, len(all))
	named := map[string]bool{"": true}
	keep := make(map[instanceKey]*peer, len(all))
	for i := range all {
		plain[i] = all[i].Instance
		if !plain[i].Callable() {
			continue
		}
		key := instanceKey{all[i].Address, all[i].identity}
		p := keep[key]
		if p == nil {
			p = d.peers[key]
		}
		if p == nil {
			p = d.newPeer(&all[i])
		}
		if p == nil {
			plain[i].Healthy = false // nobody here can call it
			continue
		}
		p.weight.Store(int64(all[i].Weight))
		keep[key], at[i] = p, p
		named[plain[i].Lane] = true
	}
	next := make(lanes, len(named))
	for lane := range named {
		var tiers [][]*peer
		for _, tier := range balancer.Tiers(plain, lane, d.cfg.zone) {
			peers := make([]*peer, len(tier))
			for i, n := range tier {
				peers[i] = at[n]
			}
			tiers = append(tiers, peers)
		}
		next[lane] = tiers
	}
	d.current.Store(&next)
	for key, p := range d.peers {
		if keep[key] == nil {
			d.drop(p)
		}
	}
	d.peers = keep
}

// newPeer returns nil where the instance cannot be called from here.
func (d *pool) newPeer(i *instance) *peer {
	network, at, err := splitAddress(i.Address)
	if err != nil {
		d.cfg.log.Warn("octomesh: an instance has an address that nobody can call", "error", err)
		return nil
	}
	connect, err := d.cfg.secure.dialer(dialer(network, at), i.identity)
	if err != nil {
		d.cfg.log.Warn("octomesh: an instance cannot be called direct", "address", i.Address, "error", err)
		return nil
	}
	hello := func() wire.Hello { return d.cfg.hello(wire.RoleCall) }
	return newPeer(Endpoint{i.Address, i.Weight}, d.cfg.limits, hello, connect)
}

// drop lets a peer go. The lock must be held.
func (d *pool) drop(p *peer) {
	d.left[p] = struct{}{}
	d.leaves.Go(func() {
		p.leave()
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.left, p)
	})
}

// open tells whether there is an instance to call.
func (d *pool) open() bool {
	for _, tiers := range *d.current.Load() {
		if len(tiers) > 0 {
			return true
		}
	}
	return false
}

// count is the number of instances that can be called.
func (d *pool) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.peers)
}

// maxPicks bounds how many instances a call tries to dial.
const maxPicks = 3

func (d *pool) pick(c *clientCall) (*link, *peer, *Error) {
	var tried []*peer // that this call found closed: an ejection may have ended meanwhile
	for {
		tiers := d.current.Load().of(c.lane())
		n := 0
		for _, tier := range tiers {
			n += len(tier)
		}
		if n == 0 {
			return nil, nil, unsent(wire.ReasonNoEndpoint, "no instance of %s can be called direct", c.ch.target)
		}
		p, ok := balancer.Pick(tiers, tried, time.Now().UnixNano(), rand.Int64N)
		if !ok { // the others have gone meanwhile
			tried = tried[:0]
			continue
		}
		if n > 1 && p.usable() == nil && !p.connecting() && !mayConnect(tiers) {
			p = instead(tiers, tried, p)
		}
		l, err := p.get(c, n == 1 && c.opt.waitForReady)
		if err == nil || c.expired() {
			return l, p, err
		}
		if p.dropped.Load() {
			continue
		}
		if tried = append(tried, p); len(tried) < min(maxPicks, n) {
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

// mayConnect tells whether a call may begin a connection: where its target has none, always (S-DIRECT-7).
func mayConnect(tiers [][]*peer) bool {
	for _, tier := range tiers {
		for _, p := range tier {
			if p.usable() != nil || p.connecting() {
				return process.connects.take(time.Now(), rand.Float64())
			}
		}
	}
	return true
}

// instead chooses among those that are connected, else one that is being connected.
func instead(tiers [][]*peer, tried []*peer, p *peer) *peer {
	var connected [][]*peer
	for _, tier := range tiers {
		connected = append(connected, slices.DeleteFunc(slices.Clone(tier), func(p *peer) bool { return p.usable() == nil || slices.Contains(tried, p) }))
	}
	if q, ok := balancer.Pick(connected, nil, time.Now().UnixNano(), rand.Int64N); ok {
		return q
	}
	for _, tier := range tiers {
		for _, q := range tier {
			if q.connecting() && !slices.Contains(tried, q) {
				return q
			}
		}
	}
	return p
}

func (d *pool) ready(w waiter) *Error {
	for {
		d.mu.Lock()
		peers := slices.Collect(maps.Values(d.peers))
		d.mu.Unlock()
		if len(peers) == 0 {
			return unsent(wire.ReasonNoEndpoint, "no instance can be called direct")
		}
		for _, p := range peers {
			if _, err := p.get(w, len(peers) == 1); err == nil || err.Reason != ReasonProxyUnreachable {
				return err
			}
		}
		if err := sleep(w, firstBackoff); err != nil {
			return err
		}
	}
}

func (d *pool) close() {
	d.mu.Lock()
	d.closed = true
	all := slices.AppendSeq(slices.Collect(maps.Values(d.peers)), maps.Keys(d.left))
	d.mu.Unlock()
	for _, p := range all {
		p.close()
	}
	d.leaves.Wait()
}

// connects bounds how many direct connections a process begins a second (S-DIRECT-7).
type connects struct {
	mu   sync.Mutex
	left int
	next time.Time // when there is one more
}

const (
	connectsAtOnce = 20
	connectPause   = 50 * time.Millisecond
)

// take takes a turn, if there is one. random is in [0, 1).
func (c *connects) take(now time.Time, random float64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	pause := func() time.Duration { return connectPause/2 + time.Duration(random*float64(connectPause)) }
	if idle := now.Sub(c.next); c.next.IsZero() || idle > connectsAtOnce*connectPause {
		c.left, c.next = connectsAtOnce, now.Add(pause())
	}
	for c.left < connectsAtOnce && !now.Before(c.next) {
		c.left++
		c.next = c.next.Add(pause())
	}
	if c.left == 0 {
		return false
	}
	if c.left == connectsAtOnce {
		c.next = now.Add(pause())
	}
	c.left--
	return true
}

// inProcessPool has one peer, which connect reaches.
func inProcessPool(cfg *config, connect func(context.Context) (net.Conn, error)) *pool {
	d := newPool(cfg)
	hello := func() wire.Hello { return cfg.hello(wire.RoleCall) }
	p := newPeer(Endpoint{"in process", 1}, cfg.limits, hello, connect)
	d.peers[instanceKey{address: p.address}] = p
	d.current.Store(&lanes{"": {{p}}})
	return d
}
