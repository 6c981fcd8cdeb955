package control

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/octomesh/octomesh/core/pilot/push"
	"github.com/octomesh/octomesh/core/pilot/snapshot"
	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// environment is where all of a run is.
const environment = "bench"

// topic is what the first fanout streams follow.
func topic(fanout int) resource.Topic {
	return resource.Topic{Kind: resource.KindEndpoint, Environment: environment, Target: fmt.Sprintf("fanout-%d", fanout)}
}

// pusher is a server under measurement.
type pusher interface {
	// push changes a resource of the topic with that fan-out and returns once all who follow it have acknowledged.
	push(fanout, number int) error
	register(g *grpc.Server)
	options() []grpc.ServerOption
}

// stamped is a resource that says when it was made.
func stamped(number int) *resourcev1.Endpoint {
	return &resourcev1.Endpoint{MeshAddress: "10.0.0.1:7000", Incarnation: uint64(time.Now().UnixNano()), Zone: "z" + strconv.Itoa(number%10)}
}

// pilot is the Pilot's own push.
type pilot struct {
	cache *snapshot.Cache
	*push.Server

	mu      sync.Mutex
	waiting int
	done    chan struct{}
}

func newPilot(fanouts []int) *pilot {
	p := &pilot{cache: snapshot.NewCache(), done: make(chan struct{}, 1)}
	for _, f := range fanouts {
		p.cache.Load(topic(f), nil)
	}
	p.Server = push.New(push.Config{
		Cache: p.cache, Observer: p, StreamsPerSecond: 1 << 20, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	return p
}

// Applied implements push.Observer.
func (p *pilot) Applied(_ push.Node, u snapshot.Update) {
	if len(u.Told) == 0 {
		return // that there is nothing yet
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting--; p.waiting == 0 {
		p.done <- struct{}{}
	}
}

// Refused implements push.Observer.
func (p *pilot) Refused(push.Node, snapshot.Update, string) {}

func (p *pilot) push(fanout, number int) error {
	r, err := snapshot.New(topic(fanout), "i1", stamped(number))
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.waiting = fanout
	p.mu.Unlock()
	p.cache.Set(topic(fanout), "i1", snapshot.Entry{Stable: r})
	return within(p.done)
}

func (p *pilot) register(g *grpc.Server)      { p.Register(g) }
func (p *pilot) options() []grpc.ServerOption { return []grpc.ServerOption{push.Codec()} }

func within(done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-time.After(time.Minute):
		return fmt.Errorf("not all have acknowledged within a minute")
	}
}

// bare is grpc-go without anything: it sends each stream a message of the same content, and receives an answer. It
// is what a push costs at least.
type bare struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	mu      sync.Mutex
	streams map[int][]discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
	waiting int
	done    chan struct{}
}

func newBare() *bare {
	return &bare{done: make(chan struct{}, 1), streams: make(map[int][]discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer)}
}

// DeltaAggregatedResources implements the service.
func (b *bare) DeltaAggregatedResources(s discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	for {
		r, err := s.Recv()
		if err != nil {
			return err
		}
		b.mu.Lock()
		for _, name := range r.ResourceNamesSubscribe {
			var fanout int
			if _, err := fmt.Sscanf(name, environment+"/fanout-%d/*", &fanout); err == nil {
				b.streams[fanout] = append(b.streams[fanout], s)
			}
		}
		if r.ResponseNonce != "" {
			if b.waiting--; b.waiting == 0 {
				b.done <- struct{}{}
			}
		}
		b.mu.Unlock()
		if len(r.ResourceNamesSubscribe) > 0 { // as the Pilot says that there is nothing
			if err := s.Send(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: r.TypeUrl, RemovedResources: r.ResourceNamesSubscribe}); err != nil {
				return err
			}
		}
	}
}

func (b *bare) push(fanout, number int) error {
	value, err := proto.Marshal(stamped(number))
	if err != nil {
		return err
	}
	m := &discoveryv3.DeltaDiscoveryResponse{
		TypeUrl: resource.KindEndpoint.TypeURL(), Nonce: strconv.Itoa(number),
		Resources: []*discoveryv3.Resource{{Name: topic(fanout).FullName("i1"), Version: "0123456789a", Resource: &anypb.Any{Value: value}}},
	}
	b.mu.Lock()
	b.waiting = fanout
	streams := b.streams[fanout]
	b.mu.Unlock()
	if len(streams) != fanout {
		return fmt.Errorf("%d streams follow the topic of %d", len(streams), fanout)
	}
	for _, s := range streams {
		if err := s.Send(m); err != nil {
			return err
		}
	}
	return within(b.done)
}

func (b *bare) register(g *grpc.Server) {
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, b)
}
func (b *bare) options() []grpc.ServerOption { return nil }

// serve runs a server, and does what the runner says, until its input ends.
func serve(kind string, fanouts []int, orders io.Reader, reports io.Writer) error {
	var p pusher = newBare()
	if kind == "pilot" {
		p = newPilot(fanouts)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	g := grpc.NewServer(append(p.options(), grpc.MaxConcurrentStreams(1<<20))...)
	p.register(g)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	context.AfterFunc(ctx, g.Stop)
	go func() { _ = g.Serve(l) }()
	c := newConversation(orders, reports)
	if err := c.say(report{Address: l.Addr().String()}); err != nil {
		return err
	}
	number := 0
	return c.each(func(o order) (report, error) {
		begin := used()
		at := time.Now()
		for range o.Pushes {
			number++
			if err := p.push(o.Fanout, number); err != nil {
				return report{}, err
			}
		}
		return report{CPU: used() - begin, Elapsed: time.Since(at), RSS: resident()}, nil
	})
}
