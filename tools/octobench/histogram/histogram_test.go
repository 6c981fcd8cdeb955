package histogram

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestEverySlotHoldsItsMiddle(t *testing.T) {
	for i := range buckets {
		if got := slot(middle(i)); got != i {
			t.Fatalf("slot %d has the middle %d, which falls into %d", i, middle(i), got)
		}
	}
}

func TestSlotsAreNarrow(t *testing.T) {
	for d := time.Duration(1); d < 10*time.Minute; d += d/7 + 1 {
		if got := middle(slot(d)); (got - d).Abs() > d/steps+1 {
			t.Fatalf("%d counts as %d", d, got)
		}
	}
}

func TestExtremesAreCounted(t *testing.T) {
	var r Recorder
	for _, d := range []time.Duration{-1, 0, 1 << 62} {
		r.Observe(d)
	}
	c := Counts{}
	r.AddTo(c)
	if c.Total() != 3 || c[0] != 2 || c[buckets-1] != 1 {
		t.Fatalf("got %v", c)
	}
}

func TestQuantilesAgreeWithSorting(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	parts := [2]Recorder{}
	var all []time.Duration
	for i := range 20_000 {
		d := time.Duration(random.ExpFloat64() * float64(100*time.Microsecond))
		parts[i%2].Observe(d)
		all = append(all, d)
	}
	slices.Sort(all)
	c := Counts{}
	for i := range parts {
		parts[i].AddTo(c)
	}
	for _, q := range []float64{0, 0.5, 0.99, 0.999, 1} {
		want := all[min(int(q*float64(len(all))), len(all)-1)]
		if got := c.Quantile(q); (got - want).Abs() > want/steps+1 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
}

func TestSinceLeavesOutWhatWasCountedBefore(t *testing.T) {
	var r Recorder
	r.Observe(5)
	r.Observe(7)
	before := Counts{}
	r.AddTo(before)
	r.Observe(7)
	after := Counts{}
	r.AddTo(after)
	if got := after.Since(before); len(got) != 1 || got[7] != 1 {
		t.Fatalf("got %v", got)
	}
	before.Add(after.Since(before))
	if before.Total() != after.Total() {
		t.Fatal("the parts are not the whole")
	}
	if (Counts{}).Quantile(0.5) != 0 {
		t.Fatal("a median of nothing")
	}
}

func TestObserveAllocatesNothing(t *testing.T) {
	var r Recorder
	if n := testing.AllocsPerRun(100, func() { r.Observe(time.Millisecond) }); n > 0 {
		t.Fatalf("%v allocations", n)
	}
}
