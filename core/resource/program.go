package resource

import resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

// Program is which program a bootstrap file is for.
type Program uint8

// The programs.
const (
	AnyProgram Program = iota // the one whose file it looks like
	Sidecar                   // octo-proxy: it has applications beside it
	Gateway                   // octo-gateway: it has none, and clients of foreign protocols come in
)

// programOf is whose file it is where nobody says it: a gateway's if it lets clients in, and names nothing that is beside it.
func programOf(b *resourcev1.Bootstrap, of Program) Program {
	switch {
	case of != AnyProgram:
		return of
	case b.GetGrpc().GetAddress() != "" && b.GetOutboundSocket() == "" && b.GetInboundAddress() == "" && len(b.GetGrpc().GetServers()) == 0:
		return Gateway
	}
	return Sidecar
}

// program checks that a bootstrap has what its program has, and nothing else.
func (v *validator) program(b *resourcev1.Bootstrap, of Program) {
	if of == Sidecar {
		if b.GetOutboundSocket() == "" {
			v.bad("outbound_socket", "is missing, and OCTO_SOCKET is not set: a proxy without applications beside it is octo-gateway's to run")
		}
		return
	}
	if b.GetGrpc().GetAddress() == "" {
		v.bad("grpc.address", "is missing: a gateway's clients come in there")
	}
	for _, one := range []struct {
		field string
		given bool
	}{
		{"outbound_socket", b.GetOutboundSocket() != ""},
		{"socket_users", len(b.GetSocketUsers()) > 0},
		{"inbound_address", b.GetInboundAddress() != ""},
		{"advertise_address", b.GetAdvertiseAddress() != ""},
		{"grpc.servers", len(b.GetGrpc().GetServers()) > 0},
	} {
		if one.given {
			v.bad(one.field, "is for a proxy with applications beside it, which a gateway has not: run octo-proxy, or leave it out")
		}
	}
}
