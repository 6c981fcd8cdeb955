// Package control follows the control plane for one proxy: it subscribes to the targets that the proxy needs, takes
// what the Pilot pushes, and answers whether the proxy goes by it. It keeps the last good state on disk, so that a
// proxy starts and serves without anybody else.
package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/octomesh/octomesh/core/proxy/store"
	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

const (
	firstPause = 100 * time.Millisecond
	maxPause   = 10 * time.Second
	// maxFollowed bounds the targets: whoever calls names them.
	maxFollowed = 20_000
	// DefaultUnfollow is after how long without a call a target is not followed any more.
	DefaultUnfollow = 24 * time.Hour
)

// Config is a client's.
type Config struct {
	Environment, Instance string
	// Pilots are connections to the same service, the best first. They are tried in turn.
	Pilots []grpc.ClientConnInterface
	// Dir is where states are kept; empty: nowhere, and a restart begins with nothing.
	Dir string
	// Targets are followed from the start and for good, whoever asks.
	Targets []string
	// Unfollow is after how long without a call other targets are not followed any more; the time counts while the proxy
	// runs. 0: 24 h. Below 0: never. Needs [Client.Uses].
	Unfollow time.Duration
	// Software is the proxy's version: what crashed another one is tried again.
	Software string
	Log      *slog.Logger
}

// Client follows the control plane. It is a source of the store; its methods are safe for concurrent use.
//
// Locks: applying, by whoever changes resources, from before the state is changed until the proxy goes by it; then mu.
type Client struct {
	cfg  Config
	disk disk
	uses func(target string) (calls uint64, attached bool) // nil: nobody knows
	sink func(store.Update) error                          // set by Run

	applying   sync.Mutex
	quarantine *quarantine

	mu       sync.Mutex
	state    *state
	begun    bool    // what was on the disk has been applied
	stream   *stream // that stands; nil: none
	health   health
	answered chan struct{}     // closed, and replaced, when a topic has been answered
	tell     func()            // so that somebody else knows, too
	changes  uint64            // of what is kept on the disk
	saved    uint64            // the last of them that is there
	calls    map[string]uint64 // to targets, when they were looked at last
	schemas  schemas
}

// New makes a client with what is on the disk. What cannot be read there is logged and passed over.
func New(cfg Config) *Client {
	if cfg.Unfollow == 0 {
		cfg.Unfollow = DefaultUnfollow
	}
	c := &Client{
		cfg: cfg, disk: disk{dir: cfg.Dir}, state: newState(cfg.Environment), health: health{since: time.Now()},
		answered: make(chan struct{}), tell: func() {}, calls: make(map[string]uint64),
		schemas: schemas{held: make(map[string]*schema)},
	}
	var problems []error
	c.quarantine, problems = openQuarantine(cfg.Dir, cfg.Software)
	if cfg.Dir != "" {
		c.disk.sweep()
		s, written, more := c.disk.load(cfg.Environment, c.quarantine.instead)
		problems = append(problems, more...)
		if s != nil {
			c.state = s
			c.health.saved = written
		}
	}
	for _, p := range problems {
		if p != nil {
			cfg.Log.Error("something of the saved configuration is passed over", "error", p)
		}
	}
	for at, t := range c.quarantine.suspects {
		cfg.Log.Warn("the proxy crashed after it had begun to go by a version", "type", t.TypeUrl, "name", at.name, "version", at.version,
			"crashes", t.Crashes, "quarantined", t.Crashes >= maxCrashes, "crash", t.Crash)
	}
	for _, target := range cfg.Targets {
		c.state.followed[target] = true
	}
	return c
}

// Name implements the store's Source.
func (c *Client) Name() string { return "control plane" }

// Follow begins to follow a target, unless it is followed already. False: it cannot be, since no target is called so, or
// 20,000 are followed.
func (c *Client) Follow(target string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.followed[target] {
		return true
	}
	if !resource.IsName(target) || len(c.state.followed) >= maxFollowed {
		return false
	}
	c.state.followed[target] = true
	if c.stream != nil {
		c.stream.subscribe([]string{target})
	}
	c.changed()
	return true
}

// Known tells whether the control plane has said all about a target, by now or before a restart: that it has none of
// something, too.
func (c *Client) Known(target string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.begun && c.state.known(target)
}

// Silent is since when no stream stands. Zero: one does.
func (c *Client) Silent() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.health.connected {
		return time.Time{}
	}
	return c.health.since
}

// Switches are the mesh switches of a target, by calling application and "*". They are not to be changed.
func (c *Client) Switches(target string) map[string]*resourcev1.MeshSwitch {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.switches[target]
}

// Await follows a target and waits until it is known.
func (c *Client) Await(ctx context.Context, target string) error {
	if !c.Follow(target) {
		return fmt.Errorf("the target %q cannot be followed", target)
	}
	for {
		c.mu.Lock()
		known, answered := c.begun && c.state.known(target), c.answered
		c.mu.Unlock()
		if known {
			return nil
		}
		select {
		case <-answered:
		case <-ctx.Done():
			return fmt.Errorf("the control plane has said nothing about %q: %w", target, context.Cause(ctx))
		}
	}
}

// Answers has f called, from any goroutine, whenever a target may have become known. Call it before Run.
func (c *Client) Answers(f func()) { c.tell = f }

// changed has the state written. The lock is held.
func (c *Client) changed() { c.changes++ }

// Run implements the store's Source: it applies what is on the disk, then what Pilots push, until ctx is done.
func (c *Client) Run(ctx context.Context, apply func(store.Update) error) error {
	c.sink = apply
	c.begin()
	var keeping sync.WaitGroup
	keeping.Go(func() { c.housekeep(ctx) })
	err := c.followAll(ctx)
	keeping.Wait() // not deferred, as nothing here that waits: a panic is to end the process
	return err
}

// followAll follows one Pilot after the other until ctx is done.
func (c *Client) followAll(ctx context.Context) error {
	c.tell()
	pause := firstPause
	for n := 0; ; n++ {
		heard, err := c.follow(ctx, c.cfg.Pilots[n%len(c.cfg.Pilots)])
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if heard {
			pause = firstPause
		}
		wait := time.Duration(float64(pause) * (0.5 + rand.Float64()))
		if told := retryAfter(err); told > 0 {
			wait = told + time.Duration(rand.Int64N(int64(told)/4+1))
		}
		c.cfg.Log.Warn("no stream from the control plane", "error", err, "pause", wait)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		pause = min(2*pause, maxPause)
	}
}

// begin goes by what is on the disk.
func (c *Client) begin() {
	c.applying.Lock()
	defer c.applying.Unlock()
	// Also an empty one: the proxy is ready to be asked for targets.
	if err := c.sink(store.Whole(&resourcev1.Snapshot{Environment: c.cfg.Environment})); err != nil {
		c.cfg.Log.Error("an empty configuration is refused", "error", err)
	}
	c.mu.Lock()
	all := c.state.everything()
	var suspected []*resourcev1.Tried
	for _, change := range all {
		apart := c.quarantine.suspected(c.state, change)
		suspected = append(suspected, c.state.versions(change.only(slices.Collect(maps.Keys(apart))))...)
	}
	c.mu.Unlock()
	c.quarantine.begin(suspected, time.Now())
	if err := c.put(all...); err != nil {
		c.cfg.Log.Error("a part of the saved configuration is refused", "error", err)
	}
	c.quarantine.compiled()
	c.mu.Lock()
	c.begun = true
	var policies []*resourcev1.ServicePolicy
	for _, change := range all {
		policies = append(policies, change.policies(c.state)...)
	}
	c.mu.Unlock()
	c.followReferences(policies)
}

// retryAfter is when a Pilot that has no place says to come again; 0: it says nothing.
func retryAfter(err error) time.Duration {
	for _, d := range status.Convert(err).Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok {
			return r.GetRetryDelay().AsDuration()
		}
	}
	return 0
}

// follow takes what one Pilot pushes until the stream ends. heard tells whether it said anything.
func (c *Client) follow(ctx context.Context, pilot grpc.ClientConnInterface) (heard bool, err error) {
	s, err := openStream(ctx, pilot, c.cfg.Environment, c.cfg.Instance)
	if err != nil {
		return false, err
	}
	c.mu.Lock()
	s.begin(c.state)
	if r := c.resumeSchemas(); r != nil {
		s.say(r)
	}
	c.stream = s
	c.mu.Unlock()
	heard, err = c.receive(s)
	c.mu.Lock()
	c.stream = nil
	c.health.lost(time.Now())
	c.mu.Unlock()
	s.close()
	return heard, err
}

// receive takes what comes on a stream until it ends.
func (c *Client) receive(s *stream) (heard bool, err error) {
	for {
		r, err := s.receive()
		if err != nil {
			return heard, err
		}
		if !heard {
			heard = true
			c.mu.Lock()
			again := c.health.heard(time.Now())
			c.mu.Unlock()
			c.cfg.Log.Info("the control plane answers", "environment", c.cfg.Environment, "after", again)
		}
		if r.TypeUrl == resource.KindSchema.TypeURL() {
			s.answer(r, c.takeSchemas(r))
			continue
		}
		s.answer(r, c.take(r))
	}
}

// take goes by what is sound in a response, and returns what is wrong with the rest, of which what was before goes on.
func (c *Client) take(r *response) error {
	c.applying.Lock()
	defer c.applying.Unlock()
	c.mu.Lock()
	change, err := c.state.apply(r, c.quarantine.vet)
	c.state.standIn(change, r, c.quarantine.instead)
	if change.held > 0 {
		c.cfg.Log.Warn("endpoints are gone, too many at once and without a word that they left: they are kept until they prove dead, or somebody drops them",
			"held", change.held)
	}
	parts := change.split(c.quarantine.suspected(c.state, change))
	c.mu.Unlock()
	for _, part := range parts { // what the proxy has crashed with goes by itself, so that nothing else is blamed
		c.mu.Lock()
		versions := c.state.versions(part)
		c.mu.Unlock()
		c.quarantine.begin(versions, time.Now())
		perr := c.put(part)
		c.quarantine.compiled()
		err = errors.Join(err, perr)
		for t := range part.refused {
			delete(change.answered, t) // what there is of it is not known, unless it was
		}
	}
	if err != nil {
		c.cfg.Log.Error("a push is refused, or a part of it, and what was before goes on", "type", r.TypeUrl, "error", err)
	}
	c.mu.Lock()
	c.state.confirm(change)
	policies := change.policies(c.state)
	c.changed()
	close(c.answered)
	c.answered = make(chan struct{})
	c.mu.Unlock()
	c.followReferences(policies)
	c.tell()
	return err
}

// followReferences follows the targets to which policies lead: calls to one target may end at another one, which nobody here
// has named.
func (c *Client) followReferences(policies []*resourcev1.ServicePolicy) {
	for _, p := range policies {
		for _, target := range resource.References(p) {
			if !c.Follow(target) {
				c.cfg.Log.Warn("a policy leads to a target that cannot be followed", "policy", p.GetTarget(), "target", target)
			}
		}
	}
}

// put has the proxy go by changes of the state. What it refuses is taken out of them, and out of the state.
func (c *Client) put(changes ...*change) error {
	var problems []error
	for {
		c.mu.Lock()
		update := c.state.update(changes...)
		c.mu.Unlock()
		if update.Empty() {
			return errors.Join(problems...)
		}
		err := c.sink(store.Update{Change: update})
		if err == nil {
			return errors.Join(problems...)
		}
		problems = append(problems, err)
		rest := &resource.Change{}
		if bad := new(resource.Error); errors.As(err, &bad) {
			rest = update.Without(bad.Problems)
		}
		c.mu.Lock()
		if !c.undo(changes, update, rest) { // it names nothing that is here
			c.undo(changes, update, &resource.Change{})
		}
		c.mu.Unlock()
	}
}

func (c *Client) undo(changes []*change, update, rest *resource.Change) (some bool) {
	for _, change := range changes {
		some = c.state.undo(change, update, rest) || some
	}
	return some
}
