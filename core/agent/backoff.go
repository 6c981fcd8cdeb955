package agent

import (
	"math/rand/v2"
	"time"

	agentv1 "github.com/octomesh/octomesh/gen/control/octo/agent/v1"
)

// loop is after how many crashes in a row a proxy is said to crash again and again.
const loop = 5

// backoff counts a proxy's crashes, and says how long to wait after each.
type backoff struct {
	least, most, steady time.Duration
	crashes             int
}

func newBackoff(c *agentv1.RestartConfig) *backoff {
	return &backoff{least: c.GetBackoff().AsDuration(), most: c.GetMaxBackoff().AsDuration(), steady: c.GetSteadyAfter().AsDuration()}
}

// crashed counts a process that has ended after it had served for so long, and returns how long to wait before the next. random is from
// 0 to 1.
func (b *backoff) crashed(served time.Duration, random float64) time.Duration {
	if served > 0 && served >= b.steady {
		b.crashes = 0
	}
	b.crashes++
	wait := b.least
	for range b.crashes - 1 {
		if wait *= 2; wait >= b.most {
			break
		}
	}
	wait = min(wait, b.most)
	return wait - time.Duration(random*float64(wait)/2)
}

// looping tells whether it crashes again and again.
func (b *backoff) looping() bool { return b.crashes >= loop }

func jitter() float64 { return rand.Float64() }
