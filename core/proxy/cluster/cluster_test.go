package cluster_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/octomesh/octomesh/core/proxy/cluster"
)

func endpoint(instance string, weight uint32, tags map[string]string) *cluster.Endpoint {
	return &cluster.Endpoint{
		Target: "shop.cart", Instance: instance, MeshAddress: "h:1", Weight: weight, Tags: tags, State: &cluster.State{},
	}
}

func TestClusterHoldsWhatIsInRotationAndInTheSubset(t *testing.T) {
	v1, v2 := map[string]string{"version": "1", "disk": "ssd"}, map[string]string{"version": "2"}
	off, apart := endpoint("off", 100, v1), endpoint("apart", 100, v1)
	off.Disabled, apart.MeshAddress = true, ""
	all := []*cluster.Endpoint{endpoint("a", 100, v1), endpoint("b", 1, v2), endpoint("c", 0, v1), off, apart, endpoint("d", 5, v1)}
	for _, c := range []struct {
		subset map[string]string
		want   string
		name   string
		known  int
	}{
		{nil, "abd", "shop.cart", 6},
		{map[string]string{"version": "1"}, "ad", "shop.cart{version=1}", 5},
		{map[string]string{"version": "1", "disk": "ssd"}, "ad", "shop.cart{disk=ssd,version=1}", 5},
		{map[string]string{"version": "1", "disk": "hdd"}, "", "shop.cart{disk=hdd,version=1}", 0},
		{map[string]string{"zone": ""}, "", "shop.cart{zone=}", 0},
	} {
		got := ""
		made := cluster.New("shop.cart", c.subset, all, cluster.Rules{})
		for _, e := range made.Endpoints {
			got += e.Instance
		}
		if got != c.want || made.Name != c.name || made.Known != c.known {
			t.Errorf("%v: %s holds %q of %d, want %s with %q of %d", c.subset, made.Name, got, made.Known, c.name, c.want, c.known)
		}
	}
}

func TestSampleFollowsWeights(t *testing.T) {
	for _, weights := range [][]uint32{{1}, {7, 7, 7}, {1, 2}, {100, 1, 50, 50}, {1, 1_000_000}, {3, 3, 3, 91}, {5, 4, 3, 2, 1, 1, 1, 1}} {
		var all []*cluster.Endpoint
		var total float64
		for _, w := range weights {
			all = append(all, endpoint("e", w, nil))
			total += float64(w)
		}
		c := cluster.New("t", nil, all, cluster.Rules{}).Groups(nil)[0]
		random, got := rand.New(rand.NewPCG(1, 2)), make([]float64, len(weights))
		const draws = 200_000
		for range draws {
			got[c.Sample(random.Uint64())]++
		}
		for i, w := range weights {
			if share := float64(w) / total; math.Abs(got[i]/draws-share) > 0.005 {
				t.Errorf("%v: endpoint %d got %.4f, want %.4f", weights, i, got[i]/draws, share)
			}
		}
	}
}

// at is a peer in some state.
type at struct{ ready, answers bool }

func (at) Address() string { return "h:1" }
func (p at) Ready() bool   { return p.ready }
func (p at) Answers() bool { return p.answers }

func TestWayGoesAroundAProxyThatDoesNotAnswer(t *testing.T) {
	well, resting, due, silent := at{true, true}, at{false, false}, at{true, false}, at{false, false}
	for name, c := range map[string]struct {
		proxy, own    cluster.Peer
		passedBy      bool
		direct, ready bool
	}{
		"both answer":                           {well, well, false, false, true},
		"the proxy's dial has failed":           {resting, well, false, true, true},
		"and may be tried again":                {due, well, false, true, true},
		"the proxy is silent":                   {silent, well, false, true, true},
		"the instance itself does not answer":   {well, resting, false, false, true},
		"neither does":                          {resting, resting, false, false, false},
		"the proxy cannot reach it":             {well, well, true, true, true},
		"nor is there another way":              {well, resting, true, false, true},
		"there is no proxy":                     {nil, well, false, true, true},
		"there is no proxy, and it is not well": {nil, resting, false, true, false},
		"it may not be called itself":           {resting, nil, false, false, false},
	} {
		e := &cluster.Endpoint{Peer: c.proxy, Direct: c.own, State: &cluster.State{}}
		if c.passedBy {
			e.PassBy(100)
		}
		way, direct := e.Way(50)
		if direct != c.direct || direct && way != c.own || !direct && way != c.proxy || e.Ready() != c.ready {
			t.Errorf("%s: direct %v, ready %v", name, direct, e.Ready())
		}
		if _, later := e.Way(100); c.passedBy && later {
			t.Errorf("%s: still passed by when the time is over", name)
		}
	}
}
