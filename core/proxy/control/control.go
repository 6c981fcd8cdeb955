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
	// savePause is how long a change may wait for others before all are written to the disk.
	savePause = time.Second
	// maxFollowed bounds the targets: whoever calls names them.
	maxFollowed = 20_000
	// degradedAfter is how long the control plane may be silent, or gone, until what it said is called degraded.
	degradedAfter = time.Minute
)

// Config is a client's.
type Config struct {
	Environment, Instance string
	// Pilots are connections to the same service, the best first. They are tried in turn.
	Pilots []grpc.ClientConnInterface
	// Dir is where states are kept; empty: nowhere, and a restart begins with nothing.
	Dir string
	// Targets are followed from the start, whoever asks.
	Targets []string
	Log     *slog.Logger
}

// Client follows the control plane. It is a source of the store; its methods are safe for concurrent use.
type Client struct {
	cfg  Config
	disk disk

	mu       sync.Mutex
	state    *state
	begun    bool    // what was on the disk has been applied
	stream   *stream // that stands; nil: none
	since    time.Time
	answered chan struct{} // closed, and replaced, when a topic has been answered
	tell     func()        // so that somebody else knows, too
	unsaved  chan struct{} // holds one element while there is something to write
}

// Status is what an operator wants to know.
type Status struct {
	Connected bool `json:"connected"`
	// Since when that is so.
	Since time.Time `json:"since"`
	// Degraded says that what the proxy goes by is old: there was no stream for a minute.
	Degraded  bool     `json:"degraded"`
	Targets   []string `json:"targets"`
	Resources int      `json:"resources"`
}

// New makes a client with what is on the disk. What cannot be read there is logged and passed over.
func New(cfg Config) *Client {
	c := &Client{
		cfg: cfg, disk: disk{dir: cfg.Dir}, state: newState(cfg.Environment), since: time.Now(),
		answered: make(chan struct{}), tell: func() {}, unsaved: make(chan struct{}, 1),
	}
	if cfg.Dir != "" {
		s, problems := c.disk.load(cfg.Environment)
		for _, p := range problems {
			cfg.Log.Error("a saved configuration is passed over", "error", p)
		}
		if s != nil {
			c.state = s
		}
	}
	for _, target := range cfg.Targets {
		c.state.followed[target] = true
	}
	return c
}

// Name implements the store's Source.
func (c *Client) Name() string { return "control plane" }

// Status returns what an operator wants to know.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Status{Connected: c.stream != nil, Since: c.since, Targets: slices.Sorted(maps.Keys(c.state.followed))}
	s.Degraded = !s.Connected && time.Since(c.since) > degradedAfter
	for _, items := range c.state.resources {
		s.Resources += len(items)
	}
	return s
}

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
func (c *Client) changed() {
	select {
	case c.unsaved <- struct{}{}:
	default:
	}
}

// Run implements the store's Source: it applies what is on the disk, then what Pilots push, until ctx is done.
func (c *Client) Run(ctx context.Context, apply func(store.Update) error) error {
	var saver sync.WaitGroup
	if c.cfg.Dir != "" {
		saver.Go(func() { c.saveChanges(ctx) })
	}
	defer saver.Wait()
	c.mu.Lock()
	saved := c.state.snapshot()
	c.mu.Unlock()
	c.begin(saved, apply)
	c.mu.Lock()
	c.begun = true
	c.mu.Unlock()
	c.tell()
	pause := firstPause
	for n := 0; ; n++ {
		heard, err := c.follow(ctx, c.cfg.Pilots[n%len(c.cfg.Pilots)], apply)
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
func (c *Client) follow(ctx context.Context, pilot grpc.ClientConnInterface, apply func(store.Update) error) (heard bool, err error) {
	s, err := openStream(ctx, pilot, c.cfg.Environment, c.cfg.Instance)
	if err != nil {
		return false, err
	}
	defer s.close()
	c.mu.Lock()
	s.begin(c.state)
	c.stream, c.since = s, time.Now()
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.stream, c.since = nil, time.Now()
		c.mu.Unlock()
	}()
	for {
		r, err := s.receive()
		if err != nil {
			return heard, err
		}
		if !heard {
			heard = true
			c.cfg.Log.Info("the control plane answers", "environment", c.cfg.Environment)
		}
		s.answer(r, c.take(r, apply))
	}
}

// take goes by what is sound in a response, and returns what is wrong with the rest, of which what was before goes on.
func (c *Client) take(r *response, apply func(store.Update) error) error {
	c.mu.Lock()
	change, err := c.state.apply(r)
	c.mu.Unlock()
	err = errors.Join(err, c.put(change, apply))
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

// begin has the proxy go by what is on the disk, as far as it is sound: also by nothing, so that it is ready to be asked for
// targets.
func (c *Client) begin(saved *resourcev1.Snapshot, apply func(store.Update) error) {
	update := resource.ChangeOf(saved)
	err := apply(store.Update{Change: update})
	if bad := new(resource.Error); errors.As(err, &bad) {
		c.cfg.Log.Error("a part of the saved configuration is refused", "error", err)
		err = apply(store.Update{Change: update.Without(bad.Problems)})
	}
	if err != nil {
		c.cfg.Log.Error("the saved configuration is refused", "error", err)
		return
	}
	c.followReferences(saved.GetPolicies())
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

// put has the proxy go by a change of the state. What it refuses is taken out of the change, and out of the state.
func (c *Client) put(change *change, apply func(store.Update) error) error {
	var problems []error
	for {
		c.mu.Lock()
		update := c.state.update(change)
		c.mu.Unlock()
		if update.Empty() {
			break
		}
		err := apply(store.Update{Change: update})
		if err == nil {
			break
		}
		problems = append(problems, err)
		rest := &resource.Change{}
		if bad := new(resource.Error); errors.As(err, &bad) {
			rest = update.Without(bad.Problems)
		}
		c.mu.Lock()
		if !c.state.keep(change, rest) { // it names nothing that is here
			c.state.keep(change, &resource.Change{})
		}
		c.mu.Unlock()
	}
	return errors.Join(problems...)
}

// saveChanges writes the state to the disk when it has changed, and a last time at the end.
func (c *Client) saveChanges(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			continue
		case <-c.unsaved:
		}
		select { // others may follow
		case <-ctx.Done():
		case <-time.After(savePause):
		}
		c.save()
	}
	select {
	case <-c.unsaved:
		c.save()
	default:
	}
}

func (c *Client) save() {
	c.mu.Lock()
	saved := c.state.save(time.Now().UnixMilli())
	c.mu.Unlock()
	if err := c.disk.save(saved); err != nil {
		c.cfg.Log.Error("the configuration cannot be kept on disk; calls go on", "error", err)
	}
}
