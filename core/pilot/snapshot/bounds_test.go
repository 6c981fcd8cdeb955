package snapshot_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/octomesh/octomesh/core/pilot/snapshot"
	"github.com/octomesh/octomesh/core/resource"
)

// drain takes all that waits, and returns the full names of what was told and removed, in that order.
func drain(t *testing.T, f *snapshot.Follower, limit int) (told, removed []string) {
	t.Helper()
	for u, ok := f.Take(limit); ok; u, ok = f.Take(limit) {
		bytes := 0
		for _, r := range u.Told {
			bytes += len(r.Resource.Element)
			told = append(told, r.Topic.FullName(r.Resource.Name))
		}
		for _, name := range u.Removed {
			bytes += len(name)
		}
		removed = append(removed, u.Removed...)
		if n := len(u.Told) + len(u.Removed); bytes > limit && n > 1 || bytes > u.Bytes {
			t.Fatalf("%d bytes in %d resources, said to be %d; the limit is %d", bytes, n, u.Bytes, limit)
		}
	}
	return told, removed
}

func TestUpdatesKeepTheirLimitAndLeaveNothingOut(t *testing.T) {
	c := snapshot.NewCache()
	f, _ := follow(c, "n1")
	f.Subscribe(stock, nil)
	all := make(map[string]snapshot.Entry)
	var names []string
	for n := range 300 {
		name := fmt.Sprintf("s%03d", n)
		all[name] = endpoint(t, stock, name, n+1)
		names = append(names, stock.FullName(name))
	}
	c.Load(stock, all)
	told, removed := drain(t, f, 1000)
	if !slices.Equal(told, names) || len(removed) != 0 {
		t.Fatalf("told %d and removed %d of %d", len(told), len(removed), len(names))
	}
	c.Load(stock, nil)
	for _, name := range []string{"s005", "s006"} {
		c.Set(stock, name, endpoint(t, stock, name, 9))
	}
	told, removed = drain(t, f, 1000)
	if len(told) != 2 || len(removed) != 298 {
		t.Fatalf("told %v and removed %d", told, len(removed))
	}
	if told, removed = drain(t, f, 1); len(told)+len(removed) > 0 {
		t.Fatalf("%v and %v are told again", told, removed)
	}
}

func TestManyTopicsComeAndGo(t *testing.T) {
	c := snapshot.NewCache()
	f, _ := follow(c, "n1")
	other, _ := follow(c, "n2")
	topics := make([]resource.Topic, 200)
	for n := range topics {
		topics[n] = resource.Topic{Kind: resource.KindEndpoint, Environment: "prod", Target: fmt.Sprint("t", n)}
		c.Load(topics[n], map[string]snapshot.Entry{"s1": endpoint(t, topics[n], "s1", 1)})
		other.Subscribe(topics[n], nil)
		f.Subscribe(topics[n], nil)
	}
	if told, _ := drain(t, f, all); len(told) != 200 || f.Follows() != 200 {
		t.Fatalf("told %d, follows %d", len(told), f.Follows())
	}
	for n := 0; n < 200; n += 2 {
		f.Unsubscribe(topics[n])
		f.Unsubscribe(topics[n]) // which changes nothing
	}
	for _, topic := range topics {
		c.Set(topic, "s1", endpoint(t, topic, "s1", 2))
	}
	if told, _ := drain(t, f, all); len(told) != 100 || f.Follows() != 100 {
		t.Fatalf("told %d, follows %d", len(told), f.Follows())
	}
	if topics, followings := c.Topics(); topics != 200 || followings != 300 {
		t.Fatal(topics, followings)
	}
	f.Close()
	other.Close()
	if _, followings := c.Topics(); followings != 0 || f.Follows() != 0 {
		t.Fatal(followings, f.Follows())
	}
}

func TestOneWhoAsksAgainHearsOfWhatWentMeanwhile(t *testing.T) {
	c := snapshot.NewCache()
	c.Load(stock, map[string]snapshot.Entry{"s1": endpoint(t, stock, "s1", 1), "s2": endpoint(t, stock, "s2", 1)})
	f, _ := follow(c, "n1")
	f.Subscribe(stock, nil)
	drain(t, f, all)
	c.Set(stock, "s2", snapshot.Entry{})
	f.Subscribe(stock, nil)
	wants(t, f, "Endpoint +prod/shop.stock/s1 -prod/shop.stock/s2")
}

func TestElementsAreOfTheirSize(t *testing.T) {
	value := make([]byte, 300)
	for _, n := range []int{0, 1, 100, 300} {
		if r := snapshot.Encoded(stock, "s1", value[:n]); cap(r.Element) > len(r.Element)+len(r.Element)/7+8 || len(r.Value()) != n {
			t.Errorf("%d bytes: an element of %d in %d, with a value of %d", n, len(r.Element), cap(r.Element), len(r.Value()))
		}
	}
	if allocs := testing.AllocsPerRun(100, func() { _ = snapshot.Encoded(stock, "s1", value) }); allocs > 6 {
		t.Errorf("%v allocations", allocs)
	}
}
