// Package hub watches registries for all who ask: one watch a key in a process, whatever the number of its subscribers,
// and one shared snapshot of what it tells. It begins watches again when they are lost, without ever asking more of a
// registry than its limits say, and keeps a registry that errs from taking services away.
package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	"github.com/octomesh/octomesh/core/lifecycle"
)

// ErrClosed says that the hub or the subscriber was closed.
var ErrClosed = errors.New("hub: it is closed")

// Hub holds the watches of a process. Its methods are safe for concurrent use.
//
// Locks are taken in this order: the hub's, to find an entry; an entry's; a subscriber's.
type Hub struct {
	config Config
	gates  []*gate
	group  *lifecycle.Group
	counts counts

	mu      sync.Mutex
	closed  bool
	entries map[source.Key]*entry
	ending  map[source.Key]chan struct{} // of a key that nobody watches any more: closed when its watch has ended
}

// counts only grow, but for watches and subscriptions.
type counts struct {
	watches, mostOfOneKey, subscriptions    atomic.Int64
	starts, failures, losses, held, refused atomic.Int64
}

// New makes a hub that lives until Close.
func New(c Config) (*Hub, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	h := &Hub{config: c, group: lifecycle.New(context.Background()), entries: make(map[source.Key]*entry), ending: make(map[source.Key]chan struct{})}
	for _, r := range c.Registries {
		g := newGate(r)
		h.gates = append(h.gates, g)
		h.group.Go(g.run)
	}
	return h, nil
}

// Close ends all watches and waits for their end. Subscribers get ErrClosed.
func (h *Hub) Close() {
	h.mu.Lock()
	h.closed = true
	var all []*entry
	for _, e := range h.entries {
		all = append(all, e)
	}
	h.mu.Unlock()
	h.group.Stop()
	for _, e := range all {
		e.close()
	}
}

// follow makes a following of a key, and its watch if it is the first.
func (h *Hub) follow(s *Subscriber, key source.Key) (*following, error) {
	if err := key.Check(); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrClosed
	}
	e := h.entries[key]
	if e == nil {
		at := h.config.Pick(key)
		if at < 0 || at >= len(h.gates) {
			return nil, &source.Error{Kind: source.Invalid, Op: "follow", Key: key, Err: errors.New("no registry is configured for it")}
		}
		ctx, cancel := context.WithCancel(h.group.Context())
		e = &entry{hub: h, key: key, gate: h.gates[at], cancel: cancel, followings: make(map[*following]struct{})}
		e.guard.window = h.config.GuardWindow
		e.oldSince = time.Now()
		h.entries[key] = e
		// The watch of a forgotten entry may not have ended yet, and there must not be two.
		before, ended := h.ending[key], make(chan struct{})
		h.ending[key] = ended
		h.group.Go(func(context.Context) {
			defer h.gone(key, ended)
			if before != nil {
				<-before
			}
			e.run(ctx)
		})
	}
	return e.join(s), nil
}

// gone notes that the watch of an entry has ended for good.
func (h *Hub) gone(key source.Key, ended chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(ended)
	if h.ending[key] == ended {
		delete(h.ending, key)
	}
}

// forget ends the watch of an entry that nobody came back to.
func (h *Hub) forget(e *entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.entries[e.key] == e && e.leave() {
		delete(h.entries, e.key)
	}
}

func (h *Hub) entry(key source.Key) *entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.entries[key]
}

func (h *Hub) all() []*entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]*entry, 0, len(h.entries))
	for _, e := range h.entries {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b *entry) int { return strings.Compare(a.key.String(), b.key.String()) })
	return all
}

// Sources are the registries, in the order of [Config.Registries].
func (h *Hub) Sources() []source.Source {
	all := make([]source.Source, len(h.config.Registries))
	for i, r := range h.config.Registries {
		all[i] = r.Source
	}
	return all
}

// Pick says in which of Sources a key is; negative: in none.
func (h *Hub) Pick(key source.Key) int { return h.config.Pick(key) }

// Snapshot returns what is known of a key; nil: nobody follows it, or its registry has not told anything yet.
func (h *Hub) Snapshot(key source.Key) *Snapshot {
	if e := h.entry(key); e != nil {
		return e.snapshot()
	}
	return nil
}

// Confirm removes instances of a key that the shrink guard holds, because somebody who knows says that they are gone:
// the health check about those that it names, or an operator. None named: all that are held. It returns how many it
// removed; what is not held is passed over.
func (h *Hub) Confirm(key source.Key, instances ...string) int {
	e := h.entry(key)
	if e == nil {
		return 0
	}
	n := e.confirm(instances...)
	if n > 0 {
		h.config.Log.Info("removal confirmed", "key", key.String(), "endpoints", n)
	}
	return n
}

// Status is how a key's watch fares.
type Status struct {
	Key         source.Key
	Subscribers int
	Endpoints   int
	Held        []string // by the shrink guard, sorted
	Loaded      bool     // a full set was told
	Live        bool     // the watch stands, and the registry is heard
	Degraded    bool
	Age         time.Duration // since the registry was last heard; 0 while it is live
	Failures    int           // of the watch, in a row
	Err         error         // why the watch ended last; nil while it stands
	Refused     []string      // instances whose entries cannot be used, with the reason, sorted; at most 100
}

// Status tells how a key fares; ok is false if nobody follows it.
func (h *Hub) Status(key source.Key) (s Status, ok bool) {
	e := h.entry(key)
	if e == nil {
		return s, false
	}
	return e.status(), true
}

// Troubled returns keys that an operator should look at, sorted: not live, or with held or unusable instances.
func (h *Hub) Troubled() []Status {
	var out []Status
	for _, e := range h.all() {
		if s := e.status(); !s.Live || len(s.Held) > 0 || len(s.Refused) > 0 {
			out = append(out, s)
		}
	}
	return out
}

// Stats counts what a hub does.
type Stats struct {
	Keys          int // that are followed, or were until a moment ago
	Subscriptions int
	Watches       int // that registries were asked for and that have not ended
	MostOfOneKey  int // watches of one key at once, ever; more than 1 is a bug
	Waiting       int // watches that may not begin yet
	Starting      int // watches that wait for their first full set
	Starts        int // watches begun, ever
	Failures      int // that ended before their first full set, ever
	Losses        int // that ended after it, ever
	Held          int // removals that the shrink guard held, ever
	Refused       int // entries that could not be used, ever
	OpenBreakers  int // registries whose breaker is open
	BreakerOpens  int // ever
}

// Stats counts.
func (h *Hub) Stats() Stats {
	h.mu.Lock()
	s := Stats{Keys: len(h.entries)}
	h.mu.Unlock()
	c := &h.counts
	s.Subscriptions, s.Watches, s.MostOfOneKey = int(c.subscriptions.Load()), int(c.watches.Load()), int(c.mostOfOneKey.Load())
	s.Starts, s.Failures, s.Losses = int(c.starts.Load()), int(c.failures.Load()), int(c.losses.Load())
	s.Held, s.Refused = int(c.held.Load()), int(c.refused.Load())
	for _, g := range h.gates {
		waiting, starting, open, opens := g.state()
		s.Waiting += waiting
		s.Starting += starting
		s.BreakerOpens += int(opens)
		if open {
			s.OpenBreakers++
		}
	}
	return s
}

// String says the counts on one line.
func (s Stats) String() string {
	return fmt.Sprintf("%d keys, %d subscriptions, %d watches (%d of one key at most), %d begun, %d failed, %d lost",
		s.Keys, s.Subscriptions, s.Watches, s.MostOfOneKey, s.Starts, s.Failures, s.Losses)
}
