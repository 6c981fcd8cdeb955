package octomesh

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/octomesh/octomesh/sdks/go/internal/fallback"
)

// guard keeps the states of the way to one proxy (S-STATE): its peer tells it what happens, it has the peer dialed and pinged, and calls ask
// it where to go. What has happened is looked at under its lock, which is taken before that of the peer: a word that has become
// untrue before it came here says nothing.
type guard struct {
	peer  *peer
	begun time.Time
	// tenths is what calls need most of the time: how much of its share the mesh gets, 0 for nothing, or unsure.
	tenths atomic.Int32

	mu      sync.Mutex
	path    fallback.Path
	changed chan struct{} // closed with the next event
	kick    chan struct{} // has a token when the time to wake may be another one
}

// unsure says that a call has to look closer.
const unsure = -1

func newGuard(p *peer) *guard {
	g := &guard{peer: p, begun: time.Now(), path: fallback.New(), changed: make(chan struct{}), kick: make(chan struct{}, 1)}
	g.tenths.Store(fallback.Steps)
	return g
}

// on takes an event. l is the link that it is about.
func (g *guard) on(e fallback.Event, l *link) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.peer.ctx.Err() != nil || g.outdated(e, l) {
		return
	}
	before := g.path
	switch g.path.On(e, time.Since(g.begun), rand.Float64()) {
	case fallback.Dial:
		g.peer.redial()
	case fallback.Ping:
		g.peer.wg.Go(l.ping)
	}
	// A connection that stands, and a wait that is over, are news without another state. What is none wakes nobody: those who
	// wait for a connection ask for it each time that they wake.
	if g.path != before || e == fallback.Welcomed || e == fallback.Due {
		g.publish()
	}
}

// outdated tells whether something else has come in between.
func (g *guard) outdated(e fallback.Event, l *link) bool {
	switch e {
	case fallback.Need:
		return !g.peer.idle()
	case fallback.Lost, fallback.Gone, fallback.Failed:
		return g.peer.usable() != nil
	case fallback.Missed:
		return !l.overdue.Load() || g.peer.current.Load() != l
	case fallback.Alive, fallback.Welcomed, fallback.Answered:
		return g.peer.current.Load() != l
	}
	return false
}

// publish shows the state to calls. The lock must be held.
func (g *guard) publish() {
	switch advice, _ := g.path.Calls(time.Since(g.begun)); advice {
	case fallback.GoMesh:
		g.tenths.Store(int32(g.path.Scale))
	case fallback.GoDirect:
		g.tenths.Store(0)
	default:
		g.tenths.Store(unsure)
	}
	close(g.changed)
	g.changed = make(chan struct{})
	signal(g.kick)
}

// run wakes the path when its time has come, until the peer closes.
func (g *guard) run() {
	t := time.NewTimer(time.Hour)
	defer t.Stop()
	for {
		g.mu.Lock()
		at, ok := g.path.Wake()
		if advice, until := g.path.Calls(time.Since(g.begun)); advice == fallback.Wait {
			at, ok = until, true
		}
		g.mu.Unlock()
		wait := time.Hour
		if ok {
			wait = time.Until(g.begun.Add(at))
		}
		t.Reset(wait)
		select {
		case <-t.C:
			g.on(fallback.Due, nil)
		case <-g.kick:
		case <-g.peer.ctx.Done():
			return
		}
	}
}

// look returns the state for people.
func (g *guard) look() (state fallback.State, tenths int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.path.State, g.path.Scale
}

// now is what the state means for a call, and the channel that closes when that may change.
func (g *guard) now() (fallback.Advice, <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	advice, _ := g.path.Calls(time.Since(g.begun))
	return advice, g.changed
}

// advice is what the state means for a call that could go direct, after the wait that it asks for.
func (g *guard) advice(w waiter) (fallback.Advice, *Error) {
	if g.tenths.Load() > 0 && g.peer.usable() != nil {
		return fallback.GoMesh, nil
	}
	g.on(fallback.Need, nil)
	for {
		advice, changed := g.now()
		if advice != fallback.Wait {
			return advice, nil
		}
		if err := w.await(changed); err != nil {
			return advice, err
		}
	}
}
