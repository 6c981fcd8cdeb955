package etcd

import (
	"sync"
	"time"

	"google.golang.org/grpc/backoff"
)

// reconnect is how often a lost connection is tried again: often enough to have caught up soon after an outage.
var reconnect = backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.5, Jitter: 0.3, MaxDelay: 3 * time.Second}

// link is whether the connection stands, and tells all watches when that changes.
type link struct {
	mu     sync.Mutex
	up     bool
	change chan struct{} // closed and replaced at each change
}

func (l *link) set(up bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.up != up {
		l.up = up
		close(l.change)
		l.change = make(chan struct{})
	}
}

func (l *link) get() (up bool, change <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.up, l.change
}
