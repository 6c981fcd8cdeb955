package proxy

import "github.com/octomesh/octomesh/core/proxy/session"

var kindNames = map[kind]string{
	callerKind: "caller", instanceKind: "instance", remoteKind: "remote", upstreamKind: "upstream", serverKind: "server",
}

// Sessions counts the connections by what they are: "caller", "instance" (local applications that call
// and that serve), "server" (local instances that this proxy has dialed), "remote" and "upstream" (other proxies that call and
// that are called).
func (p *Proxy) Sessions() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make(map[string]int, len(kindNames))
	for _, name := range kindNames {
		out[name] = 0
	}
	for _, k := range p.sessions {
		out[kindNames[k]]++
	}
	return out
}

// OpenCalls describes the calls that are open here now.
func (p *Proxy) OpenCalls() []session.CallInfo {
	var out []session.CallInfo
	now := p.clock.Now()
	for _, s := range p.list(callerKind, remoteKind) {
		out = s.AppendCalls(out, now)
	}
	return out
}

// Now is the time on the proxy's monotonic clock, by which policies go.
func (p *Proxy) Now() int64 { return p.clock.Now() }
