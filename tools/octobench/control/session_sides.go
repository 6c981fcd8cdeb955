package control

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/octomesh/octomesh/core/pilot/push"
	"github.com/octomesh/octomesh/core/pilot/snapshot"
	"github.com/octomesh/octomesh/core/resource"
)

// serveSessions is a Pilot's push as it is shipped, over what [loadWorld] has.
func serveSessions(s setup, c *conversation) error {
	cache := snapshot.NewCache()
	if err := loadWorld(cache); err != nil {
		return err
	}
	server := push.New(push.Config{Cache: cache, Log: slog.New(slog.DiscardHandler)})
	stopSweep := running(server.Run)
	defer stopSweep()
	l, stop, err := listen(s.Address, push.ServerOptions(), func(g *grpc.Server) { server.Register(g) })
	if err != nil {
		return err
	}
	defer stop()
	if err := c.say(report{Address: l.Addr().String()}); err != nil {
		return err
	}
	begun := used()
	return c.each(func(o order) (report, error) {
		r := report{Counts: map[string]int{}}
		switch o.Do {
		case "collected":
			if err := profileHeap(s.Profile); err != nil {
				return r, err
			}
		case "cut":
			resetPeak()
			r.Counts["cut"] = l.cut()
		}
		stats := server.Stats()
		r.CPU, r.Memory = used()-begun, measure(o.Do == "collected")
		r.Counts["streams"], r.Counts["turned away"] = stats.Streams, int(stats.TurnedAway)
		_, r.Counts["followings"] = cache.Topics()
		return r, nil
	})
}

// holder holds sessions as proxies do: each knows what it has, comes back by itself, and then says so.
type holder struct {
	setup
	conns []*grpc.ClientConn

	mu    sync.Mutex
	event int     // how often the runner said that all will come anew
	at    []int64 // when sessions were synced again since, in nanoseconds since 1970
	news  chan struct{}
	last  error
}

const (
	firstPause = 100 * time.Millisecond // as of proxies
	maxPause   = 5 * time.Second
)

// holdSessions runs them until the input ends. It answers "await" when all are synced, on streams that began after it was
// told to "expect" that.
func holdSessions(s setup, c *conversation) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	h := &holder{setup: s, news: make(chan struct{}, 1)}
	for range s.Connections {
		conn, err := dial(s.Address, grpc.WithContextDialer(h.dialer(s.First)), grpc.WithReadBufferSize(4<<10),
			grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: 20 * time.Second, Backoff: backoff.Config{BaseDelay: firstPause, Multiplier: 1.6, Jitter: 0.5, MaxDelay: maxPause}}))
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		h.conns = append(h.conns, conn)
	}
	for n := range s.Streams {
		go h.session(ctx, s.First+n, h.conns[n%s.Connections])
	}
	if err := c.say(report{}); err != nil {
		return err
	}
	return c.each(func(o order) (report, error) {
		if o.Do == "expect" {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.event++
			h.at = nil
			return report{}, nil
		}
		return h.await(o)
	})
}

// dialer goes from an address of this process's own, so that there are ports for all.
func (h *holder) dialer(first int) func(context.Context, string) (net.Conn, error) {
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+first%250))}}
	return func(ctx context.Context, address string) (net.Conn, error) { return d.DialContext(ctx, "tcp", address) }
}

func (h *holder) await(o order) (report, error) {
	late := time.After(patience)
	for {
		h.mu.Lock()
		all, last := h.at, h.last
		h.mu.Unlock()
		if len(all) == h.Streams {
			times := make([]time.Duration, len(all))
			for i, at := range all {
				times[i] = time.Duration(at - o.At)
			}
			var r report
			r.quantiles(times)
			return r, nil
		}
		select {
		case <-h.news:
		case <-late:
			return report{}, fmt.Errorf("%d of %d sessions are synced after %v; the last failure: %v", len(all), h.Streams, patience, last)
		}
	}
}

// synced notes that a session is, on a stream that began after an event.
func (h *holder) synced(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.after != h.event || s.noted > s.after {
		return
	}
	s.noted = s.after + 1
	h.at = append(h.at, time.Now().UnixNano())
	if len(h.at) == h.Streams {
		select {
		case h.news <- struct{}{}:
		default:
		}
	}
}

// session is one proxy's: what it has, by kind and full name.
type session struct {
	*holder
	number  int
	has     [resource.Kinds]map[string]string
	awaited map[resource.Topic]bool // of what nothing was heard yet
	after   int                     // which event its stream began after
	noted   int                     // it was noted as synced after each of so many
}

// session runs one until ctx is done.
func (h *holder) session(ctx context.Context, n int, conn *grpc.ClientConn) {
	s := &session{holder: h, number: n}
	for pause := firstPause; ctx.Err() == nil; {
		heard, err := s.stream(ctx, conn)
		h.mu.Lock()
		h.last = err
		h.mu.Unlock()
		if heard {
			pause = firstPause
		}
		wait := time.Duration(float64(pause) * (0.5 + rand.Float64()))
		for _, d := range grpcstatus.Convert(err).Details() {
			if r, ok := d.(*errdetails.RetryInfo); ok {
				told := r.GetRetryDelay().AsDuration()
				wait = told + rand.N(told/4+1)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		pause = min(2*pause, maxPause)
	}
}

func (s *session) stream(ctx context.Context, conn *grpc.ClientConn) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return false, err
	}
	h := s.holder
	h.mu.Lock()
	s.after = h.event
	h.mu.Unlock()
	s.awaited = map[resource.Topic]bool{endpoints(anewTarget): true}
	delete(s.has[resource.KindEndpoint], endpoints(anewTarget).FullName(instance(0)))
	node := &corev3.Node{Id: fmt.Sprintf("proxy-%d", s.number), Cluster: environment}
	for _, kind := range sessionKinds {
		r := &discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: kind.TypeURL(), InitialResourceVersions: s.has[kind]}
		node = nil
		for _, t := range worldTopics(s.number, kind) {
			r.ResourceNamesSubscribe = append(r.ResourceNamesSubscribe, t.Name())
			if len(s.has[kind]) == 0 {
				s.awaited[t] = true
			}
		}
		if kind == resource.KindEndpoint {
			r.ResourceNamesSubscribe = append(r.ResourceNamesSubscribe, endpoints(anewTarget).Name())
		}
		if err := stream.Send(r); err != nil {
			_, err = stream.Recv() // which says why
			return false, err
		}
	}
	for {
		r, err := stream.Recv()
		if err != nil {
			return heard, err
		}
		heard = true
		if err := s.take(r); err != nil {
			return heard, err
		}
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.TypeUrl, ResponseNonce: r.Nonce}); err != nil {
			return heard, err
		}
		if len(s.awaited) == 0 {
			s.synced(s)
		}
	}
}

func (s *session) take(r *discoveryv3.DeltaDiscoveryResponse) error {
	kind, _ := resource.KindOf(r.TypeUrl)
	if s.has[kind] == nil {
		s.has[kind] = make(map[string]string)
	}
	for _, res := range r.Resources {
		t, err := resource.TopicOf(kind, res.Name)
		if err != nil {
			return err
		}
		s.has[kind][res.Name] = res.Version
		delete(s.awaited, t)
	}
	for _, name := range r.RemovedResources {
		t, err := resource.TopicOf(kind, name)
		if err != nil {
			return err
		}
		delete(s.has[kind], name)
		delete(s.awaited, t)
	}
	return nil
}
