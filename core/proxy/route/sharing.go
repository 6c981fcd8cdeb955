package route

import (
	"time"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/proxy/balancer"
	"github.com/octomesh/octomesh/core/proxy/cluster"
	"github.com/octomesh/octomesh/core/proxy/policy"
)

// Defaults of octo.resource.v1.Balancing and OutlierEjection.
const (
	DefaultInitialPermille     = 100
	DefaultConsecutiveFailures = 5
	DefaultOutlierMinCalls     = 20
	DefaultOutlierWindow       = 10 * time.Second
	DefaultEjectionTime        = 10 * time.Second
	DefaultMaxEjectionTime     = 5 * time.Minute
	DefaultMaxEjectedPercent   = 50
)

// sharing is how calls are shared out among the endpoints of a target, whichever target's route leads there.
type sharing struct {
	rules    cluster.Rules
	balancer balancer.Balancer
	outlier  *policy.Outlier
}

// share returns the sharing of a target.
func (c *compiler) share(target string) *sharing {
	u := c.units.get(target)
	if u.sharing != nil {
		return u.sharing
	}
	p := u.policy
	s := &sharing{balancer: balancer.PowerOfTwo{}}
	s.balance(p.GetBalancing(), c.Zone)
	if o := p.GetOutlierEjection(); o != nil {
		s.rules.Ejects = true
		s.outlier = c.outlier(target, o)
	}
	u.sharing = s
	return s
}

func (s *sharing) balance(b *resourcev1.Balancing, zone string) {
	switch b.GetBalancer() {
	case resourcev1.Balancer_BALANCER_WEIGHTED_ROUND_ROBIN:
		s.balancer, s.rules.Turns = balancer.RoundRobin{}, true
	case resourcev1.Balancer_BALANCER_RING_HASH:
		s.balancer, s.rules.Keys = balancer.RingHash{}, true
	}
	if b.GetLocalityFirst() {
		s.rules.Zone = zone
	}
	s.rules.MaxOpen = int64(b.GetMaxOpenCallsPerEndpoint())
	if slow := b.GetSlowStart(); slow != nil {
		s.rules.SlowStart = duration(slow.GetWindow())
		s.rules.Initial = int64(orDefault(slow.GetInitialPermille(), DefaultInitialPermille))
	}
}

func (c *compiler) outlier(target string, o *resourcev1.OutlierEjection) *policy.Outlier {
	rules := policy.OutlierRules{
		InARow: DefaultConsecutiveFailures, Permille: o.GetFailurePermille(),
		MinCalls: orDefault(o.GetMinCalls(), DefaultOutlierMinCalls),
		Window:   int64(orDefault(duration(o.GetWindow()), DefaultOutlierWindow)),
		Codes:    policy.CodesOf(o.GetFailureCodes()),
		Base:     int64(orDefault(duration(o.GetEjectionTime()), DefaultEjectionTime)), MaxPercent: DefaultMaxEjectedPercent,
	}
	rules.Cap = max(int64(orDefault(duration(o.GetMaxEjectionTime()), DefaultMaxEjectionTime)), rules.Base)
	if o.ConsecutiveFailures != nil {
		rules.InARow = o.GetConsecutiveFailures()
	}
	if o.MaxEjectedPercent != nil {
		rules.MaxPercent = int(o.GetMaxEjectedPercent())
	}
	var members []*cluster.Endpoint
	for _, e := range c.units.get(target).endpoints {
		if e.InRotation() {
			members = append(members, e)
		}
	}
	return policy.NewOutlier(rules, members, &c.state(Outbound, target).ejections)
}
