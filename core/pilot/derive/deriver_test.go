package derive_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/pilot/derive"
	"github.com/octomesh/octomesh/core/pilot/snapshot"
	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a cache of which is derived, with who brings what proxies follow.
type world struct {
	t *testing.T
	*snapshot.Cache
	*derive.Deriver
	// follows are topics of ours, as somebody else is told of the interest in them.
	mu      sync.Mutex
	follows map[resource.Topic]bool
}

// in runs a test in a bubble, in which one can wait until all has been derived.
func in(t *testing.T, test func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, Cache: snapshot.NewCache(), follows: make(map[resource.Topic]bool)}
		w.Interest = func(topic resource.Topic) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.follows[topic] = w.Followed(topic); !w.follows[topic] {
				delete(w.follows, topic)
			}
		}
		w.Deriver = derive.New(w.Cache, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { w.Run(ctx) })
		defer wg.Wait()
		defer cancel()
		test(w)
	})
}

func topic(k resource.Kind, target string) resource.Topic {
	return resource.Topic{Kind: k, Environment: "prod", Target: target}
}

func derived(k resource.Kind, name, variant string) resource.Topic {
	return resource.DerivedTopic(k, "prod", name, variant)
}

func (w *world) entry(t resource.Topic, name string, m proto.Message) snapshot.Entry {
	w.t.Helper()
	r, err := snapshot.New(t, name, m)
	if err != nil {
		w.t.Fatal(err)
	}
	return snapshot.Entry{Stable: r}
}

func (w *world) joins(target, instance string) {
	w.t.Helper()
	at := topic(resource.KindEndpoint, target)
	w.Set(at, instance, w.entry(at, instance, &resourcev1.Endpoint{DirectAddress: "10.0.0.1:80", DirectProtocol: resourcev1.Protocol_PROTOCOL_GRPC}))
}

func (w *world) known(targets ...string) {
	for _, target := range targets {
		w.Load(topic(resource.KindEndpoint, target), nil)
		w.Load(topic(resource.KindServicePolicy, target), nil)
	}
}

// takes takes all that a follower is told, in words.
func takes(f *snapshot.Follower) string {
	synctest.Wait()
	var all []string
	for u, ok := f.Take(1 << 20); ok; u, ok = f.Take(1 << 20) {
		for _, r := range u.Told {
			all = append(all, fmt.Sprintf("%v+%s", u.Kind, r.Topic.FullName(r.Resource.Name)))
		}
		for _, name := range u.Removed {
			all = append(all, fmt.Sprintf("%v-%s", u.Kind, name))
		}
	}
	return strings.Join(all, " ")
}

func (w *world) wants(f *snapshot.Follower, want string) {
	w.t.Helper()
	if got := takes(f); got != want {
		w.t.Errorf("told %q, want %q", got, want)
	}
}

// TestNothingIsDerivedThatNobodyAsksFor, and nobody is asked for what it is made of.
func TestNothingIsDerivedThatNobodyAsksFor(t *testing.T) {
	in(t, func(w *world) {
		w.known("cart", "mail")
		w.joins("cart", "a")
		synctest.Wait()
		if s := w.Stats(); s != (derive.Stats{}) || len(w.follows) != 0 {
			t.Fatal(s, w.follows)
		}
		one, other := w.Follow("s1", func() {}), w.Follow("s2", func() {})
		at := derived(resource.KindLoadAssignment, "cart", "")
		one.Subscribe(at, nil)
		other.Subscribe(at, nil)
		w.wants(one, "ClusterLoadAssignment+cart")
		w.wants(other, "ClusterLoadAssignment+cart")
		if s := w.Stats(); s.Topics != 1 || s.Times != 1 || len(w.follows) != 2 {
			t.Errorf("for two: %+v %v", s, w.follows)
		}
		one.Close()
		w.joins("cart", "b") // behind the same address
		w.wants(other, "ClusterLoadAssignment+cart")
		other.Close()
		synctest.Wait()
		if s := w.Stats(); s.Topics != 0 || len(w.follows) != 0 {
			t.Errorf("for nobody: %+v %v", s, w.follows)
		}
		if !w.Drop(topic(resource.KindEndpoint, "cart")) {
			t.Error("somebody follows the endpoints")
		}
	})
}

// TestManyChangesAreDerivedOnce.
func TestManyChangesAreDerivedOnce(t *testing.T) {
	in(t, func(w *world) {
		w.known("cart")
		f := w.Follow("s1", func() {})
		f.Subscribe(derived(resource.KindLoadAssignment, "cart", ""), nil)
		w.wants(f, "ClusterLoadAssignment-cart")
		before := w.Stats().Times
		at := topic(resource.KindEndpoint, "cart")
		all := make(map[string]snapshot.Entry)
		for n := range 1000 {
			name := fmt.Sprint("i", n)
			all[name] = w.entry(at, name, &resourcev1.Endpoint{DirectAddress: fmt.Sprintf("10.0.0.1:%d", n+1), DirectProtocol: resourcev1.Protocol_PROTOCOL_GRPC})
		}
		w.Load(at, all)
		w.wants(f, "ClusterLoadAssignment+cart")
		if n := w.Stats().Times - before; n > 3 {
			t.Errorf("derived %d times", n)
		}
	})
}

// TestWhatOthersLeadToComesFirst and goes last, also where it becomes known late.
func TestWhatOthersLeadToComesFirst(t *testing.T) {
	in(t, func(w *world) {
		w.known("cart")
		w.joins("cart", "a")
		f := w.Follow("s1", func() {})
		f.Subscribe(derived(resource.KindCluster, resource.Wildcard, "cart"), nil)
		f.Subscribe(derived(resource.KindRouteConfiguration, "cart", ""), nil)
		f.Subscribe(derived(resource.KindListener, resource.Wildcard, "cart"), nil)
		w.wants(f, "Cluster+cart RouteConfiguration+cart Listener-*")
		policy := topic(resource.KindServicePolicy, "cart")
		w.Set(policy, "", w.entry(policy, "", &resourcev1.ServicePolicy{Routes: []*resourcev1.Route{{Name: "r", Destinations: []*resourcev1.Destination{{Target: "mail"}}}}}))
		w.wants(f, "") // whether there is any mail is not known
		w.known("mail")
		w.joins("mail", "m")
		w.wants(f, "Cluster+mail RouteConfiguration+cart")
		w.Set(policy, "", snapshot.Entry{})
		w.wants(f, "RouteConfiguration+cart Cluster-mail")
		synctest.Wait()
		if w.follows[topic(resource.KindEndpoint, "mail")] {
			t.Error("it follows what nothing leads to any more")
		}
		w.Load(topic(resource.KindEndpoint, "cart"), nil)
		w.wants(f, "RouteConfiguration-cart Cluster-cart")
	})
}

// TestStockClientsGetTheStableVersion while another one is being rolled out, whatever share of proxies has it.
func TestStockClientsGetTheStableVersion(t *testing.T) {
	in(t, func(w *world) {
		w.known("cart")
		f := w.Follow("s1", func() {})
		at := derived(resource.KindCluster, "cart", "")
		f.Subscribe(at, nil)
		policy := topic(resource.KindServicePolicy, "cart")
		limit := func(n uint32) *snapshot.Resource {
			return w.entry(policy, "", &resourcev1.ServicePolicy{Limits: &resourcev1.Limits{MaxOpenCalls: n}}).Stable
		}
		has := func() uint32 {
			synctest.Wait()
			c := &clusterv3.Cluster{}
			if err := proto.Unmarshal(w.Entry(at, "").Stable.Value(), c); err != nil {
				t.Fatal(err)
			}
			return c.CircuitBreakers.Thresholds[0].MaxRequests.GetValue()
		}
		w.Set(policy, "", snapshot.Entry{Stable: limit(1), Candidate: limit(2), Wave: &snapshot.Wave{Permille: 1000}})
		if n := has(); n != 1 {
			t.Errorf("%d while 2 is rolled out", n)
		}
		w.Set(policy, "", snapshot.Entry{Stable: limit(3), Candidate: limit(2), Wave: &snapshot.Wave{Permille: 1000}})
		if n := has(); n != 3 {
			t.Errorf("%d, and 3 is stable", n)
		}
		w.Set(policy, "", snapshot.Entry{Stable: limit(2)})
		if n := has(); n != 2 {
			t.Errorf("%d after the roll-out", n)
		}
		if nodes := w.Followers(policy); len(nodes) != 0 {
			t.Errorf("roll-outs wait for %q", nodes)
		}
	})
}

// TestATargetIsThereWhileAnInstanceOrAPolicyIs, whatever the instances speak, and not for one that has left.
func TestATargetIsThereWhileAnInstanceOrAPolicyIs(t *testing.T) {
	in(t, func(w *world) {
		w.known("cart")
		f := w.Follow("s1", func() {})
		f.Subscribe(derived(resource.KindListener, "cart", ""), nil)
		w.wants(f, "Listener-cart")
		at := topic(resource.KindEndpoint, "cart")
		w.Set(at, "a", w.entry(at, "a", &resourcev1.Endpoint{MeshAddress: "10.0.0.1:70"}))
		w.wants(f, "Listener+cart")
		w.Set(at, "a", w.entry(at, "a", &resourcev1.Endpoint{MeshAddress: "10.0.0.1:70", Standing: resourcev1.Standing_STANDING_LEFT}))
		w.wants(f, "Listener-cart")
		policy := topic(resource.KindServicePolicy, "cart")
		w.Set(policy, "", w.entry(policy, "", &resourcev1.ServicePolicy{}))
		w.wants(f, "Listener+cart")
	})
}
