package octomesh

import (
	"fmt"
	"time"

	"github.com/octomesh/octomesh/sdks/go/internal/directory"
	"github.com/octomesh/octomesh/sdks/go/internal/fallback"
	"github.com/octomesh/octomesh/sdks/go/internal/meshswitch"
)

// ChannelStatus is where a channel's calls go, and why, for people. Programs that need to know about one call take [CapturePath].
type ChannelStatus struct {
	Target string
	// Proxy is the state of the way to the local proxy: "none", "mesh", "suspect", "direct", "probe" or "returning".
	Proxy string
	// Permille is how many of 1000 calls take the mesh by the switch, and Tenths how much of that the mesh gets now: 10, or less while it
	// is coming back, 0 while it is away.
	Permille, Tenths int
	// By is who decides the switch: "target", which forbids direct calls, "file", "environment", "console" or "default".
	By string
	// Revision is that of the console's switch; 0: there is none.
	Revision uint64
	// Direct is how many instances can be called direct, by this process' knowledge.
	Direct int
	// Source is whose word the instances are: "option", "proxy", "control plane", "disk" or "none", and Age how old it is.
	Source string
	Age    time.Duration
	// Stale: nobody vouches for it any more.
	Stale bool
	// Fallback: calls go the other way when one fails.
	Fallback bool
}

// String returns it in a line.
func (s ChannelStatus) String() string {
	fresh := ""
	if s.Stale {
		fresh = ", stale"
	}
	return fmt.Sprintf("%s: %d permille by the mesh (%s, revision %d), proxy %s (%d/10), %d instances by %s (%v old%s)",
		s.Target, s.Permille, s.By, s.Revision, s.Proxy, s.Tenths, s.Direct, s.Source, s.Age.Round(time.Millisecond), fresh)
}

// Status returns where the channel's calls go, and why.
func (ch *Channel) Status() ChannelStatus {
	s := ChannelStatus{Target: ch.target, Proxy: "none", Source: "none", By: meshswitch.ByDefault.String()}
	r := ch.way
	if r == nil { // of one process
		s.Source, s.Direct = "option", 1
		return s
	}
	d := r.decision()
	s.Permille, s.By = int(d.Permille), d.By.String()
	s.Fallback = d.ways.Mesh && d.ways.Direct && !d.ways.Pinned
	if r.mesh != nil {
		state, tenths := r.mesh.peer.guard.look()
		s.Proxy, s.Tenths = state.String(), tenths
		if state == fallback.Suspect {
			s.Tenths = 0
		}
	}
	if direct := r.direct(); direct != nil {
		s.Direct = direct.count()
	}
	if r.known != nil {
		r.known.describe(&s)
	}
	if r.fixed != nil {
		s.Source, s.Age, s.Stale = "option", 0, false
	}
	return s
}

// describe says what is known, and by whom.
func (w *watcher) describe(s *ChannelStatus) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Since(w.begun)
	counts := w.sources.Counts(now)
	s.Source = counts.String()
	s.Age = w.sources.Age(counts, now)
	s.Stale = counts != directory.Nobody && !w.sources.Fresh(counts)
	if held := w.sources.Switch(); held != nil {
		s.Revision = held.Revision
	}
}
