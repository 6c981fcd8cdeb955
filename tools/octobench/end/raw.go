package end

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/wire"
	"github.com/octomesh/octomesh/tools/octobench/histogram"
)

// rawServer listens, like an SDK's direct listener or another proxy's inbound, and echoes in its reader.
func rawServer(s *Spec) (*side, error) {
	l, err := listen(s.Listen)
	if err != nil {
		return nil, err
	}
	go meshtest.Serve(l, wire.Limits{}, meshtest.Echo)
	return &side{address: l.Addr().Network() + ":" + l.Addr().String(), stop: func() { _ = l.Close() }}, nil
}

// rawAttached attaches to a proxy and echoes what the proxy sends.
func rawAttached(s *Spec) (*side, error) {
	network, address := split(s.Dial)
	r, err := meshtest.Dial(network, address, wire.Hello{
		Role: wire.RoleServe, Kind: wire.PeerSDK, Environment: Environment, Application: Target,
		Instance: "echo-0", Incarnation: 1, Targets: []string{Target},
	}, wire.Limits{}, meshtest.Echo)
	if err != nil {
		return nil, err
	}
	return &side{stop: r.Close}, nil
}

// rawCaller keeps a number of calls in flight on one connection. All of it happens in the connection's
// reader: the next call goes out when an answer has come, and is flushed with all others of the same read,
// so that the end costs as little as an end can.
type rawCaller struct {
	head, body []byte
	latencies  histogram.Recorder
	failed     *failures

	received uint64    // what the connection had received when now was read
	now      time.Time // read once for all answers of one read
}

// pending is a call in flight: what its stream is about.
type pending struct{ sent time.Time }

// failures keeps what went wrong in a client.
type failures struct {
	sync.Mutex
	n     uint64
	first string
}

func (f *failures) add(text string) {
	f.Lock()
	defer f.Unlock()
	if f.n == 0 {
		f.first = text
	}
	f.n++
}

// sample puts together what a client's recorders hold.
func (f *failures) sample(start time.Time, all []*histogram.Recorder) Sample {
	out := Sample{Nanoseconds: int64(time.Since(start)), Latencies: histogram.Counts{}}
	for _, r := range all {
		r.AddTo(out.Latencies)
	}
	f.Lock()
	out.Failures, out.Failure = f.n, f.first
	f.Unlock()
	return out
}

func rawClient(s *Spec) (*side, error) {
	if s.Load.Size > wire.PreferredFragment {
		return nil, errors.New("raw ends send one frame per message, 60 KiB at most")
	}
	failed := &failures{}
	network, address := split(s.Dial)
	head := &wire.RequestHead{
		Target: []byte(Target), Service: []byte(Service), Method: []byte(Method), Kind: wire.KindUnary,
		TimeoutUS: uint64(s.Load.Timeout / time.Microsecond),
	}
	var recorders []*histogram.Recorder
	var ends []*meshtest.Raw
	stop := func() {
		for _, r := range ends {
			r.Close()
		}
	}
	start := time.Now()
	for i := range s.Load.Connections {
		c := &rawCaller{head: head.Append(nil), body: make([]byte, s.Load.Size), failed: failed}
		r, err := meshtest.Dial(network, address, wire.Hello{
			Role: wire.RoleCall, Kind: wire.PeerSDK, Environment: Environment, Application: "caller",
			Instance: fmt.Sprintf("caller-%d", i), Incarnation: 1,
		}, wire.Limits{}, c.on)
		if err != nil {
			stop()
			return nil, err
		}
		ends, recorders = append(ends, r), append(recorders, &c.latencies)
		c.begin(r, s.Load.on(i))
	}
	sample := func() Sample { return failed.sample(start, recorders) }
	return &side{sample: sample, stop: stop}, nil
}

// begin sends the first calls.
func (c *rawCaller) begin(r *meshtest.Raw, inFlight int) {
	r.Lock()
	c.now = time.Now()
	for range inFlight {
		c.call(r, &pending{})
	}
	r.FlushUnlock()
}

// call sends one call. The end is locked.
func (c *rawCaller) call(r *meshtest.Raw, p *pending) {
	s, err := r.Wire.Open(p)
	if err != nil {
		c.failed.add(err.Error())
		return
	}
	p.sent = c.now
	out := wire.Out{Type: wire.TypeRequest, Flags: wire.FlagMessage | wire.FlagEnd, Head: c.head, Body: c.body}
	if !r.Wire.Send(s, &out) {
		c.failed.add("no credit for a request")
	}
}

// on takes an answer and sends the next call.
func (c *rawCaller) on(r *meshtest.Raw, ev *wire.Event) {
	switch {
	case ev.Kind == wire.EventResponse && ev.Frame.Has(wire.FlagEnd):
		if st := wire.ScanStatus(ev.Frame.Head); st.Code != wire.OK || len(ev.Frame.Body) != len(c.body) {
			c.failed.add(fmt.Sprintf("status %v, %d bytes", st.Code, len(ev.Frame.Body)))
		}
	case ev.Kind == wire.EventReset || ev.Kind == wire.EventFailed:
		c.failed.add(fmt.Sprintf("reset: %v: %s", ev.Status.Code, ev.Status.Message))
		return // the slot stays empty: no storm of calls that all fail
	default:
		return
	}
	if n := r.Received(); n != c.received {
		c.received, c.now = n, time.Now()
	}
	p := ev.Call.(*pending)
	c.latencies.Observe(c.now.Sub(p.sent))
	c.call(r, p)
}
