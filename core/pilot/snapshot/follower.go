package snapshot

import (
	"maps"
	"slices"
	"sync"

	"github.com/octomesh/octomesh/core/resource"
)

// Follower is one who follows topics: a stream of a proxy. What has changed for it waits here, by resource and not by
// event, so that what it has pending is bounded by what it follows, however slow it is.
// The methods that change interests are called by one goroutine at a time, and so is Take.
type Follower struct {
	// Node is the follower's name, by which waves choose.
	Node string

	cache  *Cache
	notify func() // something waits; may be called with locks held

	mu         sync.Mutex
	followings map[resource.Topic]*Following
	waiting    [resource.Kinds][]*Following // with something to tell, in the order in which that began
	coalesced  uint64
}

// Following is one follower's interest in one topic. Its fields are guarded by the follower's lock.
type Following struct {
	resource.Topic
	owner *Follower

	queued bool                // it stands in waiting
	all    bool                // anything may differ from have
	names  map[string]struct{} // what has changed, without all
	have   map[string]string   // versions that the follower has, by name; for the next comparison of all
	over   bool
}

// Follow makes a follower without interests. notify is called whenever something has begun to wait for it, from
// whatever goroutine, with locks of the cache held: it must neither block nor call the cache or the follower.
func (c *Cache) Follow(node string, notify func()) *Follower {
	return &Follower{Node: node, cache: c, notify: notify, followings: make(map[resource.Topic]*Following)}
}

// Waiting tells whether there may be something to take.
func (f *Follower) Waiting() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.waiting {
		if len(w) > 0 {
			return true
		}
	}
	return false
}

// Coalesced counts changes that were not told, since a newer one of the same resource came before.
func (f *Follower) Coalesced() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.coalesced
}

// Subscribe begins to follow a topic. have is which versions the follower has, by name; what differs from them is
// told, and also that the topic has nothing. A topic that is followed already is told again, all of it.
func (f *Follower) Subscribe(t resource.Topic, have map[string]string) {
	f.mu.Lock()
	g := f.followings[t]
	again := g != nil
	if !again {
		g = &Following{Topic: t, owner: f}
		f.followings[t] = g
	}
	g.have = have
	f.mu.Unlock()
	p := f.cache.at(t, true)
	first := len(p.followers) == 0
	p.followers[g] = struct{}{}
	if p.loaded {
		f.dirtyAll(g)
	}
	p.mu.Unlock()
	if first && f.cache.Interest != nil {
		f.cache.Interest(t)
	}
}

// Unsubscribe ends to follow a topic.
func (f *Follower) Unsubscribe(t resource.Topic) {
	f.mu.Lock()
	g := f.followings[t]
	delete(f.followings, t)
	if g != nil {
		g.over = true
	}
	f.mu.Unlock()
	if g == nil {
		return
	}
	p := f.cache.at(t, true)
	delete(p.followers, g)
	last := len(p.followers) == 0
	p.mu.Unlock()
	if last && f.cache.Interest != nil {
		f.cache.Interest(t)
	}
}

// Close ends all interests.
func (f *Follower) Close() {
	f.mu.Lock()
	topics := slices.Collect(maps.Keys(f.followings))
	f.mu.Unlock()
	for _, t := range topics {
		f.Unsubscribe(t)
	}
}

// Follows counts topics.
func (f *Follower) Follows() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.followings)
}

// dirty notes that a resource has changed. The topic's lock is held.
func (f *Follower) dirty(g *Following, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if g.over {
		return
	}
	if _, ok := g.names[name]; ok || g.all {
		f.coalesced++
		return
	}
	if g.names == nil {
		g.names = make(map[string]struct{}, 1)
	}
	g.names[name] = struct{}{}
	f.queue(g)
}

// dirtyAll notes that anything may have changed.
func (f *Follower) dirtyAll(g *Following) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if g.over {
		return
	}
	g.all, g.names = true, nil
	f.queue(g)
}

// queue has the following told. The follower's lock is held.
func (f *Follower) queue(g *Following) {
	if !g.queued {
		g.queued = true
		f.waiting[g.Kind] = append(f.waiting[g.Kind], g)
	}
	f.notify()
}
