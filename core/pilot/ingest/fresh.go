package ingest

import (
	"sync"
	"time"

	"github.com/octomesh/octomesh/core/resource"
)

// fresh is how old what the Dispatcher says may be.
type fresh struct {
	mu       sync.Mutex
	silent   time.Time // since when nothing is heard; zero: a stream stands, and has said something
	degraded map[resource.Topic]bool
}

func newFresh() *fresh { return &fresh{silent: time.Now(), degraded: make(map[resource.Topic]bool)} }

// Silent is since when no Dispatcher is heard. Zero: one is.
func (i *Ingest) Silent() time.Time {
	i.fresh.mu.Lock()
	defer i.fresh.mu.Unlock()
	return i.fresh.silent
}

// Degraded tells whether the Dispatcher itself does not hear the registry of a target's endpoints.
func (i *Ingest) Degraded(t resource.Topic) bool {
	i.fresh.mu.Lock()
	defer i.fresh.mu.Unlock()
	return i.fresh.degraded[t]
}

// heard notes that a Dispatcher has said something about a topic.
func (f *fresh) heard(t resource.Topic, degraded bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.silent = time.Time{}
	if degraded {
		f.degraded[t] = true
	} else {
		delete(f.degraded, t)
	}
}

// lost notes that a stream has ended.
func (f *fresh) lost() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.silent.IsZero() {
		f.silent = time.Now()
	}
}

// forget forgets a topic that is not followed any more.
func (f *fresh) forget(t resource.Topic) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.degraded, t)
}
