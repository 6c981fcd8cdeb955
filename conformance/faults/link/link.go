// Package link is a fault proxy for TCP and Unix sockets: it carries the bytes of connections from an address to
// another one, and delays, slows, chops, holds, corrupts or ends them as it is told. It knows nothing of what
// it carries. Descriptors that are sent over a Unix socket do not pass it, and a peer's credentials are its own.
package link

import (
	"context"
	"net"
	"sync"
	"time"
)

// Faults is what a link does. The zero value carries bytes as they come.
type Faults struct {
	// Delay is how much later each byte comes, in both directions. It does not slow the flow down: what is
	// on its way is bounded by 1 MiB a direction.
	Delay time.Duration
	// Rate is how many bytes a second pass in each direction of a connection. 0: no limit.
	Rate int
	// Chunk is how many bytes are written at a time at most, each with a call of its own. 0: as they come.
	Chunk int
	// HoldUp and HoldDown stop bytes, and the end of the connection, on their way to the one who was called
	// (up) and back (down), as a network does that loses all packets in a direction: the sender's own buffers fill up,
	// and nobody is told. What was held goes on once this is false again.
	HoldUp, HoldDown bool
	// Corrupt changes bytes of connections that are made from now on.
	Corrupt []Corruption
	// Refuse closes connections as soon as they are made.
	Refuse bool
	// CutAfter ends connections that are made from now on behind so many bytes of both directions together.
	// 0: never.
	CutAfter int64
}

// Corruption changes one byte of a connection.
type Corruption struct {
	Up     bool  // of the bytes to the one who was called; else of those back
	Offset int64 // in its direction, from 0
	Xor    byte
}

// Stats counts.
type Stats struct {
	// Connections that were made, and those of them that still are.
	Made, Open int
	// Up and Down are bytes that were carried.
	Up, Down int64
}

// Link carries until it is closed. Its methods are safe for concurrent use.
type Link struct {
	listener net.Listener
	dial     func(context.Context) (net.Conn, error)
	ctx      context.Context
	stop     context.CancelFunc
	wg       sync.WaitGroup

	mu      sync.Mutex
	faults  Faults
	changed chan struct{} // closed, and replaced, when faults change
	pairs   map[*pair]struct{}
	cuts    int // how often all were ended
	stats   Stats
}

// New carries connections that are made to l to what dial reaches. It closes l at its end.
func New(l net.Listener, dial func(context.Context) (net.Conn, error)) *Link {
	out := &Link{listener: l, dial: dial, changed: make(chan struct{}), pairs: make(map[*pair]struct{})}
	out.ctx, out.stop = context.WithCancel(context.Background())
	out.wg.Go(out.accept)
	return out
}

// To listens on a loopback port ("tcp") or at a path ("unix") and carries to an address of the same network.
func To(network, listen, to string) (*Link, error) {
	l, err := net.Listen(network, listen)
	if err != nil {
		return nil, err
	}
	return New(l, func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, network, to) }), nil
}

// Address is where connections are accepted.
func (l *Link) Address() string { return l.listener.Addr().String() }

// Set replaces the faults, for connections that exist, too, where Faults does not say otherwise.
func (l *Link) Set(f Faults) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = f
	close(l.changed)
	l.changed = make(chan struct{})
}

// Cut ends all connections at both ends, with a reset where the network has one. New ones are carried.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cuts++
	for p := range l.pairs {
		p.cut()
	}
}

// Stats are the counts up to now.
func (l *Link) Stats() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Open = len(l.pairs)
	return s
}

// Close accepts no more, ends all connections and waits for what carries.
func (l *Link) Close() error {
	err := l.listener.Close()
	l.stop()
	l.Cut()
	l.wg.Wait()
	return err
}

func (l *Link) accept() {
	for {
		near, err := l.listener.Accept()
		if err != nil {
			return
		}
		if f, _ := l.now(); f.Refuse {
			_ = near.Close()
			continue
		}
		l.mu.Lock()
		cuts := l.cuts
		l.mu.Unlock()
		l.wg.Go(func() { l.connect(near, cuts) })
	}
}

// connect carries a connection that was made after so many cuts.
func (l *Link) connect(near net.Conn, cuts int) {
	far, err := l.dial(l.ctx)
	if err != nil {
		_ = near.Close()
		return
	}
	l.mu.Lock()
	p := &pair{link: l, near: near, far: far, corrupt: l.faults.Corrupt, left: l.faults.CutAfter, gone: make(chan struct{})}
	if l.ctx.Err() != nil || l.cuts != cuts { // the far end may have taken it already
		p.cut()
	}
	l.pairs[p] = struct{}{}
	l.stats.Made++
	l.mu.Unlock()

	var both sync.WaitGroup
	both.Go(func() { p.carry(far, near, true) })
	both.Go(func() { p.carry(near, far, false) })
	both.Wait()
	l.mu.Lock()
	delete(l.pairs, p)
	l.mu.Unlock()
}

// now is the faults that hold, and what is closed once they do not.
func (l *Link) now() (Faults, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.faults, l.changed
}
