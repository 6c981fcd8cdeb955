package octomesh

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
	"github.com/octomesh/octomesh/sdks/go/internal/balancer"
	"github.com/octomesh/octomesh/sdks/go/internal/directory"
	"github.com/octomesh/octomesh/sdks/go/internal/fallback"
	"github.com/octomesh/octomesh/sdks/go/internal/meshswitch"
	"github.com/octomesh/octomesh/sdks/go/internal/state"
)

// sourceKey is what channels must have in common to learn from the same streams.
type sourceKey struct {
	peerKey
	mode, directories, node, zone, state, server string
	tls                                          TLS
}

// source is where channels of the process learn of targets: a proxy, Directories of the control plane, a directory on the disk. It
// takes reports, too.
type source struct {
	key    sourceKey
	cfg    *config
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	proxy  *Channel // to its Directory; nil: none
	users  int      // guarded by the process's lock

	reporter reporter

	mu       sync.Mutex
	begun    bool
	watchers map[string]*watcher
	plane    *Channel // while somebody asks it
	asking   int
}

// watcher knows one target, for all channels to it.
type watcher struct {
	source *source
	target string
	users  int // guarded by the source's lock
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	pool  *pool
	view  atomic.Pointer[view]
	paths [2]pathStats // of mesh and direct
	begun time.Time

	// settled: calls need not wait any more for a first word. firstWord closes then. heard closes with the word itself, or once nobody
	// is left to have one.
	settled          atomic.Bool
	firstWord, heard chan struct{}

	mu      sync.Mutex
	sources directory.Sources
	words   [directory.Nobody]*directoryv1.WatchResponse // the last known of each
	silent  [directory.Nobody]bool                       // those that could not be asked, or are not there
	inUse   *directoryv1.WatchResponse
	ask     bool
	changed chan struct{} // closed when ask has changed
	unsaved bool
	save    chan struct{} // has a token when something is to be kept
}

// view is what is known of a target beside its instances.
type view struct {
	console   *meshswitch.Console
	forbidden bool
	source    directory.Source
}

// firstWordWait is how long the first calls wait for what a Directory says.
const firstWordWait = 50 * time.Millisecond

var watchMethod = Method{Service: "octo.directory.v1.Directory", Name: "Watch", Kind: ServerStreaming}

// watch returns the process's watcher of a target, as a configuration asks for it.
func watch(cfg *config, target string) *watcher {
	key := sourceKey{
		peerKey: peerKey{cfg.proxy, cfg.environment, cfg.application, cfg.instance, cfg.limits},
		mode:    cfg.mode, directories: strings.Join(cfg.directory, ","), node: cfg.node, zone: cfg.zone, state: cfg.state, server: cfg.server,
	}
	if cfg.tls != nil {
		key.tls = *cfg.tls
	}
	p := process
	p.mu.Lock()
	s := p.sources[key]
	if s == nil {
		s = &source{key: key, cfg: cfg, watchers: make(map[string]*watcher)}
		s.reporter = reporter{source: s, taken: make(map[*pathStats]*counted)}
		s.ctx, s.cancel = context.WithCancel(context.Background())
		p.sources[key] = s
	}
	s.users++
	p.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.begun {
		s.begun = true
		s.begin()
	}
	w := s.watchers[target]
	if w == nil {
		w = s.watcher(target)
		s.watchers[target] = w
	}
	w.users++
	return w
}

// begin makes what all watchers have in common. The lock must be held.
func (s *source) begin() {
	if s.cfg.proxy != "" && s.cfg.mode != modeOff {
		s.proxy = newChannel(directoryTarget, s.cfg.forDirectory())
		s.proxy.path = newMeshPath(s.proxy.cfg, s.cfg.proxy)
	}
	if s.proxy != nil || len(s.cfg.directory) > 0 {
		s.wg.Go(s.report)
	}
}

// watcher begins to watch a target. The lock must be held.
func (s *source) watcher(target string) *watcher {
	w := &watcher{
		source: s, target: target, pool: newPool(s.cfg), begun: time.Now(), firstWord: make(chan struct{}), heard: make(chan struct{}), changed: make(chan struct{}),
		save: make(chan struct{}, 1), ask: true,
	}
	w.ctx, w.cancel = context.WithCancel(s.ctx)
	w.view.Store(&view{source: directory.Nobody})
	w.silent[directory.Proxy], w.silent[directory.ControlPlane] = s.proxy == nil, len(s.cfg.directory) == 0
	if s.cfg.state != "" {
		w.restore()
		w.wg.Go(w.keep)
	}
	if s.proxy != nil {
		w.wg.Go(w.askProxy)
	}
	if len(s.cfg.directory) > 0 {
		w.wg.Go(w.askPlane)
	}
	w.wg.Go(func() {
		select {
		case <-time.After(firstWordWait):
		case <-w.ctx.Done():
		}
		w.settleNow()
	})
	w.mu.Lock()
	w.maySettle()
	w.mu.Unlock()
	return w
}

// leave gives the watcher back; the last user ends it.
func (w *watcher) leave() {
	s := w.source
	s.mu.Lock()
	w.users--
	last := w.users == 0
	s.mu.Unlock()
	if last {
		s.farewell()
	}
	s.mu.Lock()
	last = w.users == 0 && s.watchers[w.target] == w
	if last {
		delete(s.watchers, w.target)
	}
	s.mu.Unlock()
	if last {
		w.cancel()
		w.wg.Wait()
		w.pool.close()
	}
	p := process
	p.mu.Lock()
	s.users--
	over := s.users == 0
	if over {
		delete(p.sources, s.key)
	}
	p.mu.Unlock()
	if over {
		s.cancel()
		s.wg.Wait()
		if s.proxy != nil {
			_ = s.proxy.Close()
		}
	}
}

// settle lets a call wait until it is known what a Directory says, or that none says anything.
func (w *watcher) settle(call waiter) *Error {
	if w.settled.Load() {
		return nil
	}
	return call.await(w.firstWord)
}

func (w *watcher) settleNow() {
	if !w.settled.Swap(true) {
		close(w.firstWord)
	}
}

// maySettle ends the wait for a first word if there is one, or if there is nobody to have one. The lock must be held.
func (w *watcher) maySettle() {
	s := &w.sources
	if s.Fresh(directory.Proxy) || s.Fresh(directory.ControlPlane) || w.silent[directory.Proxy] && w.silent[directory.ControlPlane] {
		w.settleNow()
		select {
		case <-w.heard:
		default:
			close(w.heard)
		}
	}
}

// askProxy watches at the proxy for as long as a connection to it stands.
func (w *watcher) askProxy() {
	guard := w.source.proxy.path.(*meshPath).peer.guard
	var pauses directory.Pauses
	for w.ctx.Err() == nil {
		if !w.awaitProxy(guard) {
			return
		}
		w.pause(w.stream(w.ctx, w.source.proxy, directory.Proxy, &pauses), &pauses)
	}
}

// awaitProxy waits for a connection, which it asks for. False: the watcher ends.
func (w *watcher) awaitProxy(g *guard) bool {
	for {
		g.on(fallback.Need, nil)
		advice, changed := g.now()
		if g.peer.usable() != nil {
			return true
		}
		if advice == fallback.GoDirect {
			w.unreachable(directory.Proxy)
		}
		select {
		case <-changed:
		case <-w.ctx.Done():
			return false
		}
	}
}

// unreachable notes that a source cannot be asked.
func (w *watcher) unreachable(from directory.Source) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.silent[from] = true
	w.maySettle()
}

// askPlane watches at the control plane while that is wanted.
func (w *watcher) askPlane() {
	var pauses directory.Pauses
	for {
		ctx, cancel := w.whileWanted()
		if ctx == nil {
			return
		}
		if w.source.proxy != nil { // all processes of a host lose their proxy at once
			w.sleep(ctx, time.Duration(rand.Int64N(int64(planeSpread))))
		}
		for ctx.Err() == nil {
			ch := w.source.acquire()
			err := w.stream(ctx, ch, directory.ControlPlane, &pauses)
			w.source.release()
			if ctx.Err() == nil {
				w.pause(err, &pauses)
			}
		}
		cancel()
	}
}

// planeSpread is within what time the control plane is asked once the proxy does not answer.
const planeSpread = 500 * time.Millisecond

// whileWanted waits until the control plane is to be asked, and returns a context that ends when it is not any more. nil: the watcher ends.
func (w *watcher) whileWanted() (context.Context, context.CancelFunc) {
	for {
		ask, changed := w.asks()
		if ask {
			ctx, cancel := context.WithCancel(w.ctx)
			w.wg.Go(func() {
				defer cancel()
				for ask, changed := w.asks(); ask; ask, changed = w.asks() {
					select {
					case <-changed:
					case <-ctx.Done():
						return
					}
				}
			})
			return ctx, cancel
		}
		select {
		case <-changed:
		case <-w.ctx.Done():
			return nil, nil
		}
		if w.ctx.Err() != nil {
			return nil, nil
		}
	}
}

func (w *watcher) asks() (bool, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ask && w.ctx.Err() == nil, w.changed
}

// acquire returns the channel to the control plane's Directories.
func (s *source) acquire() *Channel {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asking++; s.plane == nil {
		s.plane = newChannel(directoryTarget, s.cfg.forDirectory())
		s.plane.path = fixedPool(s.plane.cfg, s.plane.cfg.direct)
	}
	return s.plane
}

// release gives it back: nobody keeps a connection to the control plane that he does not need.
func (s *source) release() {
	s.mu.Lock()
	var idle *Channel
	if s.asking--; s.asking == 0 {
		idle, s.plane = s.plane, nil
	}
	s.mu.Unlock()
	if idle != nil {
		_ = idle.Close()
	}
}

// stream watches by one stream, and returns how that ended.
func (w *watcher) stream(ctx context.Context, ch *Channel, from directory.Source, pauses *directory.Pauses) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cfg := w.source.cfg
	stream, err := CallServerStream[directoryv1.WatchRequest, directoryv1.WatchResponse](ctx, ch, &watchMethod, &directoryv1.WatchRequest{
		Environment: cfg.environment, Target: w.target, Application: cfg.application, Node: cfg.node,
		Features: []string{"switch", "fallback", "report"}, Runtime: runtime.Version(),
	}, nil)
	if err == nil {
		for {
			m, received := stream.Receive()
			if err = received; err != nil {
				break
			}
			pauses.Heard()
			w.said(from, m)
		}
	}
	w.mu.Lock()
	w.sources.Ended(from)
	w.silent[from] = true
	w.look()
	w.mu.Unlock()
	return err
}

// pause waits before the next stream.
func (w *watcher) pause(err error, pauses *directory.Pauses) {
	if w.ctx.Err() != nil {
		return
	}
	if errors.Is(err, io.EOF) {
		err = &Error{Code: Unavailable, Message: "the Directory ended the stream"}
	}
	e := wrapError(err)
	w.sleep(w.ctx, pauses.Ended(howEnded(e), e.RetryAfter, rand.Float64()))
}

func (w *watcher) sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// said takes what a source says.
func (w *watcher) said(from directory.Source, m *directoryv1.WatchResponse) {
	word := directory.Word{
		Known: m.GetState() != directoryv1.WatchResponse_STATE_UNKNOWN, Stale: m.GetStale(), Age: time.Duration(min(m.GetAgeMs(), maxAgeMS)) * time.Millisecond,
	}
	if s := m.GetMeshSwitch(); s != nil {
		word.Switch = &directory.Switch{Permille: s.GetPermille(), Revision: s.GetRevision()}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sources.Said(from, word, time.Since(w.begun))
	if word.Known {
		w.words[from] = m
	}
	w.look()
}

// maxAgeMS is a hundred years.
const maxAgeMS = uint64(maxTimeout / int64(time.Millisecond))

// look makes what holds of what the sources have said. The lock must be held.
func (w *watcher) look() {
	counts := w.sources.Counts(time.Since(w.begun))
	next := &view{source: counts}
	if counts != directory.Nobody {
		m := w.words[counts]
		next.forbidden = m.GetDirectForbidden()
		if m != w.inUse {
			w.pool.update(instances(m))
			w.inUse = m
		}
	}
	if s := w.sources.Switch(); s != nil {
		next.console = &meshswitch.Console{Permille: s.Permille, Revision: s.Revision}
	}
	w.view.Store(next)
	if ask := w.sources.AskControlPlane(); ask != w.ask {
		w.ask = ask
		close(w.changed)
		w.changed = make(chan struct{})
	}
	w.maySettle()
	if counts == directory.Proxy || counts == directory.ControlPlane {
		w.unsaved = true
		signal(w.save)
	}
}

// instances are those of a message, as the balancer has them.
func instances(m *directoryv1.WatchResponse) []instance {
	all := make([]instance, 0, len(m.GetEndpoints()))
	for _, e := range m.GetEndpoints() {
		all = append(all, instance{identity: e.GetTlsIdentity(), Instance: balancer.Instance{
			Address: e.GetDirectAddress(), Weight: int(min(e.GetWeight(), maxWeight)), Zone: e.GetZone(), Lane: e.GetTags()[balancer.LaneTag],
			Disabled: e.GetDisabled(), Healthy: e.GetDirectHealthy(),
		}})
	}
	return all
}

// maxWeight is the greatest that the Directory takes.
const maxWeight = 1_000_000

// restore begins with what is on the disk.
func (w *watcher) restore() {
	cfg := w.source.cfg
	m, problems := state.Load(cfg.state, cfg.environment, cfg.application, w.target, time.Now())
	for _, err := range problems {
		cfg.log.Warn("octomesh: what was kept of a target is passed over", "target", w.target, "error", err)
	}
	if m != nil {
		w.said(directory.Disk, m)
	}
}

// keepEvery is how often what is known is written at most.
const keepEvery = time.Second

// keep writes what is known to the disk, each time that it has changed.
func (w *watcher) keep() {
	cfg := w.source.cfg
	failed := false
	for {
		select {
		case <-w.save:
		case <-w.ctx.Done():
		}
		if m := w.toKeep(); m != nil {
			err := state.Save(cfg.state, cfg.application, m, time.Now())
			if err != nil && !failed {
				cfg.log.Error("octomesh: what is known of a target cannot be kept; calls go on", "target", w.target, "error", err)
			}
			failed = err != nil
		}
		if w.ctx.Err() != nil {
			return
		}
		w.sleep(w.ctx, keepEvery)
	}
}

// toKeep is what holds now; nil if that is kept already.
func (w *watcher) toKeep() *directoryv1.WatchResponse {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.unsaved {
		return nil
	}
	w.unsaved = false
	now := time.Since(w.begun)
	counts := w.sources.Counts(now)
	of := w.words[counts]
	m := &directoryv1.WatchResponse{
		Environment: w.source.cfg.environment, Target: w.target, State: of.GetState(), DeletedReason: of.GetDeletedReason(),
		AgeMs: uint64(w.sources.Age(counts, now).Milliseconds()), Endpoints: of.GetEndpoints(), DirectForbidden: of.GetDirectForbidden(),
	}
	if s := w.sources.Switch(); s != nil {
		m.MeshSwitch = &directoryv1.MeshSwitch{Permille: s.Permille, Revision: s.Revision}
	}
	return m
}
