package resource

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// Bounds of what a proxy's own file says of foreign servers.
const (
	maxForeignServers = 64
	maxForeignTargets = 64
	maxGRPCSchemas    = 64
)

// grpcBridge checks how gRPC's clients come in, and which servers are dialed.
func (v *validator) grpcBridge(b *resourcev1.Bootstrap) {
	g := b.GetGrpc()
	if g == nil {
		return
	}
	v.foreignClients("grpc", g, len(g.GetServers()))
	v.pair("grpc", g.GetCertificateFile(), g.GetKeyFile())
	if g.GetCertificateFile() != "" && g.GetAddress() == "" {
		v.bad("grpc.certificate_file", "is for grpc.address, which is missing")
	}
	if g.GetClientAuthoritiesFile() != "" && g.GetCertificateFile() == "" {
		v.bad("grpc.client_authorities_file", "is for an address that speaks TLS: give certificate_file and key_file too")
	}
	v.pair("grpc.server_tls", g.GetServerTls().GetCertificateFile(), g.GetServerTls().GetKeyFile())
	if len(g.GetSchemas()) > maxGRPCSchemas {
		v.bad("grpc.schemas", "holds more than %d: push them to the control plane (octo schema push)", maxGRPCSchemas)
	}
	for _, target := range slices.Sorted(maps.Keys(g.GetSchemas())) {
		at := fmt.Sprintf("grpc.schemas[%q]", shorten(target))
		v.name(at, target, nameForm)
		v.present(at, g.GetSchemas()[target])
	}
	v.authorities("grpc.authorities", g.GetAuthorities())
	foreignServers(v, "grpc.servers", g.GetServers(), b.GetTls() != nil)
}

// authorities checks the hosts' names by which calls are led to targets.
func (v *validator) authorities(field string, all map[string]string) {
	seen := make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		at := fmt.Sprintf("%s[%q]", field, shorten(name))
		v.name(at, all[name], nameForm)
		host, port := name, ""
		if i := strings.LastIndexByte(name, ':'); i >= 0 && !strings.Contains(name[i:], "]") {
			host, port = name[:i], name[i+1:]
			if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port[0] == '0' {
				v.bad(at, "has no port from 1 to 65535 behind the colon: give host, host:port or *.domain")
				continue
			}
		}
		if !isAuthority(host) {
			v.bad(at, "has no name or address of a host: give host, host:port or *.domain, and IPv6 addresses in brackets")
			continue
		}
		lower := strings.ToLower(name)
		if before, twice := seen[lower]; twice {
			v.bad(at, "is the same as %q: case does not count", shorten(before))
		}
		seen[lower] = name
	}
}

// isAuthority tells whether a client may say a host so in its `:authority`, or whether it is "*.domain".
func isAuthority(host string) bool {
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		at, err := netip.ParseAddr(inner)
		return ok && err == nil && at.Is6() && at.Zone() == ""
	}
	return len(host) <= maxName && hostForm.MatchString(strings.TrimPrefix(host, "*."))
}

// kitexBridge checks how Kitex's clients come in, and which servers are dialed.
func (v *validator) kitexBridge(b *resourcev1.Bootstrap) {
	if k := b.GetKitex(); k != nil {
		v.foreignClients("kitex", k, len(k.GetServers()))
		foreignServers(v, "kitex.servers", k.GetServers(), b.GetTls() != nil)
	}
}

// foreignClients checks what a protocol's section says of clients. One without clients has servers.
func (v *validator) foreignClients(section string, c interface {
	GetApplication() string
	GetAddress() string
	GetTargets() map[string]string
}, servers int) {
	if c.GetApplication() != "" || servers == 0 {
		v.name(section+".application", c.GetApplication(), nameForm)
	} else if c.GetAddress() != "" {
		v.bad(section+".application", "is missing: whom do the clients that come in at %s.address count as?", section)
	}
	v.address(section+".address", c.GetAddress(), true)
	for _, service := range slices.Sorted(maps.Keys(c.GetTargets())) {
		v.name(fmt.Sprintf("%s.targets[%q]", section, shorten(service)), c.GetTargets()[service], nameForm)
	}
}

// ByTLS tells whether a protocol is spoken by TLS, to servers that prove the name of a host.
func ByTLS(p resourcev1.Protocol) bool { return p == resourcev1.Protocol_PROTOCOL_GRPC_TLS }

// ServerName is the name that the certificate at an endpoint's direct address must have; empty: it is not one of [ByTLS].
func ServerName(e *resourcev1.Endpoint) string {
	switch {
	case !ByTLS(e.GetDirectProtocol()):
		return ""
	case e.GetDirectServerName() != "":
		return e.GetDirectServerName()
	}
	host, _, err := net.SplitHostPort(e.GetDirectAddress())
	if err != nil {
		return e.GetDirectAddress() // which no certificate has
	}
	return host
}

// host checks the name of a host, or an IP address, that a certificate must have; it may be absent.
func (v *validator) host(field, name string) {
	if name != "" && net.ParseIP(name) == nil && (len(name) > maxName || !hostForm.MatchString(name)) {
		v.bad(field, "%q is no name of a host", shorten(name))
	}
}

// pair checks a certificate and its key.
func (v *validator) pair(at, cert, key string) {
	if (cert == "") != (key == "") {
		v.bad(at+".key_file", "and certificate_file go together: give both, or none")
	}
}

// foreignServers checks the servers of a protocol's section.
func foreignServers[S interface {
	GetTargets() []string
	GetInstance() string
	GetApplication() string
	GetAddress() string
}](v *validator, section string, all []S, secure bool) {
	if len(all) > maxForeignServers {
		v.bad(section, "holds more than %d", maxForeignServers)
		return
	}
	seen := make(map[string]int)
	for i, s := range all {
		at := fmt.Sprintf("%s[%d]", section, i)
		if n := len(s.GetTargets()); n == 0 || n > maxForeignTargets {
			v.bad(at+".targets", "has %d elements, and 1 to %d are allowed", n, maxForeignTargets)
		} else {
			for j, t := range s.GetTargets() {
				v.name(fmt.Sprintf("%s.targets[%d]", at, j), t, nameForm)
			}
		}
		v.name(at+".instance", s.GetInstance(), nameForm)
		if before, twice := seen[s.GetInstance()]; twice {
			v.bad(at+".instance", "is that of %s[%d], too", section, before)
		}
		seen[s.GetInstance()] = i
		if s.GetApplication() != "" {
			v.name(at+".application", s.GetApplication(), nameForm)
		}
		secure, hint := secure, ""
		if by, ok := any(s).(interface{ GetServerName() string }); ok { // the protocol has TLS
			v.host(at+".server_name", by.GetServerName())
			secure, hint = secure && by.GetServerName() == "", ", so give server_name"
		}
		v.foreignServerAddress(at+".address", s.GetAddress(), secure, hint)
	}
}

func (v *validator) foreignServerAddress(field, address string, secure bool, hint string) {
	v.present(field, address)
	if path, ok := SocketPath(address); ok {
		if path == "" {
			v.bad(field, "has no path behind %q", unixScheme)
		}
		return
	}
	v.address(field, address, false)
	if secure && address != "" && !OnLoopback(address) {
		v.bad(field, "%q is not on this host's loopback: a proxy with tls sends no calls over a network without it%s", shorten(address), hint)
	}
}

// OnLoopback tells whether nobody but this host's processes can be reached at an address.
func OnLoopback(address string) bool {
	at, err := netip.ParseAddrPort(address)
	return err == nil && at.Addr().IsLoopback()
}
