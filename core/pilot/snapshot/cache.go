package snapshot

import (
	"hash/maphash"
	"maps"
	"sync"

	"github.com/octomesh/octomesh/core/resource"
)

// shards is how many parts the cache has, each with its own lock: topics meet only there, and only to be found.
const shards = 256

// Cache holds topics and who follows them. Its methods are safe for concurrent use.
//
// Locks are taken in this order: a shard's, to find a topic; a topic's, to change or to read it; a follower's, to note
// what has changed for it. A change is noted for its followers under the topic's lock for reading, so that those who are
// told already need not wait until all are.
type Cache struct {
	// Interest is called when a topic has got its first follower or lost its last; Followed tells which, by the time
	// that one asks. It must not block. Set it before the first use; nil: nobody cares.
	Interest func(resource.Topic)

	seed   maphash.Seed
	shards [shards]shard
}

type shard struct {
	mu     sync.Mutex
	topics map[resource.Topic]*topic
}

// topic is one topic's state. One that has a follower stays in the cache.
type topic struct {
	resource.Topic
	mu        sync.RWMutex
	loaded    bool // its resources are known; until then nobody is told that there are none
	entries   map[string]Entry
	followers []*Following // in no order; each knows its place
}

// NewCache makes an empty cache.
func NewCache() *Cache { return &Cache{seed: maphash.MakeSeed()} }

func (c *Cache) shard(t resource.Topic) *shard {
	return &c.shards[maphash.Comparable(c.seed, t)%shards]
}

// at finds a topic, and makes it if told to. It returns it locked, for changes; nil: it is not there.
func (c *Cache) at(t resource.Topic, create bool) *topic {
	s := c.shard(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.topics[t]
	if found == nil {
		if !create {
			return nil
		}
		if s.topics == nil {
			s.topics = make(map[resource.Topic]*topic)
		}
		found = &topic{Topic: t, entries: make(map[string]Entry)}
		s.topics[t] = found
	}
	found.mu.Lock()
	return found
}

// change is one resource's.
type change struct {
	name        string
	before, now Entry
}

// Load replaces all that a topic has: the first full set of its source, or one after the source was lost.
func (c *Cache) Load(t resource.Topic, entries map[string]Entry) {
	p := c.at(t, true)
	before, first := p.entries, !p.loaded
	p.entries, p.loaded = maps.Clone(entries), true
	if p.entries == nil {
		p.entries = make(map[string]Entry)
	}
	var changes []change
	if !first {
		changes = differences(before, p.entries)
	}
	p.mu.Unlock()
	p.mu.RLock()
	defer p.mu.RUnlock()
	if first {
		for _, g := range p.followers {
			g.owner.dirtyAll(g)
		}
		return
	}
	for _, ch := range changes {
		p.tell(ch)
	}
}

func differences(before, now map[string]Entry) []change {
	var all []change
	for name, e := range now {
		if old := before[name]; old.differs(e) {
			all = append(all, change{name, old, e})
		}
	}
	for name, e := range before {
		if _, ok := now[name]; !ok {
			all = append(all, change{name, e, Entry{}})
		}
	}
	return all
}

// Set changes one resource of a topic; an empty entry removes it. A topic that was not loaded stays so.
func (c *Cache) Set(t resource.Topic, name string, e Entry) {
	p := c.at(t, true)
	before := p.entries[name]
	if e.Stable == nil && e.Candidate == nil {
		delete(p.entries, name)
	} else {
		p.entries[name] = e
	}
	tell := p.loaded && before.differs(e)
	p.mu.Unlock()
	if tell {
		p.mu.RLock()
		defer p.mu.RUnlock()
		p.tell(change{name, before, e})
	}
}

// Drop forgets a topic that nobody follows; its next follower is a first one. It tells whether it did.
func (c *Cache) Drop(t resource.Topic) bool {
	s := c.shard(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.topics[t]
	if p == nil {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.followers) > 0 {
		return false
	}
	delete(s.topics, t)
	return true
}

// Get returns what a topic has, and whether it is loaded.
func (c *Cache) Get(t resource.Topic) (map[string]Entry, bool) {
	p := c.at(t, false)
	if p == nil {
		return nil, false
	}
	defer p.mu.Unlock()
	return maps.Clone(p.entries), p.loaded
}

// Entry returns what a topic has of one resource: an empty one if there is none.
func (c *Cache) Entry(t resource.Topic, name string) Entry {
	p := c.at(t, false)
	if p == nil {
		return Entry{}
	}
	defer p.mu.Unlock()
	return p.entries[name]
}

// Followed tells whether anybody follows a topic.
func (c *Cache) Followed(t resource.Topic) bool {
	p := c.at(t, false)
	if p == nil {
		return false
	}
	defer p.mu.Unlock()
	return len(p.followers) > 0
}

// Followers are the nodes that follow a topic.
func (c *Cache) Followers(t resource.Topic) []string {
	p := c.at(t, false)
	if p == nil {
		return nil
	}
	defer p.mu.Unlock()
	out := make([]string, 0, len(p.followers))
	for _, g := range p.followers {
		if !g.owner.looks {
			out = append(out, g.owner.Node)
		}
	}
	return out
}

// Topics counts topics, and followings of them.
func (c *Cache) Topics() (topics, followings int) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		topics += len(s.topics)
		for _, p := range s.topics {
			p.mu.Lock()
			followings += len(p.followers)
			p.mu.Unlock()
		}
		s.mu.Unlock()
	}
	return topics, followings
}

// tell notes a change for those whose version of the resource is another one now. The lock is held, for reading at
// least. Others may have changed the resource meanwhile: what followers take is the newest, whatever was noted.
func (p *topic) tell(ch change) {
	everybody := ch.before.Wave == nil && ch.now.Wave == nil
	for _, g := range p.followers {
		if everybody || g.owner.looks || version(ch.before.For(g.owner.Node)) != version(ch.now.For(g.owner.Node)) {
			g.owner.dirty(g, ch.name)
		}
	}
}
