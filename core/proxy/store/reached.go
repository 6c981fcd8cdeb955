package store

import (
	"slices"
	"sync"

	"github.com/octomesh/octomesh/core/proxy/cluster"
	"github.com/octomesh/octomesh/core/proxy/route"
)

// reached is the mesh addresses of endpoints in rotation, with who is expected there.
type reached struct {
	mu sync.RWMutex
	at map[string]*place
}

// place is one address.
type place struct {
	peer      cluster.Peer
	endpoints []*cluster.Endpoint // of the current generation
}

// peerFunc makes peers, once for each address; nil: there are none.
func (s *Store) peerFunc() func(string) cluster.Peer {
	if s.cfg.NewPeer == nil {
		return nil
	}
	return func(address string) cluster.Peer {
		s.reached.mu.RLock()
		p := s.reached.at[address]
		s.reached.mu.RUnlock()
		if p == nil {
			p = &place{peer: s.cfg.NewPeer(address)}
			s.reached.mu.Lock()
			s.reached.at[address] = p
			s.reached.mu.Unlock()
		}
		return p.peer
	}
}

// move takes a new table's endpoints in, and returns the addresses that have none any more, which it forgets.
func (r *reached) move(d route.Delta) (gone []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range d.Came {
		if !e.InRotation() {
			continue
		}
		p := r.at[e.MeshAddress]
		if p == nil { // there are no peers
			p = &place{}
			r.at[e.MeshAddress] = p
		}
		p.endpoints = append(p.endpoints, e)
	}
	for _, e := range d.Gone {
		p := r.at[e.MeshAddress]
		if p == nil || !e.InRotation() {
			continue
		}
		p.endpoints = slices.DeleteFunc(p.endpoints, func(o *cluster.Endpoint) bool { return o == e })
		if len(p.endpoints) == 0 {
			delete(r.at, e.MeshAddress)
			gone = append(gone, e.MeshAddress)
		}
	}
	return gone
}

// touched are the addresses in a delta.
func touched(d route.Delta) []string {
	out := make([]string, 0, len(d.Came)+len(d.Gone))
	for _, list := range [][]*cluster.Endpoint{d.Came, d.Gone} {
		for _, e := range list {
			if e.InRotation() {
				out = append(out, e.MeshAddress)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Expects tells whether a peer of a proved identity, or of none, may answer at a mesh address: for one of the endpoints
// there at least, or if there is none.
func (s *Store) Expects(address, identity string) bool {
	s.reached.mu.RLock()
	defer s.reached.mu.RUnlock()
	p := s.reached.at[address]
	if p == nil || len(p.endpoints) == 0 {
		return true
	}
	return slices.ContainsFunc(p.endpoints, func(e *cluster.Endpoint) bool { return e.Expects(identity) })
}
