package snapshot_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/pilot/snapshot"
	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

var (
	stock  = resource.Topic{Kind: resource.KindEndpoint, Environment: "prod", Target: "shop.stock"}
	policy = resource.Topic{Kind: resource.KindServicePolicy, Environment: "prod", Target: "shop.stock"}
)

const all = 1 << 20

// endpoint is a version of an instance.
func endpoint(t testing.TB, topic resource.Topic, name string, port int) snapshot.Entry {
	t.Helper()
	r, err := snapshot.New(topic, name, &resourcev1.Endpoint{MeshAddress: fmt.Sprintf("10.0.0.1:%d", port)})
	if err != nil {
		t.Fatal(err)
	}
	return snapshot.Entry{Stable: r}
}

// follow makes a follower, and what has an element when something waits for it.
func follow(c *snapshot.Cache, node string) (*snapshot.Follower, <-chan struct{}) {
	wake := make(chan struct{}, 1)
	return c.Follow(node, func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}), wake
}

// text is an update in a line.
func text(u snapshot.Update) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v", u.Kind)
	for _, told := range u.Told {
		fmt.Fprintf(&b, " +%s", told.Topic.FullName(told.Resource.Name))
	}
	for _, name := range u.Removed {
		fmt.Fprintf(&b, " -%s", name)
	}
	return b.String()
}

func wants(t *testing.T, f *snapshot.Follower, want string) snapshot.Update {
	t.Helper()
	u, ok := f.Take(all)
	if got := text(u); !ok && want != "" || ok && got != want {
		t.Fatalf("told %q (%v), want %q", got, ok, want)
	}
	return u
}

func TestElementsAreWhatAnyClientReads(t *testing.T) {
	e := endpoint(t, stock, "s1", 7000)
	res := &discoveryv3.DeltaDiscoveryResponse{}
	if err := proto.Unmarshal(append(slices.Clone(e.Stable.Element), e.Stable.Element...), res); err != nil {
		t.Fatal(err)
	}
	if len(res.Resources) != 2 || res.Resources[0].Name != "prod/shop.stock/s1" || res.Resources[0].Version != e.Stable.Version {
		t.Fatal(res)
	}
	got := &resourcev1.Endpoint{}
	if err := proto.Unmarshal(res.Resources[1].Resource.Value, got); err != nil || got.MeshAddress != "10.0.0.1:7000" {
		t.Fatal(got, err)
	}
	if n := len(e.Stable.Element); n > 60 {
		t.Errorf("an endpoint has %d bytes", n)
	}
	if same := endpoint(t, stock, "s2", 7000); same.Stable.Version != e.Stable.Version {
		t.Error("versions go by content")
	}
}

// TestOneElementServesBothVariants: a response of the whole state has a part of what one of changes has.
func TestOneElementServesBothVariants(t *testing.T) {
	e := endpoint(t, resource.DerivedTopic(resource.KindLoadAssignment, "prod", "cart", "z"), "", 7000)
	changes, state := &discoveryv3.DeltaDiscoveryResponse{}, &discoveryv3.DiscoveryResponse{}
	if err := proto.Unmarshal(e.Stable.Element, changes); err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(append(slices.Clone(e.Stable.State()), e.Stable.State()...), state); err != nil {
		t.Fatal(err)
	}
	if len(state.Resources) != 2 || !proto.Equal(state.Resources[1], changes.Resources[0].Resource) || changes.Resources[0].Name != "cart" ||
		state.Resources[0].TypeUrl != resource.KindLoadAssignment.TypeURL() || !bytes.Equal(state.Resources[0].Value, e.Stable.Value()) {
		t.Fatal(state, changes)
	}
	if cap(e.Stable.State()) != len(e.Stable.State()) {
		t.Error("who appends writes over the name")
	}
}

func TestAFollowerIsToldWhatIsAndWhatChanges(t *testing.T) {
	c := snapshot.NewCache()
	var interest []string
	c.Interest = func(t resource.Topic) { interest = append(interest, fmt.Sprint(t.Name(), c.Followed(t))) }
	f, wake := follow(c, "n1")
	f.Subscribe(stock, nil)
	wants(t, f, "") // not known yet
	c.Load(stock, map[string]snapshot.Entry{"s1": endpoint(t, stock, "s1", 1), "s2": endpoint(t, stock, "s2", 1)})
	<-wake
	wants(t, f, "Endpoint +prod/shop.stock/s1 +prod/shop.stock/s2")
	wants(t, f, "")
	c.Set(stock, "s2", endpoint(t, stock, "s2", 2))
	c.Set(stock, "s1", endpoint(t, stock, "s1", 1)) // nothing new
	wants(t, f, "Endpoint +prod/shop.stock/s2")
	c.Set(stock, "s2", snapshot.Entry{})
	wants(t, f, "Endpoint -prod/shop.stock/s2")
	c.Load(stock, map[string]snapshot.Entry{"s3": endpoint(t, stock, "s3", 1)})
	wants(t, f, "Endpoint +prod/shop.stock/s3 -prod/shop.stock/s1")
	f.Subscribe(stock, nil) // again: all of it
	wants(t, f, "Endpoint +prod/shop.stock/s3")
	f.Unsubscribe(stock)
	c.Set(stock, "s3", endpoint(t, stock, "s3", 9))
	wants(t, f, "")
	if got := strings.Join(interest, " "); got != "prod/shop.stock/*true prod/shop.stock/*false" {
		t.Error(got)
	}
	if !c.Drop(stock) {
		t.Error("nobody follows it")
	}
}

func TestWhatIsNotThereIsToldOnce(t *testing.T) {
	c := snapshot.NewCache()
	f, _ := follow(c, "n1")
	f.Subscribe(policy, nil)
	f.Subscribe(stock, nil)
	c.Load(policy, nil)
	c.Load(stock, nil)
	wants(t, f, "Endpoint -prod/shop.stock/*")
	wants(t, f, "ServicePolicy -prod/shop.stock")
	wants(t, f, "")
	c.Set(policy, "", endpoint(t, policy, "", 1)) // it was remembered
	wants(t, f, "ServicePolicy +prod/shop.stock")
}

func TestAReturningFollowerIsToldTheDifference(t *testing.T) {
	c := snapshot.NewCache()
	same, newer := endpoint(t, stock, "same", 1), endpoint(t, stock, "newer", 2)
	c.Load(stock, map[string]snapshot.Entry{"same": same, "newer": newer, "new": endpoint(t, stock, "new", 1)})
	f, _ := follow(c, "n1")
	f.Subscribe(stock, map[string]string{"same": same.Stable.Version, "newer": "old", "gone": "x"})
	wants(t, f, "Endpoint +prod/shop.stock/new +prod/shop.stock/newer -prod/shop.stock/gone")
	g, _ := follow(c, "n2")
	c.Load(policy, nil)
	g.Subscribe(policy, map[string]string{"": "x"})
	wants(t, g, "ServicePolicy -prod/shop.stock")
}

func TestManyChangesOfOneResourceAreToldAsOne(t *testing.T) {
	c := snapshot.NewCache()
	f, _ := follow(c, "n1")
	c.Load(stock, nil)
	f.Subscribe(stock, nil)
	wants(t, f, "Endpoint -prod/shop.stock/*")
	for port := range 100 {
		c.Set(stock, "s1", endpoint(t, stock, "s1", port+1))
	}
	u := wants(t, f, "Endpoint +prod/shop.stock/s1")
	if want := endpoint(t, stock, "s1", 100); u.Told[0].Resource.Version != want.Stable.Version || f.Coalesced() != 99 {
		t.Fatal(u, f.Coalesced())
	}
}

func TestLargeUpdatesComeInParts(t *testing.T) {
	c := snapshot.NewCache()
	entries := make(map[string]snapshot.Entry)
	for i := range 100 {
		name := fmt.Sprintf("s%02d", i)
		entries[name] = endpoint(t, stock, name, i+1)
	}
	c.Load(stock, entries)
	f, _ := follow(c, "n1")
	f.Subscribe(stock, nil)
	seen, parts := make(map[string]bool), 0
	for {
		u, ok := f.Take(1000)
		if !ok {
			break
		}
		parts++
		if u.Bytes > 1100 {
			t.Fatalf("%d bytes at once", u.Bytes)
		}
		for _, told := range u.Told {
			seen[told.Resource.Name] = true
		}
	}
	if len(seen) != 100 || parts < 4 {
		t.Fatal(len(seen), parts)
	}
}

func TestAWaveReachesItsNodesOnly(t *testing.T) {
	c := snapshot.NewCache()
	stable, candidate := endpoint(t, policy, "", 1).Stable, endpoint(t, policy, "", 2).Stable
	c.Load(policy, map[string]snapshot.Entry{"": {Stable: stable}})
	followers := make(map[string]*snapshot.Follower)
	has := make(map[string]string)
	for i := range 1000 {
		node := fmt.Sprintf("n%d", i)
		followers[node], _ = follow(c, node)
		followers[node].Subscribe(policy, nil)
	}
	take := func() (told int) {
		for node, f := range followers {
			for u, ok := f.Take(all); ok; u, ok = f.Take(all) {
				for _, r := range u.Told {
					told++
					has[node] = r.Resource.Version
				}
			}
		}
		return told
	}
	take()
	with := func() (n int) {
		for _, v := range has {
			if v == candidate.Version {
				n++
			}
		}
		return n
	}
	before := make(map[string]string)
	for _, step := range []struct {
		wave      *snapshot.Wave
		low, high int
	}{
		{&snapshot.Wave{Nodes: map[string]bool{"n7": true}, Salt: "w"}, 1, 1},
		{&snapshot.Wave{Nodes: map[string]bool{"n7": true}, Salt: "w", Permille: 100}, 60, 140},
		{&snapshot.Wave{Nodes: map[string]bool{"n7": true}, Salt: "w", Permille: 500}, 440, 560},
		{&snapshot.Wave{Salt: "w", Permille: 1000}, 1000, 1000},
		{nil, 0, 0}, // taken back
	} {
		c.Set(policy, "", snapshot.Entry{Stable: stable, Candidate: candidate, Wave: step.wave})
		told := take()
		if n := with(); n < step.low || n > step.high {
			t.Fatalf("%+v: %d have the candidate", step.wave, n)
		}
		moved := 0
		for node, v := range has {
			if v != before[node] && before[node] != "" {
				moved++
			}
			if step.wave != nil && before[node] == candidate.Version && v != candidate.Version {
				t.Fatalf("%s left a wave that grew", node)
			}
		}
		if len(before) > 0 && told != moved {
			t.Fatalf("%+v: %d told, %d moved", step.wave, told, moved)
		}
		before = maps.Clone(has)
	}
}

// reader follows topics, with interruptions, and knows what it was told.
type reader struct {
	*snapshot.Follower
	topics []resource.Topic
	has    map[string]string // versions by full name
}

func (r *reader) take() {
	for u, ok := r.Take(100); ok; u, ok = r.Take(100) {
		for _, told := range u.Told {
			r.has[told.Topic.FullName(told.Resource.Name)] = told.Resource.Version
		}
		for _, name := range u.Removed {
			delete(r.has, name)
		}
	}
}

// comeAgain has the reader go, and come back with what it has.
func (r *reader) comeAgain() {
	for _, topic := range r.topics {
		have := make(map[string]string)
		r.Unsubscribe(topic)
		for full, v := range r.has {
			if name, ok := topic.LocalName(full); ok {
				have[name] = v
			}
		}
		r.Subscribe(topic, have)
	}
}

// run reads until there is no more to come.
func (r *reader) run(wake, done <-chan struct{}, rnd *rand.Rand) {
	for _, topic := range r.topics {
		r.Subscribe(topic, nil)
	}
	for ended := false; !ended; {
		select {
		case <-wake:
		case <-done:
			ended = true
		}
		if rnd.IntN(20) == 0 {
			r.comeAgain()
		}
		r.take()
	}
	r.take()
}

// write changes a topic at random.
func write(t *testing.T, c *snapshot.Cache, topic resource.Topic, rnd *rand.Rand) {
	names := []string{"a", "b", "c", "d"}
	for n := range 3000 {
		name := names[rnd.IntN(len(names))]
		switch rnd.IntN(10) {
		case 0:
			c.Set(topic, name, snapshot.Entry{})
		case 1:
			c.Load(topic, map[string]snapshot.Entry{name: endpoint(t, topic, name, n)})
		default:
			c.Set(topic, name, endpoint(t, topic, name, n))
		}
	}
}

func TestFinalStatesAreNeverLost(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	c := snapshot.NewCache()
	topics := []resource.Topic{stock, {Kind: resource.KindEndpoint, Environment: "prod", Target: "other"}}
	done := make(chan struct{})
	var writers, readers sync.WaitGroup
	for w, topic := range topics { // one writer a topic, as in life
		c.Load(topic, nil)
		writers.Go(func() { write(t, c, topic, rand.New(rand.NewPCG(seed, uint64(w)))) })
	}
	all := make([]*reader, 4)
	for n := range all {
		f, wake := follow(c, fmt.Sprint("n", n))
		all[n] = &reader{f, topics, make(map[string]string)}
		readers.Go(func() { all[n].run(wake, done, rand.New(rand.NewPCG(seed, uint64(100+n)))) })
	}
	writers.Wait()
	close(done)
	readers.Wait()
	want := make(map[string]string)
	for _, topic := range topics {
		entries, _ := c.Get(topic)
		for name, e := range entries {
			want[topic.FullName(name)] = e.Stable.Version
		}
	}
	for _, r := range all {
		if !maps.Equal(r.has, want) {
			t.Errorf("%s has %v, the cache %v", r.Node, r.has, want)
		}
	}
}

// TestAReturningFollowerKeepsItsCandidate shows that whoever counts who has a candidate hears of those that need no news.
func TestAReturningFollowerKeepsItsCandidate(t *testing.T) {
	c := snapshot.NewCache()
	stable, candidate := endpoint(t, policy, "", 1).Stable, endpoint(t, policy, "", 2).Stable
	follower := func(node, has string) *snapshot.Follower {
		f, _ := follow(c, node)
		f.Subscribe(policy, map[string]string{"": has})
		return f
	}
	n1, n2, n3 := follower("n1", candidate.Version), follower("n2", stable.Version), follower("n3", candidate.Version)
	c.Load(policy, map[string]snapshot.Entry{"": {Stable: stable, Candidate: candidate, Wave: &snapshot.Wave{Nodes: map[string]bool{"n1": true}}}})
	for f, version := range map[*snapshot.Follower]string{n1: candidate.Version, n2: stable.Version} {
		if u, ok := f.Take(all); ok || len(u.Kept) != 1 || u.Kept[0] != (snapshot.Kept{Topic: policy, Version: version}) {
			t.Errorf("%s: %v, %v", f.Node, u, ok)
		}
	}
	if u := wants(t, n3, "ServicePolicy +prod/shop.stock"); len(u.Kept) != 0 {
		t.Error(u.Kept)
	}
	if got := c.Followers(policy); len(got) != 3 {
		t.Error(got)
	}
}
