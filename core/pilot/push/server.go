package push

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/octomesh/octomesh/core/admission"
	"github.com/octomesh/octomesh/core/pilot/snapshot"
)

// Config is a server's.
type Config struct {
	Cache *snapshot.Cache
	// Observer learns what proxies apply and refuse. nil: nobody.
	Observer Observer
	// StreamsPerSecond bounds how many streams may begin, StreamsAtOnce how many after a pause; others are refused with
	// a time after which to come again. 0: 2000 and 4000.
	StreamsPerSecond, StreamsAtOnce int
	// Admit tells whether a stream may be the node's, and one more of it; leave is called at the stream's end. stock: it is a
	// client that is none of ours. nil: all may.
	Admit func(ctx context.Context, n Node, stock bool) (leave func(), err error)
	// Topics is how many one stream may follow. 0: [MaxTopics].
	Topics int
	// AckWithin is how long a proxy may take for an answer before its stream is ended. 0: 30 s.
	AckWithin time.Duration
	Log       *slog.Logger
}

// Server is the aggregated discovery service of one Pilot.
type Server struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	cfg       Config
	admission *admission.Bucket
	workers   workers
	stats     counters

	mu      sync.Mutex
	streams map[*stream]struct{}
	links   links
}

type counters struct {
	responses, resources, removed, bytes, refusals, stockRefusals, turnedAway, overdue atomic.Uint64

	largest atomic.Int64
}

// Stats are counts since the server was made.
type Stats struct {
	Streams int // that are open
	// Stock are those of them that are of clients that are none of ours, and StockRefusals what such have refused.
	Stock         int
	StockRefusals uint64
	// Responses that were sent, with how many resources, removals and bytes.
	Responses, Resources, Removed, Bytes uint64
	// Refusals are responses that a proxy did not take; TurnedAway are streams that were not admitted; Overdue are streams
	// that were ended for their silence.
	Refusals, TurnedAway, Overdue uint64
	// Open responses wait for an acknowledgement now, of OpenBytes together; LargestOpen is the most that waits for one
	// stream. Streams share the bytes of what they are told, so that together they hold less.
	Open, OpenBytes, LargestOpen int
	// Largest is the most that ever waited for one stream, in bytes.
	Largest int
	// Behind are streams that have not acknowledged, or have something to be told.
	Behind int
	// Coalesced are changes that open streams were not told, since a newer one of the same resource came before.
	Coalesced uint64
}

// New makes a server. Register it on a grpc.Server that was made with [ServerOptions].
func New(cfg Config) *Server {
	if cfg.StreamsPerSecond == 0 {
		cfg.StreamsPerSecond = 2000
	}
	if cfg.StreamsAtOnce == 0 {
		cfg.StreamsAtOnce = 2 * cfg.StreamsPerSecond
	}
	if cfg.Topics == 0 {
		cfg.Topics = MaxTopics
	}
	if cfg.AckWithin == 0 {
		cfg.AckWithin = 30 * time.Second
	}
	return &Server{
		cfg: cfg, streams: make(map[*stream]struct{}), links: make(links),
		admission: admission.NewBucket(float64(cfg.StreamsPerSecond), float64(cfg.StreamsAtOnce)),
	}
}

// Register adds the service to a gRPC server.
func (s *Server) Register(g grpc.ServiceRegistrar) {
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, s)
}

// Stats returns the counts.
func (s *Server) Stats() Stats {
	stats := Stats{
		Responses: s.stats.responses.Load(), Resources: s.stats.resources.Load(), Removed: s.stats.removed.Load(),
		Bytes: s.stats.bytes.Load(), Refusals: s.stats.refusals.Load(), TurnedAway: s.stats.turnedAway.Load(),
		Overdue: s.stats.overdue.Load(), StockRefusals: s.stats.stockRefusals.Load(), Largest: int(s.stats.largest.Load()),
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	stats.Streams = len(s.streams)
	for st := range s.streams {
		n, behind := st.lag()
		if n > 0 {
			stats.Open++
			stats.OpenBytes += n
			stats.LargestOpen = max(stats.LargestOpen, n)
		}
		if behind {
			stats.Behind++
		}
		if st.stock != nil {
			stats.Stock++
		}
		stats.Coalesced += st.follower.Coalesced()
	}
	return stats
}

// Run ends the streams of proxies that do not answer, until ctx is done. It looks ten times within the time that an
// answer may take.
func (s *Server) Run(ctx context.Context) {
	tick := time.NewTicker(s.cfg.AckWithin / 10)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			s.sweep(now)
		}
	}
}

func (s *Server) sweep(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for st := range s.streams {
		if st.overdue(now) > s.cfg.AckWithin {
			s.stats.overdue.Add(1)
			s.cfg.Log.Warn("a proxy does not answer: its stream is ended", "node", st.node.ID, "environment", st.node.Environment, "within", s.cfg.AckWithin)
			st.ctx.end(context.DeadlineExceeded)
		}
	}
}

// stream is one proxy's stream. It costs one goroutine, which receives; workers, which all share, send.
type stream struct {
	session
	server  *Server
	grpc    grpc.ServerStream
	ctx     *endable
	sending atomic.Bool
	link    *link
	after   *stream // the next of those that wait for a worker on the same link
}

// request is a discovery request of either variant of the protocol.
type request interface {
	GetNode() *corev3.Node
	GetTypeUrl() string
	GetErrorDetail() *rpcstatus.Status
	Reset()
}

// DeltaAggregatedResources implements the service.
func (s *Server) DeltaAggregatedResources(g discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	r := &discoveryv3.DeltaDiscoveryRequest{}
	return s.serve(g, r, false, func(st *stream) error { return st.receive(r) })
}

// StreamAggregatedResources implements the service.
func (s *Server) StreamAggregatedResources(g discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	r := &discoveryv3.DiscoveryRequest{}
	return s.serve(g, r, true, func(st *stream) error { return st.receiveState(r) })
}

// serve is one stream. Its requests come one after the other in r, and take takes each.
func (s *Server) serve(g grpc.ServerStream, r request, state bool, take func(*stream) error) error {
	ctx, ok := endableOf(g.Context())
	if !ok {
		return status.Error(codes.Internal, "the Pilot's gRPC server was not made with push.ServerOptions")
	}
	if wait := s.admission.Take(time.Now()); wait > 0 {
		s.stats.turnedAway.Add(1)
		return comeAgain(wait)
	}
	if err := g.RecvMsg(r); err != nil {
		return over(err)
	}
	st := &stream{server: s, grpc: g, ctx: ctx, session: session{
		observer: s.cfg.Observer, node: Node{r.GetNode().GetId(), r.GetNode().GetCluster()}, topics: s.cfg.Topics,
	}}
	if st.node.ID == "" || st.node.Environment == "" {
		return status.Error(codes.InvalidArgument, "the first request names no node: its id is the proxy's instance, its cluster the environment")
	}
	var err error
	if st.stock, err = newStock(r.GetNode(), r.GetTypeUrl(), state); err != nil {
		return err
	}
	if s.cfg.Admit != nil {
		leave, err := s.cfg.Admit(g.Context(), st.node, st.stock != nil)
		if err != nil {
			s.stats.turnedAway.Add(1)
			return err
		}
		defer leave()
	}
	st.follower = s.cfg.Cache.Follow(st.node.ID, st.wake)
	defer st.follower.Close()
	s.enter(st)
	defer s.leave(st)
	return over(st.receiveAll(r, take))
}

// comeAgain refuses a stream for now.
func comeAgain(wait time.Duration) error {
	refusal, err := status.New(codes.Unavailable, "too many proxies connect at once: come again later").
		WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
	if err != nil {
		return err
	}
	return refusal.Err()
}

func (s *Server) enter(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[st] = struct{}{}
	st.link = s.links.join(st.grpc.Context())
}

func (s *Server) leave(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st)
	s.links.part(st.link)
}

// over is the end of a stream that its proxy has ended.
func over(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (st *stream) receiveAll(r request, take func(*stream) error) error {
	for {
		if refused := r.GetErrorDetail(); refused != nil {
			st.server.stats.refusals.Add(1)
			if st.stock != nil {
				st.server.stats.stockRefusals.Add(1)
			}
			st.server.cfg.Log.Warn("a proxy refused a response", "node", st.node.ID, "environment", st.node.Environment,
				"type", r.GetTypeUrl(), "error", refused.Message)
		}
		if err := take(st); err != nil {
			return err
		}
		if st.stock != nil || st.ready() {
			st.wake()
		}
		r.Reset() // until the next one comes, which may be never
		if err := st.grpc.RecvMsg(r); err != nil {
			return err
		}
	}
}

// wake has what waits sent, if nobody does so already.
func (st *stream) wake() {
	if st.stock != nil {
		st.stock.news.Store(true)
	}
	if st.sending.CompareAndSwap(false, true) {
		st.server.workers.add(st)
	}
}

// atOnce is up to what size a worker sends a response itself. grpc-go takes 64 KiB of a stream without waiting for the
// network, and the one before has been acknowledged: so it does not wait. Larger ones get a goroutine.
const atOnce = 32 << 10

func (st *stream) send() {
	for {
		r := st.next(time.Now())
		if r == nil {
			st.sending.Store(false)
			if !st.ready() || !st.sending.CompareAndSwap(false, true) {
				return
			}
			continue
		}
		if r.buffers.Len() > atOnce {
			go func() {
				if st.deliver(r) {
					st.send()
				}
			}()
			return
		}
		if !st.deliver(r) {
			return
		}
	}
}

// deliver sends a response. False: the stream is over, and nothing more goes, since sending stays true.
func (st *stream) deliver(r *response) bool {
	c := &st.server.stats
	c.responses.Add(1)
	c.resources.Add(uint64(len(r.Told)))
	c.removed.Add(uint64(len(r.Removed)))
	n := int64(r.buffers.Len())
	c.bytes.Add(uint64(n))
	for most := c.largest.Load(); n > most && !c.largest.CompareAndSwap(most, n); most = c.largest.Load() {
	}
	if err := st.grpc.SendMsg(r); err != nil {
		st.ctx.end(context.Canceled)
		return false
	}
	return true
}
