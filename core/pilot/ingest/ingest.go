// Package ingest brings a Pilot what its proxies ask for, and nothing else: it follows at the Dispatcher each target
// that a proxy follows here, and puts what comes into the snapshot's cache.
package ingest

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/pilot/snapshot"
	"github.com/octomesh/octomesh/core/resource"
	dispatchv1 "github.com/octomesh/octomesh/gen/control/octo/dispatch/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

const (
	firstPause = 100 * time.Millisecond
	maxPause   = 5 * time.Second
	// maxMessage bounds a response of the Dispatcher's, in bytes.
	maxMessage = 16 << 20
	// batch bounds the keys of one request.
	batch = 1000
)

// Config is an ingest's.
type Config struct {
	Cache *snapshot.Cache
	// Dispatchers are connections to Dispatchers, tried in turn.
	Dispatchers []grpc.ClientConnInterface
	// Linger is how long a target is followed on after its last proxy has left. 0: 1 min.
	Linger time.Duration
	Log    *slog.Logger
}

// Ingest follows the Dispatcher. Give Interest to the cache, and call Run.
type Ingest struct {
	cfg Config

	mu       sync.Mutex
	followed map[resource.Topic]time.Time // topics of endpoints; when the last follower left, zero while there is one
	changed  map[resource.Topic]bool      // interest in them may have changed
	news     chan struct{}                // holds one element while changed has some
}

// New makes an ingest for a cache, whose Interest it takes.
func New(cfg Config) *Ingest {
	if cfg.Linger == 0 {
		cfg.Linger = time.Minute
	}
	i := &Ingest{
		cfg: cfg, followed: make(map[resource.Topic]time.Time), changed: make(map[resource.Topic]bool), news: make(chan struct{}, 1),
	}
	cfg.Cache.Interest = i.interest
	return i
}

// interest notes that a topic has got its first follower, or lost its last.
func (i *Ingest) interest(t resource.Topic) {
	i.mu.Lock()
	i.changed[t] = true
	i.mu.Unlock()
	select {
	case i.news <- struct{}{}:
	default:
	}
}

// Followed counts the targets that are followed at the Dispatcher.
func (i *Ingest) Followed() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return len(i.followed)
}

// Run follows until ctx is done. While no Dispatcher answers, what the cache has stays.
func (i *Ingest) Run(ctx context.Context) {
	pause := firstPause
	for n := 0; ctx.Err() == nil; n++ {
		heard, err := i.follow(ctx, i.cfg.Dispatchers[n%len(i.cfg.Dispatchers)])
		if ctx.Err() != nil {
			return
		}
		if heard {
			pause = firstPause
		}
		wait := time.Duration(float64(pause) * (0.5 + rand.Float64()))
		i.cfg.Log.Warn("no stream from the Dispatcher; what is known stays", "error", err, "pause", wait)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		pause = min(2*pause, maxPause)
	}
}

// follow is one stream.
func (i *Ingest) follow(ctx context.Context, dispatcher grpc.ClientConnInterface) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := dispatchv1.NewDispatchClient(dispatcher).Watch(ctx, grpc.MaxCallRecvMsgSize(maxMessage))
	if err != nil {
		return false, err
	}
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	asking.Go(func() { i.ask(ctx, s, cancel) })
	parts := make(map[resource.Topic]*change)
	for {
		r, err := s.Recv()
		if err != nil {
			return heard, err
		}
		heard = true
		i.take(r, parts)
	}
}

// ask tells the Dispatcher what to follow: all, then what changes.
func (i *Ingest) ask(ctx context.Context, s grpc.BidiStreamingClient[dispatchv1.WatchRequest, dispatchv1.WatchResponse], failed func()) {
	tick := time.NewTicker(i.cfg.Linger / 4)
	defer tick.Stop()
	follow, unfollow := i.interests(true)
	for {
		for len(follow)+len(unfollow) > 0 {
			r := &dispatchv1.WatchRequest{}
			r.Follow, follow = head(follow)
			r.Unfollow, unfollow = head(unfollow)
			if err := s.Send(r); err != nil {
				failed() // Recv says why
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-i.news:
		case <-tick.C:
		}
		follow, unfollow = i.interests(false)
	}
}

func head(keys []*dispatchv1.Key) (first, rest []*dispatchv1.Key) {
	n := min(len(keys), batch)
	return keys[:n], keys[n:]
}

// interests looks at what has changed, and returns what to follow and what no more; with all, everything that is followed.
func (i *Ingest) interests(all bool) (follow, unfollow []*dispatchv1.Key) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if all {
		for t := range i.followed {
			follow = append(follow, keyOf(t))
		}
	}
	for t := range i.changed {
		delete(i.changed, t)
		if t.Kind != resource.KindEndpoint {
			continue // the Config Server's
		}
		_, has := i.followed[t]
		switch wanted := i.cfg.Cache.Followed(t); {
		case wanted:
			if i.followed[t] = (time.Time{}); !has {
				follow = append(follow, keyOf(t))
			}
		case has && i.followed[t].IsZero():
			i.followed[t] = time.Now()
		}
	}
	for t, left := range i.followed {
		if !left.IsZero() && time.Since(left) >= i.cfg.Linger && i.cfg.Cache.Drop(t) {
			delete(i.followed, t)
			unfollow = append(unfollow, keyOf(t))
		}
	}
	return follow, unfollow
}

func keyOf(t resource.Topic) *dispatchv1.Key {
	return &dispatchv1.Key{Environment: t.Environment, Target: t.Target}
}

// change is news of one key that may come in parts.
type change struct {
	full    bool
	set     map[string]snapshot.Entry
	removed []string
}

// take puts a response into the cache, once it is whole.
func (i *Ingest) take(r *dispatchv1.WatchResponse, parts map[resource.Topic]*change) {
	t := resource.Topic{Kind: resource.KindEndpoint, Environment: r.GetKey().GetEnvironment(), Target: r.GetKey().GetTarget()}
	if r.Refused != "" {
		i.cfg.Log.Warn("the Dispatcher cannot follow a target: proxies are told that it has no endpoints", "target", t.Name(), "error", r.Refused)
		i.cfg.Cache.Load(t, nil)
		return
	}
	c := parts[t]
	if c == nil {
		c = &change{full: r.Full, set: make(map[string]snapshot.Entry)}
	}
	for _, e := range r.Endpoints {
		entry, err := entryOf(t, e)
		if err != nil {
			i.cfg.Log.Error("an endpoint is passed over", "target", t.Name(), "instance", e.GetInstance(), "error", err)
			continue
		}
		c.set[e.GetInstance()] = entry
	}
	c.removed = append(c.removed, r.Removed...)
	if r.More {
		parts[t] = c
		return
	}
	delete(parts, t)
	i.apply(t, c)
}

func (i *Ingest) apply(t resource.Topic, c *change) {
	i.mu.Lock()
	_, wanted := i.followed[t]
	i.mu.Unlock()
	if !wanted {
		return // it came late
	}
	if c.full {
		i.cfg.Cache.Load(t, c.set)
		return
	}
	for name, e := range c.set {
		i.cfg.Cache.Set(t, name, e)
	}
	for _, name := range c.removed {
		i.cfg.Cache.Set(t, name, snapshot.Entry{})
	}
}

// entryOf is an endpoint without what its name on the stream says already.
func entryOf(t resource.Topic, e *resourcev1.Endpoint) (snapshot.Entry, error) {
	if !resource.IsName(e.GetInstance()) || e.GetTarget() != "" && e.GetTarget() != t.Target {
		return snapshot.Entry{}, fmt.Errorf("it is %q of target %q", e.GetInstance(), e.GetTarget())
	}
	short := proto.CloneOf(e)
	short.Target, short.Instance = "", ""
	r, err := snapshot.New(t, e.GetInstance(), short)
	return snapshot.Entry{Stable: r}, err
}
