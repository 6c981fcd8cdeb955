package proxy

import (
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/octomesh/octomesh/core/directory"
	"github.com/octomesh/octomesh/core/proxy/route"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/wire"
)

// maxConnectionsPerRole is how many connections of one role an instance may hold: restarts overlap.
const maxConnectionsPerRole = 4

// localHandler hears the applications beside the proxy.
type localHandler struct{ *Proxy }

func (h *localHandler) Hello(s *session.Session, hello *wire.Hello) *wire.GoAway {
	if g := h.greet(s, hello); g != nil {
		return g
	}
	if hello.Role == wire.RoleServe && len(hello.Targets) == 0 {
		return refused("a server names no target")
	}
	if h.cfg.AdmitHello != nil {
		if err := h.cfg.AdmitHello(s.Peer()); err != nil {
			return refused(err.Error())
		}
	}
	if hello.Instance != "" && h.connections(hello) >= maxConnectionsPerRole {
		return refused(fmt.Sprintf("instance %q holds %d connections of this role already", hello.Instance, maxConnectionsPerRole))
	}
	if hello.Role == wire.RoleServe {
		return h.admit(s, instanceKind)
	}
	return h.admit(s, callerKind)
}

// connections counts those of the same process and role.
func (h *localHandler) connections(hello *wire.Hello) int {
	n := 0
	for _, s := range h.list(callerKind, instanceKind) {
		p := s.Peer()
		if p.Instance == hello.Instance && p.Incarnation == hello.Incarnation && p.Role == hello.Role && p.Application == hello.Application {
			n++
		}
	}
	return n
}

func (h *localHandler) Open(s *session.Session) {
	h.local.enters(s)
	if p := s.Peer(); p.Role == wire.RoleServe {
		h.attached.add(member{session: s}, s.Peer().Targets)
		h.came(p, false)
		h.registers(s)
		if source := h.demand.source; source != nil {
			for _, target := range p.Targets { // who may call it, and how often, is this proxy's to know
				source.Follow(target)
			}
		}
		h.log.Info("instance attached", "application", p.Application, "instance", p.Instance, "targets", p.Targets)
	}
	h.opened(s)
}

func (h *localHandler) Serve(c *session.Call, head *wire.RequestHead) {
	if string(head.Target) == directory.Target {
		h.serveLocal(c, head)
		return
	}
	if a := h.answerer(c, head); a != nil {
		h.answer(a, c, head)
		return
	}
	h.Proxy.Serve(c, head, route.Outbound)
}

// GoAway of an instance takes it out of rotation at once, so that it can say goodbye to nobody.
func (h *localHandler) GoAway(s *session.Session, g *wire.GoAway) {
	if s.Peer().Role == wire.RoleServe && g.Code.Graceful() {
		h.attached.remove(s)
		h.tellGone(s)
		h.unregisters(s, true)
		s.SendDrained()
	}
}

func (h *localHandler) Drained(*session.Session) {}

func (h *localHandler) Closed(s *session.Session, err error) {
	h.local.left(s)
	if s.Peer().Role == wire.RoleServe {
		h.attached.remove(s)
		h.unregisters(s, false)
	}
	h.closed(s, err)
}

// entranceHandler hears clients of foreign protocols that come in elsewhere.
type entranceHandler struct{ localHandler }

func (h *entranceHandler) Hello(s *session.Session, hello *wire.Hello) *wire.GoAway {
	switch g := h.greet(s, hello); {
	case g != nil:
		return g
	case s.Protocol() == "":
		return refused("only foreign protocols are spoken here: SDKs call on the proxy's Unix socket")
	}
	return h.admit(s, callerKind)
}

// remoteHandler hears other proxies that call.
type remoteHandler struct{ *Proxy }

func (h *remoteHandler) Hello(s *session.Session, hello *wire.Hello) *wire.GoAway {
	if g := h.greet(s, hello); g != nil {
		return g
	}
	if hello.Role != wire.RoleCall {
		return refused("instances attach on the proxy's Unix socket, not over TCP")
	}
	return h.admit(s, remoteKind)
}

func (h *remoteHandler) Open(s *session.Session) { h.opened(s) }

func (h *remoteHandler) Serve(c *session.Call, head *wire.RequestHead) {
	h.Proxy.Serve(c, head, route.Inbound)
}

func (h *remoteHandler) GoAway(*session.Session, *wire.GoAway) {}

func (h *remoteHandler) Drained(*session.Session) {}

func (h *remoteHandler) Closed(s *session.Session, err error) { h.closed(s, err) }

// greet refuses what neither side of the proxy lets in.
func (p *Proxy) greet(s *session.Session, hello *wire.Hello) *wire.GoAway {
	switch {
	case p.refuses(s):
		return leaves()
	case hello.Environment != p.cfg.Environment:
		return refused(fmt.Sprintf("environment is %q here, not %q", p.cfg.Environment, hello.Environment))
	}
	return nil
}

// refuses tells whether the proxy welcomes nobody any more. Clients whose protocol has no word for that have sent their first call
// already: it is served, and they are asked to move.
func (p *Proxy) refuses(s *session.Session) bool {
	return (p.draining.Load() || p.holding.Load()) && !s.Wordless()
}

func leaves() *wire.GoAway {
	return &wire.GoAway{Code: wire.GoAwayDraining, Last: wire.LastGraceful, Message: "the proxy leaves"}
}

// admit welcomes a dialer, unless the proxy has begun to leave meanwhile: whoever is registered before that
// is seen by Drain, which waits for him.
func (p *Proxy) admit(s *session.Session, k kind) *wire.GoAway {
	p.register(s, k)
	if p.refuses(s) {
		p.unregister(s)
		return leaves()
	}
	p.welcome(s)
	return nil
}

// opened asks a peer to move that was welcomed while Drain asked the others.
func (p *Proxy) opened(s *session.Session) {
	if p.draining.Load() {
		s.Leave("the proxy leaves")
	}
}

func refused(why string) *wire.GoAway { return &wire.GoAway{Code: wire.GoAwayRefused, Message: why} }

func (p *Proxy) welcome(s *session.Session) {
	s.Welcome(wire.Welcome{
		Kind: wire.PeerProxy, Instance: p.cfg.Instance, Incarnation: uint64(p.started.UnixNano()), SoftwareVersion: Version,
	})
}

func (p *Proxy) closed(s *session.Session, err error) {
	p.unregister(s)
	peer := s.Peer()
	var broken *wire.ConnError
	switch {
	case errors.As(err, &broken):
		p.log.Warn("a peer broke the protocol", "application", peer.Application, "peer", peer.Address, "error", err, "offset", broken.Offset)
	case err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed):
		p.log.Info("a connection was lost", "application", peer.Application, "peer", peer.Address, "error", err)
	}
}
