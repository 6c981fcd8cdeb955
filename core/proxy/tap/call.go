package tap

import (
	"github.com/octomesh/octomesh/core/proxy/route"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/telemetry/meter"
	"github.com/octomesh/octomesh/core/telemetry/record"
	"github.com/octomesh/octomesh/core/telemetry/trace"
	"github.com/octomesh/octomesh/core/wire"
)

// Begin takes note of a call of which something may be told, and gives it the traceparent that goes on. It
// allocates nothing once a call's memory has grown to what it needs.
func (t *Tap) Begin(c *session.Call, head *wire.RequestHead, d route.Direction, generation uint64) {
	if t == nil {
		return
	}
	s := t.current.Load()
	if s == nil {
		return
	}
	n := &c.Note
	s.sample(c, n, head, d)
	if !n.Span && s.log == nil {
		return
	}
	n.On, n.Shadow, n.Generation = true, head.Shadow, generation
	n.Keep(record.Target, head.Target)
	n.Keep(record.Method, c.Name())
	if d == route.Inbound {
		n.Keep(record.Caller, head.Caller)
	} else {
		n.Keep(record.Caller, c.Down().Caller())
	}
	n.Keep(record.Lane, route.LaneOf(head))
	if !n.Span {
		n.Keep(record.Traceparent, head.Traceparent)
	} else if n.Parent != (trace.SpanID{}) {
		n.Keep(record.Tracestate, head.Tracestate)
	}
	if s.log != nil && len(s.log.Keys()) > 0 {
		keepMetadata(n, head, s.log.Keys())
	}
}

// sample decides whether the call has a span. The caller's word counts; a call without one begins a trace
// where it enters the mesh, if at all: the proxies behind follow the first.
func (s *settings) sample(c *session.Call, n *record.Note, head *wire.RequestHead, d route.Direction) {
	if s.spans == nil {
		return
	}
	var came trace.Context
	valid := false
	if len(head.Traceparent) > 0 {
		came, valid = trace.Parse(head.Traceparent)
	}
	switch {
	case valid && came.Sampled():
		n.Context, n.Parent = came, came.Span
		n.Context.Span = trace.NewSpanID()
	case !valid && d == route.Outbound && s.root.Draw():
		n.Context = trace.NewRoot()
	default:
		return
	}
	n.Span = true
	var text [trace.Size]byte
	c.Hop = wire.AppendHop(c.Hop, wire.HopTraceparent, n.Context.Append(text[:0]))
}

func keepMetadata(n *record.Note, head *wire.RequestHead, keys []string) {
	n.Keys(keys)
	for i := range head.Metadata {
		e := &head.Metadata[i]
		for j, k := range keys {
			if string(e.Key) == k {
				n.KeepMetadata(j, e.Value)
			}
		}
	}
}

// End tells of a call that Begin took note of and that has ended at the given time. calls is its route's
// meter; nil: it has none.
func (t *Tap) End(c *session.Call, st *wire.Status, now int64, calls *meter.Calls) {
	n := &c.Note
	if !n.On {
		return
	}
	s := t.current.Load()
	if s == nil {
		return
	}
	if n.Span && s.spans != nil {
		s.spans.Put(newRecord(c, st, now, calls))
	}
	if s.log != nil && s.log.Wants(st.Code != wire.OK, now) {
		s.log.Put(newRecord(c, st, now, calls))
	}
}

func newRecord(c *session.Call, st *wire.Status, now int64, calls *meter.Calls) *record.Record {
	r := record.New(&c.Note)
	r.Arrived, r.Sent, r.Took = c.Arrived(), c.Sent(), max(now-c.Arrived(), 0)
	r.Inbound, r.Attempts = c.Down().Direction() == route.Inbound, c.Try
	if r.Sent != 0 {
		r.Attempts++
	}
	if c.Decision.Route != nil {
		r.Route = c.Decision.Route.Name
	}
	if c.Endpoint != nil {
		r.Endpoint, r.Address = c.Endpoint.Instance, c.Endpoint.MeshAddress
	} else if up := c.Up(); up != nil {
		r.Endpoint, r.Address = up.Peer().Instance, up.Peer().Address
	}
	r.Code, r.CodeName, r.Calls = int32(st.Code), st.Code.String(), calls
	if st.Code != wire.OK {
		r.Origin, r.Disposition = st.Origin.String(), st.Disposition.String()
		if st.Reason != 0 {
			r.Reason = st.Reason.String()
		}
	}
	return r
}
