package push

import (
	"sync"
	"time"
)

// bucket admits so many a second, and some more after a pause. It hands places out in advance, as far as a minute:
// those who are told to wait are told different times, and do not come again all at once.
type bucket struct {
	rate, size float64

	mu     sync.Mutex
	tokens float64
	last   time.Time
	owed   float64 // who were told to come again, and have not yet
}

// farthest is how far in advance the bucket hands places out.
const farthest = time.Minute

// take admits, or returns after what time to come again.
func (b *bucket) take(now time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.last.IsZero() {
		gained := now.Sub(b.last).Seconds() * b.rate
		b.tokens = min(b.size, b.tokens+gained)
		b.owed = max(0, b.owed-gained)
	}
	b.last = now
	if b.tokens >= 1 {
		b.tokens--
		return 0
	}
	b.owed = min(b.owed+1, farthest.Seconds()*b.rate)
	return time.Duration((b.owed + 1) / b.rate * float64(time.Second))
}
