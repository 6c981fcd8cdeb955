// Package admission lets in so many at a time and tells the others when to come again.
package admission

import (
	"sync"
	"time"
)

// Bucket admits so many a second, and some more after a pause. It hands places out in advance, as far as a minute:
// those who are told to wait are told different times, and do not come again all at once.
type Bucket struct {
	rate, size float64

	mu     sync.Mutex
	tokens float64
	last   time.Time
	owed   float64 // who were told to come again, and have not yet
}

// farthest is how far in advance a bucket hands places out.
const farthest = time.Minute

// NewBucket returns a full bucket of size tokens, of which rate come in each second.
func NewBucket(rate, size float64) *Bucket { return &Bucket{rate: rate, size: size, tokens: size} }

// Take admits: 0; or returns after what time to come again.
func (b *Bucket) Take(now time.Time) time.Duration {
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
