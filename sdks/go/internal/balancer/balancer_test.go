package balancer

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/octomesh/octomesh/sdks/go/internal/vectors"
)

type endpoint struct {
	Name  string
	W     int64 `json:"weight"`
	Open  int64 `json:"in_flight"`
	Until int64 `json:"ejected_until_ms"`
}

func (e *endpoint) Weight() int64       { return e.W }
func (e *endpoint) InFlight() int64     { return e.Open }
func (e *endpoint) EjectedUntil() int64 { return e.Until }

func TestTierVectors(t *testing.T) {
	type named struct {
		Instance
		Name string
	}
	type question struct {
		Lane, Zone string
		Instances  []named
	}
	vectors.Each(t, "balance.json", "tiers", func(t *testing.T, in question, out struct{ Tiers [][]string }) {
		var all []Instance
		for _, i := range in.Instances {
			all = append(all, i.Instance)
		}
		got := [][]string{}
		for _, tier := range Tiers(all, in.Lane, in.Zone) {
			var names []string
			for _, i := range tier {
				names = append(names, in.Instances[i].Name)
			}
			got = append(got, names)
		}
		if !slices.EqualFunc(got, out.Tiers, slices.Equal) {
			t.Fatal(got)
		}
	})
}

func TestPickVectors(t *testing.T) {
	type question struct {
		Tiers [][]*endpoint
		Skip  []string
		Now   int64 `json:"now_ms"`
		Draws []int64
	}
	vectors.Each(t, "balance.json", "pick", func(t *testing.T, in question, out struct {
		Picked string
		Below  []int64
	}) {
		var skip []*endpoint
		for _, tier := range in.Tiers {
			for _, e := range tier {
				if slices.Contains(in.Skip, e.Name) {
					skip = append(skip, e)
				}
			}
		}
		below := []int64{}
		got, ok := Pick(in.Tiers, skip, in.Now, func(n int64) int64 {
			below = append(below, n)
			if len(below) > len(in.Draws) || in.Draws[len(below)-1] >= n {
				t.Fatalf("draw %d is below %d", len(below), n)
			}
			return in.Draws[len(below)-1]
		})
		if ok != (out.Picked != "") || ok && got.Name != out.Picked || !slices.Equal(below, out.Below) {
			t.Fatalf("%v of draws below %v", got, below)
		}
	})
}

func TestEjectionVectors(t *testing.T) {
	vectors.Each(t, "balance.json", "ejection", func(t *testing.T, in struct{ Times int }, out struct{ MS int64 }) {
		if d := Ejection(in.Times); d != time.Duration(out.MS)*time.Millisecond {
			t.Fatal(d)
		}
	})
}

func TestCallsOneByOneFollowTheWeights(t *testing.T) {
	t.Parallel()
	all := [][]*endpoint{{{W: 300}, {W: 100}}}
	heavy := 0
	for range 20_000 {
		if e, _ := Pick(all, nil, 0, rand.Int64N); e == all[0][0] {
			heavy++
		}
	}
	if heavy < 14_500 || heavy > 15_500 {
		t.Fatalf("%d of 20000 went to the one with three quarters of the weight", heavy)
	}
}

func TestAPickTakesNoMemory(t *testing.T) {
	var tier []*endpoint
	for range 200 {
		tier = append(tier, &endpoint{W: 100})
	}
	all := [][]*endpoint{tier}
	if n := testing.AllocsPerRun(1000, func() { Pick(all, nil, 0, rand.Int64N) }); n != 0 {
		t.Errorf("%v allocations a pick", n)
	}
}
