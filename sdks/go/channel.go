package octomesh

import (
	"context"
	"errors"
	"maps"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/wire"
)

// Channel calls one target, through the local proxy or direct. Generated clients are made of it. It may be
// used by any number of goroutines; one channel per target and process is enough.
type Channel struct {
	target string
	cfg    *config
	path   path
	shared *target
	way    *route // the path, where it decides between two; nil: there is one

	heads atomic.Pointer[map[*Method]*methodHead]
	calls sync.Pool // of *clientCall, unary ones
	mu    sync.Mutex
	off   bool // closed
}

// path is where calls go: to a proxy, direct, or as a route decides call by call.
type path interface {
	// pick returns the link for one call and the peer that it belongs to.
	pick(c *clientCall) (*link, *peer, *Error)
	// ready waits until a call could go.
	ready(w waiter) *Error
	close()
}

// Dial returns a channel for calls to target, the registry's service name. It does not wait for a
// connection: the first call makes one, or [Channel.Ready].
//
// Where calls go is decided call by call between the proxy whose socket OCTO_SOCKET or [WithSocket] names, and the target's instances:
// by the mesh switch of the Directory, by a kill switch on this host, and by what answers; see [Channel.Status]. Instances are those of
// [WithDirect], else those that the Directory knows: the proxy, else the control plane ([WithDirectory]), else what was kept on
// disk ([WithState]). All channels of a process to one socket, with the same identity and limits, share one connection.
func Dial(target string, opts ...DialOption) (*Channel, error) {
	cfg := newConfig()
	for _, o := range opts {
		o.applyDial(cfg)
	}
	if err := cfg.finish(); err != nil {
		return nil, err
	}
	if target == "" {
		return nil, errors.New("octomesh: the target has no name")
	}
	ch := newChannel(target, cfg)
	r, err := newRoute(ch)
	if err != nil {
		process.leave(ch.shared)
		return nil, err
	}
	ch.path, ch.way = r, r
	return ch, nil
}

func newChannel(target string, cfg *config) *Channel {
	ch := &Channel{target: target, cfg: cfg, shared: process.join(targetKey{cfg.environment, cfg.application, target})}
	ch.heads.Store(new(map[*Method]*methodHead))
	ch.calls.New = func() any { return newClientCall(ch) }
	return ch
}

// Target returns the target's name.
func (ch *Channel) Target() string { return ch.target }

// Ready waits until a connection for calls stands, or ctx ends. Its error is that of a call. A channel need
// not be ready to be called.
func (ch *Channel) Ready(ctx context.Context) error {
	w := &contextWaiter{ctx}
	if err := ch.path.ready(w); err != nil {
		return err
	}
	return nil
}

// Close ends the channel. A connection that no other channel uses is closed, and calls on it that are still
// open end as CANCELLED. Close waits for the SDK's goroutines and may be called more than once.
func (ch *Channel) Close() error {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if !ch.off {
		ch.off = true
		ch.path.close()
		process.leave(ch.shared)
	}
	return nil
}

// contextWaiter waits under a context alone.
type contextWaiter struct{ ctx context.Context }

func (w *contextWaiter) await(c <-chan struct{}) *Error {
	select {
	case <-c:
		return nil
	case <-w.ctx.Done():
		return contextError(w.ctx.Err(), true)
	}
}

// contextError is how a call ends whose context has ended.
func contextError(err error, sent bool) *Error {
	reason, text := wire.ReasonCancelled, "the caller cancelled"
	if errors.Is(err, context.DeadlineExceeded) {
		reason, text = wire.ReasonDeadline, "the deadline passed"
	}
	if sent {
		return refused(reason, "%s", text)
	}
	return unsent(reason, "%s", text)
}

// methodHead is what a request's head says of every call of a method on a channel.
type methodHead struct {
	prefix []byte // whom and what it calls
	plain  []byte // prefix and all that stands behind it, where a call adds nothing
}

var acceptedEncodings = []string{encodingIdentity, encodingGzip}

// maxHeads bounds how many methods' heads a channel keeps. Whoever calls by descriptions that he makes for each call
// has them built for each call, and not kept for ever.
const maxHeads = 1024

// head returns the method's static part, which is built once.
func (ch *Channel) head(m *Method) *methodHead {
	if h := (*ch.heads.Load())[m]; h != nil {
		return h
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	old := *ch.heads.Load()
	if h := old[m]; h != nil {
		return h
	}
	h := &methodHead{prefix: wire.AppendMethod(nil, ch.target, m.Service, m.Name, wire.CallKind(m.Kind))}
	h.plain = wire.AppendCall(append([]byte(nil), h.prefix...), "", 0, "", m.Idempotent)
	h.plain = wire.AppendEncodings(h.plain, "", acceptedEncodings[1:])
	if len(old) >= maxHeads {
		return h
	}
	next := maps.Clone(old)
	if next == nil {
		next = make(map[*Method]*methodHead)
	}
	next[m] = h
	ch.heads.Store(&next)
	return h
}

// callUnary implements Caller.
func (ch *Channel) callUnary(ctx context.Context, m *Method, req, res proto.Message, opts []CallOption) error {
	if len(ch.cfg.interceptors) > 0 {
		return ch.interceptUnary(ctx, m, req, res, opts)
	}
	return ch.unary(ctx, m, req, res, opts)
}

func (ch *Channel) unary(ctx context.Context, m *Method, req, res proto.Message, opts []CallOption) error {
	c := ch.calls.Get().(*clientCall)
	c.start()
	err := c.prepare(ctx, m, opts)
	if err == nil {
		err = c.unary(req, res)
	}
	c.over(err)
	c.recycle()
	if err != nil {
		return err
	}
	return nil
}

// unary performs a call that prepare has set up: it sends, waits, and sends again where that is safe.
func (c *clientCall) unary(req, res proto.Message) *Error {
	if err := c.encode(req); err != nil {
		return err
	}
	for {
		l, p, err := c.ch.path.pick(c)
		if err == nil {
			p.inFlight.Add(1)
			err = c.exchange(l)
			p.inFlight.Add(-1)
			if err == errMoved {
				continue
			}
			if err == nil {
				p.succeeded()
				c.ch.shared.retry.succeeded()
			}
		}
		if err == nil || !c.again(err) {
			return c.conclude(err, res)
		}
	}
}

// exchange sends the request on a link and waits for the answer.
func (c *clientCall) exchange(l *link) *Error {
	if err := c.send(l); err != nil {
		return err
	}
	if c.waits() {
		if err := c.wait(l); err != nil {
			return err
		}
	} else {
		<-c.wake
	}
	l.ran()
	return c.err
}

// conclude makes the response of what has arrived.
func (c *clientCall) conclude(err *Error, res proto.Message) *Error {
	if err == nil {
		err = c.decodeOnly(res)
	}
	if c.opt.header != nil {
		*c.opt.header = c.header
	}
	if c.opt.trailer != nil {
		*c.opt.trailer = c.trailer
	}
	c.captureTimings()
	return err
}

// decodeOnly decodes the only message of the answer.
func (c *clientCall) decodeOnly(res proto.Message) *Error {
	if n := c.in.len(); n != 1 {
		return refused(wire.ReasonBadMessage, "the response has %d messages, want 1", n)
	}
	m, _ := c.in.take()
	reason, err := decode(&m, c.encoding, c.in.limit, res)
	c.in.recycle(&m)
	if err != nil {
		return c.undecodable(reason, err)
	}
	return nil
}

// undecodable is how a call ends whose answer came and cannot be read.
func (c *clientCall) undecodable(reason wire.Reason, err error) *Error {
	e := refused(reason, "the response does not decode: %v", err)
	e.Disposition, e.Trailer = DispositionProcessed, c.trailer
	if reason == wire.ReasonUnknownEncoding {
		e.AcceptedEncodings = acceptedEncodings
	}
	return e
}
