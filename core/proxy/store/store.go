// Package store holds the configuration that calls see. It validates a snapshot, compiles it and publishes
// it at once as one generation; what does not pass changes nothing.
package store

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/proxy/cluster"
	"github.com/octomesh/octomesh/core/proxy/policy"
	"github.com/octomesh/octomesh/core/proxy/route"
	"github.com/octomesh/octomesh/core/resource"
	"github.com/octomesh/octomesh/core/telemetry/meter"
)

// Generation is one immutable compiled configuration. A call pins the one that was current when it began.
type Generation struct {
	// Number counts generations from 1. 0 is the empty one before any snapshot came: the proxy is not
	// ready, and knows of no target whether it exists.
	Number uint64
	Hash   string // of the content, equal in every proxy
	Table  *route.Table
	Loaded time.Time
	Source string

	problems problems // that were found and let pass
}

// Snapshot is what was compiled; not to be changed.
func (g *Generation) Snapshot() *resourcev1.Snapshot { return g.Table.Snapshot() }

// Warnings are what validation found and let pass.
func (g *Generation) Warnings() []resource.Problem { return g.problems.all() }

// Update is what a source brings: everything, or a change.
type Update struct {
	// Snapshot replaces all resources, unless it is nil.
	Snapshot *resourcev1.Snapshot
	// Change is what becomes of some, if Snapshot is nil. The cost of applying it goes by what it touches.
	Change *resource.Change
}

// Whole is an update that replaces everything.
func Whole(s *resourcev1.Snapshot) Update { return Update{Snapshot: s} }

// Snapshots makes of a function that takes whole snapshots one that takes updates, for who wants to see everything after
// each. A snapshot that it refuses is forgotten.
func Snapshots(f func(*resourcev1.Snapshot) error) func(Update) error {
	current := &route.Table{}
	return func(u Update) error {
		var next *route.Table
		if u.Snapshot != nil {
			next = route.Compile(u.Snapshot, current, route.Options{})
		} else {
			next, _ = current.Change(u.Change, route.Options{})
		}
		err := f(next.Snapshot())
		if err == nil {
			current = next
		}
		return err
	}
}

// Source brings the configuration: a file, or the Pilot's stream.
type Source interface {
	// Name says where the configuration comes from, for people.
	Name() string
	// Run calls apply for each update, until ctx is done or no more can come. What apply returns is the
	// answer to whoever sent it: nil is its ack, an error its nack. Apply is not called at once
	// by several goroutines, and takes over the resources.
	Run(ctx context.Context, apply func(Update) error) error
}

// Locator is a source that can say where the fields of its latest snapshot stand. Its errors and warnings then
// name file and line.
type Locator interface {
	Locate([]resource.Problem)
}

// Config is what a store needs of its proxy.
type Config struct {
	// Environment of the proxy. A snapshot that names another one is refused.
	Environment string
	// Zone of the proxy; empty: none.
	Zone string
	// Asker asks about global rate limits. Nil: nobody does.
	Asker policy.Asker
	// Secure says that the proxy speaks TLS.
	Secure bool
	// Speaks tells which foreign protocols the proxy calls instances by. nil: none.
	Speaks func(resourcev1.Protocol) bool
	// NewPeer makes the peer of a place, once until the place is released. It must not wait. Nil:
	// endpoints have no peers.
	NewPeer func(cluster.Place) cluster.Peer
	// Released is told the places that no endpoint in rotation has any more, after the generation
	// without them is current. Calls that pinned an older one may still use their peers.
	Released func([]cluster.Place)
	// Published is told each new generation once it is current, one after the other, with the mesh addresses at which
	// endpoints came, went or are otherwise than before.
	Published func(g *Generation, addresses []string)
}

// Store publishes generations.
type Store struct {
	// Unmatched counts calls to targets that no generation knew; their names are the callers' and so no
	// labels.
	Unmatched meter.Calls

	cfg     Config
	current atomic.Pointer[Generation]

	mu      sync.Mutex // held by whoever applies
	reached reached

	logMu sync.Mutex
	log   []Attempt // the newest last
	total struct{ applied, refused uint64 }
}

// New returns a store whose current generation is number 0.
func New(cfg Config) *Store {
	s := &Store{cfg: cfg, reached: reached{at: make(map[cluster.Place]*place)}}
	s.current.Store(&Generation{Table: route.Compile(&resourcev1.Snapshot{}, nil, route.Options{})})
	return s
}

// Current returns the generation that new calls see; never nil.
func (s *Store) Current() *Generation { return s.current.Load() }

// Run applies what the source brings until it ends.
func (s *Store) Run(ctx context.Context, src Source) error {
	locate := func([]resource.Problem) {}
	if l, ok := src.(Locator); ok {
		locate = l.Locate
	}
	if f, ok := src.(*File); ok && f.Refused == nil {
		f.Refused = s.Refused
	}
	err := src.Run(ctx, func(u Update) error { return s.apply(src.Name(), u, locate) })
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// Apply makes the snapshot the current generation, or returns a [*resource.Error] and keeps the one before.
// A snapshot whose content is current already is accepted and changes nothing. The store owns the snapshot
// from here on.
func (s *Store) Apply(source string, snapshot *resourcev1.Snapshot) error {
	return s.apply(source, Whole(snapshot), func([]resource.Problem) {})
}

// Change makes a generation that is other than the current one by a change, or returns a [*resource.Error] whose problems
// name the resources that cannot be, and keeps the current one. The store owns the resources from here on.
func (s *Store) Change(source string, c *resource.Change) error {
	return s.apply(source, Update{Change: c}, func([]resource.Problem) {})
}

func (s *Store) apply(source string, u Update, locate func([]resource.Problem)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.Current()
	next := &Generation{Number: before.Number + 1, Loaded: time.Now(), Source: source}
	var delta route.Delta
	var err error
	if u.Snapshot != nil {
		delta, err = s.replace(before, next, u.Snapshot, locate)
	} else {
		delta, err = s.change(before, next, u.Change)
	}
	if err != nil {
		s.note(Attempt{At: next.Loaded, Source: source, Hash: next.Hash, Error: err.Error()})
		return err
	}
	if before.Number > 0 && before.Hash == next.Hash {
		return nil
	}
	gone := s.reached.move(delta)
	s.current.Store(next)
	s.note(Attempt{At: next.Loaded, Source: source, Hash: next.Hash, Number: next.Number, Warnings: next.problems.count})
	if s.cfg.Published != nil {
		s.cfg.Published(next, touched(delta))
	}
	if len(gone) > 0 && s.cfg.Released != nil {
		s.cfg.Released(gone)
	}
	return nil
}

func (s *Store) options() route.Options {
	return route.Options{Peer: s.peerFunc(), Zone: s.cfg.Zone, Environment: s.cfg.Environment, Asker: s.cfg.Asker, Secure: s.cfg.Secure, Speaks: s.cfg.Speaks}
}

// replace compiles a whole snapshot, of which it checks everything: fields are named by their place in it.
func (s *Store) replace(before, next *Generation, snapshot *resourcev1.Snapshot, locate func([]resource.Problem)) (route.Delta, error) {
	next.Hash = resource.Hash(snapshot)
	if before.Number > 0 && before.Hash == next.Hash {
		return route.Delta{}, nil
	}
	found := resource.Validate(snapshot, s.cfg.Environment)
	locate(found)
	if err := resource.Errors(found); err != nil {
		return route.Delta{}, err
	}
	var delta route.Delta
	next.Table, delta = before.Table.Replace(snapshot, s.options())
	next.problems = wholeProblems(resource.Warnings(found))
	return delta, nil
}

// change checks and compiles what a change touches.
func (s *Store) change(before, next *Generation, c *resource.Change) (route.Delta, error) {
	next.Hash = before.Hash
	if err := resource.Errors(resource.ValidateChange(c, before.Table.View())); err != nil {
		return route.Delta{}, err
	}
	var delta route.Delta
	next.Table, delta = before.Table.Change(c, s.options())
	next.Hash = next.Table.Hash()
	next.problems = before.problems.with(delta.Targets, next.Table)
	return delta, nil
}
