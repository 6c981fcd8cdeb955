package octomesh

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/octomesh/octomesh/core/wire"
	"github.com/octomesh/octomesh/sdks/go/internal/balancer"
	"github.com/octomesh/octomesh/sdks/go/internal/fallback"
)

// peer is one address that calls go to: a proxy's socket or a server's. It is dialed when the first call
// needs it, holds one link for new calls, and keeps older ones until their calls have ended.
type peer struct {
	address string
	weight  atomic.Int64
	limits  Limits
	hello   func() wire.Hello
	connect func(context.Context) (net.Conn, error)
	// patience is how long a link whose peer leaves goes on taking calls while no successor answers.
	patience time.Duration
	// guard keeps the states of the way to a proxy; nil: the peer is a server.
	guard *guard

	current  atomic.Pointer[link]
	inFlight atomic.Int64
	ejected  atomic.Int64 // until when, in nanoseconds of the clock; 0: not ejected
	dropped  atomic.Bool  // the instance is none any more

	ctx    context.Context // ends when the peer closes
	cancel context.CancelFunc
	wg     sync.WaitGroup // of all goroutines of the peer and its links

	mu        sync.Mutex
	links     map[*link]struct{}
	dialing   *dialing
	failures  int
	ejections int // in a row, without a success in between
	notBefore time.Time
	lastErr   *Error
	closed    bool
}

// dialing is a dial that goes on; whoever needs its result waits for done.
type dialing struct {
	done chan struct{}
	link *link
	err  *Error
}

const (
	dialTimeout  = 5 * time.Second
	firstBackoff = 50 * time.Millisecond
	maxBackoff   = 2 * time.Second
	// fullBacklog is how long a Unix socket whose backlog is full is tried again: its owner lives.
	fullBacklog = 50 * time.Millisecond
	// proxyPatience bridges a proxy's restart. A server has no successor at its address: its calls go
	// elsewhere at once.
	proxyPatience = 5 * time.Second
	// drainingAnswers in a row count as a failed dial.
	drainingAnswers = 3
)

func newPeer(e Endpoint, limits Limits, hello func() wire.Hello, connect func(context.Context) (net.Conn, error)) *peer {
	p := &peer{address: e.Address, limits: limits, hello: hello, connect: connect, links: make(map[*link]struct{})}
	p.weight.Store(int64(e.Weight))
	p.ctx, p.cancel = context.WithCancel(context.Background())
	return p
}

// dialer returns a function that connects to an address.
func dialer(network, address string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		until := time.Now().Add(fullBacklog)
		for {
			nc, err := d.DialContext(ctx, network, address)
			if err == nil || network != "unix" || !errors.Is(err, syscall.EAGAIN) || time.Now().After(until) {
				return nc, err
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// waiter is a call that waits for something other than its answer.
type waiter interface {
	// await returns nil when c is ready, or why the call has ended.
	await(c <-chan struct{}) *Error
}

// get returns the link for a new call. Without one it dials, or waits for whoever does. patient callers
// wait on after a failed dial.
func (p *peer) get(w waiter, patient bool) (*link, *Error) {
	for {
		if l := p.usable(); l != nil {
			return l, nil
		}
		p.tell(fallback.Need, nil)
		d, err, pause := p.dial()
		switch {
		case err != nil && (!patient || p.dropped.Load()):
			return nil, err.clone()
		case err != nil:
			if err := sleep(w, pause); err != nil {
				return nil, err
			}
			continue
		case d == nil:
			continue
		}
		if err := w.await(d.done); err != nil {
			return nil, err
		}
		if d.err == nil {
			return d.link, nil
		}
		if !patient {
			return nil, d.err.clone()
		}
	}
}

// usable returns the link that takes calls; nil: none does.
func (p *peer) usable() *link {
	if l := p.current.Load(); l != nil && l.usable.Load() {
		return l
	}
	return nil
}

// tell tells the guard, if there is one. No lock may be held.
func (p *peer) tell(e fallback.Event, l *link) {
	if p.guard != nil {
		p.guard.on(e, l)
	}
}

// redial begins a dial if no link takes calls and none is being made, however long ago the last one failed.
func (p *peer) redial() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dialing == nil && !p.closed && p.usable() == nil {
		p.begin()
	}
}

// idle tells whether no link takes calls, and none is being made.
func (p *peer) idle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dialing == nil && p.usable() == nil
}

// connecting tells whether a link is being made.
func (p *peer) connecting() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dialing != nil
}

// Weight implements balancer.Endpoint.
func (p *peer) Weight() int64 { return p.weight.Load() }

// InFlight implements balancer.Endpoint.
func (p *peer) InFlight() int64 { return p.inFlight.Load() }

// EjectedUntil implements balancer.Endpoint.
func (p *peer) EjectedUntil() int64 { return p.ejected.Load() }

// sleep waits, as part of a call.
func sleep(w waiter, d time.Duration) *Error {
	c := make(chan struct{})
	t := time.AfterFunc(d, func() { close(c) })
	defer t.Stop()
	return w.await(c)
}

// dial joins or begins a dial. After a failure it returns that for a while, and how long that is.
func (p *peer) dial() (*dialing, *Error, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errClosed(), time.Hour
	}
	if p.usable() != nil {
		return nil, nil, 0
	}
	if p.dialing == nil {
		if pause := time.Until(p.notBefore); pause > 0 {
			return nil, p.lastErr, pause
		}
		p.begin()
	}
	return p.dialing, nil, 0
}

// begin starts a dial. The lock must be held.
func (p *peer) begin() {
	d := &dialing{done: make(chan struct{})}
	p.dialing = d
	p.wg.Go(func() {
		l, err := p.connected()
		p.dialed(d, l, err)
	})
}

// connected dials until a handshake succeeds or fails for good.
func (p *peer) connected() (*link, error) {
	ctx, cancel := context.WithTimeout(p.ctx, dialTimeout)
	defer cancel()
	for n := 1; ; n++ {
		l, err := newLink(ctx, p)
		if !errors.Is(err, errDraining) || n == drainingAnswers {
			return l, err
		}
	}
}

// dialed books a dial's end and lets those go on that wait for it.
func (p *peer) dialed(d *dialing, l *link, err error) {
	p.mu.Lock()
	p.dialing = nil
	var old *link
	switch {
	case err != nil:
		p.failures++
		p.notBefore = time.Now().Add(backoff(p.failures, firstBackoff, maxBackoff))
		d.err = unsent(wire.ReasonProxyUnreachable, "dial %s: %v", p.address, err)
		p.lastErr = d.err
		p.eject()
	case p.closed:
		d.err = errClosed()
		old = l
	default:
		p.failures = 0
		d.link = l
		p.links[l] = struct{}{}
		old = p.current.Swap(l)
	}
	p.mu.Unlock()
	if d.err == nil && !l.usable.Load() {
		p.lost(l) // while nobody knew it
	}
	if old != nil {
		old.retire()
	}
	if d.err != nil {
		p.tell(fallback.Failed, nil)
	} else {
		p.tell(fallback.Welcomed, d.link)
	}
	close(d.done)
}

// backoff doubles from first to limit with the number of failures, less up to half at random.
func backoff(failures int, first, limit time.Duration) time.Duration {
	d := min(first<<min(failures-1, 20), limit)
	return d - rand.N(d/2+1)
}

// replaceLater dials anew because the link's peer leaves. The old link takes calls until the new one
// stands, and goes on for those that are open.
func (p *peer) replaceLater(old *link) {
	p.wg.Go(func() {
		until := time.Now().Add(p.patience)
		for p.ctx.Err() == nil && p.current.Load() == old {
			p.mu.Lock()
			if p.dialing == nil && !p.closed {
				p.begin()
			}
			d := p.dialing
			p.mu.Unlock()
			if d == nil {
				return
			}
			<-d.done
			if d.err == nil {
				return
			}
			if !time.Now().Before(until) {
				p.current.CompareAndSwap(old, nil)
				old.retire()
				p.tell(fallback.Failed, nil)
				return
			}
			select {
			case <-time.After(backoff(1, firstBackoff, maxBackoff)):
			case <-p.ctx.Done():
			}
		}
	})
}

// lost forgets a link whose connection has ended.
func (p *peer) lost(l *link) {
	p.mu.Lock()
	delete(p.links, l)
	lost := p.current.CompareAndSwap(l, nil) && !p.closed
	if lost {
		p.eject()
	}
	p.mu.Unlock()
	switch {
	case lost && l.gone.Load():
		p.tell(fallback.Gone, l)
	case lost:
		p.tell(fallback.Lost, l)
	}
}

// eject takes the peer out of the choice for a while, longer while nothing succeeds in between. The lock must be held.
func (p *peer) eject() {
	p.ejections++
	p.ejected.Store(time.Now().Add(balancer.Ejection(p.ejections)).UnixNano())
}

// succeeded ends the doubling of ejections.
func (p *peer) succeeded() {
	if p.ejected.Load() != 0 {
		p.mu.Lock()
		p.ejections = 0
		p.ejected.Store(0)
		p.mu.Unlock()
	}
}

func errClosed() *Error {
	return unsent(wire.ReasonCancelled, "the channel is closed")
}

// leave lets what is open go on, and takes nothing new. It returns once all has ended.
func (p *peer) leave() {
	p.dropped.Store(true)
	p.mu.Lock()
	p.closed = true
	links := slices.Collect(maps.Keys(p.links))
	p.mu.Unlock()
	for _, l := range links {
		l.retire()
	}
	p.wg.Wait()
	p.cancel()
}

// close ends all links and waits for their goroutines.
func (p *peer) close() {
	p.mu.Lock()
	p.closed = true
	links := slices.Collect(maps.Keys(p.links))
	p.mu.Unlock()
	p.cancel()
	for _, l := range links {
		l.shut(refused(wire.ReasonCancelled, "the channel was closed"))
	}
	p.wg.Wait()
}
