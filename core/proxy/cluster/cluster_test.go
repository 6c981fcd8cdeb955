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
