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
// what has changed for it.
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

// topic is one topic's state.
type topic struct {
	mu        sync.Mutex
	loaded    bool // its resources are known; until then nobody is told that there are none
	entries   map[string]Entry
	followers map[*Following]struct{}
}

// NewCache makes an empty cache.
func NewCache() *Cache { return &Cache{seed: maphash.MakeSeed()} }

func (c *Cache) shard(t resource.Topic) *shard {
	return &c.shards[maphash.Comparable(c.seed, t)%shards]
}

// at finds a topic, and makes it if told to. It returns it locked; nil: it is not there.
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
		found = &topic{entries: make(map[string]Entry), followers: make(map[*Following]struct{})}
		s.topics[t] = found
	}
	found.mu.Lock()
	return found
}

// Load replaces all that a topic has: the first full set of its source, or one after the source was lost.
func (c *Cache) Load(t resource.Topic, entries map[string]Entry) {
	p := c.at(t, true)
	defer p.mu.Unlock()
	before := p.entries
	p.entries = maps.Clone(entries)
	if p.entries == nil {
		p.entries = make(map[string]Entry)
	}
	if !p.loaded {
		p.loaded = true
		for f := range p.followers {
			f.owner.dirtyAll(f)
		}
		return
	}
	for name, e := range p.entries {
		p.changed(name, before[name], e)
	}
	for name, e := range before {
		if _, ok := p.entries[name]; !ok {
			p.changed(name, e, Entry{})
		}
	}
}

// Set changes one resource of a topic; an empty entry removes it. A topic that was not loaded stays so.
func (c *Cache) Set(t resource.Topic, name string, e Entry) {
	p := c.at(t, true)
	defer p.mu.Unlock()
	before := p.entries[name]
	if e.Stable == nil && e.Candidate == nil {
		delete(p.entries, name)
	} else {
		p.entries[name] = e
	}
	p.changed(name, before, e)
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
	for f := range p.followers {
		out = append(out, f.owner.Node)
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

// changed tells those whose version of a resource is another one now. The lock is held.
func (p *topic) changed(name string, before, now Entry) {
	if before.Wave == nil && now.Wave == nil {
		if p.loaded && version(before.Stable) != version(now.Stable) {
			for f := range p.followers {
				f.owner.dirty(f, name)
			}
		}
		return
	}
	for f := range p.followers {
		if p.loaded && version(before.For(f.owner.Node)) != version(now.For(f.owner.Node)) {
			f.owner.dirty(f, name)
		}
	}
}
