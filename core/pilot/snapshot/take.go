package snapshot

import (
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
	// Bytes is the size of all elements, and of what is removed.
	Bytes int

	later bool // what is removed waits on
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

// Take takes what waits, of one kind, as much as fits into limit bytes, but at least one resource. ok is false if
// there is nothing to tell; Kept may have something all the same. Versions are read here and not when they changed: what is told is the newest.
func (f *Follower) Take(limit int) (u Update, ok bool) {
	for kind := range resource.Kinds {
		if u.take(f, kind, limit) {
			return u, true
		}
	}
	f.mu.Lock()
	derived := f.derived != nil
	f.mu.Unlock()
	if derived {
		return f.takeDerived(u, func(resource.Kind, bool) int { return limit })
	}
	return u, false
}

// TakeDerived is Take for who follows derived kinds only. limit is asked for each kind, first for what is new and then for what is
// removed; where it is 0 the kind waits on.
func (f *Follower) TakeDerived(limit func(kind resource.Kind, removed bool) int) (Update, bool) {
	return f.takeDerived(Update{}, limit)
}

// takeDerived is Take for the kinds that are derived. What is new goes first in their order, then what is removed in the
// opposite one: so nothing leads to what is not there.
func (f *Follower) takeDerived(u Update, limit func(resource.Kind, bool) int) (Update, bool) {
	u.later = true
	for kind := resource.Kinds; kind < resource.AllKinds; kind++ {
		if n := limit(kind, false); n > 0 && u.take(f, kind, n) {
			return u, true
		}
	}
	u.later = false
	for kind := resource.AllKinds - 1; kind >= resource.Kinds; kind-- {
		if n := limit(kind, true); n > 0 && u.take(f, kind, n) {
			return u, true
		}
	}
	return u, false
}

// take takes what waits of one kind. It tells whether there was anything.
func (u *Update) take(f *Follower, kind resource.Kind, limit int) bool {
	u.Kind = kind
	// What begins to wait from here on is for the next update, or one might say of a resource both that it is
	// there and that it is not.
	queue := f.dequeue(kind)
	for fits := true; fits && len(queue) > 0; {
		g := queue[0]
		queue = queue[1:]
		if w, ok := f.begin(g); ok {
			fits = u.add(f, g, w, limit)
		}
	}
	f.requeue(kind, queue)
	return len(u.Told)+len(u.Removed) > 0
}

// Changed is what is new of a topic.
type Changed struct {
	Topic resource.Topic
	// All says that anything may be; else Names are.
	All   bool
	Names []string
}

// Changed takes what waits for a follower that reads the cache itself.
func (f *Follower) Changed() []Changed {
	var all []Changed
	for kind := range resource.Kinds {
		for _, g := range f.dequeue(kind) {
			if w, ok := f.begin(g); ok {
				all = append(all, Changed{g.topic.Topic, w.all, w.names})
			}
		}
	}
	return all
}

// waiting is what one following waits to be told.
type waiting struct {
	all   bool
	names []string
	have  map[string]string
}

// dequeue takes all followings of a kind that wait.
func (f *Follower) dequeue(kind resource.Kind) []*Following {
	f.mu.Lock()
	defer f.mu.Unlock()
	waiting := f.queueOf(kind)
	queue := *waiting
	*waiting = nil
	return queue
}

// requeue puts the rest of a queue before what has come since.
func (f *Follower) requeue(kind resource.Kind, rest []*Following) {
	if len(rest) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	waiting := f.queueOf(kind)
	*waiting = append(slices.Clip(rest), *waiting...)
}

// begin takes what a following waits for; ok is false if it is over.
func (f *Follower) begin(g *Following) (w waiting, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w = waiting{g.all, g.names.list(), g.have}
	g.queued, g.all, g.names = false, false, names{}
	if w.all {
		g.have = nil
	}
	return w, !g.over
}

// overhead is what a removed name costs beside its own bytes, at most.
const overhead = 3

// add reads what a following waits for from its topic. If not all fits, the rest waits on.
func (u *Update) add(f *Follower, g *Following, w waiting, limit int) (fits bool) {
	p := g.topic
	p.mu.RLock()
	defer p.mu.RUnlock()
	if w.all {
		w.names = u.compare(f, p, w)
	}
	if len(w.names) > 1 {
		slices.Sort(w.names)
		w.names = slices.Compact(w.names)
	}
	var later []string
	for i, name := range w.names {
		r := p.entries[name].For(f.Node)
		if r == nil && u.later {
			later = append(later, name)
			continue
		}
		if r != nil {
			if u.full(len(r.Element), limit) {
				f.again(g, append(later, w.names[i:]...))
				return false
			}
			u.Told = append(u.Told, Told{p.Topic, r})
			u.Bytes += len(r.Element)
			continue
		}
		full := p.FullName(name)
		if u.full(len(full)+overhead, limit) {
			f.again(g, w.names[i:])
			return false
		}
		u.Removed = append(u.Removed, full)
		u.Bytes += len(full) + overhead
	}
	if len(later) > 0 {
		f.again(g, later)
	}
	return true
}

// full tells whether so many bytes more are too many. A first resource always fits.
func (u *Update) full(bytes, limit int) bool {
	return u.Bytes > 0 && u.Bytes+bytes > limit
}

// again has names wait for the next update. Who takes now knows that without being notified.
func (f *Follower) again(g *Following, rest []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if g.over {
		return
	}
	for _, name := range rest {
		g.names.add(name)
	}
	f.enqueue(g)
}

// compare returns the names of what differs from what the follower has, and of what has changed since it was told. That
// there is nothing at all is told, too.
func (u *Update) compare(f *Follower, p *topic, w waiting) []string {
	all := w.names
	any := false
	for name, e := range p.entries {
		r := e.For(f.Node)
		any = any || r != nil
		switch {
		case w.have[name] != version(r):
			all = append(all, name)
		case e.Wave != nil:
			u.Kept = append(u.Kept, Kept{p.Topic, name, w.have[name]})
		}
	}
	for name := range w.have {
		if p.entries[name].For(f.Node) == nil {
			all = append(all, name)
		}
	}
	switch {
	case any || len(w.have) > 0:
	case p.Kind.Derived():
		all = append(all, "") // stands for the topic
	default:
		u.Removed = append(u.Removed, p.Name())
		u.Bytes += len(p.Name()) + overhead
	}
	return all
}
