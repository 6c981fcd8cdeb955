// Package ingest brings a Pilot what its proxies ask for, and nothing else: it follows at the Dispatcher each target
// that a proxy follows here, and at the Config Server each environment, and puts what comes into the snapshot's cache.
package ingest

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/octomesh/octomesh/core/pilot/snapshot"
	"github.com/octomesh/octomesh/core/resource"
	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"
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
	// ConfigServers are connections to Config Servers, tried in turn. None: nothing is configured for any target.
	ConfigServers []grpc.ClientConnInterface
	// Candidates learns what is being rolled out. nil: nobody does.
	Candidates Candidates
	// Patience is how long endpoints wait for what operators say of instances while no Config Server answers; then
	// proxies are told of them as they are registered. 0: 5 s.
	Patience time.Duration
	// Linger is how long a target is followed on after its last proxy has left. 0: 1 min.
	Linger time.Duration
	Log    *slog.Logger
}

// Candidates learns what is being rolled out. Its methods must not block.
type Candidates interface {
	// Candidate tells of a resource's candidate, which nodes get it, and what version it has for them ("": it is gone);
	// nil: there is none any more.
	Candidate(t resource.Topic, name string, c *configv1.Candidate, w *snapshot.Wave, version string)
}

// Ingest follows the Dispatcher and the Config Server. Make it with [New], and call Run.
type Ingest struct {
	cfg       Config
	endpoints *endpoints
	settings  *settings
	fresh     *fresh

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
	if cfg.Patience == 0 {
		cfg.Patience = 5 * time.Second
	}
	i := &Ingest{
		cfg: cfg, followed: make(map[resource.Topic]time.Time), changed: make(map[resource.Topic]bool), news: make(chan struct{}, 1),
		endpoints: newEndpoints(cfg.Cache, cfg.Log), fresh: newFresh(),
	}
	i.settings = newSettings(cfg, i.endpoints)
	cfg.Cache.Interest = i.interest
	return i
}

// interest notes that a topic has got its first follower, or lost its last.
func (i *Ingest) interest(t resource.Topic) {
	i.settings.interest(t) // also of endpoints, for what operators say of them
	if t.Kind != resource.KindEndpoint {
		return
	}
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

// Run follows until ctx is done. While no Dispatcher or no Config Server answers, what the cache has stays.
func (i *Ingest) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { i.settings.run(ctx) })
	wg.Go(func() { keep(ctx, i.cfg.Log, "the Dispatcher", i.cfg.Dispatchers, i.follow) })
	wg.Wait()
}

// keep follows one server after the other until ctx is done, with pauses that grow while none says anything.
func keep(ctx context.Context, log *slog.Logger, who string, servers []grpc.ClientConnInterface,
	follow func(context.Context, grpc.ClientConnInterface) (heard bool, err error),
) {
	pause := firstPause
	for n := 0; ctx.Err() == nil && len(servers) > 0; n++ {
		heard, err := follow(ctx, servers[n%len(servers)])
		if ctx.Err() != nil {
			return
		}
		if heard {
			pause = firstPause
		}
		wait := time.Duration(float64(pause) * (0.5 + rand.Float64()))
		log.Warn("no stream from "+who+"; what is known stays", "error", err, "pause", wait)
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
	defer i.fresh.lost()
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
			i.endpoints.drop(t)
			i.fresh.forget(t)
			unfollow = append(unfollow, keyOf(t))
		}
	}
	return follow, unfollow
}

func keyOf(t resource.Topic) *dispatchv1.Key {
	return &dispatchv1.Key{Environment: t.Environment, Target: t.Target}
}

// take puts a response into the cache, once it is whole.
func (i *Ingest) take(r *dispatchv1.WatchResponse, parts map[resource.Topic]*change) {
	t := resource.Topic{Kind: resource.KindEndpoint, Environment: r.GetKey().GetEnvironment(), Target: r.GetKey().GetTarget()}
	i.fresh.heard(t, r.Degraded)
	c := parts[t]
	if c == nil {
		c = &change{full: r.Full, set: make(map[string]*resourcev1.Endpoint)}
	}
	if r.Refused != "" {
		i.cfg.Log.Warn("the Dispatcher cannot follow a target: proxies are told that it has no endpoints", "target", t.Name(), "error", r.Refused)
		c = &change{full: true, set: make(map[string]*resourcev1.Endpoint)}
	}
	for _, e := range r.Endpoints {
		name := e.GetInstance()
		if !resource.IsName(name) || e.GetTarget() != "" && e.GetTarget() != t.Target {
			i.cfg.Log.Error("an endpoint is passed over: its name or its target is wrong", "target", t.Name(), "instance", name, "of", e.GetTarget())
			continue
		}
		e.Target, e.Instance = "", "" // the name on the stream says them
		c.set[name] = e
	}
	c.removed = append(c.removed, r.Removed...)
	if r.More {
		parts[t] = c
		return
	}
	delete(parts, t)
	i.mu.Lock()
	_, wanted := i.followed[t]
	i.mu.Unlock()
	if wanted { // else it came late
		i.endpoints.apply(t, c)
	}
}
