// Package registrar keeps instances registered for those who speak for them. It holds what is wanted, and goes on until
// the registry has it: while a registry is away, after it has lost what it had, and when somebody else registers the
// same instance.
package registrar

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	"github.com/octomesh/octomesh/core/lifecycle"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// Config is a table's. What is 0 takes its default.
type Config struct {
	// Sources are the registries. Instances register in those that are a [source.Registrar].
	Sources []source.Source
	// Pick says in which of Sources a key is; negative: in none. Nil: all are in the first.
	Pick func(source.Key) int
	// Lease is how long a registry keeps what this process has registered after it has gone, where the registry can do
	// that. It is for the worst outage that is to be survived: who is gone is told by those who are there, not by the
	// lease. 0: [DefaultLease].
	Lease time.Duration
	// Keep is how long registrations of a stream that was lost stay, for others to take them over. 0: [DefaultKeep].
	Keep time.Duration
	// MaxInstances bounds what is registered at once. 0: 1,000,000.
	MaxInstances int
	// AtOnce is how many changes of one registry are under way at once. 0: 32.
	AtOnce int
	// Log gets what an operator should know. Nil: nothing.
	Log *slog.Logger
}

const (
	// DefaultLease is as long as a proxy starts from what it has on disk.
	DefaultLease = 7 * 24 * time.Hour
	// DefaultKeep is as long as it takes 60,000 proxies to come back to other Pilots.
	DefaultKeep = time.Minute

	opTimeout = 5 * time.Second
	// A registry that does not answer is asked by one at a time, with pauses that double.
	firstPause, maxPause = 200 * time.Millisecond, 5 * time.Second
	// deniedPause is for what an operator must mend.
	deniedPause = 30 * time.Second
)

func (c Config) withDefaults() Config {
	if c.Pick == nil {
		c.Pick = func(source.Key) int { return 0 }
	}
	if c.Lease == 0 {
		c.Lease = DefaultLease
	}
	if c.Keep == 0 {
		c.Keep = DefaultKeep
	}
	if c.MaxInstances == 0 {
		c.MaxInstances = 1_000_000
	}
	if c.AtOnce == 0 {
		c.AtOnce = 32
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Table is what a Dispatcher has registered. Its methods are safe for concurrent use.
type Table struct {
	cfg   Config
	group *lifecycle.Group
	lanes []*lane // by source; nil: nobody can register there
	stats counters

	mu      sync.Mutex
	closed  bool
	claims  map[id]*claim
	orphans map[*claim]struct{} // whose stream was lost
	streams int
	since   time.Time // when the number of streams became, or ceased to be, 0
	attends bool
}

type counters struct{ registered, ended, superseded, lost, failures atomic.Uint64 }

// Stats counts what a table does.
type Stats struct {
	Instances int // that are held
	Orphans   int // of them, those whose stream was lost
	Streams   int
	Waiting   int // changes that registries have yet to take
	// Ever: registrations and changes of them; ends; those that a newer or later one has ended; those that a registry
	// has lost; changes that a registry did not take.
	Registered, Ended, Superseded, Lost, Failures uint64
}

// New makes a table that lives until Close.
func New(c Config) *Table {
	t := &Table{
		cfg: c.withDefaults(), group: lifecycle.New(context.Background()),
		claims: make(map[id]*claim), orphans: make(map[*claim]struct{}), since: time.Now(),
	}
	for _, s := range c.Sources {
		r, ok := s.(source.Registrar)
		if !ok {
			t.lanes = append(t.lanes, nil)
			continue
		}
		t.lanes = append(t.lanes, &lane{table: t, registry: r})
	}
	t.group.Go(t.tend)
	return t
}

// Close ends all work. What is registered stays so for the length of its lease.
func (t *Table) Close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.group.Stop()
}

// Stats counts.
func (t *Table) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := Stats{
		Instances: len(t.claims), Orphans: len(t.orphans), Streams: t.streams,
		Registered: t.stats.registered.Load(), Ended: t.stats.ended.Load(), Superseded: t.stats.superseded.Load(),
		Lost: t.stats.lost.Load(), Failures: t.stats.failures.Load(),
	}
	for _, l := range t.lanes {
		if l != nil {
			s.Waiting += len(l.queue)
		}
	}
	return s
}

var (
	errNone     = errors.New("no registry is configured for the target in which instances can register")
	errTooMany  = errors.New("too many instances are registered by this Dispatcher")
	errNewer    = errors.New("a newer incarnation of the instance has registered")
	errElse     = errors.New("the instance has registered elsewhere since")
	errOwnNames = errors.New("the registration names no endpoint")
)

// lane is where a key's changes go.
func (t *Table) lane(key source.Key) *lane {
	if i := t.cfg.Pick(key); i >= 0 && i < len(t.lanes) {
		return t.lanes[i]
	}
	return nil
}

// opened and gone count streams. The lock is held.
func (t *Table) opened() {
	if t.streams++; t.streams == 1 {
		t.since = time.Now()
		t.attend(true)
	}
}

func (t *Table) gone() {
	if t.streams--; t.streams == 0 {
		t.since = time.Now()
	}
}

// attend says at registries whether those who register are heard here. The lock is held.
func (t *Table) attend(on bool) {
	if t.attends == on {
		return
	}
	t.attends = on
	for _, l := range t.lanes {
		if l == nil {
			continue
		}
		if k, ok := l.registry.(source.Keeper); ok {
			k.Attend(on)
		}
	}
}

// tend ends what nobody has taken over in time, until ctx is done.
func (t *Table) tend(ctx context.Context) {
	tick := time.NewTicker(max(t.cfg.Keep/8, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			t.sweep(now)
		}
	}
}

// sweep ends orphans whose time is over. While there is no stream nobody could take them over, and no time goes by.
func (t *Table) sweep(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.streams == 0 {
		if now.Sub(t.since) >= t.cfg.Keep {
			t.attend(false)
		}
		return
	}
	n := 0
	for c := range t.orphans {
		from := c.orphaned
		if t.since.After(from) {
			from = t.since
		}
		if now.Sub(from) >= t.cfg.Keep {
			n++
			c.end(silent)
		}
	}
	if n > 0 {
		t.cfg.Log.Warn("registrations end: the stream by which they came was lost, and nobody has taken them over", "instances", n, "after", t.cfg.Keep)
	}
}

// id is what there is one registration of.
type id struct {
	key      source.Key
	instance string
}

// of makes the endpoint that a withdrawal means.
func (i id) of(incarnation uint64, meshAddress string) *resourcev1.Endpoint {
	return &resourcev1.Endpoint{Target: i.key.Target, Instance: i.instance, Incarnation: incarnation, MeshAddress: meshAddress}
}
