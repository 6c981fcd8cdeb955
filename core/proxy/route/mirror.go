package route

import (
	"time"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/proxy/balancer"
	"github.com/octomesh/octomesh/core/proxy/cluster"
	"github.com/octomesh/octomesh/core/proxy/policy"
	"github.com/octomesh/octomesh/core/wire"
)

// Defaults of octo.resource.v1.Mirror.
const (
	DefaultMirrorTimeout = 5 * time.Second
	DefaultMaxOpenCopies = 100
)

// Mirror is where copies of a route's calls go.
type Mirror struct {
	policy.MirrorRules
	Cluster *cluster.Cluster
	Copies  *policy.Copies

	balancer balancer.Balancer
}

// Pick chooses the endpoint for a copy, or nil if there is none.
func (m *Mirror) Pick(h *wire.RequestHead, now int64) *cluster.Endpoint {
	return pick(m.Cluster, m.balancer, h, now, nil)
}

func (c *compiler) mirror(t *Target, r *resourcev1.Route) *Mirror {
	m := r.GetMirror()
	if m == nil {
		return nil
	}
	if t.state.copies[r.GetName()] == nil {
		// Not written into the map that metrics of the generation before read.
		next := map[string]*policy.Copies{r.GetName(): {}}
		for name, n := range t.state.copies {
			next[name] = n
		}
		t.state.copies = next
	}
	to := orDefault(m.GetDestination().GetTarget(), t.Name)
	return &Mirror{
		MirrorRules: policy.MirrorRules{
			Permille: m.GetPermille(), Timeout: int64(orDefault(duration(m.GetTimeout()), DefaultMirrorTimeout)),
			MaxOpen: int64(orDefault(m.GetMaxOpen(), DefaultMaxOpenCopies)),
		},
		Cluster: c.cluster(to, m.GetDestination().GetSubset()), Copies: t.state.copies[r.GetName()], balancer: c.share(to).balancer,
	}
}
