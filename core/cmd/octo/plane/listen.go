package plane

import (
	"errors"
	"net"
	"strings"
	"syscall"

	"github.com/octomesh/octomesh/core/transport"
)

// listen opens the address for gRPC. What is not encrypted stays on the machine.
func (p *Plane) listen() (err error) {
	p.address = p.cfg.Listen
	if path, ok := strings.CutPrefix(p.cfg.Listen, "unix:"); ok {
		if p.listener, err = transport.ListenUnix(path, 0o600); err != nil {
			return err
		}
	} else {
		address, err := net.ResolveTCPAddr("tcp", p.cfg.Listen)
		if err != nil {
			return usage("--listen %s: %v", p.cfg.Listen, err)
		}
		if p.id == nil && !address.IP.IsLoopback() {
			return usage("--listen %s is not loopback: without TLS anybody could change the configuration. Give --certificate, --key and --authorities", p.cfg.Listen)
		}
		if p.listener, err = net.ListenTCP("tcp", address); err != nil {
			return busy("--listen", p.cfg.Listen, err)
		}
		p.address = p.listener.Addr().String()
	}
	p.closers = append(p.closers, func() { _ = p.listener.Close() })
	if p.cfg.Store.Data == "" && p.cfg.Advertise == "" {
		if host, _, err := net.SplitHostPort(p.address); err == nil && net.ParseIP(host).IsUnspecified() {
			return usage("--listen %s is every address of the machine: say with --advertise host:port where other roles reach it", p.cfg.Listen)
		}
	}
	return nil
}

// busy says of an address that is taken what to do.
func busy(flag, address string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return errors.New("another process listens on " + address + ": maybe a control plane runs already. End it, or give another address with " + flag)
	}
	return err
}

// advertised is where other processes reach us.
func (p *Plane) advertised() string {
	if p.cfg.Advertise != "" {
		return p.cfg.Advertise
	}
	return p.address
}
