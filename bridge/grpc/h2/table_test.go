package h2

import (
	"maps"
	"math/rand/v2"
	"testing"
)

// TestATableHoldsWhatAMapWould opens and closes streams in any order, more at once than the ring has places.
func TestATableHoldsWhatAMapWould(t *testing.T) {
	var table table
	open := make(map[uint32]*Stream)
	var ids []uint32
	r := rand.New(rand.NewPCG(1, 2))
	for id := uint32(1); id < 20_000; id += 2 {
		s := &Stream{ID: id}
		table.put(s)
		open[id] = s
		ids = append(ids, id)
		for len(ids) > 0 && r.IntN(3*ringSize) < len(ids) {
			i := r.IntN(len(ids))
			gone := ids[i]
			ids[i] = ids[len(ids)-1]
			ids = ids[:len(ids)-1]
			table.remove(open[gone])
			table.remove(open[gone]) // it counts once
			delete(open, gone)
			if table.get(gone) != nil {
				t.Fatalf("%d is still there", gone)
			}
		}
		for _, one := range ids {
			if table.get(one) != open[one] {
				t.Fatalf("%d is not found", one)
			}
		}
		all := make(map[uint32]*Stream)
		for s := range table.all() {
			all[s.ID] = s
		}
		if table.n != len(open) || !maps.Equal(all, open) {
			t.Fatalf("%d are listed and %d counted of %d", len(all), table.n, len(open))
		}
	}
	if len(table.spill) == 0 {
		t.Error("the ring was never full")
	}
}
