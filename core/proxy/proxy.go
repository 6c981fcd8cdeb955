// Package proxy is the sidecar: it carries calls between the application beside it and other proxies.
//
// [Proxy.Serve] is the picture of a call's way: match a route in the pinned generation, ask the policies,
// pick an endpoint, forward. Everything else here is what connections need: who may come in, which
// instances are attached, the sweep, and leaving.
package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/directory"
	"github.com/octomesh/octomesh/core/lifecycle"
	"github.com/octomesh/octomesh/core/proxy/cluster"
	"github.com/octomesh/octomesh/core/proxy/listener"
	"github.com/octomesh/octomesh/core/proxy/policy"
	"github.com/octomesh/octomesh/core/proxy/register"
	"github.com/octomesh/octomesh/core/proxy/route"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/proxy/store"
	"github.com/octomesh/octomesh/core/proxy/tap"
	"github.com/octomesh/octomesh/core/proxy/upstream"
	"github.com/octomesh/octomesh/core/resource"
	"github.com/octomesh/octomesh/core/transport/identity"
	"github.com/octomesh/octomesh/core/wire"
)

// Version is the proxy's.
const Version = "0.1.0"

// Config is what a proxy is made of. Listeners are open already, so that their addresses are known.
type Config struct {
	Environment string
	Instance    string
	// Zone is where the proxy stands, for targets whose calls go to the nearest endpoints. Empty: nowhere.
	Zone string
	// Outbound is where the local applications come in: a Unix socket. nil: there are none, or not before [Proxy.Listen].
	Outbound net.Listener
	// Protocols are foreign ones that may be spoken at Outbound, instead of OctoMesh's own.
	Protocols []session.Protocol
	// Entrances are further places where clients of foreign protocols come in.
	Entrances []Entrance
	// Answers are who answers clients of foreign protocols in the proxy itself, by the protocol's name.
	Answers map[string]Answerer
	// Dials are the foreign protocols that instances are called by, where their resources say so.
	Dials map[resourcev1.Protocol]session.Protocol
	// ServerTLS is how instances are called of which a server's name is known, for one handshake. nil: they are not.
	ServerTLS func(name string) *tls.Config
	// Servers are instances beside the proxy that do not attach by themselves, of protocols that Dials has.
	Servers []Server
	// Inbound is where other proxies come in: TCP. nil: no calls from other proxies.
	Inbound net.Listener
	// TLS, if set, is how proxies prove to each other who they are; plain connections are refused then.
	// The local socket needs none.
	TLS *identity.Source
	// Source brings the configuration. If it is a [Demander], calls to targets that it does not know yet wait for it.
	Source store.Source
	Limits wire.Limits
	// DrainDeadline bounds how long open calls may go on after Drain. 0: 30 s.
	DrainDeadline time.Duration
	// MaxQueue bounds the bytes that wait for one peer before calls to it are refused. 0: 16 MiB.
	MaxQueue int
	// MaxWaiting bounds the bytes that wait for all peers and calls together: calls are refused, and end, before there are more.
	// 0: they are not bounded together.
	MaxWaiting int64
	// Admit looks at a local socket before a byte is read. nil: all.
	Admit func(net.Conn) error
	// AdmitHello decides about a local application by what it says of itself. nil: all.
	AdmitHello func(p *session.Peer) error
	// Limiter asks about global rate limits. nil: nobody does, and the limits do as they do without an answer.
	Limiter Limiter
	// Register says at the control plane which instances are attached, and what goes wrong with endpoints. It runs as long
	// as the proxy does. nil: nothing is said.
	Register *register.Client
	// Registrar makes the applications beside the proxy known by what they say of themselves. nil: Register does, if there
	// is one.
	Registrar register.Registrar
	// Reports takes what the applications measured. nil: the proxy adds it up, and Register passes it on.
	Reports directory.Reports
	// Tap tells of calls, and outlives the proxy. nil: nothing is told.
	Tap *tap.Tap
	Log *slog.Logger
}

// Entrance is where clients of foreign protocols come in that cannot use the Unix socket. Whoever reaches it may call, as the
// application that the protocols name.
type Entrance struct {
	net.Listener
	Protocols []session.Protocol
	// TLS is spoken by every client; it need not say who it is. nil: plain.
	TLS *tls.Config
	// Application is whom a client counts as by its certificate, which TLS asks for, or why it may not come in. nil: as the
	// protocols name.
	Application func(identity.ID) (string, error)
}

// Limiter asks a rate limit service.
type Limiter interface {
	policy.Asker
	// Run asks until ctx ends. Now is the proxy's clock.
	Run(ctx context.Context, now func() int64)
}

// Proxy is a running sidecar.
type Proxy struct {
	cfg      Config
	log      *slog.Logger
	clock    *session.Clock
	group    *lifecycle.Group
	store    *store.Store
	pool     *upstream.Pool
	kept     *session.Memory
	waiting  *session.Waiting // nil: without a bound
	demand   demand
	local    local
	attached attached
	servers  []*server
	awaited  awaited
	detaches sync.Map // *session.Session -> func(left bool), of instances that are registered
	inbound  sync.Map // target name -> *route.Target, for attached targets that no resource names

	peersMu sync.Mutex
	peers   map[cluster.Place]*upstream.Peer

	mu       sync.Mutex
	sessions map[*session.Session]kind

	listeners []*listener.Listener                // guarded by mu
	parting   atomic.Bool                         // it has begun to leave
	draining  atomic.Bool                         // it takes nothing new any more
	holding   atomic.Bool                         // nobody is welcomed, until it is known who is the proxy
	yielded   atomic.Bool                         // a successor is
	gone      atomic.Pointer[func(*session.Peer)] // tells the successor of instances that leave; nil: there is none
	started   time.Time
}

// kind is what a session is to the proxy.
type kind uint8

const (
	callerKind   kind = iota // a local application that calls
	instanceKind             // a local instance that serves
	remoteKind               // another proxy that calls
	upstreamKind             // another proxy that is called
	serverKind               // a local instance that serves, and that was dialed
)

// Start runs a proxy until ctx ends or Drain or Close is called.
func Start(ctx context.Context, cfg Config) (*Proxy, error) {
	if cfg.Source == nil || cfg.Outbound == nil && cfg.Inbound != nil {
		return nil, errors.New("octo: a proxy needs a source, and an outbound listener beside an inbound one")
	}
	if cfg.DrainDeadline == 0 {
		cfg.DrainDeadline = 30 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Registrar == nil && cfg.Register != nil {
		cfg.Registrar = cfg.Register
	}
	p := &Proxy{
		cfg: cfg, log: cfg.Log, clock: session.NewClock(), group: lifecycle.New(ctx), started: time.Now(),
		kept: session.NewMemory(maxKept), sessions: make(map[*session.Session]kind), peers: make(map[cluster.Place]*upstream.Peer),
	}
	if cfg.MaxWaiting > 0 {
		p.waiting = session.NewWaiting(cfg.MaxWaiting)
		p.kept = session.NewMemory(min(maxKept, cfg.MaxWaiting/2))
	}
	cfg.Tap.SetClock(p.clock.Now)
	p.store = store.New(store.Config{
		Environment: cfg.Environment, Zone: cfg.Zone, Asker: cfg.Limiter, Secure: cfg.TLS != nil, Speaks: p.speaks, NewPeer: p.newPeer, Released: p.releasePeers,
		Published: func(g *store.Generation, addresses []string) {
			p.log.Debug("configuration published", "generation", g.Number, "hash", g.Hash, "source", g.Source)
			cfg.Register.Applied(g.Number, g.Hash)
			p.recheckPeers(addresses)
			p.local.targets.Changed()
		},
	})
	p.pool = upstream.NewPool(upstream.Config{
		TLS:       p.clientTLS(),
		ByName:    cfg.ServerTLS,
		Protocols: cfg.Dials,
		Expect:    p.store.Expects,
		Group:     p.group, Log: p.log, Session: p.options(route.Outbound, wire.OriginClientProxy),
		Hello: wire.Hello{
			Role: wire.RoleCall, Kind: wire.PeerProxy, SDK: "octo-proxy", SDKVersion: Version,
			Environment: cfg.Environment, Instance: cfg.Instance, Incarnation: uint64(p.started.UnixNano()),
		},
		Failed: p.unreachable,
		Opened: func(s *session.Session) { p.register(s, upstreamKind) },
		Closed: p.unregister,
	})
	if err := p.openLocal(); err != nil {
		return nil, err
	}
	if source, ok := cfg.Source.(Demander); ok {
		p.demand.source = source
		source.Answers(func() { p.demand.answered(); p.local.targets.Changed() })
	}
	p.openServers()
	if cfg.Limiter != nil {
		p.group.Go(func(ctx context.Context) { cfg.Limiter.Run(ctx, p.clock.Now) })
	}
	if source, ok := cfg.Source.(guarded); ok {
		source.Uses(p.useOf)
		p.group.Go(func(ctx context.Context) { p.judge(ctx, source) })
	}
	p.group.Go(cfg.Register.Run)
	p.group.Go(p.runSource)
	p.group.Go(p.local.targets.Run)
	p.group.Go(p.sweep)
	if cfg.Outbound != nil || len(cfg.Entrances) > 0 {
		p.listen()
	}
	return p, nil
}

func (p *Proxy) options(d route.Direction, origin wire.Origin) session.Options {
	return session.Options{
		Clock: p.clock, Direction: d, Instance: p.cfg.Instance, Local: p.cfg.Limits, Origin: origin, MaxQueue: p.cfg.MaxQueue, Kept: p.kept,
		Waiting: p.waiting,
	}
}

func (p *Proxy) listen() {
	local := p.options(route.Outbound, wire.OriginClientProxy)
	local.Handler, local.FromSDK, local.Protocols = &localHandler{p}, true, p.cfg.Protocols
	remote := p.options(route.Inbound, wire.OriginServerProxy)
	remote.Handler = &remoteHandler{p}
	var all []*listener.Listener
	if p.cfg.Outbound != nil {
		all = append(all, listener.New(p.cfg.Outbound, listener.Config{Group: p.group, Session: local, Admit: p.cfg.Admit, Log: p.log}))
	}
	if p.cfg.Inbound != nil {
		all = append(all, listener.New(p.cfg.Inbound, listener.Config{Group: p.group, Session: remote, TLS: p.serverTLS(), Log: p.log}))
	}
	for _, e := range p.cfg.Entrances {
		foreign := local
		foreign.Handler, foreign.Protocols = &entranceHandler{localHandler{p}}, e.Protocols
		all = append(all, listener.New(e.Listener, listener.Config{Group: p.group, Session: foreign, TLS: e.TLS, Application: e.Application, Log: p.log}))
	}
	p.mu.Lock()
	p.listeners = all
	p.mu.Unlock()
	p.dialServers()
}

func (p *Proxy) listening() []*listener.Listener {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.listeners
}

// clientTLS and serverTLS let in peers of the proxy's own trust domain and environment.
func (p *Proxy) clientTLS() *tls.Config {
	if p.cfg.TLS == nil {
		return nil
	}
	return p.cfg.TLS.Client(p.cfg.TLS.SameEnvironment)
}

func (p *Proxy) serverTLS() *tls.Config {
	if p.cfg.TLS == nil {
		return nil
	}
	return p.cfg.TLS.Server(p.cfg.TLS.SameEnvironment)
}

// runSource applies what the source brings. A source that ends leaves the proxy with what it has.
func (p *Proxy) runSource(ctx context.Context) {
	if err := p.store.Run(ctx, p.cfg.Source); err != nil {
		p.log.Error("the configuration's source ended", "source", p.cfg.Source.Name(), "error", err)
	}
}

// speaks tells whether instances are called by a foreign protocol.
func (p *Proxy) speaks(by resourcev1.Protocol) bool {
	return p.cfg.Dials[by] != nil && (p.cfg.ServerTLS != nil || !resource.ByTLS(by))
}

func (p *Proxy) newPeer(at cluster.Place) cluster.Peer {
	peer := p.pool.Peer(at)
	p.peersMu.Lock()
	p.peers[at] = peer
	p.peersMu.Unlock()
	return peer
}

// recheckPeers gives up connections to peers at the addresses that the current generation does not expect there.
func (p *Proxy) recheckPeers(addresses []string) {
	for _, a := range addresses {
		p.peersMu.Lock()
		peer := p.peers[cluster.Place{Address: a}]
		p.peersMu.Unlock()
		if peer != nil {
			peer.Recheck()
		}
	}
}

func (p *Proxy) releasePeers(places []cluster.Place) {
	for _, at := range places {
		p.peersMu.Lock()
		peer := p.peers[at]
		delete(p.peers, at)
		p.peersMu.Unlock()
		if peer != nil {
			peer.Close()
		}
	}
}

func (p *Proxy) register(s *session.Session, k kind) {
	p.mu.Lock()
	p.sessions[s] = k
	p.mu.Unlock()
}

func (p *Proxy) unregister(s *session.Session) {
	p.mu.Lock()
	delete(p.sessions, s)
	p.mu.Unlock()
}

// list returns the sessions of the given kinds.
func (p *Proxy) list(kinds ...kind) []*session.Session {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []*session.Session
	for s, k := range p.sessions {
		for _, want := range kinds {
			if k == want {
				out = append(out, s)
			}
		}
	}
	return out
}

// Source is where the configuration comes from.
func (p *Proxy) Source() store.Source { return p.cfg.Source }

// Store is the proxy's configuration.
func (p *Proxy) Store() *store.Store { return p.store }

// inboundTarget returns what is known of an inbound target that the current generation does not name.
func (p *Proxy) inboundTarget(name []byte) *route.Target {
	if t, ok := p.inbound.Load(string(name)); ok {
		return t.(*route.Target)
	}
	t, _ := p.inbound.LoadOrStore(string(name), route.NewTarget(route.Inbound, string(name)))
	return t.(*route.Target)
}

// InboundTargets yields the targets of attached instances that no resource names.
func (p *Proxy) InboundTargets(yield func(*route.Target) bool) {
	p.inbound.Range(func(_, t any) bool { return yield(t.(*route.Target)) })
}

// NotReady returns why the proxy should get no calls; none: it is ready.
func (p *Proxy) NotReady() (reasons []string) {
	if p.store.Current().Number == 0 {
		reasons = append(reasons, "no configuration yet")
	}
	if p.parting.Load() {
		reasons = append(reasons, "draining")
	}
	return reasons
}

// Close ends the proxy at once; open calls are lost.
func (p *Proxy) Close() {
	p.group.Stop()
	p.local.service.Wait()
}

// Wait returns when the proxy has ended.
func (p *Proxy) Wait() {
	p.group.Wait()
	p.local.service.Wait()
}
