// Package fleet is who runs where, and what was measured there, as one process of the control plane hears it: by the proxies
// that speak to its Pilot, and by the SDKs that ask its Directory.
package fleet

import (
	"cmp"
	"slices"
	"sync"

	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"

	"github.com/octomesh/octomesh/core/resource"
)

// Bounds of a roster.
const (
	// maxOfProxy is how many processes one proxy may tell of.
	maxOfProxy = 1000
	// maxOfAll is how many are kept.
	maxOfAll = 1_000_000
)

// Roster is who runs where. Its methods are safe for concurrent use.
type Roster struct {
	mu      sync.Mutex
	sources map[*Source]struct{}
	total   int
	passed  uint64 // processes for which there was no room
}

// NewRoster makes an empty one.
func NewRoster() *Roster { return &Roster{sources: make(map[*Source]struct{})} }

// Source is one from whom it is known who is there: a proxy, or the process' own Directory.
type Source struct {
	roster      *Roster
	environment string
	most        int

	// Guarded by the roster's lock. Messages are replaced, and never changed.
	proxy *controlv1.Proxy // nil: a Directory
	here  map[ID]*controlv1.Process
}

// Open adds a source, of whom nobody is known yet; proxy is nil for a Directory. Close it when it is not heard any more. A nil
// roster has sources that keep nothing.
func (r *Roster) Open(environment string, proxy *controlv1.Proxy) *Source {
	if r == nil {
		return nil
	}
	s := &Source{roster: r, environment: environment, proxy: proxy, most: maxOfProxy, here: make(map[ID]*controlv1.Process)}
	if proxy == nil {
		s.most = maxPresent
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sources[s] = struct{}{}
	return s
}

// Close forgets the source, and all that it has said.
func (s *Source) Close() {
	if s == nil {
		return
	}
	s.roster.mu.Lock()
	defer s.roster.mu.Unlock()
	if _, open := s.roster.sources[s]; open {
		delete(s.roster.sources, s)
		s.roster.total -= len(s.here)
		clear(s.here)
	}
}

// Attended takes what has changed.
func (s *Source) Attended(a *controlv1.Attendance) {
	if s == nil {
		return
	}
	s.roster.mu.Lock()
	defer s.roster.mu.Unlock()
	for _, p := range a.GetGone() {
		s.gone(p)
	}
	for _, p := range a.GetHere() {
		s.came(p)
	}
}

// Tell takes one change, as a [Presence] tells it.
func (s *Source) Tell(p *controlv1.Process, here bool) {
	if s == nil {
		return
	}
	s.roster.mu.Lock()
	defer s.roster.mu.Unlock()
	if here {
		s.came(p)
	} else {
		s.gone(p)
	}
}

func (s *Source) gone(p *controlv1.Process) {
	if _, known := s.here[IDOf(p)]; known {
		delete(s.here, IDOf(p))
		s.roster.total--
	}
}

func (s *Source) came(p *controlv1.Process) {
	if _, open := s.roster.sources[s]; !open || !sound(p) {
		return
	}
	if _, known := s.here[IDOf(p)]; !known {
		if len(s.here) >= s.most || s.roster.total >= maxOfAll {
			s.roster.passed++
			return
		}
		s.roster.total++
	}
	s.here[IDOf(p)] = p
}

// sound tells whether what is said of a process can be, and is not more than is kept of one.
func sound(p *controlv1.Process) bool {
	if !resource.IsName(p.GetApplication()) || !resource.IsName(p.GetInstance()) || p.GetNode() != "" && !resource.IsName(p.GetNode()) {
		return false
	}
	if max(len(p.GetSdk()), len(p.GetSdkVersion()), len(p.GetRuntime())) > maxWord || len(p.GetFeatures()) > maxFeatures || len(p.GetTargets()) > maxTargets {
		return false
	}
	long := func(f string) bool { return len(f) > maxWord }
	bad := func(t string) bool { return !resource.IsName(t) }
	return !slices.ContainsFunc(p.GetFeatures(), long) && !slices.ContainsFunc(p.GetTargets(), bad)
}

// Fares takes how a proxy fares.
func (s *Source) Fares(c *controlv1.Condition) {
	if s == nil {
		return
	}
	s.roster.mu.Lock()
	defer s.roster.mu.Unlock()
	old := s.proxy
	s.proxy = &controlv1.Proxy{
		Instance: old.GetInstance(), Incarnation: old.GetIncarnation(), SoftwareVersion: old.GetSoftwareVersion(), Zone: old.GetZone(),
		Since: old.GetSince(), Condition: c,
	}
}

// Seen are the processes of an environment, and of an application unless that is empty, sorted by application, node and
// instance.
func (r *Roster) Seen(environment, application string) []*controlv1.Seen {
	var out []*controlv1.Seen
	r.mu.Lock()
	for s := range r.sources {
		if s.environment != environment {
			continue
		}
		for _, p := range s.here {
			if application == "" || p.GetApplication() == application {
				out = append(out, &controlv1.Seen{Process: p, Proxy: s.proxy})
			}
		}
	}
	r.mu.Unlock()
	Sort(out)
	return out
}

// Sort orders by application, node, instance, incarnation and proxy.
func Sort(all []*controlv1.Seen) {
	slices.SortFunc(all, func(a, b *controlv1.Seen) int {
		p, q := a.GetProcess(), b.GetProcess()
		return cmp.Or(cmp.Compare(p.GetApplication(), q.GetApplication()), cmp.Compare(p.GetNode(), q.GetNode()),
			cmp.Compare(p.GetInstance(), q.GetInstance()), cmp.Compare(p.GetIncarnation(), q.GetIncarnation()),
			cmp.Compare(a.GetProxy().GetInstance(), b.GetProxy().GetInstance()))
	})
}

// Unite has each process once, of a sorted list: one that is seen by its proxy and by a Directory too has a proxy.
func Unite(all []*controlv1.Seen) []*controlv1.Seen {
	same := func(a, b *controlv1.Seen) bool { return IDOf(a.GetProcess()) == IDOf(b.GetProcess()) }
	by := make(map[ID]*controlv1.Seen, len(all))
	for _, s := range all {
		if old := by[IDOf(s.GetProcess())]; old == nil || old.GetProxy() == nil && s.GetProxy() != nil {
			by[IDOf(s.GetProcess())] = s
		}
	}
	out := make([]*controlv1.Seen, 0, len(by))
	for _, s := range by {
		out = append(out, s)
	}
	Sort(out)
	return slices.CompactFunc(out, same)
}

// Stats are counts.
type Stats struct {
	Processes, Proxies int
	// Passed are times that somebody came for whom there was no room.
	Passed uint64
}

// Stats returns the counts.
func (r *Roster) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := Stats{Processes: r.total, Passed: r.passed}
	for s := range r.sources {
		if s.proxy != nil {
			st.Proxies++
		}
	}
	return st
}
