package control

import (
	"fmt"
	"strconv"
	"sync"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/octomesh/octomesh/core/resource"
)

// bare is grpc-go without anything: it sends each stream a message of the same content, and receives an answer. It
// is what a push costs at least.
type bare struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	acks acks

	mu      sync.Mutex
	streams map[string][]grpc.BidiStreamingServer[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse] // by the name of a topic
}

func newBare() *bare {
	return &bare{
		acks:    acks{done: make(chan struct{}, 1)},
		streams: make(map[string][]grpc.BidiStreamingServer[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]),
	}
}

// DeltaAggregatedResources implements the service.
func (b *bare) DeltaAggregatedResources(s discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	for {
		r, err := s.Recv()
		if err != nil {
			return err
		}
		if len(r.ResourceNamesSubscribe) > 0 {
			b.mu.Lock()
			for _, name := range r.ResourceNamesSubscribe {
				b.streams[name] = append(b.streams[name], s)
			}
			b.mu.Unlock()
			// As the Pilot says that there is nothing.
			if err := s.Send(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: r.TypeUrl, RemovedResources: r.ResourceNamesSubscribe}); err != nil {
				return err
			}
		}
		if r.ResponseNonce != "" {
			b.acks.came()
		}
	}
}

func (b *bare) push(o order, number int) error {
	value, err := proto.Marshal(stamped(0))
	if err != nil {
		return err
	}
	m := &discoveryv3.DeltaDiscoveryResponse{
		TypeUrl: resource.KindEndpoint.TypeURL(), Nonce: strconv.Itoa(number),
		Resources: []*discoveryv3.Resource{{
			Name: endpoints(o.Target).FullName(instance(0)), Version: "01234567", Resource: &anypb.Any{Value: value},
		}},
	}
	b.acks.expect(o.Wait)
	b.mu.Lock()
	streams := b.streams[endpoints(o.Target).Name()]
	b.mu.Unlock()
	if len(streams) != o.Wait {
		return fmt.Errorf("%d streams follow %s and not %d", len(streams), o.Target, o.Wait)
	}
	for _, s := range streams {
		if err := s.Send(m); err != nil {
			return err
		}
	}
	return b.acks.await()
}

func (b *bare) counts() map[string]int { return nil }
func (b *bare) register(g *grpc.Server) {
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, b)
}
func (b *bare) options() []grpc.ServerOption { return nil }
func (b *bare) close()                       {}
