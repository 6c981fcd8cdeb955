package store

import (
	"iter"
	"slices"
	"sync"

	"github.com/octomesh/octomesh/core/proxy/cluster"
	"github.com/octomesh/octomesh/core/proxy/route"
)

// reached is the places of endpoints in rotation, with who is expected there.
type reached struct {
	mu sync.RWMutex
	at map[cluster.Place]*place
}

// place is one of them.
type place struct {
	peer      cluster.Peer
	endpoints []*cluster.Endpoint // of the current generation
}

// peerFunc makes peers, once for each place; nil: there are none.
func (s *Store) peerFunc() func(cluster.Place) cluster.Peer {
	if s.cfg.NewPeer == nil {
		return nil
	}
	return func(at cluster.Place) cluster.Peer {
		s.reached.mu.RLock()
		p := s.reached.at[at]
		s.reached.mu.RUnlock()
		if p == nil {
			p = &place{peer: s.cfg.NewPeer(at)}
			s.reached.mu.Lock()
			s.reached.at[at] = p
			s.reached.mu.Unlock()
		}
		return p.peer
	}
}

// move takes a new table's endpoints in, and returns the places that have none any more, which it forgets.
func (r *reached) move(d route.Delta) (gone []cluster.Place) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for e, at := range places(d.Came) {
		p := r.at[at]
		if p == nil { // there are no peers
			p = &place{}
			r.at[at] = p
		}
		p.endpoints = append(p.endpoints, e)
	}
	for e, at := range places(d.Gone) {
		p := r.at[at]
		if p == nil {
			continue
		}
		p.endpoints = slices.DeleteFunc(p.endpoints, func(o *cluster.Endpoint) bool { return o == e })
		if len(p.endpoints) == 0 {
			delete(r.at, at)
			gone = append(gone, at)
		}
	}
	return gone
}

// places yields where the endpoints that are in rotation are reached.
func places(all []*cluster.Endpoint) iter.Seq2[*cluster.Endpoint, cluster.Place] {
	return func(yield func(*cluster.Endpoint, cluster.Place) bool) {
		for _, e := range all {
			if !e.InRotation() {
				continue
			}
			for at := range e.Places {
				if !yield(e, at) {
					return
				}
			}
		}
	}
}

// touched are the mesh addresses in a delta.
func touched(d route.Delta) []string {
	out := make([]string, 0, len(d.Came)+len(d.Gone))
	for _, list := range [][]*cluster.Endpoint{d.Came, d.Gone} {
		for _, at := range places(list) {
			if !at.Direct {
				out = append(out, at.Address)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Expects tells whether a peer of a proved identity, or of none, may answer at a place: at a mesh address for one of the
// endpoints there at least, or if there is none; at an instance's own address whom it names alone.
func (s *Store) Expects(at cluster.Place, identity string) bool {
	if at.Direct {
		return identity == at.Identity
	}
	s.reached.mu.RLock()
	defer s.reached.mu.RUnlock()
	p := s.reached.at[at]
	if p == nil || len(p.endpoints) == 0 {
		return true
	}
	return slices.ContainsFunc(p.endpoints, func(e *cluster.Endpoint) bool { return e.Expects(identity) })
}
