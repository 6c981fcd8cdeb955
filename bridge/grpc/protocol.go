package grpc

import (
	"golang.org/x/net/http2"

	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/wire"
)

// Protocol is gRPC as a proxy's connections speak it.
type Protocol struct{ Config }

// Name implements session.Protocol.
func (*Protocol) Name() string { return "grpc" }

// Sniff implements session.Protocol: HTTP/2 has a preface of its own.
func (*Protocol) Sniff(prefix []byte) session.Verdict {
	n := min(len(prefix), len(http2.ClientPreface))
	switch {
	case string(prefix[:n]) != http2.ClientPreface[:n]:
		return session.No
	case n < len(http2.ClientPreface):
		return session.More
	}
	return session.Yes
}

// Machine implements session.Protocol.
func (p *Protocol) Machine(side wire.Side, origin wire.Origin) session.Foreign {
	return NewConn(&p.Config, side, origin)
}

// target names the target of a call.
func (c *Config) target(authority, service string) string {
	if c.Target == nil {
		return service
	}
	return c.Target(authority, service)
}
