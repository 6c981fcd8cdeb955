package proxyd

import (
	"fmt"
	"log/slog"
	"net"
	"strings"
	"syscall"

	"github.com/octomesh/octomesh/core/lifecycle/systemd"
	"github.com/octomesh/octomesh/core/proxy/handover"
	"github.com/octomesh/octomesh/core/transport"
)

// given are the sockets that systemd gives: those of a socket unit, which are known by where they listen, and those that a process before
// this one has opened and had kept until it crashed. Callers that were about to be accepted then still wait in them.
type given struct {
	sockets []systemd.Socket
	log     *slog.Logger
}

// kept is the ending of names under which sockets are kept that no socket unit gives.
const kept = "-kept"

// take returns the socket of a place, if it is given.
func (g *given) take(name, address string, unix bool) net.Listener {
	for n, s := range g.sockets {
		if listensAt(s.Listener, address, unix) && (s.Name == name+kept || !strings.HasSuffix(s.Name, kept)) {
			g.sockets = append(g.sockets[:n], g.sockets[n+1:]...)
			return s.Listener
		}
	}
	return nil
}

// strangers fails if a socket unit has a socket that the bootstrap file does not: somebody would wait there for ever.
func (g *given) strangers() error {
	for _, s := range g.sockets {
		if !strings.HasSuffix(s.Name, kept) {
			return configError{fmt.Errorf("systemd's socket unit %s listens on %s, and the bootstrap file has nothing there: make the two the same", s.Name, s.Addr())}
		}
	}
	return nil
}

// drop closes what nobody has taken. What was kept is of another configuration then.
func (g *given) drop() {
	for _, s := range g.sockets {
		_ = s.Close()
		if strings.HasSuffix(s.Name, kept) {
			g.log.Info("a socket that systemd has kept is not used any more", "name", s.Name, "address", s.Addr().String())
			systemd.Forget(s.Name)
		}
	}
	g.sockets = nil
}

// listensAt tells whether a socket is where the bootstrap file says.
func listensAt(l net.Listener, address string, unix bool) bool {
	if unix {
		return transport.ListensAt(l, absolute(address))
	}
	want, err := net.ResolveTCPAddr("tcp", address)
	is, ok := l.Addr().(*net.TCPAddr)
	if err != nil || !ok || want.Port != 0 && want.Port != is.Port {
		return false
	}
	every := want.IP == nil || want.IP.IsUnspecified()
	return every && is.IP.IsUnspecified() || want.IP.Equal(is.IP)
}

// keep has systemd keep the sockets that are called, if this process has opened them.
func (s *sockets) keep(log *slog.Logger) {
	for _, name := range []string{handover.Outbound, handover.Inbound, handover.GRPC, handover.Kitex} {
		l, ok := s.own[name].(syscall.Conn)
		if !ok {
			continue
		}
		if err := systemd.Keep(name+kept, l); err != nil {
			log.Warn("systemd does not keep a socket; a crash loses who waits in it", "name", name, "error", err)
		}
	}
}
