package session

import (
	"sync/atomic"
	"time"
)

// Clock gives the monotonic time, and wakes the sweep when a call with a deadline comes while it rests.
type Clock struct {
	base    time.Time
	resting atomic.Bool
	wake    chan struct{}
}

// NewClock returns a clock that starts near 0.
func NewClock() *Clock { return &Clock{base: time.Now(), wake: make(chan struct{}, 1)} }

// Now is the time since the clock was made, in nanoseconds; never 0.
func (c *Clock) Now() int64 { return int64(time.Since(c.base)) + 1 }

// Rest says that nobody sweeps until a receive from the channel.
func (c *Clock) Rest() <-chan struct{} {
	c.resting.Store(true)
	return c.wake
}

// Resume ends a rest that was not begun after all.
func (c *Clock) Resume() {
	if !c.resting.CompareAndSwap(true, false) {
		<-c.wake // somebody ends it at the same time
	}
}

// wakeSweep ends the sweep's rest.
func (c *Clock) wakeSweep() {
	if c.resting.Load() && c.resting.CompareAndSwap(true, false) {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}
