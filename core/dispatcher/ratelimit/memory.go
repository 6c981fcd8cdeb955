package ratelimit

import (
	"context"
	"hash/maphash"
	"sync"
	"time"
)

const (
	shards = 64
	// sweepAt is how many counters a shard may hold before those of past windows are looked for.
	sweepAt = 1024
)

// Memory keeps counters in this process: for one server alone, and for tests.
type Memory struct {
	now    func() time.Time
	seed   maphash.Seed
	shards [shards]shard
}

type shard struct {
	mu      sync.Mutex
	windows map[string]*kept
	sweepAt int
}

// kept is a counter, and the end of what it may matter for.
type kept struct {
	window
	until int64
}

// NewMemory returns a store. Now is the clock; nil: the system's.
func NewMemory(now func() time.Time) *Memory {
	if now == nil {
		now = time.Now
	}
	m := &Memory{now: now, seed: maphash.MakeSeed()}
	for i := range m.shards {
		m.shards[i] = shard{windows: make(map[string]*kept), sweepAt: sweepAt}
	}
	return m
}

// Take implements [Store].
func (m *Memory) Take(_ context.Context, hits []Hit) ([]Result, error) {
	now := m.now().UnixMicro()
	out := make([]Result, len(hits))
	for i, h := range hits {
		out[i] = m.shards[maphash.String(m.seed, h.Key)%shards].take(h, now)
	}
	return out, nil
}

func (s *shard) take(h Hit, now int64) Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.windows[h.Key]
	if w == nil {
		if len(s.windows) >= s.sweepAt {
			s.sweep(now)
		}
		w = &kept{}
		s.windows[h.Key] = w
	}
	w.until = now + 2*h.Per.Microseconds()
	return w.take(h, now)
}

// sweep forgets counters that say nothing any more. The next time is when twice as many are there as remain.
func (s *shard) sweep(now int64) {
	for key, w := range s.windows {
		if w.until <= now {
			delete(s.windows, key)
		}
	}
	s.sweepAt = max(sweepAt, 2*len(s.windows))
}

// Close implements [Store].
func (m *Memory) Close() error { return nil }
