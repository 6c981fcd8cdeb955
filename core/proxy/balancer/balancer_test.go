package balancer_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/octomesh/octomesh/core/proxy/balancer"
	"github.com/octomesh/octomesh/core/proxy/cluster"
)

// peer is ready or not, as the test says.
type peer struct{ ready bool }

func (p *peer) Address() string { return "h:1" }
func (p *peer) Ready() bool     { return p.ready }
func (p *peer) Answers() bool   { return p.ready }

func newCluster(weights ...uint32) *cluster.Cluster { return ruled(cluster.Rules{}, weights...) }

// ruled makes a cluster whose endpoints are called "0", "1" and so on.
func ruled(rules cluster.Rules, weights ...uint32) *cluster.Cluster {
	var all []*cluster.Endpoint
	for i, w := range weights {
		all = append(all, &cluster.Endpoint{
			Target: "t", Instance: fmt.Sprint(i), MeshAddress: "h:1", Weight: w, Peer: &peer{true}, State: &cluster.State{},
		})
	}
	return cluster.New("t", nil, all, rules)
}

// pick is what a cluster's first lane gives by power of two choices.
func pick(c *cluster.Cluster, avoid *cluster.Endpoint) *cluster.Endpoint {
	return balancer.Choose(balancer.PowerOfTwo{}, c.Groups(nil), balancer.Request{Now: 1, Avoid: avoid})
}

const picks = 100_000

// shares picks many times; each call stays open until the next hold calls came after it.
func shares(c *cluster.Cluster, hold int, avoid *cluster.Endpoint) map[string]float64 {
	got, open := make(map[string]float64), make([]*cluster.Endpoint, 0, hold+1)
	for range picks {
		e := pick(c, avoid)
		got[e.Instance] += 1.0 / picks
		e.Open.Add(1)
		if open = append(open, e); len(open) > hold {
			open[0].Open.Add(-1)
			open = open[1:]
		}
	}
	return got
}

func TestPickSharesByWeight(t *testing.T) {
	for _, c := range []struct {
		weights []uint32
		hold    int // calls in flight
	}{
		{[]uint32{100, 100}, 0}, {[]uint32{100, 100, 100}, 50}, {[]uint32{200, 100}, 0}, {[]uint32{200, 100}, 60},
		{[]uint32{90, 10}, 0}, {[]uint32{90, 10}, 200}, {[]uint32{1, 2, 3, 4}, 0}, {[]uint32{1, 2, 3, 4}, 500},
	} {
		var total float64
		for _, w := range c.weights {
			total += float64(w)
		}
		got := shares(newCluster(c.weights...), c.hold, nil)
		for i, w := range c.weights {
			if want := float64(w) / total; math.Abs(got[fmt.Sprint(i)]-want) > 0.02 {
				t.Errorf("weights %v, %d in flight: endpoint %d got %.3f, want %.3f", c.weights, c.hold, i, got[fmt.Sprint(i)], want)
			}
		}
	}
}

func TestPickAvoidsLoad(t *testing.T) {
	c := newCluster(100, 100, 100)
	c.Endpoints[1].Open.Store(1000)
	if got := shares(c, 10, nil)["1"]; got != 0 {
		t.Errorf("the loaded endpoint got %.3f of the calls", got)
	}
	c = newCluster(300, 100)
	c.Endpoints[0].Open.Store(4) // 5/300 after this call, against 1/100: it is the freer one still
	c.Endpoints[1].Open.Store(1)
	if e := pick(c, nil); e.Instance != "0" {
		t.Errorf("picked %s: load must count by weight", e.Instance)
	}
}

func TestPickPrefersReadyPeers(t *testing.T) {
	c := newCluster(100, 100)
	c.Endpoints[0].Peer.(*peer).ready = false
	c.Endpoints[1].Open.Store(50)
	if got := shares(c, 0, nil)["0"]; got != 0 {
		t.Errorf("the unready endpoint got %.3f of the calls", got)
	}
	c.Endpoints[1].Peer.(*peer).ready = false
	if pick(c, nil) == nil {
		t.Error("with no ready endpoint there must be a pick still: somebody has to dial")
	}
}

// While most of a target's proxies are gone, two draws seldom meet one that is left.
func TestPickFindsTheOnlyReadyPeer(t *testing.T) {
	c := newCluster(100, 100, 100, 100, 100, 100)
	for _, e := range c.Endpoints[1:] {
		e.Peer.(*peer).ready = false
	}
	c.Endpoints[0].Open.Store(1000)
	if got := shares(c, 0, nil)["0"]; got < 0.999 {
		t.Errorf("the only ready endpoint got %.3f of the calls", got)
	}
	if got := shares(c, 0, c.Endpoints[0])["0"]; got != 0 {
		t.Errorf("the avoided endpoint got %.3f of the calls", got)
	}
}

func TestPickNeverTakesTheOneToAvoid(t *testing.T) {
	for _, weights := range [][]uint32{{100, 100}, {1_000_000, 1}, {1_000_000, 1, 1}, {1, 1, 1, 1}} {
		c := newCluster(weights...)
		got := shares(c, 3, c.Endpoints[0])
		if got["0"] != 0 {
			t.Errorf("%v: the avoided endpoint got %.3f", weights, got["0"])
		}
		for _, e := range c.Endpoints[1:] {
			if want := 1 / float64(len(weights)-1); math.Abs(got[e.Instance]-want) > 0.02 {
				t.Errorf("%v: %s got %.3f, want %.3f", weights, e.Instance, got[e.Instance], want)
			}
		}
	}
}

func TestPickOfNone(t *testing.T) {
	if e := pick(newCluster(), nil); e != nil {
		t.Errorf("an empty cluster gave %s", e.Instance)
	}
	one := newCluster(100)
	if e := pick(one, one.Endpoints[0]); e != nil {
		t.Error("the only endpoint was to be avoided")
	}
	if e := pick(one, nil); e != one.Endpoints[0] {
		t.Error("the only endpoint was not picked")
	}
}

func TestPickDoesNotAllocate(t *testing.T) {
	c := newCluster(100, 50, 1)
	if n := testing.AllocsPerRun(1000, func() { pick(c, nil); pick(c, c.Endpoints[0]) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkPick(b *testing.B) {
	for _, n := range []int{2, 100, 10_000} {
		for _, equal := range []bool{true, false} {
			weights := make([]uint32, n)
			for i := range weights {
				weights[i] = 100
				if !equal {
					weights[i] += uint32(i % 7)
				}
			}
			c := newCluster(weights...)
			b.Run(fmt.Sprintf("endpoints=%d/equal=%v", n, equal), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					pick(c, nil)
				}
			})
		}
	}
}

// TestSecondDrawIsEvenWhateverTheFirst holds the second draw, which uses the bits of the first again, to be
// independent of it: with every endpoint loaded alike but one, the loads decide, and any pair must come up.
func TestSecondDrawIsEvenWhateverTheFirst(t *testing.T) {
	for _, weights := range [][]uint32{{1, 1, 1, 1, 1}, {1, 2, 3, 4, 5}} {
		for idle := range weights {
			c := newCluster(weights...)
			var total float64
			for i, e := range c.Endpoints {
				e.Open.Store(1 << 40)
				if i == idle {
					e.Open.Store(0)
				}
				total += float64(weights[i])
			}
			// It is taken if it is drawn first, by its weight, or second, evenly if another one was first.
			p := float64(weights[idle]) / total
			want := p + (1-p)/float64(len(weights)-1)
			const n = 100_000
			got := 0
			for range n {
				if pick(c, nil) == c.Endpoints[idle] {
					got++
				}
			}
			if off := float64(got)/n - want; off < -0.01 || off > 0.01 { // six standard deviations
				t.Errorf("weights %v: the idle endpoint %d has a share of %.3f, want %.3f", weights, idle, float64(got)/n, want)
			}
		}
	}
}
