package snapshot

import (
	"maps"
	"slices"
)

// Update is what a follower is told at once: all of one kind.
type Update struct {
	Kind Kind
	// Told are the resources that it has now, by topic.
	Told []Told
	// Removed are full names of what is not there any more, or never was: of a collection without any resource, the topic's.
	Removed []string
	// Bytes is the size of all elements.
	Bytes int
}

// Told is one resource of one topic.
type Told struct {
	Topic    Topic
	Resource *Resource
}

// Take takes what waits, of one kind, as much as fits into about limit bytes and at least one resource. ok is false if
// nothing waits. Versions are read here and not when they changed: what is told is the newest.
func (f *Follower) Take(limit int) (u Update, ok bool) {
	for kind := range Kinds {
		u.Kind = kind
		for u.Bytes < limit {
			g, w := f.next(kind)
			if g == nil {
				break
			}
			u.add(f, g, w, limit)
		}
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

// next takes the first following of a kind that waits.
func (f *Follower) next(kind Kind) (*Following, waiting) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.waiting[kind]) > 0 {
		g := f.waiting[kind][0]
		f.waiting[kind][0] = nil
		if f.waiting[kind] = f.waiting[kind][1:]; len(f.waiting[kind]) == 0 {
			f.waiting[kind] = nil
		}
		w := waiting{g.all, g.names, g.have}
		g.queued, g.all, g.names = false, false, nil
		if w.all {
			g.have = nil
		}
		if !g.over {
			return g, w
		}
	}
	return nil, waiting{}
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
		if r := e.For(f.Node); r != nil {
			any = true
			if have[name] != r.Version {
				names[name] = struct{}{}
			}
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
