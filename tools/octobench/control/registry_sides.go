package control

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/octomesh/octomesh/core/dispatcher"
	"github.com/octomesh/octomesh/core/dispatcher/hub"
	"github.com/octomesh/octomesh/core/dispatcher/source"
	"github.com/octomesh/octomesh/core/pilot/ingest"
	"github.com/octomesh/octomesh/core/pilot/push"
	"github.com/octomesh/octomesh/core/pilot/snapshot"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// registryTarget is the n-th target's name.
func registryTarget(n int) string { return fmt.Sprintf("team-%03d.service-%05d", n%300, n) }

// sizes shares instances out among targets as registries do: few targets have many. Each has two at least.
func sizes(targets, total int) []int {
	all := make([]int, targets)
	weight := 0.0
	for n := range targets {
		weight += 1 / float64(n+10)
	}
	left := total - 2*targets
	for n := range targets {
		more := int(float64(total-2*targets) / float64(n+10) / weight)
		all[n], left = 2+more, left-more
	}
	for n := 0; left > 0; n, left = (n+1)%targets, left-1 {
		all[n]++
	}
	return all
}

// registry is one that makes up what it has, and so costs nearly nothing itself. It counts who watches.
type registry struct {
	sizes map[source.Key]int

	mu           sync.Mutex
	watches      map[source.Key]chan source.Event
	starts, most int
}

// Name implements source.Source.
func (r *registry) Name() string { return "made up" }

// Watch implements source.Source.
func (r *registry) Watch(ctx context.Context, key source.Key, emit func(source.Event)) error {
	news := make(chan source.Event, 16)
	r.mu.Lock()
	r.starts++
	if r.watches[key] != nil {
		r.most = 2 // it would be a bug
	}
	r.watches[key] = news
	r.most = max(r.most, 1)
	r.mu.Unlock()
	full := source.Event{Kind: source.Full}
	for n := range r.sizes[key] {
		full.Endpoints = append(full.Endpoints, registered(key, n))
	}
	emit(full)
	for {
		select {
		case <-ctx.Done():
			r.mu.Lock()
			delete(r.watches, key)
			r.mu.Unlock()
			return ctx.Err()
		case e := <-news:
			emit(e)
		}
	}
}

func registered(key source.Key, n int) *resourcev1.Endpoint {
	e := endpoint(n)
	e.Target, e.Instance = key.Target, instance(n)
	return e
}

// change changes an instance, which says when.
func (r *registry) change(target string, n int) error {
	key := source.Key{Environment: environment, Target: target}
	r.mu.Lock()
	news := r.watches[key]
	r.mu.Unlock()
	if news == nil {
		return fmt.Errorf("nobody watches %v", key)
	}
	e := registered(key, n%r.sizes[key])
	e.Incarnation = uint64(time.Now().UnixNano())
	news <- source.Event{Kind: source.Change, Endpoints: []*resourcev1.Endpoint{e}}
	return nil
}

func (r *registry) counts() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return map[string]int{"watches": len(r.watches), "starts": r.starts, "most of one key": r.most}
}

// dispatch is a Dispatcher over such a registry.
func dispatch(s setup, c *conversation) error {
	r := &registry{sizes: make(map[source.Key]int), watches: make(map[source.Key]chan source.Event)}
	for n, size := range sizes(s.Targets, s.Total) {
		r.sizes[source.Key{Environment: environment, Target: registryTarget(n)}] = size
	}
	h, err := hub.New(hub.Config{Registries: []hub.Registry{{Source: r, StartsPerSecond: s.StartsPerSecond}}})
	if err != nil {
		return err
	}
	defer h.Close()
	d := dispatcher.New(dispatcher.Config{Hub: h, Log: slog.New(slog.DiscardHandler)})
	l, stop, err := listen("", nil, func(g *grpc.Server) { d.Register(g) })
	if err != nil {
		return err
	}
	defer stop()
	if err := c.say(report{Address: l.Addr().String()}); err != nil {
		return err
	}
	begun := used()
	number := 0
	return c.each(func(o order) (report, error) {
		if o.Do == "change" {
			number++
			return report{}, r.change(o.Target, number)
		}
		counts := r.counts()
		counts["hub watches"], counts["hub most of one key"] = h.Stats().Watches, h.Stats().MostOfOneKey
		return report{CPU: used() - begun, Memory: measure(o.Do == "collected"), Counts: counts}, nil
	})
}

// registryPilot is a Pilot with a follower in its process, as if its proxies followed all targets.
type registryPilot struct {
	cache    *snapshot.Cache
	follower *snapshot.Follower
	awake    chan struct{}
	acks     acks
}

// serveRegistry is a Pilot that asks a Dispatcher.
func serveRegistry(s setup, c *conversation) error {
	p := &registryPilot{cache: snapshot.NewCache(), awake: make(chan struct{}, 1), acks: acks{done: make(chan struct{}, 1)}}
	conn, err := dial(s.Address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	quiet := slog.New(slog.DiscardHandler)
	in := ingest.New(ingest.Config{Cache: p.cache, Dispatchers: []grpc.ClientConnInterface{conn}, Log: quiet})
	stopIngest := running(in.Run)
	defer stopIngest()
	server := push.New(push.Config{Cache: p.cache, Observer: p, Log: quiet})
	stopSweep := running(server.Run)
	defer stopSweep()
	l, stop, err := listen("", push.ServerOptions(), func(g *grpc.Server) { server.Register(g) })
	if err != nil {
		return err
	}
	defer stop()
	p.follower = p.cache.Follow("all", func() {
		select {
		case p.awake <- struct{}{}:
		default:
		}
	})
	if err := c.say(report{Address: l.Addr().String()}); err != nil {
		return err
	}
	begun := used()
	return c.each(func(o order) (report, error) {
		r := report{Counts: map[string]int{}}
		at := time.Now()
		switch o.Do {
		case "load":
			n, err := p.load(s.Targets, s.Total)
			if err != nil {
				return r, err
			}
			r.Counts["resources"] = n
		case "expect":
			p.acks.expect(o.Wait)
		case "await":
			if err := p.acks.await(); err != nil {
				return r, err
			}
		}
		r.Elapsed = time.Since(at)
		r.CPU, r.Memory = used()-begun, measure(o.Do == "collected")
		return r, nil
	})
}

// load follows all targets and waits until it was told all that they have.
func (p *registryPilot) load(targets, total int) (resources int, err error) {
	for n := range targets {
		p.follower.Subscribe(endpoints(registryTarget(n)), nil)
	}
	late := time.After(patience)
	for resources < total {
		u, ok := p.follower.Take(1 << 20)
		resources += len(u.Told)
		if ok {
			continue
		}
		select {
		case <-p.awake:
		case <-late:
			return resources, fmt.Errorf("%d of %d instances came within %v", resources, total, patience)
		}
	}
	return resources, nil
}

// Applied implements push.Observer.
func (p *registryPilot) Applied(_ push.Node, u snapshot.Update) {
	if len(u.Told) == 1 {
		p.acks.came()
	}
}

// Refused implements push.Observer.
func (p *registryPilot) Refused(push.Node, snapshot.Update, string) {}
