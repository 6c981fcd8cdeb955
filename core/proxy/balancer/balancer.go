// Package balancer chooses the endpoint of a call.
package balancer

import (
	"math/rand/v2"

	"github.com/octomesh/octomesh/core/proxy/cluster"
)

// Balancer chooses among the endpoints of a cluster. It keeps no state of a call, may be used by many
// goroutines at once and allocates nothing.
type Balancer interface {
	// Pick returns an endpoint, or nil if there is none. A call's hash key, if it has one, matters to
	// rings alone. The endpoint to avoid, or nil, is one that failed the call before: it is not chosen.
	Pick(c *cluster.Cluster, hashKey []byte, avoid *cluster.Endpoint) *cluster.Endpoint
}

// PowerOfTwo takes two endpoints at random and of them the one that has less to do for its weight.
type PowerOfTwo struct{}

// Pick implements [Balancer]; the hash key is not looked at.
func (PowerOfTwo) Pick(c *cluster.Cluster, _ []byte, avoid *cluster.Endpoint) *cluster.Endpoint {
	return Pick(c, avoid)
}

// draws bounds how often an endpoint to avoid is drawn again before its neighbour is taken.
const draws = 4

// Pick chooses by power of two choices: the first by weight, the second evenly among the others.
//
//   - One whose peer is ready goes before one whose peer is not; if neither is, the others are looked
//     through for one.
//   - If neither has a call in flight the first wins, so that calls that come one by one follow the
//     weights exactly.
//   - Otherwise the one with less (open+1)/weight, that is, with less to do after it took this call; at
//     a tie the first.
//
// It returns nil if the cluster has no endpoint, or only the one to avoid.
func Pick(c *cluster.Cluster, avoid *cluster.Endpoint) *cluster.Endpoint {
	n := len(c.Endpoints)
	switch {
	case n == 0:
		return nil
	case n == 1:
		if c.Endpoints[0] == avoid {
			return nil
		}
		return c.Endpoints[0]
	}
	i := first(c, avoid)
	a, b := c.Endpoints[i], second(c, i, avoid)
	if b == nil {
		return a
	}
	if ra, rb := a.Ready(), b.Ready(); ra != rb {
		if ra {
			return a
		}
		return b
	} else if !ra {
		if e := anyReady(c, avoid); e != nil {
			return e
		}
	}
	openA, openB := a.Open.Load(), b.Open.Load()
	if openA == 0 && openB == 0 {
		return a
	}
	if (openA+1)*int64(b.Weight) <= (openB+1)*int64(a.Weight) {
		return a
	}
	return b
}

// looks bounds how many endpoints are looked through for one whose peer is ready.
const looks = 128

// anyReady looks for an endpoint whose peer is ready, from a random one on, so that no one of them gets all
// calls. nil: none was found.
func anyReady(c *cluster.Cluster, avoid *cluster.Endpoint) *cluster.Endpoint {
	n := len(c.Endpoints)
	from := rand.IntN(n)
	for i := range min(n, looks) {
		if e := c.Endpoints[(from+i)%n]; e != avoid && e.Ready() {
			return e
		}
	}
	return nil
}

// first draws by weight. The cluster has two endpoints or more.
func first(c *cluster.Cluster, avoid *cluster.Endpoint) int {
	i := c.Sample(rand.Uint64())
	for try := 1; c.Endpoints[i] == avoid && try < draws; try++ {
		i = c.Sample(rand.Uint64())
	}
	if c.Endpoints[i] == avoid {
		i = (i + 1) % len(c.Endpoints)
	}
	return i
}

// second draws evenly among the others; nil if that leaves none but the one to avoid.
func second(c *cluster.Cluster, i int, avoid *cluster.Endpoint) *cluster.Endpoint {
	n := len(c.Endpoints)
	j := (i + 1 + rand.IntN(n-1)) % n
	if c.Endpoints[j] != avoid {
		return c.Endpoints[j]
	}
	if n == 2 {
		return nil
	}
	if j = (j + 1) % n; j == i {
		j = (j + 1) % n
	}
	return c.Endpoints[j]
}
