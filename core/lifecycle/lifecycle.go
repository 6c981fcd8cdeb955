// Package lifecycle owns goroutines: none is started that nobody waits for.
package lifecycle

import (
	"context"
	"sync"
)

// Group is goroutines that end together. Its context ends when Stop is called or the parent's does.
type Group struct {
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// New returns a group that ends with parent at the latest.
func New(parent context.Context) *Group {
	g := &Group{}
	g.ctx, g.cancel = context.WithCancel(parent)
	return g
}

// Context ends when the group's goroutines should.
func (g *Group) Context() context.Context { return g.ctx }

// Go runs f in a goroutine of the group. f returns soon after its context has ended.
func (g *Group) Go(f func(ctx context.Context)) { g.wg.Go(func() { f(g.ctx) }) }

// Wait returns when all goroutines have ended, of themselves or because of Stop.
func (g *Group) Wait() { g.wg.Wait() }

// Stop ends the group's context and waits for its goroutines.
func (g *Group) Stop() {
	g.cancel()
	g.wg.Wait()
}
