package control

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/octomesh/octomesh/core/pilot/snapshot"
	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

const (
	sessionTargets  = 1000 // that there are
	sessionFollows  = 5    // of which each session follows some
	targetInstances = 10
	// anewTarget has one endpoint, of which sessions never say that they have it: they hear of it on each stream, and are
	// not synced before.
	anewTarget = "anew"
)

// sessionKinds are what a proxy asks for of each target, in the order in which these sessions ask.
var sessionKinds = []resource.Kind{resource.KindAuthPolicy, resource.KindServicePolicy, resource.KindEndpoint}

func worldTarget(n int) string { return fmt.Sprintf("shop.target-%04d", n) }

// worldTopics are what the n-th session follows, but for the target of which it always hears anew.
func worldTopics(n int, kind resource.Kind) []resource.Topic {
	var all []resource.Topic
	for i := range sessionFollows {
		all = append(all, resource.Topic{Kind: kind, Environment: environment, Target: worldTarget((n + i*i*37) % sessionTargets)})
	}
	return all
}

// loadWorld fills a Pilot's cache with all that sessions follow: endpoints and a policy of each target, and no
// authorization policy.
func loadWorld(c *snapshot.Cache) error {
	for n := range sessionTargets {
		target := worldTarget(n)
		all := make(map[string]snapshot.Entry)
		for i := range targetInstances {
			all[instance(i)] = entry(target, n*targetInstances+i)
		}
		c.Load(endpoints(target), all)
		policy := resource.Topic{Kind: resource.KindServicePolicy, Environment: environment, Target: target}
		r, err := snapshot.New(policy, "", &resourcev1.ServicePolicy{
			DefaultTimeout: durationpb.New(time.Second), CircuitBreaker: &resourcev1.CircuitBreaker{},
		})
		if err != nil {
			return err
		}
		c.Load(policy, map[string]snapshot.Entry{"": {Stable: r}})
		c.Load(resource.Topic{Kind: resource.KindAuthPolicy, Environment: environment, Target: target}, nil)
	}
	c.Load(endpoints(anewTarget), map[string]snapshot.Entry{instance(0): entry(anewTarget, 0)})
	return nil
}
