package main

import (
	"crypto/tls"
	"maps"
	"net"
	"slices"

	"github.com/octomesh/octomesh/bridge/grpc"
	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/proxy/session"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// bridged is how clients of foreign protocols come in, and which servers are instances.
type bridged struct {
	grpc    *grpc.Protocol // nil: no clients come in
	answers *grpc.Answers  // what they ask of the proxy itself
	schemas *schemas
	servers []proxy.Server
	tls     *tls.Config // at the address of its own; nil: it is plain there
}

// loadBridge reads what the bootstrap file says of foreign clients. nil: there are none.
func loadBridge(b *resourcev1.Bootstrap) (*bridged, error) {
	g := b.GetGrpc()
	if g == nil {
		return nil, nil
	}
	out := &bridged{servers: grpcServers(g.GetServers())}
	if g.GetApplication() == "" {
		return out, nil
	}
	targets := g.GetTargets()
	out.grpc = &grpc.Protocol{Config: grpc.Config{
		Environment: b.GetEnvironment(), Application: g.GetApplication(), MaxStreams: b.GetLimits().GetMaxStreams(),
		Target: func(_, service string) string {
			if target, ok := targets[service]; ok {
				return target
			}
			return service
		},
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
	if g.GetCertificateFile() != "" {
		cert, err := tls.LoadX509KeyPair(g.GetCertificateFile(), g.GetKeyFile())
		if err != nil {
			return nil, err
		}
		out.tls = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2"}}
	}
	return out, nil
}

// grpcServers are instances that the proxy dials.
func grpcServers(all []*resourcev1.GrpcServer) (out []proxy.Server) {
	for _, s := range all {
		application := s.GetApplication()
		if application == "" {
			application = s.GetTargets()[0]
		}
		out = append(out, proxy.Server{
			Application: application, Instance: s.GetInstance(), Targets: s.GetTargets(), Address: s.GetAddress(),
			Protocol: resourcev1.Protocol_PROTOCOL_GRPC, Watch: grpc.WatchHealth,
		})
	}
	return out
}

// dials are the foreign protocols that instances are called by, whoever comes in.
func dials() map[resourcev1.Protocol]session.Protocol {
	return map[resourcev1.Protocol]session.Protocol{resourcev1.Protocol_PROTOCOL_GRPC: &grpc.Protocol{}}
}

// protocols are what is spoken beside OctoMesh's own protocol.
func (b *bridged) protocols() []session.Protocol {
	if b == nil || b.grpc == nil {
		return nil
	}
	return []session.Protocol{b.grpc}
}

// answerers are who answers clients in the proxy itself.
func (b *bridged) answerers() map[string]proxy.Answerer {
	if b == nil || b.grpc == nil {
		return nil
	}
	return map[string]proxy.Answerer{b.grpc.Name(): b.answers}
}

// entrances are where foreign clients come in beside the proxy's own socket. l may be nil.
func (b *bridged) entrances(l net.Listener) []proxy.Entrance {
	if b == nil || b.grpc == nil || l == nil {
		return nil
	}
	return []proxy.Entrance{{Listener: l, Protocols: b.protocols(), TLS: b.tls}}
}

// instances are the servers that the proxy dials.
func (b *bridged) instances() []proxy.Server {
	if b == nil {
		return nil
	}
	return b.servers
}
