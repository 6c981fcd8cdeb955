package proxy

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/octomesh/octomesh/core/proxy/handover"
	"github.com/octomesh/octomesh/core/proxy/session"
	handoverv1 "github.com/octomesh/octomesh/gen/control/octo/handover/v1"
)

// spread is over how long the callers of a proxy that has a successor are asked to move, so that they do not all dial at
// once (L-GRACE-10).
const spread = 500 * time.Millisecond

// Listen opens the proxy that was started without listeners. outbound may be nil: no local applications; and inbound: no calls from
// other proxies.
func (p *Proxy) Listen(outbound, inbound net.Listener, entrances ...Entrance) {
	p.cfg.Outbound, p.cfg.Inbound, p.cfg.Entrances = outbound, inbound, entrances
	p.listen()
}

// Configured waits until the proxy goes by a configuration. It fails with ctx, or as soon as a source that has nothing else
// to offer was refused.
func (p *Proxy) Configured(ctx context.Context) error {
	poll := time.NewTicker(drainEvery)
	defer poll.Stop()
	for p.store.Current().Number == 0 {
		if _, follows := p.cfg.Source.(Demander); !follows {
			for _, a := range p.store.History() {
				if a.Error != "" {
					return fmt.Errorf("the configuration is refused: %s", a.Error)
				}
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("there is no configuration: %w", context.Cause(ctx))
		case <-p.group.Context().Done():
			return errors.New("the proxy has ended")
		case <-poll.C:
		}
	}
	return nil
}

// Hold accepts and welcomes nobody any more, and returns the instances that are attached and do not leave, or are awaited. From then
// on gone is told of each that leaves; it must not wait.
func (p *Proxy) Hold(gone func(*session.Peer)) (instances []*session.Peer) {
	p.gone.Store(&gone)
	for _, l := range p.listening() {
		l.Pause()
	}
	p.holding.Store(true)
	for _, s := range p.list(instanceKind) {
		if !s.PeerLeaves() {
			instances = append(instances, s.Peer())
		}
	}
	return append(instances, p.awaited.list()...)
}

// Release undoes Hold.
func (p *Proxy) Release() {
	p.holding.Store(false)
	p.gone.Store(nil)
	for _, l := range p.listening() {
		l.Resume()
	}
}

// Yield is Drain for a proxy whose successor accepts on the same sockets: peers are asked to move there, those that serve first,
// the others spread over half a second.
func (p *Proxy) Yield(ctx context.Context) (cut int) {
	p.yielded.Store(true)
	return p.Drain(ctx)
}

// tellGone tells the successor of an instance that leaves (L-FINE-13).
func (p *Proxy) tellGone(s *session.Session) {
	if gone := p.gone.Load(); gone != nil {
		(*gone)(s.Peer())
	}
}

// farewell asks all peers to move.
func (p *Proxy) farewell(ctx context.Context) {
	const message = "the proxy leaves"
	for _, s := range p.list(instanceKind) {
		s.Leave(message)
	}
	others := p.list(callerKind, remoteKind)
	if !p.yielded.Load() {
		for _, s := range others {
			s.Leave(message)
		}
		return
	}
	rand.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	rounds := int(spread / drainEvery)
	each := (len(others) + rounds - 1) / rounds
	pace := time.NewTicker(drainEvery)
	defer pace.Stop()
	for n, s := range others {
		if n > 0 && n%each == 0 {
			select {
			case <-ctx.Done(): // the deadline does not wait
			case <-pace.C:
			}
		}
		s.Leave(message)
	}
}

// Heir makes a proxy one that can be taken over.
type Heir struct{ *Proxy }

// Hold implements handover.Host.
func (h Heir) Hold(gone func(*handoverv1.Instance)) (instances []*handoverv1.Instance) {
	for _, p := range h.Proxy.Hold(func(p *session.Peer) { gone(ToInstance(p)) }) {
		instances = append(instances, ToInstance(p))
	}
	return instances
}

var _ handover.Host = Heir{}

// ToInstance names an instance to a successor.
func ToInstance(p *session.Peer) *handoverv1.Instance {
	return &handoverv1.Instance{Application: p.Application, Instance: p.Instance, Incarnation: p.Incarnation, Targets: p.Targets}
}

// Inherit awaits the instances of a predecessor, as it named them.
func (p *Proxy) Inherit(instances []*handoverv1.Instance, complete bool) {
	peers := make([]*session.Peer, len(instances))
	for n, i := range instances {
		peers[n] = toPeer(i)
	}
	p.Expect(peers, complete)
}

// Disinherit awaits an instance no more: it leaves.
func (p *Proxy) Disinherit(i *handoverv1.Instance) {
	peer := toPeer(i)
	p.came(peer, true)
	if gone := p.gone.Load(); gone != nil { // a successor may await it by now
		(*gone)(peer)
	}
}

func toPeer(i *handoverv1.Instance) *session.Peer {
	return &session.Peer{Application: i.GetApplication(), Instance: i.GetInstance(), Incarnation: i.GetIncarnation(), Targets: i.GetTargets()}
}
