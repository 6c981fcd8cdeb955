// Package meshtest is ends of the protocol for tests and benchmarks: raw ones that see every frame and do
// only what they are told, and (Proxy) a proxy in the process.
package meshtest

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/octomesh/octomesh/core/transport"
	"github.com/octomesh/octomesh/core/wire"
)

// Raw is one end of a connection without an SDK behind it. Its callback is called by its reader for every
// event, with the end locked: it may use Wire, and what it queues is flushed when all that was read has
// been handled.
type Raw struct {
	*transport.Conn
	Wire *wire.Conn
	on   func(r *Raw, ev *wire.Event)
	ev   wire.Event

	ready chan struct{}
	done  chan struct{}
	err   error
}

// newRaw wires an end up; start runs it.
func newRaw(nc net.Conn, side wire.Side, limits wire.Limits, on func(*Raw, *wire.Event)) *Raw {
	wc := wire.NewConn(wire.Config{Side: side, Local: limits, Origin: wire.OriginClientSDK})
	r := &Raw{Conn: transport.New(nc, wc), Wire: wc, on: on, ready: make(chan struct{}), done: make(chan struct{})}
	return r
}

func (r *Raw) run() {
	r.err = r.Read(r.feed)
	close(r.done)
}

func (r *Raw) feed(b []byte) (used int, err error) {
	r.Lock()
	for used < len(b) {
		n, ferr := r.Wire.Feed(b[used:], &r.ev)
		if ferr != nil || n == 0 {
			err = ferr
			break
		}
		used += n
		if r.ev.Kind == wire.EventWelcome {
			close(r.ready)
		}
		if r.on != nil && r.ev.Kind != wire.EventNone {
			r.on(r, &r.ev)
		}
	}
	r.FlushUnlock()
	return used, err
}

// Dial connects, introduces itself with h and waits for the welcome. A dialer of role SERVE answers calls
// in its callback.
func Dial(network, address string, h wire.Hello, limits wire.Limits, on func(*Raw, *wire.Event)) (*Raw, error) {
	nc, err := net.DialTimeout(network, address, 2*time.Second)
	if err != nil {
		return nil, err
	}
	r := newRaw(nc, wire.Dialer, limits, on)
	r.Lock()
	r.Wire.Hello(h)
	r.FlushUnlock()
	go r.run()
	select {
	case <-r.ready:
		return r, nil
	case <-r.done:
		if r.ev.Kind == wire.EventGoAway {
			return nil, fmt.Errorf("refused: %v: %s", r.ev.GoAway.Code, r.ev.GoAway.Message)
		}
		return nil, fmt.Errorf("no welcome: %w", r.err)
	case <-time.After(5 * time.Second):
		r.Conn.Close()
		return nil, errors.New("no welcome within 5 s")
	}
}

// Serve accepts on l and welcomes every dialer; its ends answer calls in their callback. It returns when
// l is closed.
func Serve(l net.Listener, limits wire.Limits, on func(*Raw, *wire.Event)) {
	for {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		r := newRaw(nc, wire.Acceptor, limits, func(r *Raw, ev *wire.Event) {
			if ev.Kind == wire.EventHello {
				r.Wire.Welcome(wire.Welcome{Kind: wire.PeerSDK})
			}
			on(r, ev)
		})
		go r.run()
	}
}

// Done is closed when the connection has ended; Err then says why.
func (r *Raw) Done() <-chan struct{} { return r.done }

// Err is why the connection ended.
func (r *Raw) Err() error { return r.err }

// Echo is a callback that answers every call with the bytes of its request, message by message.
func Echo(r *Raw, ev *wire.Event) {
	if ev.Kind != wire.EventRequest && ev.Kind != wire.EventMessage {
		if ev.Kind == wire.EventReset || ev.Kind == wire.EventFailed {
			r.Wire.Release()
		}
		return
	}
	out := wire.Out{Type: wire.TypeMessage, Flags: ev.Frame.Flags &^ wire.FlagEnd, Body: ev.Frame.Body}
	if ev.Frame.Has(wire.FlagEnd) {
		out.Type, out.Flags = wire.TypeResponse, ev.Frame.Flags
	} else {
		r.Wire.Consume(ev.Stream, ev.Frame.Cost())
	}
	if ev.Frame.Has(wire.FlagMore) && ev.Kind == wire.EventRequest {
		out.Head = wire.AppendTotalLength(nil, ev.Stream.MessageTotal())
	}
	if out.Flags&(wire.FlagEnd|wire.FlagMessage) != 0 {
		r.Wire.Send(ev.Stream, &out)
	}
}

// Answer is how a raw call ended.
type Answer struct {
	Status wire.Status
	Body   []byte
	Reset  bool
}

// Caller is a raw end that makes unary calls and waits for them.
type Caller struct{ *Raw }

// DialCaller connects a caller.
func DialCaller(network, address string, h wire.Hello) (*Caller, error) {
	h.Role = wire.RoleCall
	r, err := Dial(network, address, h, wire.Limits{}, answer)
	if err != nil {
		return nil, err
	}
	return &Caller{r}, nil
}

// answer completes calls.
func answer(_ *Raw, ev *wire.Event) {
	got, ok := ev.Call.(chan Answer)
	if !ok {
		return
	}
	switch {
	case ev.Kind == wire.EventResponse && ev.Frame.Has(wire.FlagEnd):
		got <- Answer{Status: wire.ScanStatus(ev.Frame.Head).Clone(), Body: append([]byte(nil), ev.Frame.Body...)}
	case ev.Kind == wire.EventReset || ev.Kind == wire.EventFailed:
		got <- Answer{Status: ev.Status.Clone(), Reset: true}
	}
}

// Call makes a unary call; the answer comes on the channel.
func (c *Caller) Call(head *wire.RequestHead, body []byte) (<-chan Answer, error) {
	got := make(chan Answer, 1)
	c.Lock()
	s, err := c.Wire.Open(got)
	if err != nil {
		c.Unlock()
		return nil, err
	}
	c.Wire.Send(s, &wire.Out{Type: wire.TypeRequest, Flags: wire.FlagMessage | wire.FlagEnd, Head: head.Append(nil), Body: body})
	c.FlushUnlock()
	return got, nil
}
