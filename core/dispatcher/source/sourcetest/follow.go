package sourcetest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// patience bounds each wait of the contract test; it is there to fail, and no case should come near it.
const patience = 30 * time.Second

// follower watches a key, and again when the watch is lost, as the hub would.
type follower struct {
	t      *testing.T
	cancel context.CancelFunc
	ended  chan struct{}

	mu     sync.Mutex
	view   *view
	errs   []error       // why watches ended
	change chan struct{} // closed and replaced at each change
}

// follow begins; it ends with the test.
func follow(t *testing.T, s source.Source, key source.Key) *follower {
	ctx, cancel := context.WithCancel(context.Background())
	f := &follower{t: t, cancel: cancel, ended: make(chan struct{}), view: newView(key), change: make(chan struct{})}
	go func() {
		defer close(f.ended)
		for ctx.Err() == nil {
			f.lost(ctx, s.Watch(ctx, key, f.take))
		}
	}()
	t.Cleanup(f.stop)
	return f
}

func (f *follower) stop() {
	f.cancel()
	f.wait(f.ended, "the watch to end after it was cancelled")
}

func (f *follower) wait(c <-chan struct{}, what string) {
	f.t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		f.t.Fatalf("%v: waited %v for %s", f.view.key, patience, what)
	}
}

// take is what Watch is given.
func (f *follower) take(e source.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.view.apply(e); err != nil {
		f.t.Errorf("%v: %v", f.view.key, err)
	}
	f.changed()
}

func (f *follower) changed() {
	close(f.change)
	f.change = make(chan struct{})
}

// lost notes why a watch ended.
func (f *follower) lost(ctx context.Context, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var typed *source.Error
	switch {
	case err == nil:
		f.t.Errorf("%v: a watch ended without an error", f.view.key)
	case ctx.Err() != nil:
	case !errors.As(err, &typed):
		f.t.Errorf("%v: a watch ended with %T: %v", f.view.key, err, err)
	}
	f.errs = append(f.errs, err)
	f.view.begun = false
	f.changed()
	f.mu.Unlock()
	select { // the hub waits longer
	case <-ctx.Done():
	case <-time.After(20 * time.Millisecond):
	}
	f.mu.Lock()
}

// until waits until something holds of the view.
func (f *follower) until(what string, holds func(*view) bool) {
	f.t.Helper()
	end := time.After(patience)
	for {
		f.mu.Lock()
		ok, change := holds(f.view), f.change
		f.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-change:
		case <-end:
			f.mu.Lock()
			defer f.mu.Unlock()
			f.t.Fatalf("%v: waited %v for %s; it has %v, removed %v, refused %v, suspended %v; watches ended with %v", f.view.key, patience, what,
				slices.Sorted(maps.Keys(f.view.endpoints)), f.view.removed, f.view.refused, f.view.suspended, f.errs)
		}
	}
}

// wants waits until the view is of exactly these endpoints.
func (f *follower) wants(endpoints ...*resourcev1.Endpoint) {
	f.t.Helper()
	want := make(map[string]*resourcev1.Endpoint)
	for _, e := range endpoints {
		want[e.GetInstance()] = e
	}
	f.until("its endpoints", func(v *view) bool { return v.fulls > 0 && v.has(want) })
}

// see reads the view.
func (f *follower) see(read func(*view)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	read(f.view)
}
