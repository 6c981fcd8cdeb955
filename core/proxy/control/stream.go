package control

import (
	"context"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

type response = discoveryv3.DeltaDiscoveryResponse

// maxResponse bounds a response, before memory is taken for it; a Pilot's have about 1 MiB, or one resource.
const maxResponse = 16 << 20

// stream is one stream to one Pilot. Requests are sent by a goroutine of its own, in order, so that nobody who has
// something to say waits for the network.
type stream struct {
	grpc                  grpc.BidiStreamingClient[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]
	cancel                context.CancelFunc
	sender                sync.WaitGroup
	environment, instance string
	opened                time.Time

	mu    sync.Mutex
	queue []*discoveryv3.DeltaDiscoveryRequest
	news  chan struct{} // holds one element while the queue has some
}

func openStream(ctx context.Context, pilot grpc.ClientConnInterface, environment, instance string) (*stream, error) {
	ctx, cancel := context.WithCancel(ctx)
	g, err := discoveryv3.NewAggregatedDiscoveryServiceClient(pilot).DeltaAggregatedResources(ctx, grpc.MaxCallRecvMsgSize(maxResponse))
	if err != nil {
		cancel()
		return nil, err
	}
	s := &stream{grpc: g, cancel: cancel, environment: environment, instance: instance, news: make(chan struct{}, 1), opened: time.Now()}
	s.sender.Go(s.send)
	return s, nil
}

func (s *stream) close() {
	s.cancel()
	s.sender.Wait()
}

func (s *stream) send() {
	for {
		s.mu.Lock()
		queue := s.queue
		s.queue = nil
		s.mu.Unlock()
		for _, r := range queue {
			if s.grpc.Send(r) != nil {
				s.cancel() // receive says why
				return
			}
		}
		select {
		case <-s.news:
		case <-s.grpc.Context().Done():
			return
		}
	}
}

func (s *stream) say(requests ...*discoveryv3.DeltaDiscoveryRequest) {
	s.mu.Lock()
	s.queue = append(s.queue, requests...)
	s.mu.Unlock()
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// begin introduces the proxy, and goes on where an earlier stream has ended.
func (s *stream) begin(st *state) {
	targets := st.targets()
	for i, k := range kinds {
		r := st.subscription(k, targets, true)
		if i == 0 {
			r.Node = &corev3.Node{Id: s.instance, Cluster: s.environment}
		}
		s.say(r)
	}
}

// subscribe asks for more targets.
func (s *stream) subscribe(targets []string) {
	for _, k := range kinds {
		s.say((&state{environment: s.environment}).subscription(k, targets, false))
	}
}

// unsubscribe asks for no more of targets.
func (s *stream) unsubscribe(targets []string) {
	for _, k := range kinds {
		r := (&state{environment: s.environment}).subscription(k, targets, false)
		r.ResourceNamesSubscribe, r.ResourceNamesUnsubscribe = nil, r.ResourceNamesSubscribe
		s.say(r)
	}
}

func (s *stream) receive() (*response, error) { return s.grpc.Recv() }

// answer says whether the proxy goes by a response.
func (s *stream) answer(r *response, err error) {
	a := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.TypeUrl, ResponseNonce: r.Nonce}
	if err != nil {
		a.ErrorDetail = &rpcstatus.Status{Code: int32(codes.InvalidArgument), Message: err.Error()}
	}
	s.say(a)
}
