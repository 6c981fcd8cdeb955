package proxy

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/octomesh/octomesh/core/proxy/cluster"
	"github.com/octomesh/octomesh/core/proxy/route"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/proxy/upstream"
	"github.com/octomesh/octomesh/core/wire"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// Server is an instance beside the proxy that does not attach by itself, such as a server of gRPC's own. The proxy dials it as
// soon as it listens, keeps a connection to it, and registers it while one stands.
type Server struct {
	Application, Instance string
	Targets               []string
	Address               string // "host:port", or "unix:/path"
	Protocol              resourcev1.Protocol
	ServerName            string // that its certificate has; empty: it is called without TLS
	// Watch, if set, is called when a connection has been made. It tells until ctx ends whether the server says that it serves,
	// for the first time as soon as that is known: only then it is registered.
	Watch func(ctx context.Context, address string, told func(serving bool))
}

// server is a Server and its connections.
type server struct {
	Server
	p       *Proxy
	peer    *upstream.Peer
	refuses atomic.Bool // it says that it does not serve

	mu      sync.Mutex
	open    int                // connections
	deaf    bool               // they take no more calls, and nobody listens there any more
	heard   bool               // it is known whether it serves
	forget  context.CancelFunc // ends Watch; nil: it does not run
	watch   int                // counts the runs of Watch
	attends func(left bool)    // ends its registration; nil: it is not registered
}

// openServers makes the servers instances of their targets.
func (p *Proxy) openServers() {
	for _, cfg := range p.cfg.Servers {
		d := &server{Server: cfg, p: p}
		d.peer = upstream.NewPool(upstream.Config{
			Group: p.group, Session: p.options(route.Inbound, wire.OriginServerProxy), Log: p.log, Protocols: p.cfg.Dials, Late: wire.ReasonProxyUnready, ByName: p.cfg.ServerTLS,
			Hello:  wire.Hello{Role: wire.RoleCall, Kind: wire.PeerProxy, Environment: p.cfg.Environment, Instance: p.cfg.Instance},
			Opened: d.opened, Closed: d.closed, Failed: func(cluster.Place, error) { d.failed() },
		}).Peer(cluster.Place{Address: cfg.Address, Direct: true, Protocol: cfg.Protocol, ServerName: cfg.ServerName})
		p.servers = append(p.servers, d)
		p.attached.add(member{server: d}, cfg.Targets)
		if source := p.demand.source; source != nil {
			for _, target := range cfg.Targets { // who may call it, and how often, is this proxy's to know
				source.Follow(target)
			}
		}
	}
}

// dialServers dials those to which no connection stands and whose next dial is due.
func (p *Proxy) dialServers() {
	if len(p.servers) == 0 || p.draining.Load() || len(p.listening()) == 0 {
		return
	}
	for _, d := range p.servers {
		d.peer.Wake()
		d.peer.Trim()
	}
}

// session is the connection that takes calls; nil: none does.
func (d *server) session() *session.Session {
	if d.refuses.Load() {
		return nil
	}
	return d.peer.Session()
}

// park lets a call wait for a connection. False: a dial has just failed, or the server does not serve.
func (d *server) park(c *session.Call) bool {
	if d == nil || d.refuses.Load() {
		return false
	}
	c.Waits++
	return c.Waits <= maxWaits && d.peer.Park(c, false)
}

// full takes note that a connection did not take a call. If not for what waits there, it takes none any more: the server leaves,
// or has done so.
func (d *server) full(s *session.Session, waits bool) {
	if d != nil && !waits {
		d.peer.Leaves(s)
	}
}

// absent says why it gets no calls.
func (d *server) absent() string {
	if d.refuses.Load() {
		return "the instance at " + d.Address + " says that it does not serve"
	}
	return "no connection to the instance at " + d.Address
}

func (d *server) opened(s *session.Session) {
	d.p.register(s, serverKind)
	d.p.log.Info("instance dialed", "application", d.Application, "instance", d.Instance, "targets", d.Targets, "address", d.Address)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open++
	d.deaf = false
	if d.forget == nil {
		d.watches()
	}
	d.settle(false)
}

// watches begins to ask the server whether it serves. The lock is held.
func (d *server) watches() {
	d.heard = d.Watch == nil
	d.refuses.Store(false)
	if d.Watch == nil {
		return
	}
	d.watch++
	run := d.watch
	d.p.group.Go(func(ctx context.Context) {
		d.mu.Lock()
		if d.watch != run || d.forget != nil { // it has gone since
			d.mu.Unlock()
			return
		}
		ctx, d.forget = context.WithCancel(ctx)
		d.mu.Unlock()
		d.Watch(ctx, d.Address, func(serving bool) { d.told(run, serving) })
	})
}

// told takes the server's word.
func (d *server) told(run int, serving bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.watch != run {
		return
	}
	if d.refuses.Swap(!serving) == serving || !d.heard {
		d.p.log.Info("an instance says whether it serves", "instance", d.Instance, "address", d.Address, "serves", serving)
	}
	d.heard = true
	d.settle(true)
}

func (d *server) closed(s *session.Session) {
	d.p.unregister(s)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open--; d.open == 0 {
		d.watch++
		d.refuses.Store(false)
		if d.forget != nil {
			d.forget()
			d.forget = nil
		}
	}
	d.settle(false)
}

// failed takes note that nobody was reached by a dial. If connections stand, the server has asked to move: it leaves.
func (d *server) failed() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.deaf = true
	d.settle(true)
}

// settle registers the instance while it can be called. left: if it cannot, it has said so. The lock is held.
func (d *server) settle(left bool) {
	switch up := d.open > 0 && !d.deaf && d.heard && !d.refuses.Load(); {
	case up && d.attends == nil:
		d.attends = func(bool) {}
		if d.p.cfg.Register != nil {
			d.attends = d.p.cfg.Register.Attach(d.Application, d.Instance, uint64(d.p.started.UnixNano()), d.Targets)
		}
	case !up && d.attends != nil:
		d.attends(left)
		d.attends = nil
	}
}
