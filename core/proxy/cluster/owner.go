package cluster

import "math"

// Owner returns the usable endpoint to which a hashed key belongs, by rendezvous hashing: of all, the one
// that scores highest with the key. So an endpoint that goes, or is not usable for a while, moves its own keys
// alone, and evenly; shares of keys have no error of a ring's points. The score depends on the instance's name
// alone, hence is the same in every proxy. The cost grows with the endpoints, by about 2 ns for each where
// weights are equal. Nil: no usable one but the one to avoid. The group must have been made with keys.
func (g *Group) Owner(hash uint32, now int64, avoid *Endpoint) *Endpoint {
	if g.slots != nil {
		return g.weightedOwner(hash, now, avoid)
	}
	var best *Endpoint
	var highest uint64
	for i, seed := range g.seeds {
		s := mix(seed, hash)
		if (best == nil || s > highest) && g.mayOwn(i, now, avoid) {
			best, highest = g.Endpoints[i], s
		}
	}
	return best
}

// weightedOwner scores with weight / -ln(x), x being even in (0, 1): the highest is each one's with a chance
// that is its share of the weights.
func (g *Group) weightedOwner(hash uint32, now int64, avoid *Endpoint) *Endpoint {
	var best *Endpoint
	highest := 0.0
	for i, seed := range g.seeds {
		x := (float64(mix(seed, hash)>>11) + 0.5) / (1 << 53)
		s := float64(g.Endpoints[i].Weight) / -math.Log(x)
		if (best == nil || s > highest) && g.mayOwn(i, now, avoid) {
			best, highest = g.Endpoints[i], s
		}
	}
	return best
}

func (g *Group) mayOwn(i int, now int64, avoid *Endpoint) bool {
	return g.Endpoints[i] != avoid && g.Usable(g.Endpoints[i], now)
}

// mix is splitmix64's last step over both.
func mix(seed uint64, hash uint32) uint64 {
	x := seed ^ uint64(hash)*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
