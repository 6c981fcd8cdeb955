package octomesh

import (
	"context"
	"math/bits"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
)

// latencyBuckets is how many there are: the last has all that took longer than 2^26 µs.
const latencyBuckets = 28

// shards keep goroutines from counting in the same cache line.
const shards = 8

// pathStats counts the calls of one path to one target.
type pathStats struct {
	shards [shards]struct {
		latency [latencyBuckets]atomic.Uint64 // of unary calls
		streams atomic.Uint64
		_       [64]byte
	}
	saved atomic.Uint64

	mu     sync.Mutex
	failed map[failure]uint64
}

type failure struct {
	code   Code
	origin Origin
}

// maxFailures bounds the kinds of failures that are counted apart: codes come from others.
const maxFailures = 64

// bucket is where a call's time counts: i has those of at most 2^i µs, and more than 2^(i-1).
func bucket(d time.Duration) int {
	us := (d + time.Microsecond - 1) / time.Microsecond
	return min(bits.Len64(uint64(max(us, 1)-1)), latencyBuckets-1)
}

// ended counts a call.
func (s *pathStats) ended(c *clientCall, err *Error) {
	at := &s.shards[c.shard%shards]
	if c.streaming {
		at.streams.Add(1)
	} else {
		at.latency[bucket(time.Since(c.begun))].Add(1)
	}
	if err == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = make(map[failure]uint64)
	}
	kind := failure{err.Code, err.Origin}
	if _, ok := s.failed[kind]; !ok && len(s.failed) >= maxFailures {
		kind = failure{Unknown, OriginUnspecified}
	}
	s.failed[kind]++
}

// counted is what was counted up to some time.
type counted struct {
	calls, saved uint64
	latency      [latencyBuckets]uint64
	failed       map[failure]uint64
}

func (s *pathStats) counted() *counted {
	c := &counted{saved: s.saved.Load(), failed: make(map[failure]uint64)}
	for i := range s.shards {
		for j := range c.latency {
			n := s.shards[i].latency[j].Load()
			c.latency[j] += n
			c.calls += n
		}
		c.calls += s.shards[i].streams.Load()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for kind, n := range s.failed {
		c.failed[kind] = n
	}
	return c
}

// since is what was counted after an earlier time; nil if that is nothing.
func (c *counted) since(before *counted, target string, path directoryv1.PathReport_Path) *directoryv1.PathReport {
	if before == nil {
		before = &counted{}
	}
	if c.calls == before.calls && c.saved == before.saved {
		return nil
	}
	r := &directoryv1.PathReport{Target: target, Path: path, Calls: c.calls - before.calls, SavedByFallback: c.saved - before.saved}
	for i, n := range c.latency {
		r.LatencyBuckets = append(r.LatencyBuckets, n-before.latency[i])
	}
	for kind, n := range c.failed {
		if d := n - before.failed[kind]; d > 0 {
			r.Errors = append(r.Errors, &directoryv1.ErrorCount{Code: int32(kind.code), Origin: int32(kind.origin), Count: d})
		}
	}
	return r
}

const (
	firstReport   = 10 * time.Second
	reportTimeout = 5 * time.Second
	// farewell is how long a process that ends waits for its last report to be taken.
	farewellTimeout = 200 * time.Millisecond
	// maxPaths is how many paths one report has at most.
	maxPaths = 2000
)

var reportMethod = Method{Service: "octo.directory.v1.Directory", Name: "Report", Kind: Unary, Idempotent: true}

// reporter says what was measured, and knows what was taken already.
type reporter struct {
	source *source
	mu     sync.Mutex // one report at a time
	taken  map[*pathStats]*counted
}

// report reports for as long as the source is used.
func (s *source) report() {
	next := firstReport/2 + rand.N(firstReport)
	t := time.NewTimer(next)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-s.ctx.Done():
			return
		}
		ctx, cancel := context.WithTimeout(s.ctx, reportTimeout)
		if wait := s.reporter.deliver(ctx); wait > 0 {
			next = wait
		}
		cancel()
		t.Reset(next)
	}
}

// deliver reports what has not been, and returns when to come again; 0: as before.
func (r *reporter) deliver(ctx context.Context) time.Duration {
	if !r.mu.TryLock() {
		return 0 // somebody is about it
	}
	defer r.mu.Unlock()
	cfg := r.source.cfg
	q := &directoryv1.ReportRequest{Environment: cfg.environment, Application: cfg.application, Instance: cfg.instance, Incarnation: process.incarnation}
	now := make(map[*pathStats]*counted)
	seen := make(map[*pathStats]bool)
	r.source.mu.Lock()
	for _, w := range r.source.watchers {
		for i := range w.paths {
			s := &w.paths[i]
			seen[s] = true
			c := s.counted()
			if p := c.since(r.taken[s], w.target, directoryv1.PathReport_Path(i+1)); p != nil && len(q.Paths) < maxPaths {
				q.Paths = append(q.Paths, p)
				now[s] = c
			}
		}
	}
	r.source.mu.Unlock()
	for s := range r.taken {
		if !seen[s] {
			delete(r.taken, s)
		}
	}
	if len(q.Paths) == 0 {
		return 0
	}
	res, err := r.source.send(ctx, q)
	if err != nil {
		return 0 // it is all in the next one
	}
	for s, c := range now {
		r.taken[s] = c
	}
	return time.Duration(res.GetIntervalMs()) * time.Millisecond
}

// farewell reports what the last channel to a target leaves, if its proxy is there to take it.
func (s *source) farewell() {
	if s.proxy == nil || s.proxy.path.(*meshPath).peer.usable() == nil {
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, farewellTimeout)
	defer cancel()
	s.reporter.deliver(ctx)
}

// send reports to the proxy while it is there, else to the control plane.
func (s *source) send(ctx context.Context, q *directoryv1.ReportRequest) (*directoryv1.ReportResponse, error) {
	ch := s.proxy
	if ch == nil || len(s.cfg.directory) > 0 && ch.path.(*meshPath).peer.usable() == nil {
		ch = s.acquire()
		defer s.release()
	}
	return CallUnary[directoryv1.ReportRequest, directoryv1.ReportResponse](ctx, ch, &reportMethod, q, nil)
}
