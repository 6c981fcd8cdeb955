package proxyd

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"

	"github.com/octomesh/octomesh/bridge/grpc"
	"github.com/octomesh/octomesh/bridge/kitex"
	"github.com/octomesh/octomesh/bridge/message"
	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/transport/certfile"
	"github.com/octomesh/octomesh/core/transport/identity"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// bridged is how clients of foreign protocols come in, and which servers are instances.
type bridged struct {
	grpc    *grpc.Protocol // nil: no clients come in
	answers *grpc.Answers  // what they ask of the proxy itself
	schemas *schemas
	kitex   *message.Protocol // nil: no clients come in
	servers []proxy.Server
	tls     *tls.Config // at the address of its own; nil: it is plain there
	// application is whom a client counts as by its certificate; nil: none is asked for.
	application func(identity.ID) (string, error)
}

// stale has a log say that certificates were not read again.
func stale(log *slog.Logger, whose string) func(error) {
	return func(err error) {
		log.Error("certificates were not read again; the last good ones stay", "of", whose, "error", err)
	}
}

// byName is how gRPC's own servers are called by TLS: for one handshake, with the one whose certificate has the name.
type byName func(name string) *tls.Config

// loadServerTLS reads how they are.
func loadServerTLS(b *resourcev1.Bootstrap, log *slog.Logger) (byName, error) {
	t := b.GetGrpc().GetServerTls()
	s, err := certfile.Follow(certfile.Files{
		Certificate: t.GetCertificateFile(), Key: t.GetKeyFile(), Authorities: t.GetAuthoritiesFile(),
	}, stale(log, "grpc.server_tls"))
	if err != nil {
		return nil, fmt.Errorf("grpc.server_tls: %w", err)
	}
	return func(name string) *tls.Config { return s.Client(name, "h2") }, nil
}

// loadBridge reads what the bootstrap file says of foreign clients and servers.
func loadBridge(b *resourcev1.Bootstrap, byName byName, log *slog.Logger) (*bridged, error) {
	g := b.GetGrpc()
	out := &bridged{kitex: kitexProtocol(b), servers: append(grpcServers(g.GetServers(), byName), kitexServers(b.GetKitex().GetServers())...)}
	if g.GetApplication() == "" {
		return out, nil
	}
	targets := g.GetTargets()
	out.grpc = &grpc.Protocol{Config: grpc.Config{
		Environment: b.GetEnvironment(), Application: g.GetApplication(), MaxStreams: b.GetLimits().GetMaxStreams(),
		Target: grpc.NewTargets(targets, g.GetAuthorities()).Of,
	}}
	files, err := readSchemas(g.GetSchemas())
	if err != nil {
		return nil, err
	}
	out.schemas = &schemas{files: files}
	out.answers = &grpc.Answers{
		Config: &out.grpc.Config, Services: slices.Sorted(maps.Keys(targets)), Targets: slices.Sorted(maps.Keys(files)), Schemas: out.schemas,
		Passed: func(service string) bool { return targets[service] != "" },
	}
	return out, out.secure(b, log)
}

// secure reads how clients come in by TLS, if they do.
func (b *bridged) secure(from *resourcev1.Bootstrap, log *slog.Logger) error {
	g := from.GetGrpc()
	if g.GetCertificateFile() == "" {
		return nil
	}
	own, err := certfile.Follow(certfile.Files{
		Certificate: g.GetCertificateFile(), Key: g.GetKeyFile(), Authorities: g.GetClientAuthoritiesFile(),
	}, stale(log, "grpc.address"))
	if err != nil {
		return fmt.Errorf("grpc: %w", err)
	}
	b.tls = own.Server("h2")
	if g.GetClientAuthoritiesFile() != "" {
		b.application = func(id identity.ID) (string, error) { return identity.ApplicationOf(id, from.GetEnvironment()) }
	}
	return nil
}

// grpcServers are instances that the proxy dials.
func grpcServers(all []*resourcev1.GrpcServer, byName byName) (out []proxy.Server) {
	for _, s := range all {
		one := serverOf(s, resourcev1.Protocol_PROTOCOL_GRPC)
		one.Watch = grpc.WatchHealth
		if name := s.GetServerName(); name != "" {
			one.Protocol, one.ServerName = resourcev1.Protocol_PROTOCOL_GRPC_TLS, name
			one.Watch = grpc.WatchHealthByTLS(func() *tls.Config { return byName(name) })
		}
		out = append(out, one)
	}
	return out
}

// kitexServers are likewise.
func kitexServers(all []*resourcev1.KitexServer) (out []proxy.Server) {
	for _, s := range all {
		by := resourcev1.Protocol_PROTOCOL_KITEX
		if s.GetMultiplexed() {
			by = resourcev1.Protocol_PROTOCOL_KITEX_MUX
		}
		out = append(out, serverOf(s, by))
	}
	return out
}

// serverOf makes an instance of what the bootstrap file says of a foreign server.
func serverOf(s interface {
	GetApplication() string
	GetInstance() string
	GetTargets() []string
	GetAddress() string
}, by resourcev1.Protocol) proxy.Server {
	application := s.GetApplication()
	if application == "" {
		application = s.GetTargets()[0]
	}
	return proxy.Server{Application: application, Instance: s.GetInstance(), Targets: s.GetTargets(), Address: s.GetAddress(), Protocol: by}
}

// kitexProtocol is how Kitex's clients come in; nil: none do.
func kitexProtocol(b *resourcev1.Bootstrap) *message.Protocol {
	k := b.GetKitex()
	if k.GetApplication() == "" {
		return nil
	}
	return &message.Protocol{Config: message.Config{
		Codec: &kitex.Codec{Multiplexed: true}, Environment: b.GetEnvironment(), Application: k.GetApplication(), Targets: k.GetTargets(),
		MaxCalls: int(b.GetLimits().GetMaxStreams()),
	}}
}

// dials are the foreign protocols that instances are called by, whoever comes in.
func dials() map[resourcev1.Protocol]session.Protocol {
	return map[resourcev1.Protocol]session.Protocol{
		resourcev1.Protocol_PROTOCOL_GRPC: &grpc.Protocol{}, resourcev1.Protocol_PROTOCOL_GRPC_TLS: &grpc.Protocol{Config: grpc.Config{Secure: true}},
		resourcev1.Protocol_PROTOCOL_KITEX:     &message.Protocol{Config: message.Config{Codec: &kitex.Codec{}}},
		resourcev1.Protocol_PROTOCOL_KITEX_MUX: &message.Protocol{Config: message.Config{Codec: &kitex.Codec{Multiplexed: true}}},
	}
}

// protocols are what is spoken beside OctoMesh's own protocol.
func (b *bridged) protocols() (all []session.Protocol) {
	if b.grpc != nil {
		all = append(all, b.grpc)
	}
	if b.kitex != nil {
		all = append(all, b.kitex)
	}
	return all
}

// answerers are who answers clients in the proxy itself.
func (b *bridged) answerers() map[string]proxy.Answerer {
	if b.grpc == nil {
		return nil
	}
	return map[string]proxy.Answerer{b.grpc.Name(): b.answers}
}

// entrances are where foreign clients come in beside the proxy's own socket, each protocol at its address; those may be nil.
func (b *bridged) entrances(grpcs, kitexes net.Listener) (all []proxy.Entrance) {
	if b.grpc != nil && grpcs != nil {
		all = append(all, proxy.Entrance{Listener: grpcs, Protocols: []session.Protocol{b.grpc}, TLS: b.tls, Application: b.application})
	}
	if b.kitex != nil && kitexes != nil {
		all = append(all, proxy.Entrance{Listener: kitexes, Protocols: []session.Protocol{b.kitex}})
	}
	return all
}

// instances are the servers that the proxy dials.
func (b *bridged) instances() []proxy.Server { return b.servers }
