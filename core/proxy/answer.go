package proxy

import (
	"context"

	"github.com/octomesh/octomesh/core/proxy/cluster"
	"github.com/octomesh/octomesh/core/proxy/route"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/wire"
)

// Answerer answers calls of a foreign protocol's clients in the proxy itself: to services by which clients learn about those whom
// they call, where one connection stands for all of these. Only the proxy that the client has dialed asks it.
type Answerer interface {
	// Answers tells whether it answers calls to a service.
	Answers(service []byte) bool
	// Answer answers a call, on a goroutine of its own, and Ends it.
	Answer(m Mesh, l *session.Local, q Question)
}

// Question is what the head of such a call says.
type Question struct {
	Service, Method string
	// Authority is whom the client believes to call, as it said so. Empty: nobody by name.
	Authority string
	// Caller is the application that calls.
	Caller string
}

// Mesh is what a proxy knows of the mesh.
type Mesh interface {
	// Targets names those of which the proxy has resources.
	Targets() []string
	// Health tells what calls of an application to a service of a target would find. The target "" is the proxy itself.
	Health(target, service, caller string) Health
	// Follow begins to bring what there is about a target, and has changed called, from any goroutine and maybe with locks
	// held, whenever its Health may have changed by what the proxy is told; stop ends that. changed does not block. What the proxy
	// finds out by itself, such as who does not answer, is not told.
	Follow(target string, changed func()) (stop func(), err error)
}

// Health is how a target is.
type Health uint8

// The healths.
const (
	HealthUnknown Health = iota // nobody has said anything about the target yet
	HealthAbsent                // there is no such target
	HealthDown                  // no instance takes calls
	HealthUp
)

// answerer is who answers a call in the proxy; nil: nobody does.
func (p *Proxy) answerer(c *session.Call, head *wire.RequestHead) Answerer {
	spoken := c.Down().Protocol()
	if spoken == "" {
		return nil
	}
	if a := p.cfg.Answers[spoken]; a != nil && a.Answers(head.Service) {
		return a
	}
	return nil
}

// answer has a call answered here.
func (p *Proxy) answer(a Answerer, c *session.Call, head *wire.RequestHead) {
	q := Question{Service: string(head.Service), Method: string(head.Method), Authority: string(head.Authority), Caller: string(c.Down().Caller())}
	p.serveHere(c, func(l *session.Local) { a.Answer(mesh{p}, l, q) })
}

// serveHere has a call end in the proxy, where f answers it and Ends it, on a goroutine of its own.
func (p *Proxy) serveHere(c *session.Call, f func(*session.Local)) {
	switch {
	case p.draining.Load():
		c.Refuse(wire.Refuse(wire.ReasonProxyDraining, wire.OriginClientProxy, "the proxy leaves"))
		return
	case p.local.open.Add(1) > maxLocal:
		p.local.open.Add(-1)
		c.Refuse(wire.Refuse(wire.ReasonQueueFull, wire.OriginClientProxy, "the proxy answers as many calls itself as it can"))
		return
	}
	l := c.Here(p.local.ctx)
	if l == nil {
		p.local.open.Add(-1)
		c.Refuse(wire.Refuse(wire.ReasonQueueFull, wire.OriginClientProxy, "the proxy answers as many calls of this connection itself as it can"))
		return
	}
	p.group.Go(func(context.Context) {
		defer p.local.open.Add(-1)
		f(l)
	})
}

// mesh is what the proxy tells an Answerer.
type mesh struct{ *Proxy }

// Targets implements Mesh.
func (m mesh) Targets() []string { return m.store.Current().Table.Names() }

// Follow implements Mesh.
func (m mesh) Follow(target string, changed func()) (stop func(), err error) {
	if target == "" {
		return m.local.targets.Listen(changed), nil
	}
	f, err := m.local.targets.Follow(target, changed)
	if err != nil {
		return nil, err
	}
	return f.Close, nil
}

// Health implements Mesh.
func (m mesh) Health(target, service, caller string) Health {
	g := m.store.Current()
	switch source := m.demand.source; {
	case target == "" && (g.Number == 0 || m.parting.Load() && !m.yielded.Load()): // a successor serves in this one's place
		return HealthDown
	case target == "":
		return HealthUp
	case g.Number == 0 || source != nil && !source.Known(target):
		return HealthUnknown
	}
	d, known := g.Table.Match(&wire.RequestHead{Target: []byte(target), Service: []byte(service)}, []byte(caller))
	if !known {
		return HealthAbsent
	}
	// A target without instances is one all the same, if a policy says so, or if its calls go elsewhere.
	now := m.clock.Now()
	for i := range d.Route.Destinations {
		if takes(&d.Route.Destinations[i], now) {
			return HealthUp
		}
	}
	return HealthDown
}

// takes tells whether an endpoint of a destination would get a call and answer it, as far as is known.
func takes(to *route.Destination, now int64) bool {
	for _, e := range to.Cluster.Endpoints {
		if !e.Absent(now) && (to.Outlier == nil || !e.Ejected(now)) && answersAt(e) {
			return true
		}
	}
	return false
}

// answersAt tells whether anybody answers at an endpoint's addresses. Where nobody does it is dialed, once that is due: whoever
// asks about its health may call nobody before he hears that it is well.
func answersAt(e *cluster.Endpoint) bool {
	answers := func(p cluster.Peer) bool { return p != nil && p.Answers() }
	return answers(e.Peer) || answers(e.Direct) || e.Ready()
}
