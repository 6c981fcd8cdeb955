package end

import (
	"bytes"

	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/wire"
	"github.com/octomesh/octomesh/tools/octobench/side"
)

// rawServer listens, like an SDK's direct listener or another proxy's inbound, and answers in its reader.
func rawServer(s *side.Spec) (*side.Side, error) {
	l, err := side.Listen(s.Listen)
	if err != nil {
		return nil, err
	}
	go meshtest.Serve(l, wire.Limits{}, answering(s.Load.Kind))
	return &side.Side{Address: side.AddressOf(l), Stop: func() { _ = l.Close() }}, nil
}

// rawAttached attaches to a proxy and answers what the proxy sends.
func rawAttached(s *side.Spec) (*side.Side, error) {
	network, address := side.Split(s.Dial)
	r, err := meshtest.Dial(network, address, wire.Hello{
		Role: wire.RoleServe, Kind: wire.PeerSDK, Environment: side.Environment, Application: side.Target,
		Instance: "echo-0", Incarnation: 1, Targets: []string{side.Target},
	}, wire.Limits{}, answering(s.Load.Kind))
	if err != nil {
		return nil, err
	}
	return &side.Side{Stop: r.Close}, nil
}

// answering is a callback that answers calls of a kind. A server of this tool gets one kind only, so that
// it need not look into heads.
func answering(kind string) func(*meshtest.Raw, *wire.Event) {
	take := echo
	if kind == side.ServerStream {
		take = stream
	}
	return func(r *meshtest.Raw, ev *wire.Event) {
		switch ev.Kind {
		case wire.EventRequest, wire.EventMessage:
			take(r, ev)
		case wire.EventCredit:
			if a, ok := ev.Call.(*answer); ok {
				a.resume(r, ev.Stream)
			}
		case wire.EventReset, wire.EventFailed:
			r.Wire.Release()
		}
	}
}

// answer is what a call still has to say and found no credit for. Calls whose answers fit have none.
type answer struct {
	waiting []portion
	// A stream's messages that were not even begun, and what they say.
	left int
	body []byte
}

// portion is a frame's worth of an answer, and the credit that its arrival took from the peer: it is given
// back when the frame has gone.
type portion struct {
	out  wire.Out
	cost int64
}

// echo answers each frame by one with the same bytes.
func echo(r *meshtest.Raw, ev *wire.Event) {
	f := &ev.Frame
	p := portion{out: wire.Out{Type: wire.TypeMessage, Flags: f.Flags &^ wire.FlagEnd, Body: f.Body}}
	if f.Has(wire.FlagEnd) {
		p.out.Type, p.out.Flags = wire.TypeResponse, f.Flags
	} else {
		p.cost = f.Cost()
	}
	switch {
	case f.Has(wire.FlagMore) && ev.Kind == wire.EventRequest:
		p.out.Head = wire.AppendTotalLength(nil, ev.Stream.MessageTotal())
	case f.Has(wire.FlagMore):
		p.out.Head = f.Head // a later message's first fragment has its length here, others have nothing
	}
	if p.out.Flags&(wire.FlagEnd|wire.FlagMessage) == 0 {
		return
	}
	a, _ := ev.Stream.Call.(*answer)
	if (a == nil || len(a.waiting) == 0) && p.send(r, ev.Stream) {
		return
	}
	if a == nil {
		a = &answer{}
		ev.Stream.Call = a
	}
	p.out.Head, p.out.Body = bytes.Clone(p.out.Head), bytes.Clone(p.out.Body)
	a.waiting = append(a.waiting, p)
}

// stream answers a request by side.StreamMessages messages of its size.
func stream(r *meshtest.Raw, ev *wire.Event) {
	a, _ := ev.Stream.Call.(*answer)
	if a == nil {
		a = &answer{left: side.StreamMessages}
		ev.Stream.Call = a
	}
	a.body = append(a.body, ev.Frame.Body...)
	if !ev.Frame.Has(wire.FlagEnd) {
		r.Wire.Consume(ev.Stream, ev.Frame.Cost())
		return
	}
	a.resume(r, ev.Stream)
}

// resume says as much as credit allows.
func (a *answer) resume(r *meshtest.Raw, s *wire.Stream) {
	for len(a.waiting) > 0 {
		if !a.waiting[0].send(r, s) {
			return
		}
		a.waiting = a.waiting[1:]
	}
	for a.left > 0 {
		p := portion{out: wire.Out{Type: wire.TypeMessage, Flags: wire.FlagMessage, Body: a.body}}
		if a.left--; !p.send(r, s) {
			a.waiting = append(a.waiting, p)
			return
		}
	}
	if a.body != nil {
		r.Wire.Send(s, &wire.Out{Type: wire.TypeResponse, Flags: wire.FlagEnd})
	}
}

// send queues the portion, as much of it as credit allows.
func (p *portion) send(r *meshtest.Raw, s *wire.Stream) (done bool) {
	if done = r.Wire.Send(s, &p.out); done && p.cost > 0 {
		r.Wire.Consume(s, p.cost)
	}
	return done
}
