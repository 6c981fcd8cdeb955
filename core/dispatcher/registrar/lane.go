package registrar

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
)

// lane is the changes of one registry. A registry that does not answer holds up nobody else's, and is asked by one at a
// time until it does. The table's lock guards it.
type lane struct {
	table    *Table
	registry source.Registrar
	queue    []*claim
	workers  int
	failures int   // in a row
	err      error // why it does not answer; nil: it does
}

// add has a claim worked on, if nobody does so already.
func (l *lane) add(c *claim) {
	if c.queued || c.over || l.table.closed {
		return
	}
	c.queued, c.rests = true, false
	if c.busy {
		return // whoever works on it goes on
	}
	l.queue = append(l.queue, c)
	if l.err != nil && c.want != nil {
		c.tell(controlv1.RegistrationState_STATE_PENDING, l.err)
	}
	l.start()
}

// start has as many work as there is to do, and may.
func (l *lane) start() {
	most := l.table.cfg.AtOnce
	if l.err != nil {
		most = 1
	}
	for l.workers < min(most, len(l.queue)) {
		l.workers++
		l.table.group.Go(l.run)
	}
}

// later adds a claim after a while, unless something else is wanted before.
func (l *lane) later(c *claim) {
	c.rests = true
	l.table.group.Go(func(ctx context.Context) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(deniedPause):
		}
		l.table.mu.Lock()
		defer l.table.mu.Unlock()
		if c.rests {
			l.add(c)
		}
	})
}

// run works until there is nothing to do, or too many do so.
func (l *lane) run(ctx context.Context) {
	t := l.table
	for {
		t.mu.Lock()
		if ctx.Err() != nil || len(l.queue) == 0 || l.err != nil && l.workers > 1 {
			l.workers--
			t.mu.Unlock()
			return
		}
		c := l.queue[0]
		l.queue[0] = nil
		if l.queue = l.queue[1:]; len(l.queue) == 0 {
			l.queue = nil
		}
		c.queued = false
		if c.stray() {
			c.forget()
			t.mu.Unlock()
			continue
		}
		c.busy = true
		t.mu.Unlock()
		err := c.work(ctx)
		t.mu.Lock()
		queued := c.queued // something else is wanted meanwhile
		c.busy, c.queued = false, false
		if ctx.Err() != nil {
			err = nil // it says nothing of the registry
		}
		pause := l.outcome(err)
		switch {
		case c.settled() || c.rests && !queued:
		case c.stray():
			c.forget()
		default:
			l.add(c)
		}
		t.mu.Unlock()
		if pause > 0 {
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		}
	}
}

// outcome notes whether the registry answers, and returns for how long to leave it alone.
func (l *lane) outcome(err error) (pause time.Duration) {
	if err == nil {
		if l.err != nil {
			l.table.cfg.Log.Info("a registry takes registrations again", "registry", l.registry.Name(), "waiting", len(l.queue))
		}
		l.failures, l.err = 0, nil
		l.start()
		return 0
	}
	if l.err == nil {
		l.table.cfg.Log.Warn("a registry takes no registrations; they are tried again until it does",
			"registry", l.registry.Name(), "waiting", len(l.queue)+1, "error", err)
	}
	l.err = err
	pause = min(firstPause<<min(l.failures, 10), maxPause)
	l.failures++
	return pause/2 + rand.N(pause)
}
