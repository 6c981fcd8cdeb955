package push

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	encodingproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
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
	// Admit tells whether a stream may be the node's, and one more of it; leave is called at the stream's end. nil: all may.
	Admit func(ctx context.Context, n Node) (leave func(), err error)
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
}

type counters struct {
	responses, resources, removed, bytes, refusals, turnedAway, overdue atomic.Uint64
}

// Stats are counts since the server was made.
type Stats struct {
	Streams int // that are open
	// Responses that were sent, with how many resources, removals and bytes.
	Responses, Resources, Removed, Bytes uint64
	// Refusals are responses that a proxy did not take; TurnedAway are streams that were not admitted; Overdue are streams
	// that were ended for their silence.
	Refusals, TurnedAway, Overdue uint64
}

// New makes a server. Register it on a grpc.Server that was made with [Codec].
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
		cfg: cfg, streams: make(map[*stream]struct{}),
		admission: admission.NewBucket(float64(cfg.StreamsPerSecond), float64(cfg.StreamsAtOnce)),
	}
}

// Register adds the service to a gRPC server.
func (s *Server) Register(g grpc.ServiceRegistrar) {
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, s)
}

// Stats returns the counts.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	open := len(s.streams)
	s.mu.Unlock()
	return Stats{
		Streams: open, Responses: s.stats.responses.Load(), Resources: s.stats.resources.Load(), Removed: s.stats.removed.Load(),
		Bytes: s.stats.bytes.Load(), Refusals: s.stats.refusals.Load(), TurnedAway: s.stats.turnedAway.Load(),
		Overdue: s.stats.overdue.Load(),
	}
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
			st.end(status.Errorf(codes.DeadlineExceeded, "no answer to a response within %v", s.cfg.AckWithin))
		}
	}
}

// stream is one proxy's stream. It costs two goroutines, of which one receives; workers, which all share, send.
type stream struct {
	session
	server  *Server
	grpc    grpc.ServerStream
	cancel  context.CancelCauseFunc
	sending atomic.Bool
}

// DeltaAggregatedResources implements the service.
func (s *Server) DeltaAggregatedResources(g discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	if wait := s.admission.Take(time.Now()); wait > 0 {
		s.stats.turnedAway.Add(1)
		refusal, err := status.New(codes.Unavailable, "too many proxies connect at once: come again later").
			WithDetails(&errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
		if err != nil {
			return err
		}
		return refusal.Err()
	}
	first, err := g.Recv()
	if err != nil {
		return over(err)
	}
	st := &stream{server: s, grpc: g, session: session{
		observer: s.cfg.Observer, node: Node{first.GetNode().GetId(), first.GetNode().GetCluster()}, topics: s.cfg.Topics,
	}}
	if st.node.ID == "" || st.node.Environment == "" {
		return status.Error(codes.InvalidArgument, "the first request names no node: its id is the proxy's instance, its cluster the environment")
	}
	if s.cfg.Admit != nil {
		leave, err := s.cfg.Admit(g.Context(), st.node)
		if err != nil {
			s.stats.turnedAway.Add(1)
			return err
		}
		defer leave()
	}
	var ctx context.Context
	ctx, st.cancel = context.WithCancelCause(g.Context())
	defer st.cancel(nil)
	st.follower = s.cfg.Cache.Follow(st.node.ID, st.wake)
	defer st.follower.Close()
	s.mu.Lock()
	s.streams[st] = struct{}{}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.streams, st)
		s.mu.Unlock()
	}()
	received := make(chan error, 1)
	go func() { received <- st.receiveAll(first) }()
	select {
	case err := <-received:
		return over(err)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// over is the end of a stream that its proxy has ended.
func over(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func (st *stream) end(why error) { st.cancel(why) }

func (st *stream) receiveAll(r *discoveryv3.DeltaDiscoveryRequest) error {
	for {
		if r.ErrorDetail != nil {
			st.server.stats.refusals.Add(1)
			st.server.cfg.Log.Warn("a proxy refused a response", "node", st.node.ID, "environment", st.node.Environment,
				"type", r.TypeUrl, "error", r.ErrorDetail.Message)
		}
		if err := st.receive(r); err != nil {
			return err
		}
		if st.ready() {
			st.wake()
		}
		r = &discoveryv3.DeltaDiscoveryRequest{}
		if err := st.grpc.RecvMsg(r); err != nil {
			return err
		}
	}
}

// wake has what waits sent, if nobody does so already.
func (st *stream) wake() {
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
	c.bytes.Add(uint64(r.buffers.Len()))
	if err := st.grpc.SendMsg(r); err != nil {
		st.end(err)
		return false
	}
	return true
}

// Codec is protobuf's, but for responses, which are encoded already.
func Codec() grpc.ServerOption {
	return grpc.ForceServerCodecV2(codec{encoding.GetCodecV2(encodingproto.Name)})
}

type codec struct{ encoding.CodecV2 }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if r, ok := v.(*response); ok {
		return r.buffers, nil
	}
	return c.CodecV2.Marshal(v)
}
