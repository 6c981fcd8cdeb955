package cluster

// slot is a column of Vose's alias table: a draw that falls into the column takes the column's own
// endpoint if its low half is at most keep, else the other one.
type slot struct {
	keep  uint32
	other uint32
}

// weigh builds the table by which Sample draws in constant time whatever the weights. It returns nil
// where all weights are equal.
func weigh(endpoints []*Endpoint) []slot {
	var total uint64
	equal := true
	for _, e := range endpoints {
		total += uint64(e.Weight)
		equal = equal && e.Weight == endpoints[0].Weight
	}
	if equal {
		return nil
	}
	// Each column holds total/n; in units of 1/n every endpoint has weight*n and every column total.
	n := uint64(len(endpoints))
	left := make([]uint64, n)
	small, large := make([]uint32, 0, n), make([]uint32, 0, n)
	for i, e := range endpoints {
		left[i] = uint64(e.Weight) * n
		if left[i] < total {
			small = append(small, uint32(i))
		} else {
			large = append(large, uint32(i))
		}
	}
	slots := make([]slot, n)
	for len(small) > 0 && len(large) > 0 {
		s, l := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		slots[s] = slot{keep: share(left[s], total), other: l}
		left[l] -= total - left[s]
		if left[l] < total {
			large = large[:len(large)-1]
			small = append(small, l)
		}
	}
	for _, rest := range [][]uint32{small, large} {
		for _, i := range rest {
			slots[i] = slot{keep: 1<<32 - 1, other: i}
		}
	}
	return slots
}

// share returns part/total of 2^32, less one.
func share(part, total uint64) uint32 {
	return uint32(float64(part) / float64(total) * (1<<32 - 1))
}

// Sample maps 64 random bits to the index of an endpoint: with equal chances for equal weights, and in
// proportion to them otherwise. The group is never empty.
func (g *Group) Sample(random uint64) int {
	i := int((random >> 32) * uint64(len(g.Endpoints)) >> 32)
	if g.slots == nil || uint32(random) <= g.slots[i].keep {
		return i
	}
	return int(g.slots[i].other)
}
