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
//
// There are tens of thousands of followers with some topics each, so that their size counts.
type Follower struct {
	// Node is the follower's name, by which waves choose.
	Node string

	cache  *Cache
	notify func() // something waits; may be called with locks held
	looks  bool   // it is no node: it reads the cache itself, and is told of all changes

	mu         sync.Mutex
	followings []*Following
	byTopic    map[*topic]*Following        // once they are many
	waiting    [resource.Kinds][]*Following // with something to tell, in the order in which that began
	derived    *derivedQueues               // likewise; nil: it has followed none
	coalesced  uint64
}

type derivedQueues [resource.AllKinds - resource.Kinds][]*Following

// many is from how many followings on they are found by a map.
const many = 32

// Following is one follower's interest in one topic.
type Following struct {
	topic   *topic
	owner   *Follower
	inTopic int32 // its place among the topic's followers; the topic's lock guards it

	// The follower's lock guards these.
	inOwner int32 // its place among the follower's followings
	queued  bool  // it stands in waiting
	all     bool  // anything may differ from have
	over    bool
	names   names             // what has changed
	have    map[string]string // versions that the follower has, by name; for the next comparison of all
}

// Follow makes a follower without interests. notify is called whenever something has begun to wait for it, from
// whatever goroutine, with locks of the cache held: it must neither block nor call the cache or the follower.
func (c *Cache) Follow(node string, notify func()) *Follower {
	return &Follower{Node: node, cache: c, notify: notify}
}

// Watch makes a follower for a part of the Pilot itself. It is told by [Follower.Changed] which topics to look at.
func (c *Cache) Watch(notify func()) *Follower {
	return &Follower{cache: c, notify: notify, looks: true}
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
	if f.derived != nil {
		for _, w := range f.derived {
			if len(w) > 0 {
				return true
			}
		}
	}
	return false
}

// queueOf is what waits of a kind. The lock is held.
func (f *Follower) queueOf(k resource.Kind) *[]*Following {
	if !k.Derived() {
		return &f.waiting[k]
	}
	if f.derived == nil {
		f.derived = &derivedQueues{}
	}
	return &f.derived[k-resource.Kinds]
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
	p := f.cache.at(t, true)
	first := len(p.followers) == 0
	f.mu.Lock()
	g := f.find(p)
	if g == nil {
		g = &Following{topic: p, owner: f}
		f.add(g)
		g.inTopic = int32(len(p.followers))
		p.followers = append(p.followers, g)
	}
	g.have = have
	f.mu.Unlock()
	if p.loaded {
		f.dirtyAll(g)
	}
	p.mu.Unlock()
	if first && f.cache.Interest != nil {
		f.cache.Interest(p.Topic)
	}
}

// Again tells all of a topic once more, if it is followed.
func (f *Follower) Again(t resource.Topic) {
	p := f.cache.at(t, false)
	if p == nil {
		return
	}
	defer p.mu.Unlock()
	f.mu.Lock()
	g := f.find(p)
	f.mu.Unlock()
	if g != nil && p.loaded {
		f.dirtyAll(g)
	}
}

// Unsubscribe ends to follow a topic.
func (f *Follower) Unsubscribe(t resource.Topic) {
	if p := f.cache.at(t, false); p != nil {
		f.leave(p)
	}
}

// leave ends to follow a topic, whose lock is held, and unlocks it.
func (f *Follower) leave(p *topic) {
	f.mu.Lock()
	g := f.find(p)
	if g == nil {
		f.mu.Unlock()
		p.mu.Unlock()
		return
	}
	g.over = true
	f.remove(g)
	f.mu.Unlock()
	last := len(p.followers) - 1
	p.followers[g.inTopic] = p.followers[last]
	p.followers[g.inTopic].inTopic = g.inTopic
	p.followers[last] = nil
	p.followers = p.followers[:last]
	if last == 0 {
		p.followers = nil
	}
	p.mu.Unlock()
	if last == 0 && f.cache.Interest != nil {
		f.cache.Interest(p.Topic)
	}
}

// Close ends all interests.
func (f *Follower) Close() {
	for {
		f.mu.Lock()
		n := len(f.followings)
		if n == 0 {
			f.mu.Unlock()
			return
		}
		p := f.followings[n-1].topic
		f.mu.Unlock()
		p.mu.Lock()
		f.leave(p)
	}
}

// Follows counts topics.
func (f *Follower) Follows() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.followings)
}

// find looks for the following of a topic. The lock is held.
func (f *Follower) find(p *topic) *Following {
	if f.byTopic != nil {
		return f.byTopic[p]
	}
	if i := slices.IndexFunc(f.followings, func(g *Following) bool { return g.topic == p }); i >= 0 {
		return f.followings[i]
	}
	return nil
}

// add takes a following in. The lock is held.
func (f *Follower) add(g *Following) {
	g.inOwner = int32(len(f.followings))
	f.followings = append(f.followings, g)
	switch {
	case f.byTopic != nil:
		f.byTopic[g.topic] = g
	case len(f.followings) > many:
		f.byTopic = make(map[*topic]*Following, 2*many)
		for _, g := range f.followings {
			f.byTopic[g.topic] = g
		}
	}
}

// remove takes a following out. The lock is held.
func (f *Follower) remove(g *Following) {
	last := len(f.followings) - 1
	f.followings[g.inOwner] = f.followings[last]
	f.followings[g.inOwner].inOwner = g.inOwner
	f.followings[last] = nil
	f.followings = f.followings[:last]
	delete(f.byTopic, g.topic)
}

// dirty notes that a resource has changed.
func (f *Follower) dirty(g *Following, name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if g.over {
		return
	}
	if !g.names.add(name) || g.all {
		f.coalesced++
	}
	f.queue(g)
}

// dirtyAll notes that anything may have changed.
func (f *Follower) dirtyAll(g *Following) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !g.over {
		g.all = true
		f.queue(g)
	}
}

// queue has the following told. The lock is held.
func (f *Follower) queue(g *Following) {
	if f.enqueue(g) {
		f.notify()
	}
}

// enqueue tells whether it did not wait yet. The lock is held.
func (f *Follower) enqueue(g *Following) bool {
	if g.queued {
		return false
	}
	g.queued = true
	queue := f.queueOf(g.topic.Kind)
	*queue = append(*queue, g)
	return true
}

// names is a set, which nearly always has one element or none.
type names struct {
	few  []string
	more map[string]struct{} // instead of few, once they are more than that should have
}

const maxFew = 8

// add tells whether the name was not there yet.
func (n *names) add(name string) bool {
	if n.more == nil {
		if slices.Contains(n.few, name) {
			return false
		}
		if len(n.few) < maxFew {
			n.few = append(n.few, name)
			return true
		}
		n.more = make(map[string]struct{}, 4*maxFew)
		for _, name := range n.few {
			n.more[name] = struct{}{}
		}
		n.few = nil
	}
	before := len(n.more)
	n.more[name] = struct{}{}
	return len(n.more) > before
}

// list has all of them, in no order.
func (n *names) list() []string {
	if n.more == nil {
		return n.few
	}
	return slices.Collect(maps.Keys(n.more))
}
