package session

import (
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/octomesh/octomesh/core/proxy/policy"
	"github.com/octomesh/octomesh/core/proxy/route"
	"github.com/octomesh/octomesh/core/transport"
	"github.com/octomesh/octomesh/core/wire"
)

// Handler is the proxy behind the sessions. Its methods are called by readers and must not wait.
type Handler interface {
	// Hello decides about a dialer: nil welcomes it.
	Hello(s *Session, h *wire.Hello) *wire.GoAway
	// Open tells that the handshake is done: calls may go.
	Open(s *Session)
	// Serve decides about a call by calling exactly one of its Forward, Refuse, Park and Here.
	Serve(c *Call, head *wire.RequestHead)
	// GoAway tells that the peer leaves; open calls go on if the code is graceful.
	GoAway(s *Session, g *wire.GoAway)
	// Drained tells that the peer opens no more calls here.
	Drained(s *Session)
	// Closed tells that the session has ended and why; its calls have been ended.
	Closed(s *Session, err error)
}

// Options are what the sessions of one kind have in common.
type Options struct {
	Handler Handler
	Clock   *Clock
	// Direction of the calls on the session.
	Direction route.Direction
	// Instance is the proxy's name, in timings.
	Instance string
	// Local is what this side accepts.
	Local wire.Limits
	// Origin is the proxy's name in statuses: client's or server's proxy.
	Origin wire.Origin
	// MaxQueue bounds the bytes that wait for a peer before new calls to it are refused. 0: 16 MiB.
	MaxQueue int
	// MaxWaiting bounds the calls that wait for a stream of the peer. 0: 1024.
	MaxWaiting int
	// Kept bounds what calls keep of their requests. nil: nothing is kept, and no call goes again.
	Kept *Memory
	// Waiting bounds what waits in the proxy for peers and for calls that cannot go on. nil: each peer and call has its own bound only.
	Waiting *Waiting
	// FromSDK: heads must hold no hop field, as on a Unix socket, where every dialer counts as an SDK.
	FromSDK bool
	// Protocols are foreign ones that a dialer may speak instead of OctoMesh's own: its first bytes tell.
	Protocols []Protocol
	// Line is shared by the sessions of one peer, where each carries one call. nil: each has its own.
	Line *Line
	// Speaks is the foreign protocol that is spoken, whatever the first bytes. nil: OctoMesh's own.
	Speaks Protocol
}

// Peer is what a session's peer said of itself, and what is known without its word.
type Peer struct {
	Role            wire.Role
	Kind            wire.PeerKind
	Environment     string
	Application     string
	Instance        string
	Incarnation     uint64
	Targets         []string
	SDK, SDKVersion string
	Identity        string // by TLS; empty: not verified
	UID             int    // by the kernel, on a Unix socket; else -1
	Address         string
}

// Session is one connection of the proxy.
type Session struct {
	opts Options
	tc   *transport.Conn
	side wire.Side
	peer Peer // fixed once the handshake is done
	// named is the application that the peer was proved to be; empty: its own word counts.
	named string

	// The state machine, guarded by tc's lock: native if that is not nil, else foreign. choosing: the first bytes have not
	// told yet which.
	wc       Machine
	native   *wire.Conn
	foreign  Foreign
	plain    Plain // the foreign one, if it is one
	choosing bool
	spoken   string // the foreign protocol's name
	// What the foreign one is given.
	out       wire.Out
	resetHead wire.ResetHead

	hop    []byte // hop fields that every request from here gets
	caller []byte // the peer's application

	// Guarded by tc's lock.
	touched bool   // somebody is about to flush it
	writer  *Batch // that touched it last, since the last tick
	shared  int    // above 0: several touch it
	ready   bool
	leaving bool

	shadows atomic.Int32 // copies of calls that are open here
	locals  atomic.Int32 // calls from here that the proxy itself answers
	open    atomic.Int32 // calls that this side opened here and that are open
	line    *Line        // of calls that wait for a stream
	silent  atomic.Bool  // see Silent

	// Guarded by tc's lock, see outlast.
	killed bool
	over   chan struct{}

	// Owned by the reader.
	ev    wire.Event
	items [run]item
	head  wire.RequestHead
	batch Batch // sessions to flush when all that was read has been handled

	// Owned by the tick.
	live     wire.Liveness
	lastSeen uint64

	done chan struct{}
	why  error
}

// New makes a session of a socket. Run it next.
func New(nc net.Conn, side wire.Side, opts Options) *Session {
	if opts.MaxQueue == 0 {
		opts.MaxQueue = 16 << 20
	}
	if opts.MaxWaiting == 0 {
		opts.MaxWaiting = 1024
	}
	wc := wire.NewConn(wire.Config{Side: side, Local: opts.Local, Origin: opts.Origin})
	s := &Session{opts: opts, side: side, wc: wc, native: wc, choosing: side == wire.Acceptor && len(opts.Protocols) > 0, done: make(chan struct{})}
	if s.line = opts.Line; s.line == nil {
		s.line = new(Line)
	}
	s.tc = transport.New(nc, output{s})
	if opts.Waiting != nil {
		s.tc.Account(&opts.Waiting.bytes)
	}
	if opts.Speaks != nil {
		s.speak(opts.Speaks)
	}
	s.tc.Probe() // Tick goes on with it
	s.peer.UID = -1
	if nc.RemoteAddr() != nil {
		s.peer.Address = nc.RemoteAddr().String()
	}
	if cred, err := transport.PeerCredentials(nc); err == nil {
		s.peer.UID = int(cred.Uid)
	}
	return s
}

// Hello introduces this side; for dialers, before Run.
func (s *Session) Hello(h wire.Hello) {
	s.tc.Lock()
	s.peer.Role = h.Role
	s.wc.Hello(h)
	s.tc.FlushUnlock()
}

// HelloTimeout is how long a dialer may take for its first word.
const HelloTimeout = 2 * time.Second

// Run reads until the connection ends, then ends its calls and tells the handler. It returns why.
func (s *Session) Run() error {
	timer := time.AfterFunc(HelloTimeout, s.checkHandshake)
	s.begin()
	err := s.tc.Read(s.feed)
	timer.Stop()
	s.finish(err)
	return err
}

var (
	errSilent = errors.New("octo: no handshake within 2 s")
	errGone   = errors.New("octo: the peer is silent: no byte since the ping")
)

func (s *Session) checkHandshake() {
	s.tc.Lock()
	if s.ready || s.why != nil { // or it has ended meanwhile: Stop does not wait for a timer that fires
		s.tc.Unlock()
		return
	}
	s.why = errSilent
	s.wc.End(wire.GoAwayRefused, errSilent.Error())
	s.tc.Unlock()
	s.tc.CloseAfterFlush(lingerTime)
}

// lingerTime is how long a peer may take to read our last words.
const lingerTime = time.Second

// PeerError is why a peer ended the connection, in its own words.
type PeerError struct{ GoAway wire.GoAway }

// Error repeats the peer's words.
func (e *PeerError) Error() string {
	return "octo: the peer ended the connection: " + e.GoAway.Code.String() + ": " + e.GoAway.Message
}

// onConnection handles the frames of stream 0.
func (s *Session) onConnection() {
	ev := &s.ev
	switch ev.Kind {
	case wire.EventHello:
		s.onHello(&ev.Hello)
	case wire.EventWelcome:
		s.peer.Kind, s.peer.Instance, s.peer.Incarnation = ev.Welcome.Kind, ev.Welcome.Instance, ev.Welcome.Incarnation
		s.tc.Lock()
		s.ready = true
		s.tc.Unlock()
		s.opts.Handler.Open(s)
	case wire.EventGoAway:
		s.opts.Handler.GoAway(s, &ev.GoAway)
	case wire.EventDrained:
		s.opts.Handler.Drained(s)
	}
}

func (s *Session) onHello(h *wire.Hello) {
	s.peer.Role, s.peer.Kind, s.peer.Environment = h.Role, h.Kind, h.Environment
	s.peer.Application, s.peer.Instance, s.peer.Incarnation = h.Application, h.Instance, h.Incarnation
	s.peer.Targets, s.peer.SDK, s.peer.SDKVersion = h.Targets, h.SDK, h.SDKVersion
	if s.opts.FromSDK {
		s.peer.Kind = wire.PeerSDK
	}
	if s.named != "" {
		h.Application, s.peer.Application = s.named, s.named
	}
	s.hop, s.caller = s.hopFields(), []byte(h.Application)
	refusal := s.opts.Handler.Hello(s, h)
	s.tc.Lock()
	if h.Role == wire.RoleServe { // calls come from other proxies and end here
		s.opts.Origin = wire.OriginServerProxy
		s.wc.SetOrigin(s.opts.Origin)
	}
	if refusal != nil {
		s.wc.Refuse(*refusal)
		s.tc.Unlock()
		s.tc.CloseAfterFlush(lingerTime)
		return
	}
	s.ready = true
	s.tc.Unlock()
	s.opts.Handler.Open(s)
}

// Welcome completes the handshake of an accepted session; the handler calls it from Hello.
func (s *Session) Welcome(w wire.Welcome) {
	s.tc.Lock()
	s.wc.Welcome(w)
	s.touch(&s.batch)
	s.tc.Unlock()
}

// hopFields is what the proxy says of every request that comes in here. Outbound it names the caller,
// since the next link is shared by many; inbound it says whether the caller was verified.
func (s *Session) hopFields() []byte {
	if s.opts.Direction == route.Outbound {
		return wire.AppendHop(nil, wire.HopCaller, s.peer.Application)
	}
	return wire.AppendHop(nil, wire.HopVerifiedCaller, s.peer.Identity)
}

// finish ends a session whose connection has ended.
func (s *Session) finish(err error) {
	s.tc.Settle()
	why := s.lose(err)
	s.outlast()
	s.opts.Handler.Closed(s, why)
	s.tc.Wait()
	s.tc.Lock()
	s.tc.Forget()
	s.tc.Unlock()
	close(s.done)
}

// lose ends the calls of a connection that has ended, and tells why it has.
func (s *Session) lose(err error) (why error) {
	s.batch.Now = s.opts.Clock.Now()
	var calls []*Call
	var statuses []wire.Status
	s.tc.Lock()
	if s.why == nil {
		s.why = err
	}
	s.ready = false
	s.wc.Lost(s.tc.Unwritten(), func(call any, st wire.Status) {
		switch c := call.(type) {
		case *Call:
			calls = append(calls, c)
			statuses = append(statuses, st)
		case *Shadow:
			s.shadowEnded(c, policy.CopyFailed)
		}
	})
	why = s.why
	s.tc.Unlock()
	waiting := s.line.all()
	for i, c := range calls {
		c.linkLost(s, &statuses[i], &s.batch)
	}
	for _, c := range waiting {
		c.resume(&s.batch)
	}
	s.batch.Flush()
	return why
}

// Peer returns what is known of the peer.
func (s *Session) Peer() *Peer { return &s.peer }

// Direction is that of the calls that come in here.
func (s *Session) Direction() route.Direction { return s.opts.Direction }

// Caller is the calling application, as the peer named it.
func (s *Session) Caller() []byte { return s.caller }

// Done is closed when the session has ended.
func (s *Session) Done() <-chan struct{} { return s.done }

// OpenCalls is the number of calls that this side has open here: what a balancer compares.
func (s *Session) OpenCalls() int { return int(s.open.Load()) }

// Silent tells whether the peer has missed an answer and said nothing since (W-LIVE-6), as of the last tick.
func (s *Session) Silent() bool { return s.silent.Load() }

// Streams is the number of streams that are open on the session, by either side.
func (s *Session) Streams() int {
	s.tc.Lock()
	defer s.tc.Unlock()
	return s.wc.OpenStreams()
}

// Usable tells whether calls may be opened here, unless its stream limit is reached.
func (s *Session) Usable() bool {
	s.tc.Lock()
	defer s.tc.Unlock()
	return s.ready && s.wc.CanOpen() != wire.ErrNotOpen
}

// Leave asks the peer to move.
func (s *Session) Leave(message string) {
	s.tc.Lock()
	s.leaving = true
	s.wc.Leave(wire.GoAwayDraining, message)
	s.tc.FlushUnlock()
}

// PeerLeaves tells whether the peer has asked this side to move.
func (s *Session) PeerLeaves() bool {
	s.tc.Lock()
	defer s.tc.Unlock()
	return s.wc.PeerLeaves()
}

// SendDrained tells the peer that this side opens no more calls here. Calls that wait for a stream here
// are decided anew.
func (s *Session) SendDrained() {
	s.tc.Lock()
	s.wc.Drained()
	s.tc.FlushUnlock()
	s.CallWaiting()
}

// Finished tells whether nothing that matters can happen here any more.
func (s *Session) Finished() bool {
	s.tc.Lock()
	defer s.tc.Unlock()
	return s.wc.Done()
}

// Close ends the session once its output is written.
func (s *Session) Close() { s.tc.CloseAfterFlush(lingerTime) }

// Kill ends the session at once.
func (s *Session) Kill() {
	s.tc.Lock()
	s.killed = true
	s.tellOver()
	s.tc.Unlock()
	s.tc.Close()
}
