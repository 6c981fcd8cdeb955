// Package dispatcher serves what registries know to Pilots, over gRPC: octo.dispatch.v1. The hub below it watches each
// key once, whoever asks.
package dispatcher

import (
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"

	"google.golang.org/grpc"

	"github.com/octomesh/octomesh/core/dispatcher/hub"
	"github.com/octomesh/octomesh/core/dispatcher/registrar"
	"github.com/octomesh/octomesh/core/dispatcher/source"
	"github.com/octomesh/octomesh/core/transport/identity"
	dispatchv1 "github.com/octomesh/octomesh/gen/control/octo/dispatch/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// part is how many endpoints, or removals, one response has at most.
const part = 5000

// Config is a server's.
type Config struct {
	// Hub watches the registries. It outlives the server.
	Hub *hub.Hub
	// Registrar has the limits and times of registrations. Its Sources, Pick and Log are the server's affair.
	Registrar registrar.Config
	// MayPublish tells whether whom TLS has proved may register instances, MayConfirm whether they may confirm removals;
	// who connects without TLS may. Nil: everybody may.
	MayPublish, MayConfirm func(identity.ID) error
	Log                    *slog.Logger
}

// Server is the service of one Dispatcher.
type Server struct {
	dispatchv1.UnimplementedDispatchServer
	hub   *hub.Hub
	table *registrar.Table
	cfg   Config
	log   *slog.Logger
}

// New makes a server. Close it.
func New(cfg Config) *Server {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	may := func(identity.ID) error { return nil }
	if cfg.MayPublish == nil {
		cfg.MayPublish = may
	}
	if cfg.MayConfirm == nil {
		cfg.MayConfirm = may
	}
	r := cfg.Registrar
	r.Sources, r.Pick, r.Log = cfg.Hub.Sources(), cfg.Hub.Pick, cfg.Log
	return &Server{hub: cfg.Hub, table: registrar.New(r), cfg: cfg, log: cfg.Log}
}

// Close ends all work for registrations, which stay in their registries. Close it before its hub.
func (s *Server) Close() { s.table.Close() }

// Registrations counts what was registered here.
func (s *Server) Registrations() registrar.Stats { return s.table.Stats() }

// Register adds the service to a gRPC server.
func (s *Server) Register(g grpc.ServiceRegistrar) { dispatchv1.RegisterDispatchServer(g, s) }

// stream is one Pilot's.
type stream struct {
	grpc grpc.BidiStreamingServer[dispatchv1.WatchRequest, dispatchv1.WatchResponse]
	sub  *hub.Subscriber
	mu   sync.Mutex // of sending
}

func (st *stream) send(r *dispatchv1.WatchResponse) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.grpc.Send(r)
}

// Watch implements the service. A Pilot that reads slowly is told the newest snapshot of each key when it reads on.
func (s *Server) Watch(g grpc.BidiStreamingServer[dispatchv1.WatchRequest, dispatchv1.WatchResponse]) error {
	st := &stream{grpc: g, sub: s.hub.Subscribe()}
	defer st.sub.Close()
	told := make(chan error, 1)
	go func() { told <- st.tell() }()
	err := st.listen()
	st.sub.Close() // ends tell, if it does not wait for the network; that ends with the stream
	if errors.Is(err, io.EOF) {
		return nil
	}
	select {
	case terr := <-told:
		if !errors.Is(terr, hub.ErrClosed) {
			err = errors.Join(err, terr)
		}
	default:
	}
	return err
}

// listen takes what the Pilot asks for.
func (st *stream) listen() error {
	for {
		r, err := st.grpc.Recv()
		if err != nil {
			return err
		}
		for _, k := range r.Unfollow {
			st.sub.Unfollow(keyOf(k))
		}
		for _, k := range r.Follow {
			st.sub.Unfollow(keyOf(k)) // if it is followed it is told again
			if err := st.sub.Follow(keyOf(k)); err != nil {
				if err := st.send(&dispatchv1.WatchResponse{Key: k, Refused: err.Error()}); err != nil {
					return err
				}
			}
		}
	}
}

func keyOf(k *dispatchv1.Key) source.Key {
	return source.Key{Environment: k.GetEnvironment(), Target: k.GetTarget()}
}

// tell sends news of what is followed.
func (st *stream) tell() error {
	for {
		u, err := st.sub.Next(st.grpc.Context())
		if err != nil {
			return err
		}
		for _, r := range responses(u) {
			if err := st.send(r); err != nil {
				return err
			}
		}
	}
}

// responses are an update in parts.
func responses(u hub.Update) []*dispatchv1.WatchResponse {
	changed, removed := u.Diff()
	left, forgotten := u.Farewells()
	removed = slices.DeleteFunc(removed, func(name string) bool {
		_, surely := slices.BinarySearch(left, name)
		return surely
	})
	removed = append(removed, forgotten...)
	changed = slices.Clip(changed)
	for _, name := range left {
		changed = append(changed, &resourcev1.Endpoint{Instance: name, Standing: resourcev1.Standing_STANDING_LEFT})
	}
	var all []*dispatchv1.WatchResponse
	for first := true; first || len(changed)+len(removed) > 0; first = false {
		r := &dispatchv1.WatchResponse{
			Key:  &dispatchv1.Key{Environment: u.Key.Environment, Target: u.Key.Target},
			Full: u.Before == nil, Degraded: u.Now.Degraded,
		}
		r.Endpoints, changed = cut(changed)
		r.Removed, removed = cut(removed)
		r.More = len(changed)+len(removed) > 0
		all = append(all, r)
	}
	return all
}

func cut[T *resourcev1.Endpoint | string](all []T) (first, rest []T) {
	n := min(len(all), part)
	return all[:n], all[n:]
}
