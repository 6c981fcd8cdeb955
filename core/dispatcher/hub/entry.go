package hub

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/octomesh/octomesh/core/dispatcher/source"
)

// entry is one key: its watch, what that told, and who follows it.
type entry struct {
	hub    *Hub
	key    source.Key
	gate   *gate
	cancel context.CancelFunc

	mu         sync.Mutex
	closed     bool
	followings map[*following]struct{}
	current    *Snapshot
	guard      guard
	live       bool
	oldSince   time.Time   // while it is not live: since when
	ageing     *time.Timer // until what is known counts as old
	lingering  *time.Timer
	degraded   bool
	watching   int
	failures   int
	err        error
	refused    map[string]string // by instance
}

// maxRefused bounds what is kept to be shown.
const maxRefused = 100

var errSlow = errors.New("there was no full set in time")

// run watches until ctx ends.
func (e *entry) run(ctx context.Context) {
	for ctx.Err() == nil {
		if e.gate.enter(ctx, e.snapshot() != nil) != nil {
			return
		}
		stood := e.watch(ctx)
		wait := backoff(e.gate.limits, e.failuresSoFar(stood))
		select {
		case <-ctx.Done():
		case <-time.After(spread(wait)):
		}
	}
}

// failuresSoFar counts one more, or begins anew after a watch that stood for longer than any backoff.
func (e *entry) failuresSoFar(stood time.Duration) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if stood > e.gate.limits.MaxBackoff {
		e.failures = 0
	}
	e.failures++
	return e.failures - 1
}

// watch is one watch, from its beginning to its end. It returns how long it stood after its first full set.
func (e *entry) watch(parent context.Context) (stood time.Duration) {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	slow := time.AfterFunc(e.gate.limits.StartTimeout, func() { cancel(errSlow) })
	defer slow.Stop()
	c := &e.hub.counts
	c.starts.Add(1)
	e.watches(1)
	var since time.Time
	err := e.gate.limits.Source.Watch(ctx, e.key, func(event source.Event) {
		if since.IsZero() {
			if event.Kind != source.Full || !slow.Stop() {
				return // a watch begins with a full set; and one that was given up on has nothing to say
			}
			since = time.Now()
			e.gate.leave(began)
		}
		e.apply(event)
	})
	e.watches(-1)
	if parent.Err() != nil {
		if since.IsZero() {
			e.gate.leave(withdrawn)
		}
		return 0
	}
	if errors.Is(context.Cause(ctx), errSlow) {
		err = &source.Error{Kind: source.Unavailable, Source: e.gate.limits.Source.Name(), Op: "watch", Key: e.key,
			Err: fmt.Errorf("%w: %v", errSlow, e.gate.limits.StartTimeout)}
	}
	e.lost(err)
	if since.IsZero() {
		c.failures.Add(1)
		if source.KindOf(err) == source.Invalid {
			e.gate.leave(withdrawn)
		} else {
			e.gate.leave(failed)
		}
		return 0
	}
	c.losses.Add(1)
	return time.Since(since)
}

// watches counts what the source is asked for.
func (e *entry) watches(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.watching += n
	c := &e.hub.counts
	c.watches.Add(int64(n))
	for most := c.mostOfOneKey.Load(); int64(e.watching) > most; most = c.mostOfOneKey.Load() {
		c.mostOfOneKey.CompareAndSwap(most, int64(e.watching))
	}
}

// apply takes an event of the watch in.
func (e *entry) apply(event source.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch event.Kind {
	case source.Suspended:
		e.old()
		return
	case source.Resumed:
		e.fresh()
		return
	}
	e.note(event)
	if event.Kind == source.Full {
		e.err = nil
		e.fresh()
	}
	changed, held := e.guard.apply(event, time.Now())
	if held > 0 {
		e.hub.counts.held.Add(int64(held))
		e.hub.config.Log.Warn("removals held: too many at once, and none deregistered; confirm them if they are meant",
			"key", e.key.String(), "registry", e.gate.limits.Source.Name(), "held", held, "of", len(e.guard.endpoints))
	}
	if changed {
		e.publish()
	}
}

// note keeps what could not be used. The lock is held.
func (e *entry) note(event source.Event) {
	if event.Kind == source.Full {
		clear(e.refused)
	}
	for _, p := range event.Endpoints {
		delete(e.refused, p.GetInstance())
	}
	for _, r := range event.Removed {
		delete(e.refused, r.Instance)
	}
	for _, r := range event.Refused {
		e.hub.counts.refused.Add(1)
		if _, known := e.refused[r.Instance]; !known {
			e.hub.config.Log.Warn("an entry cannot be used", "key", e.key.String(), "registry", e.gate.limits.Source.Name(), "instance", r.Instance, "error", r.Err)
		}
		if len(e.refused) < maxRefused {
			if e.refused == nil {
				e.refused = make(map[string]string)
			}
			e.refused[r.Instance] = r.Err.Error()
		}
	}
}

// publish makes a snapshot and marks it for all who follow. The lock is held.
func (e *entry) publish() {
	next := &Snapshot{Key: e.key, Version: 1, Endpoints: e.guard.endpoints, Held: e.guard.heldNames(), Left: e.guard.leftNames(), Degraded: e.degraded}
	if e.current != nil {
		next.Version = e.current.Version + 1
	}
	e.current = next
	for f := range e.followings {
		f.mark()
	}
}

// lost notes why the watch ended.
func (e *entry) lost(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err == nil || e.err.Error() != err.Error() {
		e.hub.config.Log.Warn("watch ended; what is known stays", "key", e.key.String(), "error", err)
	}
	e.err = err
	e.old()
}

// old begins to count age. The lock is held.
func (e *entry) old() {
	if e.live {
		e.live, e.oldSince = false, time.Now()
	}
	if e.ageing == nil && !e.degraded && !e.closed && e.current != nil {
		e.ageing = time.AfterFunc(e.hub.config.Degraded, e.degrade)
	}
}

func (e *entry) degrade() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ageing == nil { // it was stopped too late
		return
	}
	e.ageing = nil
	e.degraded = true
	e.publish()
}

// fresh ends to count age. The lock is held.
func (e *entry) fresh() {
	e.live = true
	stop(&e.ageing)
	if e.degraded {
		e.degraded = false
		e.publish()
	}
}

func stop(t **time.Timer) {
	if *t != nil {
		(*t).Stop()
		*t = nil
	}
}

func (e *entry) snapshot() *Snapshot {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.current
}

func (e *entry) confirm(instances ...string) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n, changed := e.guard.confirm(time.Now(), instances...)
	if changed {
		e.publish()
	}
	return n
}

// join adds a following.
func (e *entry) join(s *Subscriber) *following {
	f := &following{subscriber: s, entry: e}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.followings[f] = struct{}{}
	e.hub.counts.subscriptions.Add(1)
	stop(&e.lingering)
	if e.current != nil {
		f.mark()
	}
	return f
}

// part removes a following. After the last one the watch lingers.
func (e *entry) part(f *following) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, in := e.followings[f]; !in {
		return
	}
	delete(e.followings, f)
	e.hub.counts.subscriptions.Add(-1)
	if len(e.followings) == 0 && !e.closed {
		stop(&e.lingering)
		e.lingering = time.AfterFunc(e.hub.config.Linger, func() { e.hub.forget(e) })
	}
}

// leave ends the watch, unless somebody came back. The hub's lock is held.
func (e *entry) leave() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.followings) > 0 {
		return false
	}
	e.shut()
	return true
}

func (e *entry) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.shut()
}

func (e *entry) shut() {
	e.closed = true
	e.cancel()
	stop(&e.ageing)
	stop(&e.lingering)
}

func (e *entry) status() Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := Status{
		Key: e.key, Subscribers: len(e.followings), Endpoints: len(e.guard.endpoints), Held: e.guard.heldNames(), Loaded: e.current != nil,
		Live: e.live, Degraded: e.degraded, Failures: e.failures, Err: e.err,
	}
	if e.live {
		s.Failures = 0
	} else {
		s.Age = time.Since(e.oldSince)
	}
	for _, instance := range slices.Sorted(maps.Keys(e.refused)) {
		s.Refused = append(s.Refused, instance+": "+e.refused[instance])
	}
	return s
}
