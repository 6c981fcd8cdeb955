package control

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// proxies are many streams, each as a proxy has one.
type proxies struct {
	ready sync.WaitGroup // until each has heard of all that it follows

	mu    sync.Mutex
	times []time.Duration // from change to receipt
	err   error
}

// follow runs streams over some connections, and reports latencies when asked, until its input ends.
func follow(address string, streams, connections int, fanouts []int, orders io.Reader, reports io.Writer) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p := &proxies{}
	at := time.Now()
	for i := range connections {
		conn, err := grpc.NewClient("passthrough:"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		for n := i; n < streams; n += connections {
			p.ready.Add(1)
			go p.run(ctx, conn, n, fanouts)
		}
	}
	p.ready.Wait()
	c := newConversation(orders, reports)
	if err := c.say(report{Elapsed: time.Since(at)}); err != nil {
		return err
	}
	return c.each(func(order) (report, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		slices.Sort(p.times)
		r := report{Times: len(p.times)}
		if n := len(p.times); n > 0 {
			r.P50, r.P90, r.P99 = p.times[n/2], p.times[n*9/10], p.times[n*99/100]
		}
		p.times = p.times[:0]
		return r, p.err
	})
}

// run is one stream: the n-th follows the topics whose fan-out is above n.
func (p *proxies) run(ctx context.Context, conn *grpc.ClientConn, n int, fanouts []int) {
	var names []string
	for _, f := range fanouts {
		if n < f {
			names = append(names, topic(f).Name())
		}
	}
	err := p.stream(ctx, conn, n, names)
	if ctx.Err() == nil && err != nil {
		p.mu.Lock()
		p.err = fmt.Errorf("stream %d: %w", n, err)
		p.mu.Unlock()
	}
}

func (p *proxies) stream(ctx context.Context, conn *grpc.ClientConn, n int, names []string) error {
	heard := sync.OnceFunc(p.ready.Done)
	defer heard()
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return err
	}
	err = s.Send(&discoveryv3.DeltaDiscoveryRequest{
		Node:    &corev3.Node{Id: fmt.Sprintf("proxy-%d", n), Cluster: environment},
		TypeUrl: resource.KindEndpoint.TypeURL(), ResourceNamesSubscribe: names,
	})
	if err != nil {
		return err
	}
	if len(names) == 0 { // it only stands
		heard()
	}
	for {
		r, err := s.Recv()
		if err != nil {
			return err
		}
		for _, res := range r.Resources {
			e := &resourcev1.Endpoint{}
			if err := proto.Unmarshal(res.GetResource().GetValue(), e); err != nil {
				return err
			}
			took := time.Duration(time.Now().UnixNano() - int64(e.Incarnation))
			p.mu.Lock()
			p.times = append(p.times, took)
			p.mu.Unlock()
		}
		if r.Nonce != "" {
			if err := s.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.TypeUrl, ResponseNonce: r.Nonce}); err != nil {
				return err
			}
		}
		heard()
	}
}
