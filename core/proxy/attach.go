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
	current atomic.Pointer[map[string][]*session.Session]
}

func (a *attached) load() map[string][]*session.Session {
	if m := a.current.Load(); m != nil {
		return *m
	}
	return nil
}

func (a *attached) has(target []byte) bool { return len(a.load()[string(target)]) > 0 }

// pick returns, of two instances taken at random, the one with fewer calls.
func (a *attached) pick(target []byte) *session.Session {
	all := a.load()[string(target)]
	switch n := len(all); n {
	case 0:
		return nil
	case 1:
		return all[0]
	default:
		i := rand.IntN(n)
		j := (i + 1 + rand.IntN(n-1)) % n
		if all[j].OpenCalls() < all[i].OpenCalls() {
			return all[j]
		}
		return all[i]
	}
}

// add puts an instance into rotation for the targets that it serves.
func (a *attached) add(s *session.Session) {
	a.change(func(m map[string][]*session.Session) {
		for _, t := range s.Peer().Targets {
			if !slices.Contains(m[t], s) {
				m[t] = append(slices.Clone(m[t]), s)
			}
		}
	})
}

// remove takes an instance out of rotation.
func (a *attached) remove(s *session.Session) {
	a.change(func(m map[string][]*session.Session) {
		for _, t := range s.Peer().Targets {
			rest := slices.DeleteFunc(slices.Clone(m[t]), func(o *session.Session) bool { return o == s })
			if len(rest) == 0 {
				delete(m, t)
			} else {
				m[t] = rest
			}
		}
	})
}

func (a *attached) change(f func(map[string][]*session.Session)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := maps.Clone(a.load())
	if next == nil {
		next = make(map[string][]*session.Session)
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
