package resource

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// Bounds of what a proxy's own file says of gRPC's servers.
const (
	maxGRPCServers = 64
	maxGRPCTargets = 64
	maxGRPCSchemas = 64
)

// grpcBridge checks how gRPC's clients come in, and which servers are dialed.
func (v *validator) grpcBridge(b *resourcev1.Bootstrap) {
	g := b.GetGrpc()
	if g == nil {
		return
	}
	if g.GetApplication() != "" || len(g.GetServers()) == 0 {
		v.name("grpc.application", g.GetApplication(), nameForm)
	} else if g.GetAddress() != "" {
		v.bad("grpc.application", "is missing: whom do the clients that come in at grpc.address count as?")
	}
	v.address("grpc.address", g.GetAddress(), true)
	switch cert, key := g.GetCertificateFile(), g.GetKeyFile(); {
	case (cert == "") != (key == ""):
		v.bad("grpc.key_file", "and certificate_file go together: give both, or none")
	case cert != "" && g.GetAddress() == "":
		v.bad("grpc.certificate_file", "is for grpc.address, which is missing")
	}
	for _, service := range slices.Sorted(maps.Keys(g.GetTargets())) {
		v.name(fmt.Sprintf("grpc.targets[%q]", shorten(service)), g.GetTargets()[service], nameForm)
	}
	if len(g.GetSchemas()) > maxGRPCSchemas {
		v.bad("grpc.schemas", "holds more than %d: push them to the control plane (octo schema push)", maxGRPCSchemas)
	}
	for _, target := range slices.Sorted(maps.Keys(g.GetSchemas())) {
		at := fmt.Sprintf("grpc.schemas[%q]", shorten(target))
		v.name(at, target, nameForm)
		v.present(at, g.GetSchemas()[target])
	}
	v.grpcServers(g.GetServers(), b.GetTls() != nil)
}

func (v *validator) grpcServers(all []*resourcev1.GrpcServer, secure bool) {
	if len(all) > maxGRPCServers {
		v.bad("grpc.servers", "holds more than %d", maxGRPCServers)
		return
	}
	seen := make(map[string]int)
	for i, s := range all {
		at := fmt.Sprintf("grpc.servers[%d]", i)
		if n := len(s.GetTargets()); n == 0 || n > maxGRPCTargets {
			v.bad(at+".targets", "has %d elements, and 1 to %d are allowed", n, maxGRPCTargets)
		} else {
			for j, t := range s.GetTargets() {
				v.name(fmt.Sprintf("%s.targets[%d]", at, j), t, nameForm)
			}
		}
		v.name(at+".instance", s.GetInstance(), nameForm)
		if before, twice := seen[s.GetInstance()]; twice {
			v.bad(at+".instance", "is that of grpc.servers[%d], too", before)
		}
		seen[s.GetInstance()] = i
		if s.GetApplication() != "" {
			v.name(at+".application", s.GetApplication(), nameForm)
		}
		v.grpcServerAddress(at+".address", s.GetAddress(), secure)
	}
}

func (v *validator) grpcServerAddress(field, address string, secure bool) {
	v.present(field, address)
	if path, ok := SocketPath(address); ok {
		if path == "" {
			v.bad(field, "has no path behind %q", unixScheme)
		}
		return
	}
	v.address(field, address, false)
	if secure && address != "" && !OnLoopback(address) {
		v.bad(field, "%q is not on this host's loopback: a proxy with tls sends no calls over a network without it", shorten(address))
	}
}

// OnLoopback tells whether nobody but this host's processes can be reached at an address.
func OnLoopback(address string) bool {
	at, err := netip.ParseAddrPort(address)
	return err == nil && at.Addr().IsLoopback()
}
