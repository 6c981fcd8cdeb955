package record

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Queue takes records from those who must not wait to one who may. What comes while it is full is dropped
// and counted.
type Queue struct {
	limit int
	news  chan struct{}

	mu      sync.Mutex
	waiting []*Record

	dropped atomic.Uint64
}

// NewQueue returns a queue of at most limit records.
func NewQueue(limit int) *Queue { return &Queue{limit: limit, news: make(chan struct{}, 1)} }

// wakeAt is how many records make the consumer look at once instead of at its next turn.
const wakeAt = 512

// Put queues a record, or drops it. Either way it is not the caller's any more.
func (q *Queue) Put(r *Record) {
	q.mu.Lock()
	n := len(q.waiting)
	if n < q.limit {
		q.waiting = append(q.waiting, r)
	}
	q.mu.Unlock()
	if n >= q.limit {
		q.dropped.Add(1)
		r.Drop()
		return
	}
	if n == 0 || n == wakeAt {
		select {
		case q.news <- struct{}{}:
		default:
		}
	}
}

// Len returns how many records wait.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

// Dropped returns how many records found no room.
func (q *Queue) Dropped() uint64 { return q.dropped.Load() }

// gather is how long the consumer lets records gather after the first one has come: one wake-up serves them
// all.
const gather = 200 * time.Millisecond

// Run hands over all that has come, again and again, until ctx ends; then once more what is left. f must have
// done with the slice when it returns, and gives the records back.
func (q *Queue) Run(ctx context.Context, f func([]*Record)) {
	var spare []*Record
	timer := time.NewTimer(gather)
	defer timer.Stop()
	for done := false; !done; {
		select {
		case <-q.news:
			timer.Reset(gather)
			select {
			case <-timer.C:
			case <-q.news: // many have come
			case <-ctx.Done():
			}
		case <-ctx.Done():
			done = true
		}
		q.mu.Lock()
		batch := q.waiting
		q.waiting = spare
		q.mu.Unlock()
		if len(batch) > 0 {
			f(batch)
		}
		clear(batch)
		spare = batch[:0]
		if cap(spare) > 4*wakeAt {
			spare = nil // after a burst
		}
	}
}
