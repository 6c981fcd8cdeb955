package control

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/stats"
	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// proxies are many streams, each as a proxy has one.
type proxies struct {
	ready sync.WaitGroup // until each has heard of all that it follows
	bytes traffic

	mu    sync.Mutex
	times []time.Duration // from change to receipt
	err   error
}

// dial makes a connection of its own.
func dial(address string, options ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:"+address, append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
}

// followTopics runs streams over some connections, and reports latencies when asked, until its input ends.
func followTopics(s setup, c *conversation) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	p := &proxies{}
	var options []grpc.DialOption
	if s.Count {
		options = p.bytes.options()
	}
	at := time.Now()
	for i := range s.Connections {
		conn, err := dial(s.Address, options...)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		for n := i; n < s.Streams; n += s.Connections {
			p.ready.Add(1)
			go p.run(ctx, conn, n, s.Topics)
		}
	}
	p.ready.Wait()
	if err := c.say(report{Elapsed: time.Since(at)}); err != nil {
		return err
	}
	return c.each(func(o order) (report, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		r := report{Counts: p.bytes.counts()}
		r.quantiles(p.times)
		if o.Do == "each" {
			r.Each = slices.Clone(p.times)
		}
		p.times = p.times[:0]
		return r, p.err
	})
}

// run is one stream: the n-th follows the topics that more than n streams do.
func (p *proxies) run(ctx context.Context, conn *grpc.ClientConn, n int, topics []follow) {
	awaited := make(map[string]bool)
	var names []string
	for _, t := range topics {
		if n < t.Streams {
			names = append(names, endpoints(t.Target).Name())
			awaited[t.Target] = true
		}
	}
	err := p.stream(ctx, conn, n, names, awaited)
	if ctx.Err() == nil && err != nil {
		p.mu.Lock()
		p.err = fmt.Errorf("stream %d: %w", n, err)
		p.mu.Unlock()
	}
}

func (p *proxies) stream(ctx context.Context, conn *grpc.ClientConn, n int, names []string, awaited map[string]bool) error {
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
		if err := p.take(r, awaited); err != nil {
			return err
		}
		if r.Nonce != "" {
			if err := s.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.TypeUrl, ResponseNonce: r.Nonce}); err != nil {
				return err
			}
		}
		if len(awaited) == 0 {
			heard()
		}
	}
}

// take notes how long what is stamped was under way, and what was heard of.
func (p *proxies) take(r *discoveryv3.DeltaDiscoveryResponse, awaited map[string]bool) error {
	now := time.Now().UnixNano()
	for _, res := range r.Resources {
		e := &resourcev1.Endpoint{}
		if err := proto.Unmarshal(res.GetResource().GetValue(), e); err != nil {
			return err
		}
		if e.Incarnation > 0 {
			p.mu.Lock()
			p.times = append(p.times, time.Duration(now-int64(e.Incarnation)))
			p.mu.Unlock()
		}
		heardOf(awaited, res.Name)
	}
	for _, name := range r.RemovedResources {
		heardOf(awaited, name)
	}
	return nil
}

func heardOf(awaited map[string]bool, name string) {
	if len(awaited) == 0 {
		return
	}
	if t, err := resource.TopicOf(resource.KindEndpoint, name); err == nil {
		delete(awaited, t.Target)
	}
}

// traffic counts bytes: of messages as gRPC's payloads have them, and of all that went over the sockets.
type traffic struct {
	messages, messageBytes, sentMessages, sentBytes, wireRead, wireWritten atomic.Int64
}

func (t *traffic) options() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithStatsHandler(t),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
			return &countedConn{conn, t}, err
		}),
	}
}

func (t *traffic) counts() map[string]int {
	return map[string]int{
		"messages": int(t.messages.Load()), "message bytes": int(t.messageBytes.Load()), "wire read": int(t.wireRead.Load()),
		"sent messages": int(t.sentMessages.Load()), "sent bytes": int(t.sentBytes.Load()), "wire written": int(t.wireWritten.Load()),
	}
}

// HandleRPC implements stats.Handler.
func (t *traffic) HandleRPC(_ context.Context, s stats.RPCStats) {
	switch s := s.(type) {
	case *stats.InPayload:
		t.messages.Add(1)
		t.messageBytes.Add(int64(s.Length))
	case *stats.OutPayload:
		t.sentMessages.Add(1)
		t.sentBytes.Add(int64(s.Length))
	}
}

// TagRPC implements stats.Handler.
func (t *traffic) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// TagConn implements stats.Handler.
func (t *traffic) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (t *traffic) HandleConn(context.Context, stats.ConnStats) {}

type countedConn struct {
	net.Conn
	of *traffic
}

// Read implements net.Conn.
func (c *countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.of.wireRead.Add(int64(n))
	return n, err
}

// Write implements net.Conn.
func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.of.wireWritten.Add(int64(n))
	return n, err
}
