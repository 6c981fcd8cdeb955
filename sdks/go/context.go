package octomesh

import (
	"context"
	"errors"
	"sync"
	"time"
)

// serverContext is the context of one call in its handler. It is a type of its own because a call should
// cost neither a timer nor a channel unless its handler waits for Done.
//
// It outlives the call where a handler keeps it: what a caller may still ask for is its own copy.
type serverContext struct {
	deadline time.Time // zero: none
	carried  carried
	metadata Metadata
	peer     *Peer

	mu    sync.Mutex
	call  *serverCall // nil once the handler has returned
	err   error
	done  chan struct{} // made by the first Done
	timer *time.Timer
	after map[*afterFunc]struct{}
}

// afterFunc is one function registered by AfterFunc.
type afterFunc struct{ f func() }

// carried is what goes from a handler's context into the calls made with it.
type carried struct {
	baggage     Metadata
	traceparent string
	tracestate  string
}

func (c *carried) empty() bool { return len(c.baggage) == 0 && c.traceparent == "" }

type (
	serverKey  struct{}
	carriedKey struct{}
)

// closedDone is what Done returns for a context that ended before anybody asked.
var closedDone = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// Deadline implements context.Context.
func (c *serverContext) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

// Value implements context.Context.
func (c *serverContext) Value(key any) any {
	switch key.(type) {
	case serverKey:
		return c
	case carriedKey:
		if !c.carried.empty() {
			return &c.carried
		}
	}
	return nil
}

// Err implements context.Context.
func (c *serverContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil && c.expired() {
		c.endLocked(context.DeadlineExceeded)
	}
	return c.err
}

func (c *serverContext) expired() bool {
	return !c.deadline.IsZero() && !time.Now().Before(c.deadline)
}

// Done implements context.Context.
func (c *serverContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watchDeadline()
	if c.done == nil {
		if c.err != nil {
			c.done = closedDone
		} else {
			c.done = make(chan struct{})
		}
	}
	return c.done
}

// AfterFunc lets package context derive contexts without a goroutine each.
func (c *serverContext) AfterFunc(f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watchDeadline()
	if c.err != nil {
		go f()
		return func() bool { return false }
	}
	a := &afterFunc{f}
	if c.after == nil {
		c.after = make(map[*afterFunc]struct{})
	}
	c.after[a] = struct{}{}
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		_, ok := c.after[a]
		delete(c.after, a)
		return ok
	}
}

// watchDeadline arms a timer, once somebody waits for the end.
func (c *serverContext) watchDeadline() {
	if c.timer != nil || c.err != nil || c.deadline.IsZero() {
		return
	}
	c.timer = time.AfterFunc(time.Until(c.deadline), func() { c.end(context.DeadlineExceeded) })
}

// end cancels the context. The first reason stays.
func (c *serverContext) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.endLocked(err)
}

func (c *serverContext) endLocked(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	if c.timer != nil {
		c.timer.Stop()
	}
	if c.done != nil {
		close(c.done)
	}
	for a := range c.after {
		go a.f()
	}
	c.after = nil
}

// finish says that the handler has returned.
func (c *serverContext) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.call = nil
	c.endLocked(context.Canceled)
}

func serverOf(ctx context.Context) *serverContext {
	c, _ := ctx.Value(serverKey{}).(*serverContext)
	return c
}

// IncomingMetadata returns the metadata that came with the call whose handler has ctx, or nil elsewhere. It
// must not be changed.
func IncomingMetadata(ctx context.Context) Metadata {
	if c := serverOf(ctx); c != nil {
		return c.metadata
	}
	return nil
}

// Peer says who called.
type Peer struct {
	// Application is the calling application by its own word.
	Application string
	// Verified is the calling application as the server's own proxy, or mutual TLS, has verified it; ""
	// where nobody has.
	Verified string
	// Instance is the process at the other end of the connection: the caller, or this server's proxy. Incarnation is its
	// start, in nanoseconds since 1970; 0: it says nothing of it.
	Instance    string
	Incarnation uint64
	// SDK is the SDK of the process at the other end, such as "go", and SDKVersion that one's version, by its own word; "" of a
	// proxy.
	SDK, SDKVersion string
	// Address is the other end of the connection, "" for a Unix socket without a name.
	Address string
	// Proxied tells whether the call came by this server's proxy.
	Proxied bool
}

// PeerInfo returns who called the handler that has ctx; ok is false elsewhere.
func PeerInfo(ctx context.Context) (p Peer, ok bool) {
	if c := serverOf(ctx); c != nil {
		return *c.peer, true
	}
	return Peer{}, false
}

// errNoCall is what SetHeader and its kin answer outside of a handler.
var errNoCall = errors.New("octomesh: the context is not that of a handler that runs")

// SetHeader adds an entry to the initial metadata of the response. It fails once the initial metadata was
// sent, outside of a handler, or if [Entry] does not allow the entry.
func SetHeader(ctx context.Context, key, value string) error {
	return withCall(ctx, func(c *serverCall) error { return c.setHeader(key, value) })
}

// SendHeader sends the initial metadata now instead of with the first message.
func SendHeader(ctx context.Context) error {
	return withCall(ctx, (*serverCall).sendHeader)
}

// SetTrailer adds an entry to the metadata that ends the call, with success and with an error alike.
func SetTrailer(ctx context.Context, key, value string) error {
	return withCall(ctx, func(c *serverCall) error { return c.setTrailer(key, value) })
}

func withCall(ctx context.Context, f func(*serverCall) error) error {
	c := serverOf(ctx)
	if c == nil {
		return errNoCall
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.call == nil {
		return errNoCall
	}
	return f(c.call)
}

func carriedBy(ctx context.Context) *carried {
	c, _ := ctx.Value(carriedKey{}).(*carried)
	return c
}

// Baggage returns the baggage that ctx carries, without the mesh's own entries. It must not be changed.
func Baggage(ctx context.Context) Metadata {
	c := carriedBy(ctx)
	if c == nil {
		return nil
	}
	return c.baggage.withoutReserved()
}

// ContextWithBaggage returns a context whose calls carry the entry down the whole chain, in place of what
// ctx has under the key. An entry that [Entry] does not allow ends those calls as INVALID_ARGUMENT.
func ContextWithBaggage(ctx context.Context, key, value string) context.Context {
	next := copyCarried(ctx)
	next.baggage = next.baggage.replace(Entry{key, value})
	return context.WithValue(ctx, carriedKey{}, next)
}

func copyCarried(ctx context.Context) *carried {
	next := new(carried)
	if c := carriedBy(ctx); c != nil {
		*next = *c
	}
	return next
}
