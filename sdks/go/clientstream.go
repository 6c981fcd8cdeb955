package octomesh

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/wire"
)

// clientStream is a streaming call at its caller. One goroutine may receive while another sends.
type clientStream struct {
	c     *clientCall
	at    atomic.Pointer[attempt]
	hooks []hooks
	whole bool // the REQUEST has the only message

	// more says that something was sent behind the REQUEST, or only a part of that: the call does not go again (S-AGAIN-4).
	// Guarded as the call's state.
	more bool

	last    arrived // the last message, whose memory goes back with the next receive
	sendBuf []byte
	sendEnd bool
	unsent  atomic.Int64

	once  sync.Once
	stops []func() bool // what watches over the context and the deadline
}

// attempt is where a stream is. The link's lock guards the call's state while it is there, or has ended there.
type attempt struct {
	link *link
	// moved is set while somebody sends the stream again, and has its state for himself: closed when that has ended.
	moved chan struct{}
}

// locked returns the link where the stream is, locked. While the stream is sent again it waits.
func (s *clientStream) locked() *link {
	for {
		at := s.at.Load()
		if at.moved != nil {
			<-at.moved
			continue
		}
		at.link.tc.Lock()
		if s.at.Load() == at {
			return at.link
		}
		at.link.tc.Unlock()
	}
}

// openStream opens the stream of a generated client's method. first is the request of a method that has
// only one.
func (ch *Channel) openStream(ctx context.Context, m *Method, first proto.Message, opts []CallOption) (*clientStream, error) {
	if len(ch.cfg.interceptors) > 0 {
		return ch.interceptStream(ctx, m, first, opts)
	}
	return ch.stream(ctx, m, first, opts, nil)
}

func (ch *Channel) stream(ctx context.Context, m *Method, first proto.Message, opts []CallOption, hooks []hooks) (*clientStream, error) {
	c := newClientCall(ch)
	c.streaming, c.headerCame = true, make(chan struct{})
	c.start()
	s := &clientStream{c: c, hooks: hooks, whole: first != nil, sendEnd: first != nil}
	err := c.prepare(ctx, m, opts)
	if err == nil && first != nil {
		err = c.encode(first)
	}
	if err == nil {
		err = s.begin()
	}
	if c.expiry != nil {
		c.timer.Stop()
	}
	if err != nil {
		c.captureTimings()
		c.over(err)
		return nil, err
	}
	s.watch()
	return s, nil
}

// begin opens the stream on a link that takes it.
func (s *clientStream) begin() *Error {
	for {
		l, p, err := s.c.ch.path.pick(s.c)
		if err != nil {
			return err
		}
		if err := s.open(l, p); err != errMoved {
			return err
		}
	}
}

// open sends the REQUEST: with the only message, or without one.
func (s *clientStream) open(l *link, p *peer) *Error {
	c := s.c
	c.out.Type, c.out.Flags, c.out.Body = wire.TypeRequest, 0, nil
	if s.whole {
		c.out.Flags, c.out.Body = wire.FlagMessage|wire.FlagEnd, c.body
	}
	if err := c.open(l); err != nil {
		return err
	}
	c.markSent()
	p.inFlight.Add(1)
	c.onEnd = func() { p.inFlight.Add(-1) }
	sent := l.wc.Send(c.stream, &c.out)
	s.more = !sent
	s.at.Store(&attempt{link: l})
	l.release()
	if sent {
		return nil
	}
	return s.sendRest(&c.out)
}

// again sends a stream again that has ended, where that is safe (S-AGAIN) and its REQUEST is all that was sent. l is the locked link
// where it ended; it is unlocked. If the stream has not moved, err is how it ended.
func (s *clientStream) again(l *link) (moved bool, err *Error) {
	c := s.c
	ended := c.err
	if ended == nil || s.more || c.replied || ended.Disposition == DispositionProcessed {
		l.tc.Unlock()
		return false, ended
	}
	was, moving := s.at.Load(), &attempt{moved: make(chan struct{})}
	s.at.Store(moving) // from here on the state is this goroutine's alone
	l.tc.Unlock()
	defer close(moving.moved)
	if c.expiry != nil {
		c.timer.Reset(time.Until(c.deadline))
		defer c.timer.Stop()
	}
	if !c.again(ended) {
		s.at.Store(was)
		return false, ended
	}
	c.headerCame, c.onEnd = make(chan struct{}), nil
	if err := s.begin(); err != nil {
		c.done, c.err = true, err
		c.ended()
		s.at.Store(was)
		return false, err
	}
	return true, nil
}

// watch ends the call with its context, or at its own deadline. The goroutine that receives need not run
// for that.
func (s *clientStream) watch() {
	c := s.c
	if c.ctx.Done() != nil {
		s.stops = append(s.stops, context.AfterFunc(c.ctx, func() { s.end(contextError(c.ctx.Err(), true)) }))
	}
	if c.expiry != nil {
		t := time.AfterFunc(time.Until(c.deadline), func() { s.end(contextError(context.DeadlineExceeded, true)) })
		s.stops = append(s.stops, t.Stop)
	}
}

// end ends the call from this side, unless it has ended.
func (s *clientStream) end(why *Error) {
	c, l := s.c, s.locked()
	if !c.done {
		c.reset(l, why)
		c.ended()
	}
	l.release()
}

// settled runs once when the application has learned of the end.
func (s *clientStream) settled(err *Error) {
	s.once.Do(func() {
		for _, stop := range s.stops {
			stop()
		}
		s.c.captureTimings()
		s.c.over(err)
		if err != nil {
			onEnd(s.hooks, err)
			return
		}
		onEnd(s.hooks, nil)
	})
}

// send sends one message. After the server has ended the call it returns io.EOF, and receive tells how.
func (s *clientStream) send(m proto.Message) error {
	if s.sendEnd {
		return badCall("Send after CloseSend")
	}
	if err := onSend(s.hooks, m); err != nil {
		return asError(err)
	}
	c := s.c
	b, err := encode(s.sendBuf[:0], m, c.opt.encoding)
	if err != nil {
		return &Error{Code: Internal, Reason: ReasonBadMessage, Origin: OriginClientSDK,
			Message: "the request does not serialize: " + err.Error()}
	}
	if cap(b) <= keepSpare {
		s.sendBuf = b
	} else {
		defer giveBack(b) // when it has gone
	}
	out := wire.Out{Type: wire.TypeMessage, Flags: wire.FlagMessage, Body: b}
	if c.opt.encoding != "" {
		out.Flags |= wire.FlagCompressed
	}
	if err := s.put(&out); err != nil {
		s.unsent.Add(1)
		return err
	}
	return nil
}

// obey ends the call if its context has ended, before anything goes out: what watch does may come later, and
// a half-close would tell the handler of a cancelled call that it has all messages.
func (s *clientStream) obey() {
	if err := s.c.ctx.Err(); err != nil {
		s.end(contextError(err, true))
	}
}

// put queues a frame, as credit allows.
func (s *clientStream) put(out *wire.Out) error {
	s.obey()
	l, err := s.lockOpen()
	if l == nil {
		return sendError(err)
	}
	s.more = true
	sent := l.wc.Send(s.c.stream, out)
	l.release()
	if sent {
		return nil
	}
	if err := s.sendRest(out); err != nil {
		return err
	}
	if out.Body != nil && s.overBeforeSent(out) {
		l := s.locked()
		err := s.c.err
		l.tc.Unlock()
		return sendError(err)
	}
	return nil
}

// lockOpen locks the link of the stream if that is open, or goes again. Else there is none, and err is how it ended.
func (s *clientStream) lockOpen() (l *link, err *Error) {
	for {
		l := s.locked()
		if !s.c.done {
			return l, nil
		}
		if moved, err := s.again(l); !moved {
			return nil, err
		}
	}
}

// sendRest sends what credit did not cover.
func (s *clientStream) sendRest(out *wire.Out) *Error {
	c := s.c
	for {
		select {
		case <-c.credit:
		case <-c.ctx.Done():
			s.end(contextError(c.ctx.Err(), true))
		}
		l := s.locked()
		if c.done {
			l.tc.Unlock()
			return nil // receive tells how it ended
		}
		sent := l.wc.Send(c.stream, out)
		if sent {
			out.Body = nil
		}
		l.release()
		if sent {
			return nil
		}
	}
}

// overBeforeSent tells whether the call ended before all of a message was queued.
func (s *clientStream) overBeforeSent(out *wire.Out) bool { return len(out.Body) > 0 }

// sendError is what a sender gets after the end: io.EOF where the server ended the call.
func sendError(ended *Error) error {
	if ended != nil && ended.Origin == OriginClientSDK {
		return ended
	}
	return io.EOF
}

// closeSend says that no more messages come.
func (s *clientStream) closeSend() error {
	if s.sendEnd {
		return nil
	}
	s.sendEnd = true
	s.obey()
	l, _ := s.lockOpen()
	if l == nil {
		return nil
	}
	s.more = true
	l.wc.Send(s.c.stream, &wire.Out{Type: wire.TypeMessage, Flags: wire.FlagEnd})
	l.release()
	return nil
}

// receive takes the next response message. It returns io.EOF after the last, if the call went well.
func (s *clientStream) receive(into proto.Message) error {
	c := s.c
	for {
		l := s.locked()
		c.in.recycle(&s.last)
		if c.done && c.err != nil && c.err.Origin == OriginClientSDK {
			c.in.drop() // cancelled, expired or broken: what waits is not wanted any more
		}
		switch {
		case c.in.len() > 0:
			m, cost := c.in.take()
			s.last = m
			if c.stream != nil {
				l.wc.Consume(c.stream, cost)
			}
			limit := c.in.limit
			l.release()
			return s.decode(limit, into)
		case c.done:
			moved, err := s.again(l)
			if moved {
				continue
			}
			s.settled(err)
			if err != nil {
				return err
			}
			l.peer.succeeded()
			return io.EOF
		}
		l.tc.Unlock()
		<-c.wake
	}
}

func (s *clientStream) decode(limit int, into proto.Message) error {
	c := s.c
	reason, err := decode(&s.last, c.encoding, limit, into)
	if err == nil {
		if err = onReceive(s.hooks, into); err != nil {
			return asError(err)
		}
		return nil
	}
	e := c.undecodable(reason, err)
	s.end(e)
	s.settled(e)
	return e
}

// awaitHeader waits for the initial metadata.
func (s *clientStream) awaitHeader() Metadata {
	for {
		l := s.locked()
		came := s.c.headerCame
		l.tc.Unlock()
		<-came
		l = s.locked()
		if came != s.c.headerCame { // of an attempt that has ended
			l.tc.Unlock()
			continue
		}
		if s.c.done {
			if moved, _ := s.again(l); moved {
				continue
			}
			l = s.locked()
		}
		defer l.tc.Unlock()
		return s.c.header
	}
}

func (s *clientStream) endTrailer() Metadata {
	l := s.locked()
	defer l.tc.Unlock()
	return s.c.trailer
}

// close ends the call if it has not ended.
func (s *clientStream) close() {
	s.end(refused(wire.ReasonCancelled, "the caller closed the stream"))
	l := s.locked()
	err := s.c.err
	l.tc.Unlock()
	s.settled(err)
}

// single receives the only response of a method that streams requests.
func (s *clientStream) single(into, extra proto.Message) error {
	err := s.receive(into)
	if errors.Is(err, io.EOF) {
		return refused(wire.ReasonBadMessage, "the call ended without a response")
	}
	if err != nil {
		return err
	}
	switch err := s.receive(extra); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	}
	e := refused(wire.ReasonBadMessage, "more than one response")
	s.end(e)
	s.settled(e)
	return e
}
