// Package upstream holds the connections to other proxies, and to instances whose proxies do not answer: one multiplexed
// connection a peer, dialed when the first call wants it and dialed anew when the peer leaves.
package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/lifecycle"
	"github.com/octomesh/octomesh/core/proxy/cluster"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/resource"
	"github.com/octomesh/octomesh/core/transport/identity"
	"github.com/octomesh/octomesh/core/wire"
)

// Times of dialing.
const (
	dialTimeout = 2 * time.Second
	// A failed dial is not repeated for firstBackoff, doubling up to lastBackoff, each ±50 %.
	firstBackoff = 50 * time.Millisecond
	lastBackoff  = 5 * time.Second
	// waitForDial is how long a call waits for a connection.
	waitForDial = 2*dialTimeout + session.HelloTimeout
	// patience is how long calls that have another way wait for a dial (S-CALLEE-4).
	patience = 250 * time.Millisecond
	// idle is how long a connection to an instance itself stands without a call (S-CALLEE-5).
	idle = 30 * time.Second
)

// Config is what the connections of a proxy have in common.
type Config struct {
	Group   *lifecycle.Group
	Session session.Options // Handler is set by the pool
	Hello   wire.Hello
	// Opened and Closed tell of sessions, so that their owner can tick and list them. They must not wait.
	Opened, Closed func(*session.Session)
	// Failed tells of dials that failed. It must not wait. nil: nobody is told.
	Failed func(at cluster.Place, err error)
	Log    *slog.Logger
	// TLS is spoken to every proxy, and to the instances that have an identity, and says who it is. nil: plain.
	TLS *tls.Config
	// ByName is spoken to the instances of which a server's name is known, for one handshake. nil: they are not called.
	ByName func(name string) *tls.Config
	// Expect tells whether a peer of a proved identity, empty for none, may answer at a place. nil: any may.
	Expect func(at cluster.Place, identity string) bool
	// Protocols are the foreign ones that instances are called by.
	Protocols map[resourcev1.Protocol]session.Protocol
	// Late is why a call is refused that has waited for a dial for too long. 0: PROXY_UNREACHABLE.
	Late wire.Reason
	// Idle is how long a connection to an instance itself stands without a call. 0: 30 s.
	Idle time.Duration
	// Dial connects to an address. nil: TCP, or a Unix socket where it begins with "unix:".
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// Pool makes peers.
type Pool struct {
	cfg  Config
	base time.Time

	mu     sync.Mutex
	direct map[*Peer]bool // instances themselves to which a connection may stand
}

// now is the monotonic time of peers' rests, in nanoseconds.
func (p *Pool) now() int64 { return int64(time.Since(p.base)) }

// NewPool returns a pool.
func NewPool(cfg Config) *Pool {
	if cfg.Dial == nil {
		cfg.Dial = func(ctx context.Context, address string) (net.Conn, error) {
			var d net.Dialer
			if path, ok := resource.SocketPath(address); ok {
				return d.DialContext(ctx, "unix", path)
			}
			return d.DialContext(ctx, "tcp", address)
		}
	}
	if cfg.Idle == 0 {
		cfg.Idle = idle
	}
	if cfg.Late == 0 {
		cfg.Late = wire.ReasonProxyUnreachable
	}
	return &Pool{cfg: cfg, base: time.Now(), direct: make(map[*Peer]bool)}
}

// Peer makes the peer of a place; it dials nothing yet.
func (p *Pool) Peer(at cluster.Place) *Peer {
	peer := &Peer{pool: p, at: at, sessions: make(map[*session.Session]bool)}
	if s, ok := p.cfg.Protocols[at.Protocol].(session.Solitary); ok && s.Solitary() {
		peer.crowd = newCrowd(peer)
	}
	return peer
}

// Tidy gives up the connections to instances themselves that no call has used for a while.
func (p *Pool) Tidy() {
	now := p.now()
	p.mu.Lock()
	var all []*Peer
	for peer := range p.direct {
		all = append(all, peer)
	}
	p.mu.Unlock()
	for _, peer := range all {
		if peer.tidy(now) {
			p.mu.Lock()
			if peer.current.Load() == nil { // a dial that has ended since notes the peer after this
				delete(p.direct, peer)
			}
			p.mu.Unlock()
		}
	}
}

// Peer is another proxy, or an instance itself, by its place.
type Peer struct {
	pool    *Pool
	at      cluster.Place
	current atomic.Pointer[session.Session]
	// crowd is of a peer to which a connection carries one call; nil: it carries many.
	crowd *crowd
	// restEnd is when the next dial is due after a failed one, on the pool's clock. 0: at once.
	restEnd atomic.Int64
	// slow: the dial that is under way takes so long that calls with another way do not wait for it.
	slow atomic.Bool
	// used is when a call went to an instance itself, on the pool's clock.
	used atomic.Int64
	// stranger is who answered last where somebody else was expected; nil: the last dial ended otherwise.
	stranger atomic.Pointer[StrangerError]

	mu       sync.Mutex
	waiters  []*session.Call
	hasty    []*session.Call           // those with another way, which wait for a while only
	dials    uint64                    // that were begun
	timer    *time.Timer               // that ends their while; nil: nobody was hasty since the dial began
	sessions map[*session.Session]bool // that stand; true: its peer leaves, or we gave it up
	dialing  bool
	closed   bool
	failures int // of dials in a row
	refused  int // of these, the last ones that were refused: nobody listens there
}

// Address implements cluster.Peer.
func (p *Peer) Address() string { return p.at.Address }

// Ready implements cluster.Peer: a connection stands whose peer is not silent, or nothing speaks against dialing one. Once a dial has
// failed no call has to wait for the next one, which may take as long: it is begun when it is due and somebody asks, and the peer is
// ready when it has worked.
func (p *Peer) Ready() bool {
	if s := p.current.Load(); s != nil {
		return !s.Silent()
	}
	end := p.restEnd.Load()
	if end != 0 && p.pool.now() >= end {
		p.Wake()
	}
	return end == 0
}

// Answers implements cluster.Peer. A stranger does: calls are not to go around him.
func (p *Peer) Answers() bool {
	if s := p.current.Load(); s != nil {
		return !s.Silent()
	}
	return p.restEnd.Load() == 0 && !p.slow.Load() || p.stranger.Load() != nil
}

func (p *Peer) rests() bool {
	end := p.restEnd.Load()
	return end != 0 && p.pool.now() < end
}

// Session returns the connection for new calls, or nil if none stands.
func (p *Peer) Session() *session.Session {
	if p.crowd != nil {
		return p.crowd.session()
	}
	return p.current.Load()
}

// Park lets a call wait for a connection, which is dialed unless a dial failed just now: then it reports
// false. A call that has another way waits for a while only, and is then decided anew.
func (p *Peer) Park(c *session.Call, hasty bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current.Load() != nil && !p.closed { // its dial has ended since the caller looked
		c.Park(waitForDial, p.pool.cfg.Late)
		p.pool.cfg.Group.Go(func(context.Context) { c.Resume() })
		return true
	}
	if p.closed || hasty && p.slow.Load() || !p.dialLocked() {
		return false
	}
	c.Park(waitForDial, p.pool.cfg.Late)
	if !hasty {
		p.waiters = append(p.waiters, c)
		return true
	}
	p.hasty = append(p.hasty, c)
	if p.timer == nil {
		dial := p.dials
		p.timer = time.AfterFunc(patience, func() { p.giveWay(dial) })
	}
	return true
}

// giveWay lets the calls that have another way take it, if a dial is still under way.
func (p *Peer) giveWay(dial uint64) {
	p.mu.Lock()
	if !p.dialing || p.dials != dial {
		p.mu.Unlock()
		return
	}
	p.slow.Store(true)
	calls := p.hasty
	p.hasty = nil
	p.mu.Unlock()
	for _, c := range calls {
		c.Resume()
	}
}

// Wake dials, unless a connection stands or a dial failed just now, and lets nobody wait for it.
func (p *Peer) Wake() {
	if p.current.Load() != nil || p.rests() || p.slow.Load() {
		return // without the lock
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.current.Load() == nil && !p.closed {
		p.dialLocked()
	}
}

// dialLocked makes sure that a dial is under way; false if the last one failed and the next is not due.
func (p *Peer) dialLocked() bool {
	if p.dialing {
		return true
	}
	if p.failures > 0 && p.rests() {
		return false
	}
	p.dialing = true
	p.dials++
	p.pool.cfg.Group.Go(p.dial)
	return true
}

// drainingAnswers in a row count as a failed dial.
const drainingAnswers = 3

// dial connects and runs the session until it ends. A peer that answers that it leaves has a successor at
// its address: it is dialed again at once.
func (p *Peer) dial(ctx context.Context) {
	for n := 1; p.connect(ctx, n < drainingAnswers); n++ {
	}
}

// connect makes one connection and runs it. It tells whether to try again, if it may.
func (p *Peer) connect(ctx context.Context, mayRepeat bool) (again bool) {
	dialing, cancel := context.WithTimeout(ctx, dialTimeout)
	nc, err := p.pool.cfg.Dial(dialing, p.at.Address)
	cancel()
	var id identity.ID
	switch {
	case err != nil:
	case p.secure():
		nc, id, err = session.Secure(ctx, nc, p.pool.cfg.TLS, false)
	case resource.ByTLS(p.at.Protocol):
		nc, err = p.byName(ctx, nc)
	}
	if err == nil {
		if err = p.check(id.String()); err != nil {
			_ = nc.Close()
		}
	}
	if err != nil {
		p.dialEnded(nil, err)
		return false
	}
	h := &handler{peer: p, mayRepeat: mayRepeat}
	opts := p.pool.cfg.Session
	opts.Handler, opts.Speaks = h, p.pool.cfg.Protocols[p.at.Protocol]
	if p.crowd != nil {
		opts.Line = &p.crowd.line
	}
	s := session.New(nc, wire.Dialer, opts)
	if p.secure() {
		s.SetIdentity(id)
	}
	stop := context.AfterFunc(ctx, s.Kill)
	defer stop()
	s.Hello(p.pool.cfg.Hello)
	_ = s.Run() // the handler learns why it ended
	return h.again
}

var errNoTLS = errors.New("octo: the server's name is known, and this proxy does not call by TLS that proves names")

// byName shakes hands with a server whose certificate must have the place's name.
func (p *Peer) byName(ctx context.Context, nc net.Conn) (net.Conn, error) {
	if p.pool.cfg.ByName == nil {
		_ = nc.Close()
		return nil, errNoTLS
	}
	return session.SecureByName(ctx, nc, p.pool.cfg.ByName(p.at.ServerName))
}

// StrangerError says that a peer proved to be somebody who was not expected at its address, or proved nothing.
type StrangerError struct {
	Address  string
	Identity string // what it proved; empty: nothing
}

// Error names both.
func (e *StrangerError) Error() string {
	if e.Identity == "" {
		return "octo: whoever answers at " + e.Address + " proves no identity, and one is expected"
	}
	return "octo: " + e.Identity + " answers at " + e.Address + ", and another identity is expected"
}

// check compares a peer's identity with what is expected at its address.
func (p *Peer) check(identity string) error {
	if !p.secure() {
		identity = ""
	}
	if p.pool.cfg.Expect == nil || p.pool.cfg.Expect(p.at, identity) {
		return nil
	}
	return &StrangerError{p.at.Address, identity}
}

// secure tells whether TLS is spoken there.
func (p *Peer) secure() bool {
	return p.pool.cfg.TLS != nil && (!p.at.Direct || p.at.Identity != "")
}

// Stranger returns who answered at the address instead of whom was expected; nil: nobody.
func (p *Peer) Stranger() *StrangerError { return p.stranger.Load() }

// desertedAfter is how many dials in a row have to be refused until it counts as sure that nobody comes back.
const desertedAfter = 5

// Deserted tells whether nobody has listened at the address for some dials: its host is there, and says so.
func (p *Peer) Deserted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.current.Load() == nil && p.refused >= desertedAfter
}

// Draining tells whether new calls go by a connection whose peer leaves, since no other one stands yet.
func (p *Peer) Draining() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.current.Load()
	return s != nil && p.sessions[s]
}

// Recheck gives up a connection whose peer is not expected any more: it carries no new calls, and is closed when its
// calls have ended.
func (p *Peer) Recheck() {
	s := p.current.Load()
	if s == nil || p.check(s.Peer().Identity) == nil {
		return
	}
	p.mu.Lock()
	p.current.CompareAndSwap(s, nil)
	if _, open := p.sessions[s]; open {
		p.sessions[s] = true
	}
	p.mu.Unlock()
	s.SendDrained()
}

// dialEnded takes the outcome of a dial, whoever waits is resumed and decides anew.
func (p *Peer) dialEnded(s *session.Session, err error) {
	p.mu.Lock()
	p.dialing = false
	p.slow.Store(false)
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	var leaving []*session.Session
	for old, moved := range p.sessions {
		if moved { // to the new connection, or, without a successor, elsewhere
			leaving = append(leaving, old)
			p.current.CompareAndSwap(old, nil)
		}
	}
	var stranger *StrangerError
	errors.As(err, &stranger)
	p.stranger.Store(stranger)
	if err == nil {
		p.failures, p.refused = 0, 0
		p.restEnd.Store(0)
		p.sessions[s] = false
		p.current.Store(s)
		p.crowd.joined(s)
	} else {
		p.failures++
		if p.refused++; !errors.Is(err, syscall.ECONNREFUSED) {
			p.refused = 0
		}
		p.rest()
	}
	waiters := append(p.waiters, p.hasty...)
	p.waiters, p.hasty = nil, nil
	p.mu.Unlock()
	if err == nil && p.at.Direct {
		p.Used()
		p.pool.mu.Lock()
		p.pool.direct[p] = true
		p.pool.mu.Unlock()
	}
	if err != nil && p.pool.cfg.Group.Context().Err() == nil {
		p.pool.cfg.Log.Warn("dial of a peer failed", "address", p.at.Address, "error", err)
		if p.pool.cfg.Failed != nil {
			p.pool.cfg.Failed(p.at, err)
		}
	}
	for _, old := range leaving {
		old.SendDrained()
	}
	for _, c := range waiters {
		c.Resume()
	}
	if err == nil && p.crowd != nil {
		p.crowd.opened(s)
	}
}

// rest puts off the next dial.
func (p *Peer) rest() {
	d := min(firstBackoff<<min(p.failures-1, 10), lastBackoff)
	d = d/2 + rand.N(d)
	p.restEnd.Store(p.pool.now() + int64(d))
}

// Used notes that a call goes to an instance itself.
func (p *Peer) Used() { p.used.Store(p.pool.now()) }

// tidy gives up a connection that no call has used for a while. It tells whether none stands.
func (p *Peer) tidy(now int64) bool {
	p.Trim()
	s := p.current.Load()
	if s == nil {
		return true
	}
	if s.OpenCalls() > 0 {
		p.used.Store(now)
	}
	if now-p.used.Load() < int64(p.pool.cfg.Idle) {
		return false
	}
	p.mu.Lock()
	p.current.CompareAndSwap(s, nil)
	if _, stands := p.sessions[s]; stands {
		p.sessions[s] = true
	}
	p.mu.Unlock()
	s.SendDrained()
	return true
}

// Close gives the peer up: no call may be handed to it any more. Its connections end when their calls
// have.
func (p *Peer) Close() {
	p.mu.Lock()
	p.closed = true
	p.current.Store(nil)
	var open []*session.Session
	for s := range p.sessions {
		p.sessions[s] = true
		open = append(open, s)
	}
	p.mu.Unlock()
	for _, s := range open {
		s.SendDrained()
	}
}

// handler is the peer's ear on one connection.
type handler struct {
	peer      *Peer
	opened    bool
	mayRepeat bool // a dial that is answered by a graceful GOAWAY may be repeated
	again     bool // and is to be
}

// Hello is never called: this side dials.
func (h *handler) Hello(*session.Session, *wire.Hello) *wire.GoAway { return nil }

// Serve is never called: this side opens the calls.
func (h *handler) Serve(c *session.Call, _ *wire.RequestHead) {
	c.Refuse(wire.Refuse(wire.ReasonStreamProtocol, wire.OriginClientProxy, "a peer opened a call on a connection that it accepted"))
}

func (h *handler) Open(s *session.Session) {
	h.opened = true
	h.peer.pool.cfg.Opened(s)
	h.peer.dialEnded(s, nil)
}

// GoAway moves new calls to a new connection; what is open goes on here.
func (h *handler) GoAway(s *session.Session, g *wire.GoAway) {
	p := h.peer
	if !h.opened {
		h.again = h.mayRepeat && g.Code.Graceful()
		s.Close()
		return
	}
	if !g.Code.Graceful() || g.Final {
		return // Closed follows, or what is open ends
	}
	p.mu.Lock()
	p.moveLocked(s)
	p.mu.Unlock()
}

// moveLocked dials anew because the peer leaves a connection. It serves on until the dial has ended.
func (p *Peer) moveLocked(s *session.Session) {
	p.sessions[s] = true
	if p.current.Load() == s && !p.closed {
		p.failures = 0
		p.dialLocked()
	}
}

// Leaves takes note that a connection takes no new calls: a call was refused there because the peer leaves and has a successor
// (L-FINE-12), or none can be opened. That is as good as a GOAWAY, and calls may go again on a new connection only.
func (p *Peer) Leaves(s *session.Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if moved, stands := p.sessions[s]; stands && !moved {
		p.moveLocked(s)
	}
	p.current.CompareAndSwap(s, nil)
}

func (h *handler) Drained(*session.Session) {}

func (h *handler) Closed(s *session.Session, err error) {
	p := h.peer
	if h.opened {
		p.pool.cfg.Closed(s)
	}
	p.current.CompareAndSwap(s, nil)
	p.mu.Lock()
	delete(p.sessions, s)
	p.crowd.left(s)
	p.mu.Unlock()
	if !h.opened && !h.again {
		p.dialEnded(nil, err)
	}
}
