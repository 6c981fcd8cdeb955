package balancer_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/proxy/balancer"
	"github.com/octomesh/octomesh/core/proxy/cluster"
)

// split counts where calls go that come one by one.
func split(b balancer.Balancer, c *cluster.Cluster, calls int, r balancer.Request) map[string]int {
	got := map[string]int{}
	for range calls {
		got[balancer.Choose(b, c.Groups(nil), r).Instance]++
	}
	return got
}

func TestRoundRobinSplitsByWeight(t *testing.T) {
	for _, weights := range [][]uint32{{1, 1}, {100, 100, 100}, {1, 2, 3, 4}, {90, 10}, {1_000_000, 500_000}, {5, 1, 1}} {
		c := ruled(cluster.Rules{Turns: true}, weights...)
		var total float64
		for i, w := range weights {
			total += float64(w)
			c.Endpoints[i].Open.Store(int64(1000 * i)) // load does not matter
		}
		got := split(balancer.RoundRobin{}, c, 10_000, balancer.Request{Now: 1})
		for i, w := range weights {
			if want := 10_000 * float64(w) / total; math.Abs(float64(got[fmt.Sprint(i)])-want) > 2 {
				t.Errorf("%v: endpoint %d got %d of 10,000, want %.0f", weights, i, got[fmt.Sprint(i)], want)
			}
		}
	}
}

func TestRoundRobinIsSmooth(t *testing.T) {
	c := ruled(cluster.Rules{Turns: true}, 5, 1, 1)
	run, longest := 0, 0
	for range 700 {
		if balancer.Choose(balancer.RoundRobin{}, c.Groups(nil), balancer.Request{Now: 1}).Instance != "0" {
			run = 0
			continue
		}
		run++
		longest = max(longest, run)
	}
	if longest > 5 {
		t.Errorf("%d calls in a row went to one of three", longest)
	}
}

func TestRoundRobinSkipsWhoIsNotUsable(t *testing.T) {
	c := ruled(cluster.Rules{Turns: true}, 2, 1, 1)
	c.Endpoints[0].Peer.(*peer).ready = false
	got := split(balancer.RoundRobin{}, c, 1000, balancer.Request{Now: 1})
	if got["0"] != 0 || math.Abs(float64(got["1"]-500)) > 2 {
		t.Errorf("split %v", got)
	}
	got = split(balancer.RoundRobin{}, c, 1000, balancer.Request{Now: 1, Avoid: c.Endpoints[1]})
	if got["2"] != 1000 {
		t.Errorf("split with one to avoid: %v", got)
	}
	for _, e := range c.Endpoints {
		e.Peer.(*peer).ready = false
	}
	if got = split(balancer.RoundRobin{}, c, 1000, balancer.Request{Now: 1}); len(got) != 3 {
		t.Errorf("with nobody ready somebody has to dial: %v", got)
	}
}

// owners maps 10,000 keys to instances.
func owners(c *cluster.Cluster) []string {
	out := make([]string, 10_000)
	for i := range out {
		out[i] = balancer.Choose(balancer.RingHash{}, c.Groups(nil), balancer.Request{HashKey: fmt.Append(nil, "user-", i), Now: 1}).Instance
	}
	return out
}

func TestKeysSpreadByWeight(t *testing.T) {
	for _, weights := range [][]uint32{{1, 1, 1}, {100, 100, 100, 100, 100, 100, 100, 100, 100, 100}, {100, 200, 300, 400}} {
		var total float64
		for _, w := range weights {
			total += float64(w)
		}
		got := map[string]int{}
		for _, o := range owners(ruled(cluster.Rules{Keys: true}, weights...)) {
			got[o]++
		}
		for i, w := range weights {
			want := 10_000 * float64(w) / total
			if off := float64(got[fmt.Sprint(i)])/want - 1; math.Abs(off) > 0.1 {
				t.Errorf("%v: endpoint %d has %d keys, want %.0f: %+.1f %%", weights, i, got[fmt.Sprint(i)], want, 100*off)
			}
		}
	}
}

func TestOnlyTheKeysOfWhoGoesMove(t *testing.T) {
	for _, weights := range [][]uint32{{100, 100, 100, 100, 100}, {100, 50, 300, 100, 200}} {
		before := owners(ruled(cluster.Rules{Keys: true}, weights...))
		weights[1] = 0 // endpoint 1 goes
		after := owners(ruled(cluster.Rules{Keys: true}, weights...))
		taken := map[string]int{}
		for i := range before {
			switch {
			case before[i] == "1":
				taken[after[i]]++
			case before[i] != after[i]:
				t.Fatalf("key %d moved from %s to %s", i, before[i], after[i])
			}
		}
		if len(taken) != 4 || taken["1"] != 0 {
			t.Errorf("its keys went to %v", taken)
		}
	}
}

func TestAKeyWaitsElsewhereWhileItsEndpointIsNotUsable(t *testing.T) {
	c := ruled(cluster.Rules{Keys: true}, 100, 100, 100)
	before := owners(c)
	c.Endpoints[2].Peer.(*peer).ready = false
	for i, o := range owners(c) {
		if o == "2" || before[i] != "2" && o != before[i] {
			t.Fatalf("key %d moved from %s to %s", i, before[i], o)
		}
	}
	c.Endpoints[2].Peer.(*peer).ready = true
	if fmt.Sprint(owners(c)) != fmt.Sprint(before) {
		t.Error("keys did not come back")
	}
}

func TestWithoutAKeyRingHashIsPowerOfTwo(t *testing.T) {
	c := ruled(cluster.Rules{Keys: true}, 300, 100)
	got := split(balancer.RingHash{}, c, 10_000, balancer.Request{Now: 1})
	if math.Abs(float64(got["0"])-7500) > 200 {
		t.Errorf("split %v, want 3 to 1", got)
	}
}

// zoned makes endpoints in the zones; "!" makes a backup.
func zoned(rules cluster.Rules, zones ...string) *cluster.Cluster {
	var all []*cluster.Endpoint
	for i, z := range zones {
		backup := z[len(z)-1] == '!'
		if backup {
			z = z[:len(z)-1]
		}
		all = append(all, &cluster.Endpoint{
			Target: "t", Instance: fmt.Sprint(i), MeshAddress: "h:1", Weight: 100, Zone: z, Backup: backup,
			Peer: &peer{true}, State: &cluster.State{},
		})
	}
	return cluster.New("t", nil, all, rules)
}

func TestNearestUsableEndpointsGoFirst(t *testing.T) {
	near := cluster.Rules{Zone: "a", MaxOpen: 10, Ejects: true}
	zones := []string{"a", "a", "b", "c", "a!", "b!"}
	for _, c := range []struct {
		name            string
		rules           cluster.Rules
		down, full, out string // instances
		want            string
	}{
		{"all is well", near, "", "", "", "01"},
		{"one of the zone is down", near, "0", "", "", "1"},
		{"the zone is down", near, "01", "", "", "23"},
		{"the zone has no capacity", near, "", "01", "", "23"},
		{"the zone is ejected", near, "", "", "01", "23"},
		{"one each", near, "0", "1", "2", "3"},
		{"only backups", near, "01", "2", "3", "4"},
		{"only far backups", near, "014", "2", "3", "5"},
		{"nobody is usable", near, "014", "235", "", "01"},
		{"nobody is usable, the zone is ejected", near, "", "2345", "01", "23"},
		{"all ejected", near, "", "", "012345", "01"},
		{"zones do not matter", cluster.Rules{}, "", "", "", "0123"},
		{"zones do not matter, only backups", cluster.Rules{}, "0123", "", "", "45"},
		{"another zone is ours", cluster.Rules{Zone: "d"}, "", "", "", "0123"},
	} {
		made := zoned(c.rules, zones...)
		for _, i := range c.down {
			made.Endpoints[i-'0'].Peer.(*peer).ready = false
		}
		for _, i := range c.full {
			made.Endpoints[i-'0'].Open.Store(10)
		}
		for _, i := range c.out {
			made.Endpoints[i-'0'].Eject(1, 100, 100)
		}
		got := split(balancer.PowerOfTwo{}, made, 2000, balancer.Request{Now: 50})
		want := map[string]bool{}
		for _, i := range c.want {
			want[string(i)] = true
		}
		for i, n := range got {
			if !want[i] || n == 0 {
				t.Errorf("%s: %s got %d calls, want calls for %s only", c.name, i, n, c.want)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: calls went to %v, want %s", c.name, got, c.want)
		}
	}
}

func TestSlowStartRampsTheShare(t *testing.T) {
	const window = int64(10 * time.Second)
	for name, b := range map[string]balancer.Balancer{"power of two": balancer.PowerOfTwo{}, "turns": balancer.RoundRobin{}} {
		for _, c := range []struct {
			age  int64 // of endpoint 0, in percent of the window
			want float64
		}{{0, 0.1 / 1.1}, {50, 0.55 / 1.55}, {100, 0.5}} {
			made := ruled(cluster.Rules{SlowStart: time.Duration(window), Initial: 100, Turns: true}, 100, 100)
			g := made.Groups(nil)[0]
			begin := 100 * window
			g.Share(made.Endpoints[1], 1)
			g.Share(made.Endpoints[0], begin)
			got := split(b, made, 20_000, balancer.Request{Now: begin + c.age*window/100})
			if share := float64(got["0"]) / 20_000; math.Abs(share-c.want) > 0.02 {
				t.Errorf("%s at %d %%: share %.3f, want %.3f", name, c.age, share, c.want)
			}
		}
	}
}

func TestAnEjectedEndpointGetsNothingAndReturnsSlowly(t *testing.T) {
	made := ruled(cluster.Rules{SlowStart: time.Second, Initial: 100, Ejects: true}, 100, 100)
	g := made.Groups(nil)[0]
	for _, e := range made.Endpoints {
		g.Share(e, 1)
	}
	second := int64(time.Second)
	until := made.Endpoints[0].Eject(5*second, 10*second, 10*second)
	for _, c := range []struct {
		at   int64
		want float64
	}{{6 * second, 0}, {until - 1, 0}, {until, 0.1 / 1.1}, {until + second, 0.5}} {
		got := split(balancer.PowerOfTwo{}, made, 20_000, balancer.Request{Now: c.at})
		if share := float64(got["0"]) / 20_000; math.Abs(share-c.want) > 0.02 || c.want == 0 && share > 0 {
			t.Errorf("at %v: share %.3f, want %.3f", time.Duration(c.at), share, c.want)
		}
	}
}

func TestChooseDoesNotAllocate(t *testing.T) {
	c := ruled(cluster.Rules{MaxOpen: 100, SlowStart: time.Second, Initial: 100, Ejects: true, Turns: true, Keys: true}, 100, 50, 1)
	key := []byte("key")
	for _, b := range []balancer.Balancer{balancer.PowerOfTwo{}, balancer.RoundRobin{}, balancer.RingHash{}} {
		if n := testing.AllocsPerRun(1000, func() {
			balancer.Choose(b, c.Groups(nil), balancer.Request{HashKey: key, Now: 5, Avoid: c.Endpoints[0]})
		}); n != 0 {
			t.Errorf("%T: %v allocations", b, n)
		}
	}
}

func BenchmarkChoose(b *testing.B) {
	all := cluster.Rules{MaxOpen: 100, SlowStart: time.Second, Initial: 100, Ejects: true}
	for _, n := range []int{3, 100, 1000} {
		weights := make([]uint32, n)
		for i := range weights {
			weights[i] = 100
		}
		for _, k := range []struct {
			name     string
			balancer balancer.Balancer
			rules    cluster.Rules
		}{
			{"power-of-two", balancer.PowerOfTwo{}, cluster.Rules{}}, {"power-of-two-all-rules", balancer.PowerOfTwo{}, all},
			{"round-robin", balancer.RoundRobin{}, cluster.Rules{Turns: true}}, {"ring-hash", balancer.RingHash{}, cluster.Rules{Keys: true}},
		} {
			c, key := ruled(k.rules, weights...), []byte("user-17")
			b.Run(fmt.Sprintf("%s/endpoints=%d", k.name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					balancer.Choose(k.balancer, c.Groups(nil), balancer.Request{HashKey: key, Now: 1})
				}
			})
		}
	}
}

// TestKeysSpreadAsEvenlyAsChanceAllows looks at many sets of instances and of keys. Whatever treats keys apart from each
// other spreads them by chance at best: with 10,000 keys an endpoint's share of a tenth has a standard deviation of 3 %, so
// that one in a thousand is off by more than 10 %. What a bad hash would add to that shows in the mean of the squares.
func TestKeysSpreadAsEvenlyAsChanceAllows(t *testing.T) {
	const keys, sets = 10_000, 60
	for _, weights := range [][]uint32{{1, 1, 1}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, {100, 200, 300, 400}, {1, 1, 1, 1, 16}} {
		var squares, worst, total float64
		for _, w := range weights {
			total += float64(w)
		}
		over := 0
		for set := range sets {
			var endpoints []*cluster.Endpoint
			for i, w := range weights {
				endpoints = append(endpoints, &cluster.Endpoint{
					Target: "t", Instance: fmt.Sprintf("host-%d.rack%d:%d", set*len(weights)+i, set%7, 7000+i), MeshAddress: "h:1", Weight: w, State: &cluster.State{},
				})
			}
			c := cluster.New("t", nil, endpoints, cluster.Rules{Keys: true})
			got := map[string]int{}
			for k := range keys {
				key := fmt.Appendf(nil, "%d/user-%d", set, k)
				got[balancer.Choose(balancer.RingHash{}, c.Groups(nil), balancer.Request{HashKey: key, Now: 1}).Instance]++
			}
			for _, e := range endpoints {
				p := float64(e.Weight) / total
				z := (float64(got[e.Instance]) - keys*p) / math.Sqrt(keys*p*(1-p))
				squares += z * z
				worst = max(worst, math.Abs(z))
				if math.Abs(float64(got[e.Instance])/(keys*p)-1) > 0.1 {
					over++
				}
			}
		}
		n := float64(sets * len(weights))
		t.Logf("%v: mean of squares %.2f, worst %.1f standard deviations, %d of %.0f shares off by more than 10 %%", weights, squares/n, worst, over, n)
		// The mean of n squares is 1 with a deviation of √(2/n), which the sum of shares being fixed makes no larger.
		if limit := 1 + 5*math.Sqrt(2/n); squares/n > limit {
			t.Errorf("%v: the mean of squares is %.2f, more than %.2f: worse than chance", weights, squares/n, limit)
		}
		if worst > 5 {
			t.Errorf("%v: a share is off by %.1f standard deviations", weights, worst)
		}
		if len(weights) <= 4 && over > 0 { // four standard deviations of the smallest share there
			t.Errorf("%v: %d shares of few endpoints are off by more than 10 %%", weights, over)
		}
	}
}
