package snapshot

import (
	"maps"
	"slices"

	"github.com/octomesh/octomesh/core/resource"
)

// Update is what a follower is told at once: all of one kind.
type Update struct {
	Kind resource.Kind
	// Told are the resources that it has now, by topic.
	Told []Told
	// Removed are full names of what is not there any more, or never was: of a collection without any resource, the topic's.
	Removed []string
	// Kept are resources that are being rolled out of which the follower has already what it is to have: nothing has to be
	// told. They may be of other kinds.
	Kept []Kept
	// Bytes is the size of all elements.
	Bytes int
}

// Told is one resource of one topic.
type Told struct {
	Topic    resource.Topic
	Resource *Resource
}

// Kept is one resource, in the version that a follower has; "": none.
type Kept struct {
	Topic         resource.Topic
	Name, Version string
}

// Take takes what waits, of one kind, as much as fits into about limit bytes and at least one resource. ok is false if
// there is nothing to tell; Kept may have something all the same. Versions are read here and not when they changed: what is told is the newest.
func (f *Follower) Take(limit int) (u Update, ok bool) {
	for kind := range resource.Kinds {
		u.Kind = kind
		// What begins to wait from here on is for the next update, or one might say of a resource both that it is
		// there and that it is not.
		queue := f.dequeue(kind)
		for len(queue) > 0 && u.Bytes < limit {
			g := queue[0]
			queue = queue[1:]
			if w, ok := f.begin(g); ok {
				u.add(f, g, w, limit)
			}
		}
		f.requeue(kind, queue)
		if len(u.Told)+len(u.Removed) > 0 {
			return u, true
		}
	}
	return u, false
}

// waiting is what one following waits to be told.
type waiting struct {
	all   bool
	names map[string]struct{}
	have  map[string]string
}

// dequeue takes all followings of a kind that wait.
func (f *Follower) dequeue(kind resource.Kind) []*Following {
	f.mu.Lock()
	defer f.mu.Unlock()
	queue := f.waiting[kind]
	f.waiting[kind] = nil
	return queue
}

// requeue puts the rest of a queue before what has come since.
func (f *Follower) requeue(kind resource.Kind, rest []*Following) {
	if len(rest) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting[kind] = append(slices.Clip(rest), f.waiting[kind]...)
}

// begin takes what a following waits for; ok is false if it is over.
func (f *Follower) begin(g *Following) (w waiting, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w = waiting{g.all, g.names, g.have}
	g.queued, g.all, g.names = false, false, nil
	if w.all {
		g.have = nil
	}
	return w, !g.over
}

// add reads what a following waits for from its topic.
func (u *Update) add(f *Follower, g *Following, w waiting, limit int) {
	p := f.cache.at(g.Topic, true)
	defer p.mu.Unlock()
	names := w.names
	if w.all {
		names = u.compare(f, g, p, w.have)
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if u.Bytes >= limit && len(u.Told) > 0 {
			f.dirty(g, name) // another time
			continue
		}
		r := p.entries[name].For(f.Node)
		if r == nil {
			u.Removed = append(u.Removed, g.FullName(name))
			continue
		}
		u.Told = append(u.Told, Told{g.Topic, r})
		u.Bytes += len(r.Element)
	}
}

// compare returns the names of what differs from what the follower has. That there is nothing at all is told, too.
func (u *Update) compare(f *Follower, g *Following, p *topic, have map[string]string) map[string]struct{} {
	names := make(map[string]struct{})
	any := false
	for name, e := range p.entries {
		r := e.For(f.Node)
		any = any || r != nil
		switch {
		case have[name] != version(r):
			names[name] = struct{}{}
		case e.Wave != nil:
			u.Kept = append(u.Kept, Kept{g.Topic, name, have[name]})
		}
	}
	for name := range have {
		if p.entries[name].For(f.Node) == nil {
			names[name] = struct{}{}
		}
	}
	if !any && len(have) == 0 {
		u.Removed = append(u.Removed, g.Name())
	}
	return names
}
