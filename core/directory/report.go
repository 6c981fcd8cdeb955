package directory

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/octomesh/octomesh/core/wire"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
)

// Reports takes what SDKs measured. What it is given it may keep, and not change. It must not block.
type Reports interface {
	Reported(c Caller, r *directoryv1.ReportRequest)
}

const (
	// maxPaths bounds the paths of one report.
	maxPaths = 2000
	// maxSums bounds the sums that are kept: what is beyond is counted, and not kept apart.
	maxSums = 20_000
	// maxErrorKinds bounds the codes and origins of one sum.
	maxErrorKinds = 64
	// Buckets of latency: the last one has all that is longer than 2^26 µs, 67 s.
	latencyBuckets = 28
)

// Report answers a Report.
func (s *Service) Report(c Caller, r *directoryv1.ReportRequest) (*directoryv1.ReportResponse, error) {
	if err := s.checkEnvironment(r.GetEnvironment()); err != nil {
		return nil, err
	}
	if err := s.checkIdentity(c, r.GetApplication(), r.GetInstance(), r.GetIncarnation()); err != nil {
		return nil, err
	}
	if len(r.GetPaths()) > maxPaths {
		return nil, s.refuse(wire.InvalidArgument, "a report has at most %d paths, and this one %d", maxPaths, len(r.GetPaths()))
	}
	s.stats.reports.Add(1)
	s.sums.add(r)
	if s.cfg.Reports != nil {
		s.cfg.Reports.Reported(c, r)
	}
	return &directoryv1.ReportResponse{IntervalMs: uint32(s.pace.next(time.Now()).Milliseconds())}, nil
}

// sumKey is what reports are added up by.
type sumKey struct {
	application, target string
	path                directoryv1.PathReport_Path
}

type errorKind struct{ code, origin int32 }

// sum is what was reported of one path since the service was made.
type sum struct {
	calls, saved uint64
	errors       map[errorKind]uint64
	latency      [latencyBuckets]uint64
}

// sums are all that was reported, as far as there is room for it.
type sums struct {
	mu      sync.Mutex
	all     map[sumKey]*sum
	dropped uint64 // calls of paths for which there was no room
}

func (s *sums) add(r *directoryv1.ReportRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = make(map[sumKey]*sum)
	}
	for _, p := range r.GetPaths() {
		k := sumKey{r.GetApplication(), p.GetTarget(), p.GetPath()}
		t := s.all[k]
		if t == nil && len(s.all) >= maxSums {
			s.dropped += p.GetCalls()
			continue
		}
		if t == nil {
			t = &sum{errors: make(map[errorKind]uint64)}
			s.all[k] = t
		}
		t.add(p)
	}
}

func (t *sum) add(p *directoryv1.PathReport) {
	t.calls += p.GetCalls()
	t.saved += p.GetSavedByFallback()
	for _, e := range p.GetErrors() {
		k := errorKind{e.GetCode(), e.GetOrigin()}
		if _, ok := t.errors[k]; !ok && len(t.errors) >= maxErrorKinds {
			k = errorKind{int32(wire.Unknown), 0}
		}
		t.errors[k] += e.GetCount()
	}
	for i, n := range p.GetLatencyBuckets() {
		t.latency[min(i, latencyBuckets-1)] += n
	}
}

// maxInterval is the longest that an SDK is told to wait between two reports.
const maxInterval = 10 * time.Minute

// paceWindow is how long reports are counted before the interval is decided anew.
const paceWindow = 5 * time.Second

// pace decides how often SDKs report, so that not more reports come than are wanted. How many SDKs there are it infers
// from how many reports come at the interval that they were told.
type pace struct {
	interval  time.Duration // while the load is low
	perSecond float64

	mu      sync.Mutex
	current time.Duration
	begun   time.Time
	seen    int
}

// next is the interval for the SDK that has just reported, ±10 %.
func (p *pace) next(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.begun.IsZero() {
		p.begun, p.current = now, p.interval
	}
	p.seen++
	if passed := now.Sub(p.begun); passed >= paceWindow {
		reporters := float64(p.seen) / passed.Seconds() * p.current.Seconds()
		wanted := time.Duration(reporters / p.perSecond * float64(time.Second))
		p.current = min(max(p.interval, wanted), maxInterval)
		p.begun, p.seen = now, 0
	}
	return time.Duration(float64(p.current) * (0.9 + 0.2*rand.Float64()))
}
