package control

import (
	"log/slog"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/octomesh/octomesh/core/pilot/push"
	"github.com/octomesh/octomesh/core/pilot/snapshot"
)

// pilot is the Pilot's own push.
type pilot struct {
	cache *snapshot.Cache
	*push.Server
	acks    acks
	awaited atomic.Pointer[snapshot.Resource]
	size    map[string]int // instances that a target has
	stop    func()
}

func newPilot(topics []follow) *pilot {
	p := &pilot{cache: snapshot.NewCache(), acks: acks{done: make(chan struct{}, 1)}, size: make(map[string]int)}
	for _, t := range topics {
		all := make(map[string]snapshot.Entry, t.Instances)
		for n := range t.Instances {
			all[instance(n)] = entry(t.Target, n)
		}
		p.cache.Load(endpoints(t.Target), all)
		p.size[t.Target] = max(1, t.Instances)
	}
	p.Server = push.New(push.Config{Cache: p.cache, Observer: p, StreamsPerSecond: 1 << 20, Log: slog.New(slog.DiscardHandler)})
	p.stop = running(p.Server.Run)
	return p
}

func entry(target string, n int) snapshot.Entry {
	r, err := snapshot.New(endpoints(target), instance(n), endpoint(n))
	if err != nil {
		panic(err) // what stands here can be encoded
	}
	return snapshot.Entry{Stable: r}
}

// Applied implements push.Observer.
func (p *pilot) Applied(_ push.Node, u snapshot.Update) {
	awaited := p.awaited.Load()
	for _, t := range u.Told {
		if t.Resource == awaited {
			p.acks.came()
		}
	}
}

// Refused implements push.Observer.
func (p *pilot) Refused(push.Node, snapshot.Update, string) {}

func (p *pilot) push(o order, number int) error {
	n := number % p.size[o.Target]
	e := stamped(n)
	if o.Size > 0 {
		e.Tags = map[string]string{"x": strings.Repeat("x", o.Size)}
	}
	r, err := snapshot.New(endpoints(o.Target), instance(n), e)
	if err != nil {
		return err
	}
	p.acks.expect(o.Wait)
	p.awaited.Store(r)
	p.cache.Set(endpoints(o.Target), instance(n), snapshot.Entry{Stable: r})
	if o.Wait == 0 {
		return nil
	}
	return p.acks.await()
}

func (p *pilot) counts() map[string]int {
	s := p.Stats()
	return map[string]int{"streams": s.Streams, "responses": int(s.Responses), "resources": int(s.Resources), "bytes": int(s.Bytes),
		"largest open": s.LargestOpen, "behind": s.Behind, "coalesced": int(s.Coalesced)}
}

func (p *pilot) register(g *grpc.Server)      { p.Register(g) }
func (p *pilot) options() []grpc.ServerOption { return push.ServerOptions() }
func (p *pilot) close()                       { p.stop() }
