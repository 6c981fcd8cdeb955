package message

import (
	"github.com/octomesh/octomesh/bridge"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/wire"
)

// Config is what the connections of a proxy have in common.
type Config struct {
	Codec bridge.FrameCodec
	// Environment and Application are whom clients count as.
	Environment, Application string
	// Targets names the target of a service. Of one that is not named, it is the target that the frame names, else the service.
	Targets map[string]string
	// MaxCalls is how many calls of a client one connection may have open; more are refused. 0: 1024.
	MaxCalls int
	// MaxHeld bounds in bytes the requests, or the pieces of messages, that one connection holds, and what waits to be written. Calls that
	// would go beyond it are refused. 0: 64 MiB.
	MaxHeld int
}

// Protocol is a codec's protocol as a proxy's connections speak it.
type Protocol struct{ Config }

// Name implements session.Protocol.
func (p *Protocol) Name() string { return p.Codec.Info().Name }

// Solitary implements session.Solitary.
func (p *Protocol) Solitary() bool { return !p.Codec.Info().Multiplexed }

// Sniff implements session.Protocol.
func (p *Protocol) Sniff(prefix []byte) session.Verdict {
	switch p.Codec.Sniff(prefix) {
	case bridge.Yes:
		return session.Yes
	case bridge.More:
		return session.More
	}
	return session.No
}

// Machine implements session.Protocol.
func (p *Protocol) Machine(side wire.Side, origin wire.Origin) session.Foreign {
	return NewConn(&p.Config, side, origin)
}

// target names the target of a request.
func (c *Config) target(f *bridge.Frame) string {
	if t, ok := c.Targets[string(f.Service)]; ok {
		return t
	}
	if len(f.Target) > 0 {
		return string(f.Target)
	}
	return string(f.Service)
}
