package octomesh

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/octomesh/octomesh/core/transport"
	"github.com/octomesh/octomesh/core/wire"
	"github.com/octomesh/octomesh/sdks/go/internal/fallback"
)

// link is a connection on which this process opens calls. One goroutine reads it and hands each answer to
// the caller that waits; callers write for themselves.
//
// Writes gather: while callers that this link has just woken have not run yet, others leave what they sent
// unflushed (dirty), and the last of those flushes for all. So a batch of answers that arrived by one read
// gives one write of the requests that follow it, and no request waits for anything but a goroutine that is
// ready to run.
type link struct {
	tc   *transport.Conn // its lock guards what is not atomic
	wc   *wire.Conn
	peer *peer

	usable   atomic.Bool  // new calls may go here
	runnable atomic.Int32 // callers that were woken and have not run yet
	dirty    atomic.Bool  // output waits for the last of them

	overdue  atomic.Bool // a sign of life is, since a miss
	gone     atomic.Bool // it was given up because its peer is silent
	probing  bool        // a PONG is awaited, which shows that the peer is there
	answered bool        // it has come. Of the reader alone.

	unary   int             // unary calls that wait for their answer
	slots   []chan struct{} // callers that wait for the peer's stream limit
	retired bool            // a newer link took over; close when done
	closing bool            // the closing has begun

	// Of the reader alone.
	ev    wire.Event
	head  wire.ResponseHead
	woken []*clientCall

	shaken  chan struct{} // closed when the handshake has ended, well or not
	refused error         // why not; read it after shaken
	stop    chan struct{} // ends the heartbeat
}

var (
	errDraining  = errors.New("octomesh: the peer is leaving")
	errHandshake = errors.New("octomesh: no answer to HELLO within 2 s")
)

// newLink dials and shakes hands.
func newLink(ctx context.Context, p *peer) (*link, error) {
	nc, err := p.connect(ctx)
	if err != nil {
		return nil, err
	}
	l := &link{
		peer: p, shaken: make(chan struct{}), stop: make(chan struct{}),
		wc: wire.NewConn(wire.Config{Side: wire.Dialer, Origin: wire.OriginClientSDK, Local: p.limits.wire()}),
	}
	l.tc = transport.New(nc, l.wc)
	l.wc.Hello(p.hello())
	p.wg.Go(l.run)
	l.tc.Flush()
	t := time.NewTimer(handshakeTimeout)
	defer t.Stop()
	select {
	case <-l.shaken:
		return l, l.refused
	case <-t.C:
		err = errHandshake
	case <-ctx.Done():
		err = ctx.Err()
	}
	l.tc.Close()
	<-l.shaken
	return nil, err
}

// run reads until the connection ends.
func (l *link) run() {
	var beat sync.WaitGroup
	beat.Go(func() {
		heartbeat(l.tc, l.wc, pulse{
			waiting: func() bool { return l.unary > 0 || l.probing },
			missed:  func() { l.overdue.Store(true); l.peer.tell(fallback.Missed, l) },
			ticked:  l.freeSlots,
			gone:    func() { l.gone.Store(true) },
		}, l.stop)
	})
	err := l.tc.Read(l.feed)
	l.lost(err)
	close(l.stop)
	beat.Wait()
	l.tc.Wait()
}

// feed handles all frames that one read brought, under one lock.
func (l *link) feed(b []byte) (int, error) {
	if l.overdue.Load() && l.overdue.CompareAndSwap(true, false) {
		l.peer.tell(fallback.Alive, l)
	}
	l.tc.Lock()
	used := 0
	for used < len(b) {
		n, err := l.wc.Feed(b[used:], &l.ev)
		if err != nil {
			l.giveUp(err)
			used = len(b)
			break
		}
		if n == 0 {
			break
		}
		used += n
		l.handle()
	}
	l.release()
	l.wake()
	if l.answered {
		l.answered = false
		l.peer.tell(fallback.Answered, l)
	}
	return used, nil
}

// ping asks the peer to show that it is there.
func (l *link) ping() {
	l.tc.Lock()
	l.probing = true
	l.wc.Ping(0) // if one is unanswered already, its PONG shows as much
	l.release()
}

// wake sends each woken caller its token.
func (l *link) wake() {
	for i, c := range l.woken {
		l.woken[i] = nil
		c.wake <- struct{}{}
	}
	l.woken = l.woken[:0]
}

// release flushes and unlocks, and closes a link that has done its work.
func (l *link) release() {
	closing := !l.closing && (l.retired && l.wc.Done() || l.wc.Closed())
	l.closing = l.closing || closing
	l.dirty.Store(false)
	l.tc.FlushUnlock()
	if closing {
		l.tc.CloseAfterFlush(linger)
	}
}

// releaseLater is release for a caller that leaves the flush to those that run soon, if there are any.
func (l *link) releaseLater() {
	l.dirty.Store(true)
	if l.runnable.Load() > 0 {
		l.tc.Unlock()
		return
	}
	l.release()
}

// ran notes that a woken caller runs. The last one flushes what the others have left.
func (l *link) ran() {
	if l.runnable.Add(-1) == 0 && l.dirty.Load() {
		l.tc.Lock()
		l.release()
	}
}

func (l *link) handle() {
	ev := &l.ev
	switch ev.Kind {
	case wire.EventResponse, wire.EventMessage:
		l.response(ev.Call.(*clientCall))
	case wire.EventReset, wire.EventFailed:
		if l.leaves(&ev.Status) {
			l.usable.Store(false) // as good as a GOAWAY, and the call may go again on a new connection only
			l.peer.replaceLater(l)
		}
		l.finish(ev.Call.(*clientCall), fromWire(&ev.Status))
	case wire.EventCredit:
		signal(ev.Call.(*clientCall).credit)
	case wire.EventWelcome:
		l.usable.Store(true)
		close(l.shaken)
	case wire.EventPong:
		l.answered, l.probing = l.probing, false
	case wire.EventGoAway:
		l.goAway(&ev.GoAway)
	}
}

// leaves tells whether a call that was refused says that the peer leaves. What a proxy passes on is said of somebody behind it.
func (l *link) leaves(st *wire.Status) bool {
	return st.Reason == wire.ReasonProxyDraining && st.Disposition == wire.DispositionNotProcessed &&
		(l.peer.patience == 0 || st.Origin == wire.OriginClientProxy)
}

// goAway handles a peer that leaves, refuses or has ended the connection.
func (l *link) goAway(g *wire.GoAway) {
	select {
	case <-l.shaken:
	default:
		l.refused = &refusal{g.Code, g.Message}
		if g.Code.Graceful() {
			l.refused = errDraining
		}
		close(l.shaken)
		return
	}
	if g.Final || !g.Code.Graceful() {
		l.usable.Store(false)
		l.abort()
		return
	}
	l.peer.replaceLater(l)
}

// refusal is a GOAWAY in place of a WELCOME.
type refusal struct {
	code    wire.GoAwayCode
	message string
}

func (r *refusal) Error() string {
	return "octomesh: the peer refused the connection: " + r.code.String() + ": " + r.message
}

// giveUp ends a connection whose peer broke the protocol; the GOAWAY that says so is queued.
func (l *link) giveUp(err error) {
	l.usable.Store(false)
	l.endShake(err)
	l.abort()
}

func (l *link) endShake(err error) {
	select {
	case <-l.shaken:
	default:
		l.refused = err
		close(l.shaken)
	}
}

// lost ends all that still hangs on the connection.
func (l *link) lost(err error) {
	l.usable.Store(false)
	l.tc.Settle()
	l.tc.Lock()
	l.endShake(err)
	l.wc.Lost(l.tc.Unwritten(), l.ended)
	l.free()
	l.tc.Unlock()
	l.wake()
	l.peer.lost(l)
}

// abort ends every open call with what is known of it.
func (l *link) abort() {
	l.wc.Abort(l.ended)
	l.free()
}

func (l *link) ended(call any, st wire.Status) { l.finish(call.(*clientCall), fromWire(&st)) }

// free has those go elsewhere who wait for a stream here.
func (l *link) free() {
	for _, s := range l.slots {
		close(s)
	}
	l.slots = nil
}

// response books a frame of an answer.
func (l *link) response(c *clientCall) {
	f := &l.ev.Frame
	end := f.Type == wire.TypeResponse && f.Has(wire.FlagEnd)
	var bad wire.Reason
	var err *Error
	if f.Type == wire.TypeResponse {
		err, bad = c.takeHead(&l.head, f.Head, end)
	}
	if f.Has(wire.FlagMessage) && bad == 0 {
		var complete bool
		complete, bad = c.in.add(l.wc, l.ev.Stream, f)
		if c.streaming && complete {
			c.setHeaderDone() // none comes any more
			signal(c.wake)
		}
	}
	c.replied = c.replied || !end || f.Has(wire.FlagMessage)
	if end && bad == 0 && err == nil && c.in.assembling {
		bad = wire.ReasonStreamProtocol
	}
	if bad != 0 {
		err = refused(bad, "the response was refused by the client: %v", bad)
		err.Disposition = DispositionUnknown
		if !end {
			st := wire.Refuse(bad, wire.OriginClientSDK, "")
			st.Disposition = wire.DispositionUnknown // the server has begun it
			l.wc.Reset(l.ev.Stream, &wire.ResetHead{Status: st})
		}
		end = true
	}
	if end {
		l.finish(c, err)
	}
}

// finish ends a call; err is nil for success.
func (l *link) finish(c *clientCall, err *Error) {
	c.err, c.done, c.stream = err, true, nil
	l.freeSlot()
	if c.streaming {
		c.ended()
		return
	}
	l.unary--
	l.runnable.Add(1)
	l.woken = append(l.woken, c)
}

// freeSlot lets one caller try again that waits for the peer's stream limit.
func (l *link) freeSlot() {
	if len(l.slots) > 0 {
		close(l.slots[0])
		l.slots = l.slots[1:]
	}
}

// freeSlots lets as many try again as the limit leaves room for: RESETs that had to wait have freed streams.
func (l *link) freeSlots() {
	for n := l.wc.Room(); n > 0 && len(l.slots) > 0; n-- {
		l.freeSlot()
	}
}

// waitSlot returns a channel that closes when a stream may have become free. The lock must be held.
func (l *link) waitSlot() <-chan struct{} {
	s := make(chan struct{})
	l.slots = append(l.slots, s)
	return s
}

// retire says that no new calls come, and closes the link when the open ones have ended.
func (l *link) retire() {
	l.usable.Store(false)
	l.tc.Lock()
	l.retired = true
	l.wc.Drained()
	l.release()
}

// shut ends the link and the calls on it: the peer learns of each, and last that no more come.
func (l *link) shut(cause *Error) {
	l.usable.Store(false)
	var open, woken []*clientCall
	l.tc.Lock()
	l.retired = true
	l.wc.Each(func(call any) { open = append(open, call.(*clientCall)) })
	for _, c := range open {
		c.reset(l, cause.clone())
		if c.streaming {
			c.ended()
			continue
		}
		l.unary--
		l.runnable.Add(1)
		woken = append(woken, c)
	}
	l.wc.Drained()
	l.release()
	for _, c := range woken {
		c.wake <- struct{}{}
	}
}

// signal wakes whoever waits on a channel of one slot, now or later.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
