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
	"github.com/octomesh/octomesh/core/proxy/route"
	"github.com/octomesh/octomesh/core/resource"
	"github.com/octomesh/octomesh/core/telemetry/meter"
)

// Generation is one immutable compiled configuration. A call pins the one that was current when it began.
type Generation struct {
	// Number counts generations from 1. 0 is the empty one before any snapshot came: the proxy is not
	// ready, and knows of no target whether it exists.
	Number   uint64
	Hash     string // of the snapshot's content, equal in every proxy
	Table    *route.Table
	Snapshot *resourcev1.Snapshot // what was compiled; not to be changed
	Loaded   time.Time
	Source   string
	// Warnings are what validation found and let pass.
	Warnings []resource.Problem
}

// Source brings snapshots: a file, or the Pilot's stream.
type Source interface {
	// Name says where snapshots come from, for people.
	Name() string
	// Run calls apply for each snapshot, until ctx is done or no more can come. What apply returns is the
	// answer to whoever sent the snapshot: nil is its ack, an error its nack. Apply is not called at once
	// by several goroutines, and takes over the snapshot.
	Run(ctx context.Context, apply func(*resourcev1.Snapshot) error) error
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
	// NewPeer makes the peer of a mesh address, once until the address is released. It must not wait. Nil:
	// endpoints have no peers.
	NewPeer func(address string) cluster.Peer
	// Released is told the addresses that no endpoint in rotation has any more, after the generation
	// without them is current. Calls that pinned an older one may still use their peers.
	Released func(addresses []string)
	// Published is told each new generation once it is current, one after the other.
	Published func(*Generation)
}

// Store publishes generations.
type Store struct {
	// Unmatched counts calls to targets that no generation knew; their names are the callers' and so no
	// labels.
	Unmatched meter.Calls

	cfg     Config
	current atomic.Pointer[Generation]

	mu    sync.Mutex // held by whoever applies
	peers map[string]cluster.Peer

	logMu sync.Mutex
	log   []Attempt // the newest last
	total struct{ applied, refused uint64 }
}

// New returns a store whose current generation is number 0.
func New(cfg Config) *Store {
	s := &Store{cfg: cfg, peers: make(map[string]cluster.Peer)}
	s.current.Store(&Generation{Table: route.Compile(&resourcev1.Snapshot{}, nil, route.Options{}), Snapshot: &resourcev1.Snapshot{}})
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
	err := src.Run(ctx, func(snapshot *resourcev1.Snapshot) error { return s.apply(src.Name(), snapshot, locate) })
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// Apply makes the snapshot the current generation, or returns a [*resource.Error] and keeps the one before.
// A snapshot whose content is current already is accepted and changes nothing. The store owns the snapshot
// from here on.
func (s *Store) Apply(source string, snapshot *resourcev1.Snapshot) error {
	return s.apply(source, snapshot, func([]resource.Problem) {})
}

func (s *Store) apply(source string, snapshot *resourcev1.Snapshot, locate func([]resource.Problem)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.Current()
	hash := resource.Hash(snapshot)
	if before.Number > 0 && before.Hash == hash {
		return nil
	}
	problems := resource.Validate(snapshot, s.cfg.Environment)
	locate(problems)
	if err := resource.Errors(problems); err != nil {
		s.note(Attempt{At: time.Now(), Source: source, Hash: hash, Error: err.Error()})
		return err
	}
	g := &Generation{
		Number: before.Number + 1, Hash: hash, Snapshot: snapshot, Loaded: time.Now(), Source: source,
		Warnings: resource.Warnings(problems), Table: route.Compile(snapshot, before.Table, route.Options{Peer: s.peerFunc(), Zone: s.cfg.Zone}),
	}
	s.current.Store(g)
	s.note(Attempt{At: g.Loaded, Source: source, Hash: hash, Number: g.Number, Warnings: len(g.Warnings)})
	if s.cfg.Published != nil {
		s.cfg.Published(g)
	}
	s.release(g.Table.Addresses())
	return nil
}

func (s *Store) peerFunc() func(string) cluster.Peer {
	if s.cfg.NewPeer == nil {
		return nil
	}
	return func(address string) cluster.Peer {
		p, ok := s.peers[address]
		if !ok {
			p = s.cfg.NewPeer(address)
			s.peers[address] = p
		}
		return p
	}
}

// release forgets the peers whose address is not used.
func (s *Store) release(used map[string]bool) {
	var gone []string
	for address := range s.peers {
		if !used[address] {
			gone = append(gone, address)
			delete(s.peers, address)
		}
	}
	if len(gone) > 0 && s.cfg.Released != nil {
		s.cfg.Released(gone)
	}
}
