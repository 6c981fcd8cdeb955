// Package node is where a Pilot hears its proxies out: who is attached to them, what they see go wrong, and what they go
// by. Registrations go on to a Dispatcher.
package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/fleet"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
)

// Config is a service's. What is 0 takes its default.
type Config struct {
	// Dispatchers are connections to Dispatchers, tried in turn. At least one.
	Dispatchers []grpc.ClientConnInterface
	// Admit decides about an introduction; leave is called at the stream's end. The error is a status. Nil: all are
	// admitted.
	Admit func(ctx context.Context, in *controlv1.Introduction) (leave func(), err error)
	// Keep is how long instances of a proxy that is not heard of any more stay registered, KeepMany how long if more
	// proxies are lost than there are left: then it is not them, maybe. 0: 10 s and 60 s.
	Keep, KeepMany time.Duration
	// MaxInstances bounds what one proxy registers, MaxAll what all do. 0: 1000 and 1,000,000.
	MaxInstances, MaxAll int
	// WordsPerSecond bounds what one proxy says; what is more waits at the proxy. 0: 200.
	WordsPerSecond float64

	// What follows is called from many goroutines and must not block. Nil: nobody is told.

	// Introduced learns of each proxy that connects.
	Introduced func(Info, *controlv1.Introduction)
	// Anomaly learns what proxies see go wrong.
	Anomaly func(Info, *controlv1.Anomaly)
	// Report learns what SDKs have measured. Its answer may be nil.
	Report func(Info, *directoryv1.ReportRequest) *directoryv1.ReportResponse

	// Roster learns who runs beside which proxy. Nil: nobody does.
	Roster *fleet.Roster
	Log    *slog.Logger
}

func (c Config) withDefaults() Config {
	c.Keep, c.KeepMany = cmp.Or(c.Keep, 10*time.Second), cmp.Or(c.KeepMany, time.Minute)
	c.MaxInstances, c.MaxAll = cmp.Or(c.MaxInstances, 1000), cmp.Or(c.MaxAll, 1_000_000)
	c.WordsPerSecond = cmp.Or(c.WordsPerSecond, 200)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Info is what is known of a proxy.
type Info struct {
	Environment, Instance string
	Incarnation           uint64
	Version, Zone         string
	Since                 time.Time // when it connected
	Instances             int       // that it has registered
	// Generation and Hash are of what it goes by; 0 and empty: it has not said.
	Generation uint64
	Hash       string
}

// Service implements octo.control.v1.Node. It is a part of a Pilot: call Register and Run.
type Service struct {
	controlv1.UnimplementedNodeServer
	cfg    Config
	stats  counters
	talk   *rate.Limiter // of what is logged for anomalies
	nobody string        // why there is no Dispatcher, guarded by mu; empty: there is

	mu      sync.Mutex
	nodes   map[*node]struct{}
	lost    map[nodeID]time.Time // proxies that were lost with instances, and have not come back
	entries map[entryID]*entry
	orphans map[*entry]struct{}
	dirty   []*entry      // of which the Dispatcher is to be told
	news    chan struct{} // holds one element while dirty has some
}

type counters struct {
	words, slowed, superseded, silent, reports atomic.Uint64
	anomalies                                  [4]atomic.Uint64 // by kind
}

// Stats are counts; those of what happened are since the service was made.
type Stats struct {
	Nodes     int  // that are connected
	Instances int  // that are registered, or are to be
	Orphans   int  // of them, those whose proxy is not heard of
	Waiting   int  // of which the Dispatcher is yet to be told
	Connected bool // a Dispatcher takes registrations
	// Words that proxies have said; Slowed are those that had to wait; Superseded are registrations that another proxy's has
	// ended; Silent those that ended because their proxy was not heard of any more; Reports of SDKs.
	Words, Slowed, Superseded, Silent, Reports uint64
	Unreachable, Ejected, Identity             uint64 // anomalies
}

// New makes a service.
func New(cfg Config) (*Service, error) {
	if len(cfg.Dispatchers) == 0 {
		return nil, errors.New("node: there is no Dispatcher: give at least one connection")
	}
	return &Service{
		cfg: cfg.withDefaults(), talk: rate.NewLimiter(1, 10), nobody: "it has not been reached yet",
		nodes: make(map[*node]struct{}), lost: make(map[nodeID]time.Time), entries: make(map[entryID]*entry),
		orphans: make(map[*entry]struct{}), news: make(chan struct{}, 1),
	}, nil
}

// Register adds the service to a gRPC server.
func (s *Service) Register(g grpc.ServiceRegistrar) { controlv1.RegisterNodeServer(g, s) }

// Run works until ctx is done: it tells a Dispatcher what is registered, and ends what nobody speaks for.
func (s *Service) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { s.publish(ctx) })
	defer wg.Wait()
	tick := time.NewTicker(max(s.cfg.Keep/10, time.Millisecond))
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

// Stats counts.
func (s *Service) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.stats
	return Stats{
		Nodes: len(s.nodes), Instances: len(s.entries), Orphans: len(s.orphans), Waiting: len(s.dirty), Connected: s.nobody == "",
		Words: c.words.Load(), Slowed: c.slowed.Load(), Superseded: c.superseded.Load(), Silent: c.silent.Load(), Reports: c.reports.Load(),
		Unreachable: c.anomalies[controlv1.Anomaly_KIND_UNREACHABLE].Load(), Ejected: c.anomalies[controlv1.Anomaly_KIND_EJECTED].Load(),
		Identity: c.anomalies[controlv1.Anomaly_KIND_IDENTITY].Load(),
	}
}

// Nodes are the proxies that are connected, sorted by environment and instance.
func (s *Service) Nodes() []Info {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Info, 0, len(s.nodes))
	for n := range s.nodes {
		all = append(all, n.info)
	}
	slices.SortFunc(all, func(a, b Info) int {
		return cmp.Or(cmp.Compare(a.Environment, b.Environment), cmp.Compare(a.Instance, b.Instance), cmp.Compare(a.Incarnation, b.Incarnation))
	})
	return all
}

// sweep ends registrations whose proxies have not come back in time.
func (s *Service) sweep(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, at := range s.lost {
		if now.Sub(at) > s.cfg.KeepMany {
			delete(s.lost, id)
		}
	}
	keep := s.cfg.Keep
	if len(s.lost) >= minMany && len(s.lost) > len(s.nodes) {
		keep = s.cfg.KeepMany
	}
	ended := 0
	for e := range s.orphans {
		if now.Sub(e.lost) < keep {
			continue
		}
		ended++
		s.end(e, controlv1.Withdrawal_REASON_SILENT)
	}
	if ended > 0 {
		s.stats.silent.Add(uint64(ended))
		s.cfg.Log.Warn("instances are withdrawn: their proxies are not heard of any more", "instances", ended, "after", keep)
	}
}

// minMany is from how many lost proxies on it may be the Pilot that is cut off.
const minMany = 4

// anomaly counts what a proxy sees go wrong, and tells of it.
func (s *Service) anomaly(n Info, a *controlv1.Anomaly) {
	kind := a.GetKind()
	if kind <= 0 || int(kind) >= len(s.stats.anomalies) {
		return // of a later version
	}
	s.stats.anomalies[kind].Add(max(a.GetCount(), 1))
	if s.talk.Allow() {
		s.cfg.Log.Warn("a proxy sees something go wrong with an endpoint", "node", n.Instance, "environment", n.Environment, "target", a.GetTarget(),
			"instance", a.GetInstance(), "kind", kind.String(), "count", a.GetCount(), "text", fmt.Sprintf("%.200s", a.GetText()))
	}
	if s.cfg.Anomaly != nil {
		s.cfg.Anomaly(n, a)
	}
}

// report passes on what SDKs have measured.
func (s *Service) report(n Info, r *directoryv1.ReportRequest) *directoryv1.ReportResponse {
	s.stats.reports.Add(1)
	var answer *directoryv1.ReportResponse
	if s.cfg.Report != nil {
		answer = s.cfg.Report(n, r)
	}
	if answer == nil {
		answer = &directoryv1.ReportResponse{IntervalMs: defaultInterval}
	}
	return answer
}

// defaultInterval is when SDKs are to report again, in milliseconds.
const defaultInterval = 10_000

func sameRegistration(a, b *controlv1.Registration) bool { return a != nil && proto.Equal(a, b) }
