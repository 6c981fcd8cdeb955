package octomesh

import (
	"github.com/octomesh/octomesh/core/wire"
)

// meshPath sends all calls to the local proxy.
type meshPath struct {
	key  peerKey
	peer *peer
}

func newMeshPath(cfg *config, socket string) *meshPath {
	m := &meshPath{key: peerKey{socket, cfg.environment, cfg.application, cfg.instance, cfg.limits}}
	m.peer = process.share(m.key, func() *peer {
		hello := func() wire.Hello { return cfg.hello(wire.RoleCall) }
		p := newPeer(Endpoint{"unix:" + socket, 1}, cfg.limits, hello, dialer("unix", socket))
		p.patience = proxyPatience
		p.guard = newGuard(p)
		p.wg.Go(p.guard.run)
		return p
	})
	return m
}

func (m *meshPath) pick(c *clientCall) (*link, *peer, *Error) {
	l, err := m.peer.get(c, c.opt.waitForReady)
	return l, m.peer, err
}

func (m *meshPath) ready(w waiter) *Error {
	_, err := m.peer.get(w, true)
	return err
}

func (m *meshPath) close() { process.unshare(m.key) }
