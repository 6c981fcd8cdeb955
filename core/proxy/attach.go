package proxy

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/octomesh/octomesh/core/proxy/session"
)

// attached is the local instances that serve, by target. Readers see one immutable map.
type attached struct {
	mu      sync.Mutex
	changed chan struct{} // closed, and made anew, at each change; nil: nobody waits
	current atomic.Pointer[map[string][]member]
}

func (a *attached) load() map[string][]member {
	if m := a.current.Load(); m != nil {
		return *m
	}
	return nil
}

func (a *attached) has(target []byte) bool { return len(a.load()[string(target)]) > 0 }

// member is an instance as calls come to it: by the connection that it has opened, or by one that the proxy keeps to it.
type member struct {
	session *session.Session // nil: it is a server
	server  *server
}

// now returns the connection that takes calls; nil: none does.
func (m member) now() *session.Session {
	if m.server != nil {
		return m.server.session()
	}
	return m.session
}

// pick returns, of two instances taken at random, the one with fewer calls, and its connection; without one: no instance has
// one, and the member, if there is any, is to be dialed.
func (a *attached) pick(target []byte) (member, *session.Session) {
	all := a.load()[string(target)]
	n := len(all)
	switch n {
	case 0:
		return member{}, nil
	case 1:
		return all[0], all[0].now()
	}
	i := rand.IntN(n)
	m, s := all[i], all[i].now()
	other := all[(i+1+rand.IntN(n-1))%n]
	if t := other.now(); t != nil && (s == nil || t.OpenCalls() < s.OpenCalls()) {
		m, s = other, t
	}
	for k := 0; s == nil && k < n; k++ {
		if t := all[k].now(); t != nil {
			m, s = all[k], t
		}
	}
	return m, s
}

// add puts an instance into rotation for its targets.
func (a *attached) add(m member, targets []string) {
	a.change(func(all map[string][]member) {
		for _, t := range targets {
			if !slices.Contains(all[t], m) {
				all[t] = append(slices.Clone(all[t]), m)
			}
		}
	})
}

// remove takes an instance out of rotation.
func (a *attached) remove(s *session.Session) {
	a.change(func(all map[string][]member) {
		for _, t := range s.Peer().Targets {
			rest := slices.DeleteFunc(slices.Clone(all[t]), func(m member) bool { return m.session == s })
			if len(rest) == 0 {
				delete(all, t)
			} else {
				all[t] = rest
			}
		}
	})
}

func (a *attached) change(f func(map[string][]member)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := maps.Clone(a.load())
	if next == nil {
		next = make(map[string][]member)
	}
	f(next)
	a.current.Store(&next)
	if a.changed != nil {
		close(a.changed)
		a.changed = nil
	}
}

// changes returns a channel that closes at the next change.
func (a *attached) changes() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.changed == nil {
		a.changed = make(chan struct{})
	}
	return a.changed
}
