package octomesh

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/octomesh/octomesh/core/transport"
	"github.com/octomesh/octomesh/core/wire"
)

// session is a connection on which this process serves: accepted from a caller, or dialed to the proxy
// with role SERVE. One goroutine reads it; handlers run in the server's workers.
type session struct {
	srv   *Server
	tc    *transport.Conn // its lock guards what follows, unless the reader alone has it
	wc    *wire.Conn
	serve bool // dialed: this side closes first
	peer  Peer // of a call that says nothing else of its caller
	isSDK bool // the other end may set no hop fields

	closing bool

	// Of the reader alone.
	ev    wire.Event
	head  wire.RequestHead
	ready []*serverCall
	ended []endedCall
	now   time.Time // of this batch; zero until somebody asks

	shaken  chan struct{} // closed when the handshake has ended, well or not
	refused error
	moving  chan struct{} // closed when the peer asks this side to dial anew
	closed  chan struct{} // closed when the connection has ended
}

// endedCall is a context to be cancelled once the lock is free: what it runs may need the lock.
type endedCall struct {
	ctx *serverContext
	err error
}

func newSession(srv *Server, nc net.Conn, serve bool) *session {
	side := wire.Acceptor
	if serve {
		side = wire.Dialer
	}
	s := &session{srv: srv, serve: serve, isSDK: !serve,
		shaken: make(chan struct{}), moving: make(chan struct{}), closed: make(chan struct{}),
		wc: wire.NewConn(wire.Config{Side: side, Origin: wire.OriginServerSDK, Local: srv.cfg.limits.wire()})}
	s.tc = transport.New(nc, s.wc)
	s.peer = Peer{Proxied: serve}
	if a := nc.RemoteAddr(); a != nil {
		s.peer.Address = a.String()
	}
	return s
}

// run reads until the connection ends.
func (s *session) run() {
	stop := make(chan struct{})
	var beat sync.WaitGroup
	beat.Go(func() { heartbeat(s.tc, s.wc, pulse{waiting: func() bool { return false }}, stop) })
	shake := time.AfterFunc(handshakeTimeout, func() {
		select {
		case <-s.shaken:
		default:
			s.tc.Close()
		}
	})
	err := s.tc.Read(s.feed)
	shake.Stop()
	s.lost(err)
	close(stop)
	beat.Wait()
	s.tc.Wait()
	close(s.closed)
	s.srv.forget(s)
}

// feed handles all frames that one read brought, under one lock.
func (s *session) feed(b []byte) (int, error) {
	s.now = time.Time{}
	s.tc.Lock()
	used := 0
	for used < len(b) {
		n, err := s.wc.Feed(b[used:], &s.ev)
		if err != nil {
			s.endShake(err)
			s.abort()
			used = len(b)
			break
		}
		if n == 0 {
			break
		}
		used += n
		s.handle()
	}
	s.release()
	s.settle()
	return used, nil
}

// settle does what a batch has left to do without the lock.
func (s *session) settle() {
	for i, e := range s.ended {
		e.ctx.end(e.err)
		s.ended[i] = endedCall{}
	}
	s.ended = s.ended[:0]
	if len(s.ready) > 0 {
		s.srv.workers.submit(s.ready)
		clear(s.ready)
		s.ready = s.ready[:0]
	}
}

// release flushes and unlocks, and closes a connection that has done its work.
func (s *session) release() {
	closing := !s.closing && (s.wc.Closed() || s.serve && s.wc.Done())
	s.closing = s.closing || closing
	if !s.serve && s.wc.PeerDrained() {
		s.tc.ExpectEnd()
	}
	s.tc.FlushUnlock()
	if closing {
		s.tc.CloseAfterFlush(linger)
	}
}

func (s *session) flush() {
	s.tc.Lock()
	s.release()
}

func (s *session) handle() {
	ev := &s.ev
	switch ev.Kind {
	case wire.EventRequest:
		s.request()
	case wire.EventMessage:
		ev.Call.(*serverCall).message(ev)
	case wire.EventReset, wire.EventFailed:
		ev.Call.(*serverCall).reset(&ev.Status)
	case wire.EventCredit:
		signal(ev.Call.(*serverCall).credit)
	case wire.EventHello:
		s.hello(&ev.Hello)
	case wire.EventWelcome:
		s.peer.Instance, s.peer.Incarnation = ev.Welcome.Instance, ev.Welcome.Incarnation
		close(s.shaken)
	case wire.EventGoAway:
		s.goAway(&ev.GoAway)
	}
}

// hello answers a caller that dialed.
func (s *session) hello(h *wire.Hello) {
	s.peer.Application, s.peer.Instance, s.peer.Incarnation = h.Application, h.Instance, h.Incarnation
	s.peer.SDK, s.peer.SDKVersion = h.SDK, h.SDKVersion
	_, unix := s.tc.NetConn().(*net.UnixConn)
	s.isSDK = unix || h.Kind != wire.PeerProxy && h.Kind != wire.PeerGateway
	if !s.isSDK {
		s.peer.Verified = "" // what TLS says is of the hop, not of the caller
	}
	cfg := s.srv.cfg
	switch {
	case s.srv.stopping.Load():
		s.wc.Refuse(wire.GoAway{Code: wire.GoAwayDraining, Message: "the server is stopping"})
		return
	case h.Role != wire.RoleCall:
		s.wc.Refuse(wire.GoAway{Code: wire.GoAwayRefused, Message: "a server takes connections of role CALL only"})
		return
	case h.Environment != cfg.environment:
		s.wc.Refuse(wire.GoAway{Code: wire.GoAwayRefused,
			Message: "environment " + cfg.environment + " takes no calls from environment " + h.Environment})
		return
	}
	s.wc.Welcome(wire.Welcome{Kind: wire.PeerSDK, Instance: cfg.instance, Incarnation: process.incarnation,
		SoftwareVersion: "go/" + Version})
	close(s.shaken)
}

func (s *session) goAway(g *wire.GoAway) {
	select {
	case <-s.shaken:
	default:
		s.refused = &refusal{g.Code, g.Message}
		if g.Code.Graceful() {
			s.refused = errDraining
		}
		close(s.shaken)
		return
	}
	if !g.Code.Graceful() {
		s.abort()
		return
	}
	select {
	case <-s.moving:
	default:
		close(s.moving)
	}
}

func (s *session) endShake(err error) {
	select {
	case <-s.shaken:
	default:
		s.refused = err
		close(s.shaken)
	}
}

// lost ends all that still hangs on the connection.
func (s *session) lost(err error) {
	s.tc.Lock()
	s.endShake(err)
	s.abort()
	s.tc.Unlock()
	s.settle()
}

// abort ends the calls of a connection that has ended.
func (s *session) abort() {
	s.wc.Abort(func(call any, _ wire.Status) {
		c := call.(*serverCall)
		c.cut()
		s.ended = append(s.ended, endedCall{c.ctx, context.Canceled})
	})
}

// leave asks the peer to move.
func (s *session) leave() {
	s.tc.Lock()
	s.wc.Leave(wire.GoAwayDraining, "the server is stopping")
	s.release()
}

// final ends the connection at the drain deadline.
func (s *session) final() {
	var ended []*serverContext
	s.tc.Lock()
	s.wc.Finish(wire.GoAwayDraining, "the drain deadline has passed", func(call any, _ wire.Status) {
		c := call.(*serverCall)
		c.cut()
		ended = append(ended, c.ctx)
	})
	if !s.wc.Closed() { // still shaking hands
		s.tc.Unlock()
		s.tc.Close()
		return
	}
	s.release()
	for _, ctx := range ended {
		ctx.end(context.Canceled)
	}
}

// request lets a call in, or refuses it.
func (s *session) request() {
	stream, f, h := s.ev.Stream, &s.ev.Frame, &s.head
	if h.Parse(f.Head) != nil || s.isSDK && !h.FromSDK {
		s.wc.Reset(stream, &wire.ResetHead{Status: wire.Refuse(wire.ReasonBadHead, wire.OriginServerSDK,
			"the request's head does not parse, or has a field that only a hop may set")})
		s.wc.Release()
		return
	}
	m, st := s.srv.find(h)
	if m == nil {
		s.reject(stream, &st)
		return
	}
	if !knownContentType(h.ContentType) {
		st := wire.Refuse(wire.ReasonUnknownContentType, wire.OriginServerSDK,
			"content type "+string(h.ContentType)+": want none, application/grpc or application/grpc+proto")
		s.reject(stream, &st)
		return
	}
	c := s.srv.newCall(m)
	c.ses, c.stream, c.ctx = s, stream, s.newContext(h)
	c.ctx.call = c
	c.encoding = encodingName(h.MessageEncoding)
	for _, e := range h.AcceptedEncodings {
		c.acceptsGzip = c.acceptsGzip || string(e) == encodingGzip
	}
	if h.WantTimings {
		if s.now.IsZero() {
			s.now = time.Now()
		}
		c.times.wanted, c.times.arrived = true, s.now
	}
	stream.Call = c
	c.message(&s.ev)
}

// reject ends a call that no handler sees.
func (s *session) reject(stream *wire.Stream, st *wire.Status) {
	h := wire.ResponseHead{Status: *st}
	if st.Reason == wire.ReasonUnknownEncoding {
		for _, e := range acceptedEncodings {
			h.AcceptedEncodings = append(h.AcceptedEncodings, []byte(e))
		}
	}
	s.wc.Send(stream, &wire.Out{Type: wire.TypeResponse, Flags: wire.FlagEnd, Head: h.Append(nil)})
}

// newContext takes from a head what the handler may ask for.
func (s *session) newContext(h *wire.RequestHead) *serverContext {
	ctx := &serverContext{metadata: fromEntries(h.Metadata, false), peer: &s.peer}
	if h.TimeoutUS > 0 {
		if s.now.IsZero() {
			s.now = time.Now()
		}
		ctx.deadline = s.now.Add(time.Duration(wire.TimeoutNanos(h.TimeoutUS)))
	}
	ctx.carried.baggage = fromEntries(h.Baggage, true)
	if len(h.Traceparent) > 0 && validTraceparent(h.Traceparent) {
		ctx.carried.traceparent, ctx.carried.tracestate = string(h.Traceparent), string(h.Tracestate)
	}
	if len(h.Caller) > 0 || h.HasVerifiedCaller {
		p := s.peer
		if len(h.Caller) > 0 {
			p.Application = string(h.Caller)
		}
		if s.serve { // anybody else could claim it (W-HOP-6)
			p.Verified = string(h.VerifiedCaller)
		}
		ctx.peer = &p
	}
	return ctx
}
