package grpc

import (
	"maps"
	"strings"
)

// Targets names the target of each call by what an operator says of hosts and of services.
type Targets struct {
	services map[string]string
	hosts    map[string]string // in lower case, with a port or without
	domains  map[string]string // of which any host: ".example.org", with a port or without
}

// maxAuthority is how long an authority can be: a host's name of 253 characters, and a port.
const maxAuthority = 253 + len(":65535")

// NewTargets takes the targets of services by their full names, and those of authorities: "host", "host:port", and "*.domain" for every
// host of a domain.
func NewTargets(services, authorities map[string]string) *Targets {
	t := &Targets{services: maps.Clone(services), hosts: make(map[string]string), domains: make(map[string]string)}
	for name, target := range authorities {
		name = strings.ToLower(name)
		if domain, ok := strings.CutPrefix(name, "*"); ok {
			t.domains[domain] = target
		} else {
			t.hosts[name] = target
		}
	}
	return t
}

// Of names the target of a call: that of the authority, if it has one, else that of the service, which may be its own.
func (t *Targets) Of(authority, service string) string {
	if target, ok := t.ofAuthority(authority); ok {
		return target
	}
	if target, ok := t.services[service]; ok {
		return target
	}
	return service
}

// ofAuthority looks for the longest name that fits, and for one with the port before one without. It allocates nothing: the compiler
// knows a string that is a map's key alone.
func (t *Targets) ofAuthority(authority string) (target string, ok bool) {
	if len(t.hosts)+len(t.domains) == 0 || len(authority) > maxAuthority {
		return "", false
	}
	var lower [maxAuthority]byte
	full := lower[:copy(lower[:], authority)]
	for i, c := range full {
		if 'A' <= c && c <= 'Z' {
			full[i] = c + 'a' - 'A'
		}
	}
	host := full[:len(hostOf(authority))]
	if target, ok = t.hosts[string(full)]; ok {
		return target, true
	}
	if target, ok = t.hosts[string(host)]; ok || len(t.domains) == 0 {
		return target, ok
	}
	for i := 1; i < len(host); i++ {
		if host[i] != '.' {
			continue
		}
		if target, ok = t.domains[string(full[i:])]; ok {
			return target, true
		}
		if target, ok = t.domains[string(host[i:])]; ok {
			return target, true
		}
	}
	return "", false
}

// hostOf cuts the port off an authority.
func hostOf(authority string) string {
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && strings.IndexByte(authority[i:], ']') < 0 {
		return authority[:i]
	}
	return authority
}
