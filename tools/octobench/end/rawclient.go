package end

import (
	"fmt"
	"time"

	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/wire"
	"github.com/octomesh/octomesh/tools/octobench/pace"
	"github.com/octomesh/octomesh/tools/octobench/side"
)

// rawCaller keeps a number of calls in flight on one connection. All of it happens in the connection's
// reader: the next call goes out when an answer has come, and is flushed with all others of the same read,
// so that the end costs as little as an end can. In an open loop the pacer begins calls too.
type rawCaller struct {
	load       side.Load
	first      wire.Flags // of a call's first frame
	head, body []byte
	counter    side.Counter
	failed     *side.Failures

	received uint64    // what the connection had received when now was read
	now      time.Time // read once for all answers of one read

	// The open loop.
	schedule pace.Schedule
	begun    uint64     // how many calls of the schedule have gone
	idle     []*pending // slots that wait for the next
}

// pending is a call in flight: what its stream is about.
type pending struct {
	sent     time.Time // when it went, or was to go
	out      wire.Out  // what found no credit
	bytes    int       // of the message that is arriving
	messages int
}

var callKinds = map[string]wire.CallKind{
	side.Unary: wire.KindUnary, side.ServerStream: wire.KindServerStream, side.Bidi: wire.KindBidiStream,
}

func rawClient(s *side.Spec) (*side.Side, error) {
	failed := &side.Failures{}
	network, address := side.Split(s.Dial)
	head := &wire.RequestHead{
		Target: []byte(side.Target), Service: []byte(side.Service), Method: []byte(methods[s.Load.Kind]), Kind: callKinds[s.Load.Kind],
		TimeoutUS: uint64(s.Load.Timeout / time.Microsecond),
	}
	first := wire.FlagMessage | wire.FlagEnd
	if s.Load.Kind == side.Bidi {
		first = wire.FlagMessage
	}
	var counters []*side.Counter
	var ends []*meshtest.Raw
	var callers []*rawCaller
	stop := func() {
		for _, r := range ends {
			r.Close()
		}
	}
	start := time.Now()
	for i := range s.Load.Connections {
		c := &rawCaller{load: s.Load, first: first, head: head.Append(nil), body: make([]byte, s.Load.Size), failed: failed}
		r, err := meshtest.Dial(network, address, wire.Hello{
			Role: wire.RoleCall, Kind: wire.PeerSDK, Environment: side.Environment, Application: "caller",
			Instance: fmt.Sprintf("caller-%d", i), Incarnation: 1,
		}, wire.Limits{}, c.on)
		if err != nil {
			stop()
			return nil, err
		}
		ends, callers, counters = append(ends, r), append(callers, c), append(counters, &c.counter)
	}
	begin := time.Now()
	for i, c := range callers {
		if s.Load.Rate > 0 {
			c.schedule = pace.Split(begin, s.Load.Rate, i, s.Load.Connections)
		}
		c.begin(ends[i], s.Load.On(i))
	}
	sample := func() side.Sample { return failed.Sample(start, counters) }
	return &side.Side{Sample: sample, Stop: stop}, nil
}

// begin sends the first calls, or starts the pacer that does.
func (c *rawCaller) begin(r *meshtest.Raw, inFlight int) {
	r.Lock()
	defer r.FlushUnlock()
	c.now = time.Now()
	for range inFlight {
		if p := new(pending); c.load.Rate > 0 {
			c.idle = append(c.idle, p)
		} else {
			c.call(r, p, c.now)
		}
	}
	if c.load.Rate == 0 {
		return
	}
	go c.schedule.Run(func(due uint64) bool {
		r.Lock()
		c.callDue(r, due)
		ended := r.Err() != nil
		r.FlushUnlock()
		return !ended
	})
}

// callDue sends the calls that were to go by now, as far as slots are free. The end is locked.
func (c *rawCaller) callDue(r *meshtest.Raw, due uint64) {
	for c.begun < due && len(c.idle) > 0 {
		p := c.idle[len(c.idle)-1]
		c.idle = c.idle[:len(c.idle)-1]
		c.call(r, p, c.schedule.At(c.begun))
		c.begun++
	}
}

// call sends one call. The end is locked.
func (c *rawCaller) call(r *meshtest.Raw, p *pending, at time.Time) {
	s, err := r.Wire.Open(p)
	if err != nil {
		c.failed.Add(err.Error())
		return
	}
	p.sent, p.bytes, p.messages = at, 0, 0
	p.out = wire.Out{Type: wire.TypeRequest, Flags: c.first, Head: c.head, Body: c.body}
	r.Wire.Send(s, &p.out) // what finds no credit goes on when there is some
}

// on takes answers and sends the next calls.
func (c *rawCaller) on(r *meshtest.Raw, ev *wire.Event) {
	p, ok := ev.Call.(*pending)
	if !ok {
		return
	}
	switch ev.Kind {
	case wire.EventCredit:
		r.Wire.Send(ev.Stream, &p.out)
	case wire.EventReset, wire.EventFailed:
		c.failed.Add(fmt.Sprintf("reset: %v: %s", ev.Status.Code, ev.Status.Message))
		// The slot stays empty: no storm of calls that all fail.
	case wire.EventResponse, wire.EventMessage:
		if n := r.Received(); n != c.received {
			c.received, c.now = n, time.Now()
		}
		c.take(p, &ev.Frame)
		switch {
		case ev.Frame.Has(wire.FlagEnd):
			c.ended(r, p, &ev.Frame)
		case c.load.Kind == side.Bidi && p.bytes == 0:
			r.Wire.Consume(ev.Stream, ev.Frame.Cost())
			c.counter.Observe(c.now.Sub(p.sent))
			p.sent = c.now
			p.out = wire.Out{Type: wire.TypeMessage, Flags: wire.FlagMessage, Body: c.body}
			r.Wire.Send(ev.Stream, &p.out)
		default:
			r.Wire.Consume(ev.Stream, ev.Frame.Cost())
		}
	}
}

// take counts a frame's part of a message.
func (c *rawCaller) take(p *pending, f *wire.Frame) {
	if !f.Has(wire.FlagMessage) {
		return
	}
	if p.bytes += len(f.Body); f.Has(wire.FlagMore) {
		return
	}
	if p.bytes != c.load.Size {
		c.failed.Add(fmt.Sprintf("an answer has %d bytes", p.bytes))
	}
	p.bytes = 0
	p.messages++
	c.counter.Got(1)
}

// ended books a call and begins the next one in its slot.
func (c *rawCaller) ended(r *meshtest.Raw, p *pending, f *wire.Frame) {
	want := 1
	if c.load.Kind == side.ServerStream {
		want = side.StreamMessages
	}
	if st := wire.ScanStatus(f.Head); st.Code != wire.OK || p.messages != want || c.load.Kind == side.Bidi {
		c.failed.Add(fmt.Sprintf("ended as %v after %d messages: %s", st.Code, p.messages, st.Message))
		return
	}
	c.counter.Observe(c.now.Sub(p.sent))
	if c.load.Rate == 0 {
		c.call(r, p, c.now)
		return
	}
	c.idle = append(c.idle, p)
	c.callDue(r, c.schedule.Due(c.now))
}
