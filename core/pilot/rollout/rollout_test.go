package rollout

import (
	"testing"

	"github.com/octomesh/octomesh/core/pilot/push"
	"github.com/octomesh/octomesh/core/resource"
	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
)

func TestAWordOfAnEarlierIncarnationIsNotHeard(t *testing.T) {
	o := New(Config{})
	topic := resource.Topic{Kind: resource.KindServicePolicy, Environment: "prod", Target: "shop.cart"}
	of := place{topic, ""}
	o.Candidate(topic, "", &configv1.Candidate{Rollout: 1}, nil, "v2")
	node := push.Node{ID: "p1", Environment: "prod"}
	for _, step := range []struct {
		incarnation uint64
		says, count uint32
	}{{1, 1, 1}, {3, 2, 2}, {2, 1, 2}, {3, 2, 2}, {4, 3, 3}} {
		o.Suspects(node, step.incarnation, []*controlv1.Suspect{
			{TypeUrl: topic.Kind.TypeURL(), Name: topic.FullName(""), Version: "v2", Crashes: step.says},
		})
		if got := o.rolling[of].crashed["p1"].GetCount(); got != step.count {
			t.Errorf("incarnation %d says %d: %d crashes are counted, want %d", step.incarnation, step.says, got, step.count)
		}
	}
	o.Suspects(node, 5, nil)
	o.Candidate(topic, "", &configv1.Candidate{Rollout: 2}, nil, "v2")
	if n := len(o.rolling[of].crashed); n != 0 {
		t.Errorf("%d nodes crashed with the next roll-out", n)
	}
}
