package proxy

import (
	"context"
	"errors"
	"time"

	"github.com/octomesh/octomesh/core/proxy/cluster"
	"github.com/octomesh/octomesh/core/proxy/register"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/proxy/upstream"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
)

const (
	// withdrawWithin is how long a proxy that leaves waits until the control plane knows that its instances are gone.
	withdrawWithin = time.Second
	// maxSeen bounds the endpoints of one address that are told to be unreachable.
	maxSeen = 64
)

// Registrations are the instances that are registered, for operators.
func (p *Proxy) Registrations() register.Report { return p.cfg.Register.Status() }

// registers makes an attached instance known to the control plane.
func (p *Proxy) registers(s *session.Session) {
	if p.cfg.Register == nil {
		return
	}
	peer := s.Peer()
	p.detaches.Store(s, p.cfg.Register.Attach(peer.Application, peer.Instance, peer.Incarnation, peer.Targets))
}

// unregisters ends that; left: the instance has said goodbye.
func (p *Proxy) unregisters(s *session.Session, left bool) {
	if detach, ok := p.detaches.LoadAndDelete(s); ok {
		detach.(func(bool))(left)
	}
}

// withdraw has the control plane send no more calls here, before they are refused; but not if there is a successor, to
// whom they go.
func (p *Proxy) withdraw(ctx context.Context) {
	if p.yielded.Load() {
		p.cfg.Register.Yield()
		return
	}
	ctx, cancel := context.WithTimeout(ctx, withdrawWithin)
	defer cancel()
	p.cfg.Register.Leave(ctx)
}

// sees tells the control plane that something goes wrong with an endpoint. Whoever calls it may hold a call's lock.
func (p *Proxy) sees(e *cluster.Endpoint, kind controlv1.Anomaly_Kind, text string) {
	if p.cfg.Register != nil {
		p.group.Go(func(context.Context) { p.cfg.Register.Anomaly(e.Target, e.Instance, kind, text) })
	}
}

// unreachable tells it of all endpoints of an address.
func (p *Proxy) unreachable(at cluster.Place, err error) {
	if p.cfg.Register == nil {
		return
	}
	kind := controlv1.Anomaly_KIND_UNREACHABLE
	var stranger *upstream.StrangerError
	if errors.As(err, &stranger) {
		kind = controlv1.Anomaly_KIND_IDENTITY
	}
	n := 0
	for e := range p.store.Current().Table.Endpoints() {
		if at.Direct && e.DirectAddress != at.Address || !at.Direct && e.MeshAddress != at.Address {
			continue
		}
		p.cfg.Register.Anomaly(e.Target, e.Instance, kind, err.Error())
		if n++; n >= maxSeen {
			return
		}
	}
}
