package octomesh

import (
	"context"
	"encoding/hex"
	"errors"
	"sync/atomic"
	"time"

	"github.com/octomesh/octomesh/core/wire"
	"github.com/octomesh/octomesh/sdks/go/internal/fallback"
	"github.com/octomesh/octomesh/sdks/go/internal/meshswitch"
)

// Path is a way that calls take.
type Path uint8

// The ways.
const (
	PathNone   Path = iota // it took none: there was none, or nothing was to be sent
	PathMesh               // through the local proxy
	PathDirect             // to an instance
)

var pathNames = [...]string{"none", "mesh", "direct"}

// String returns the way in a word.
func (p Path) String() string { return pathNames[p] }

// route decides for each call of a channel which of the two ways it takes (proto/spec/switch.md), and keeps both.
type route struct {
	ch    *Channel
	mesh  *meshPath // nil: no proxy
	fixed *pool     // of instances that an option gave; nil: the Directory's
	known *watcher  // nil: nobody is asked
	file  *switchFile
	word  meshswitch.Word // the environment's
	last  atomic.Pointer[settled]
}

// settled is a decision, and what it was made of.
type settled struct {
	view *view
	file *meshswitch.File
	meshswitch.Decision
	ways fallback.Ways
}

var errNowhere = errors.New("octomesh: no proxy's socket (OCTO_SOCKET, WithSocket), no direct endpoint (WithDirect), and no Directory (OCTO_DIRECTORY, WithDirectory) or state (OCTO_STATE, WithState) that would know one")

func newRoute(ch *Channel) (*route, error) {
	cfg := ch.cfg
	r := &route{ch: ch}
	r.word, _ = cfg.word() // checked when the configuration was finished
	// Who can only go by the proxy needs to know nothing, and who has nothing to choose from neither.
	watched := (r.word.Mode != meshswitch.On || cfg.switchFile != "") && (cfg.proxy != "" || len(cfg.directory) > 0 || cfg.state != "") &&
		ch.target != directoryTarget
	if cfg.proxy == "" && len(cfg.direct) == 0 && !watched {
		return nil, errNowhere
	}
	if cfg.switchFile != "" {
		r.file = process.follow(cfg)
	}
	if cfg.proxy != "" {
		r.mesh = newMeshPath(cfg, cfg.proxy)
	}
	if len(cfg.direct) > 0 {
		r.fixed = fixedPool(cfg, cfg.direct)
	}
	if watched {
		r.known = watch(cfg, ch.target)
	}
	return r, nil
}

// direct is where direct calls go; nil: nowhere.
func (r *route) direct() *pool {
	if r.fixed != nil || r.known == nil {
		return r.fixed
	}
	return r.known.pool
}

// decision is what holds for a call that begins now.
func (r *route) decision() *settled {
	var v *view
	if r.known != nil {
		v = r.known.view.Load()
	}
	var f *meshswitch.File
	if r.file != nil {
		f = r.file.current.Load()
	}
	if s := r.last.Load(); s != nil && s.view == v && s.file == f {
		return s
	}
	s := &settled{view: v, file: f}
	var said meshswitch.Word
	if f != nil {
		said = f.Of(r.ch.target)
	}
	var console *meshswitch.Console
	forbidden := false
	if v != nil {
		console, forbidden = v.console, v.forbidden
	}
	s.Decision = meshswitch.Decide(said, r.word, console, forbidden)
	direct := r.direct()
	s.ways = fallback.Ways{
		Mesh: r.mesh != nil && s.Mode != meshswitch.Off, Direct: direct != nil && s.Mode != meshswitch.On && direct.open(), Pinned: r.ch.cfg.pinned,
	}
	r.last.Store(s)
	return s
}

// callRoute is where a call goes, and went.
type callRoute struct {
	made   bool // the share has decided, once for all attempts
	byMesh bool // for the mesh
	moved  bool // a failure has sent it the other way, where it stays
	at     Path // where it is
	left   Path // which way has failed it, or would have
}

// cross sends a call the other way.
func (c *callRoute) cross() {
	c.moved, c.left = true, c.at
	c.at = PathMesh + PathDirect - c.at
}

// other tells whether the other way is open to a call after a failure.
func (r *route) other(c *callRoute) bool {
	s := r.decision()
	if c.moved || s.ways.Pinned {
		return false
	}
	return c.at == PathMesh && s.ways.Direct || c.at == PathDirect && s.ways.Mesh
}

func (r *route) pick(c *clientCall) (*link, *peer, *Error) {
	if r.known != nil {
		if err := r.known.settle(c); err != nil {
			return nil, nil, err
		}
	}
	at := &c.route
	s := r.decision()
	if !at.made {
		at.made, at.byMesh = true, r.share(c, s)
	}
	if !at.moved {
		if err := r.choose(c, s); err != nil {
			return nil, nil, err
		}
	}
	if at.at == PathNone && r.known != nil {
		if err := r.await(c); err != nil {
			return nil, nil, err
		}
	}
	for {
		l, p, err := r.take(c)
		switch {
		case err == nil || c.expired():
			return l, p, err
		case at.at == PathDirect && err.Reason == ReasonNoEndpoint && s.ways.Mesh && !at.moved: // none of its lane
			at.at, at.left, at.moved = PathMesh, PathNone, true
		case err.Reason == ReasonProxyUnreachable && r.other(at):
			at.cross()
		default:
			return nil, nil, err
		}
	}
}

// await waits for a way, where none is open: for what a Directory says first, or if the call waits for that, until one opens.
func (r *route) await(c *clientCall) *Error {
	err := c.await(r.known.heard)
	for err == nil {
		s := r.decision()
		c.route.byMesh = r.share(c, s)
		if err = r.choose(c, s); err != nil || c.route.at != PathNone || !c.opt.waitForReady {
			break
		}
		err = sleep(c, firstBackoff)
	}
	return err
}

// take picks on the way that was chosen.
func (r *route) take(c *clientCall) (*link, *peer, *Error) {
	direct := r.direct()
	switch {
	case c.route.at == PathMesh && r.mesh != nil:
		l, err := r.mesh.peer.get(c, c.opt.waitForReady && !r.other(&c.route))
		return l, r.mesh.peer, err
	case c.route.at == PathDirect && direct != nil:
		return direct.pick(c)
	}
	return nil, nil, r.nowhere()
}

// nowhere is how a call ends that no way is open to.
func (r *route) nowhere() *Error {
	if s := r.decision(); s.Mode == meshswitch.On {
		return unsent(wire.ReasonProxyUnreachable, "calls to %s take the mesh only (decided by: %v), and there is no proxy to call", r.ch.target, s.By)
	}
	return unsent(wire.ReasonNoEndpoint, "no proxy is to be called, and no instance of %s is known", r.ch.target)
}

// choose takes a way by the share and the state of the mesh.
func (r *route) choose(c *clientCall, s *settled) *Error {
	advice := fallback.GoMesh
	if c.route.byMesh && s.ways.Mesh && s.ways.Direct && !s.ways.Pinned {
		var err *Error
		if advice, err = r.mesh.peer.guard.advice(c); err != nil {
			return err
		}
	}
	way, saved := fallback.Choose(c.route.byMesh, advice, s.ways)
	c.route.left = PathNone
	switch way {
	case fallback.ByMesh, fallback.ByMeshOrSoon:
		c.route.at = PathMesh
	case fallback.ByDirect:
		c.route.at = PathDirect
		if saved {
			c.route.left = PathMesh
		}
	default:
		c.route.at = PathNone
	}
	return nil
}

// share tells whether the share takes a call into the mesh.
func (r *route) share(c *clientCall, s *settled) bool {
	permille := s.Permille
	if !s.ways.Mesh || !s.ways.Direct {
		return s.ways.Mesh // there is nothing to decide
	}
	if !s.ways.Pinned {
		// What is lost altogether still decides for the mesh: the states then send the call direct, and it counts as saved.
		if tenths := r.mesh.peer.guard.tenths.Load(); tenths > 0 {
			permille = meshswitch.Scaled(permille, int(tenths))
		}
	}
	switch {
	case permille == 0 || permille >= meshswitch.Whole:
		return permille > 0
	case c.opt.hashKey != "":
		return wire.StickyMesh(r.ch.target, c.opt.hashKey, permille)
	}
	if trace := c.inherited(); trace != "" {
		var id [16]byte
		if _, err := hex.Decode(id[:], []byte(trace[3:35])); err == nil {
			return wire.StickyMesh(r.ch.target, id[:], permille)
		}
	}
	return r.ch.shared.blocks.Mesh(permille)
}

// inherited is the traceparent that the caller had before interceptors of this call began a trace; "": none.
func (c *clientCall) inherited() string {
	if c.opt.intercepted {
		return c.opt.inherited
	}
	return traceOf(c.ctx)
}

func traceOf(ctx context.Context) string {
	if from := carriedBy(ctx); from != nil {
		return from.traceparent
	}
	return ""
}

func (r *route) ready(w waiter) *Error {
	if r.known != nil {
		if err := r.known.settle(w); err != nil {
			return err
		}
	}
	for {
		s := r.decision()
		if s.ways.Mesh && (s.Permille > 0 || !s.ways.Direct) {
			if _, err := r.mesh.peer.get(w, !s.ways.Direct && r.known == nil); err == nil {
				return nil
			}
		}
		if s.ways.Direct && (!s.ways.Pinned || s.Permille < meshswitch.Whole) {
			return r.direct().ready(w)
		}
		if r.known == nil && !s.ways.Mesh {
			return r.nowhere()
		}
		if err := sleep(w, firstBackoff); err != nil { // a way may open
			return err
		}
	}
}

func (r *route) close() {
	if r.known != nil {
		r.known.leave()
	}
	if r.fixed != nil {
		r.fixed.close()
	}
	if r.mesh != nil {
		r.mesh.close()
	}
	if r.file != nil {
		process.unfollow(r.file)
	}
}

// start begins to measure a call.
func (c *clientCall) start() {
	if r := c.ch.way; r != nil && r.known != nil {
		c.begun = time.Now()
	}
}

// over books how a call ended.
func (c *clientCall) over(err *Error) {
	at := &c.route
	if c.opt.path != nil {
		*c.opt.path = at.at
	}
	if c.begun.IsZero() || !at.made || at.at == PathNone {
		return
	}
	r := c.ch.way.known
	r.paths[at.at-1].ended(c, err)
	if at.left != PathNone && (err == nil || err.Disposition == DispositionProcessed) {
		r.paths[at.left-1].saved.Add(1)
	}
}
