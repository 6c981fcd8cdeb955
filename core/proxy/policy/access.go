package policy

import (
	"strings"
	"sync/atomic"

	"github.com/octomesh/octomesh/core/wire"
)

// Names is a compiled list of names: a call's must equal one, or begin as one that ended in "*". The zero
// value takes any.
type Names struct {
	set      bool
	exact    map[string]struct{}
	prefixes []string
}

// NamesOf compiles a list.
func NamesOf(list []string) Names {
	n := Names{set: len(list) > 0, exact: make(map[string]struct{})}
	for _, s := range list {
		if p, ok := strings.CutSuffix(s, "*"); ok {
			n.prefixes = append(n.prefixes, p)
		} else {
			n.exact[s] = struct{}{}
		}
	}
	return n
}

// takes compares bytes in place; the compiler makes no copy for it.
func (n *Names) takes(name []byte) bool {
	if !n.set {
		return true
	}
	if _, ok := n.exact[string(name)]; ok {
		return true
	}
	for _, p := range n.prefixes {
		if len(name) >= len(p) && string(name[:len(p)]) == p {
			return true
		}
	}
	return false
}

// proves is takes for an identity, which must be there.
func (n *Names) proves(identity string) bool {
	if !n.set {
		return true
	}
	if identity == "" {
		return false
	}
	if _, ok := n.exact[identity]; ok {
		return true
	}
	for _, p := range n.prefixes {
		if strings.HasPrefix(identity, p) {
			return true
		}
	}
	return false
}

// AccessRule is a compiled octo.resource.v1.AccessRule.
type AccessRule struct {
	Name                                   string
	Callers, Identities, Services, Methods Names
}

// covers tells whether the rule speaks of such calls of the caller, whoever was proved.
func (a *AccessRule) covers(r *Request) bool {
	return a.Methods.takes(r.Head.Method) && a.Services.takes(r.Head.Service) && a.Callers.takes(r.Caller)
}

// AccessCounts outlives generations.
type AccessCounts struct{ denied, wouldDeny atomic.Uint64 }

// Access lets calls in by who makes them. What it denies in a dry run is counted and passes.
type Access struct {
	deny, allow                []AccessRule
	dryRun                     bool
	counts                     *AccessCounts
	forbidden, unauthenticated wire.Status
}

// NewAccess makes the policy.
func NewAccess(deny, allow []AccessRule, dryRun bool, counts *AccessCounts, origin wire.Origin) *Access {
	p := &Access{
		deny: deny, allow: allow, dryRun: dryRun, counts: counts,
		forbidden:       wire.Refuse(wire.ReasonAuthDenied, origin, "the caller may not call this"),
		unauthenticated: wire.Refuse(wire.ReasonAuthDenied, origin, "the caller showed no identity"),
	}
	p.unauthenticated.Code = wire.Unauthenticated
	return p
}

// Name implements [Policy].
func (p *Access) Name() string { return "auth" }

// Check implements [Policy].
func (p *Access) Check(r Request) Decision {
	refusal := p.judge(&r)
	switch {
	case refusal == nil:
		return Decision{}
	case p.dryRun:
		p.counts.wouldDeny.Add(1)
		return Decision{}
	}
	p.counts.denied.Add(1)
	return Decision{Verdict: Refuse, Status: *refusal}
}

// judge returns nil for a call that is let in.
func (p *Access) judge(r *Request) *wire.Status {
	for i := range p.deny {
		if a := &p.deny[i]; a.covers(r) && a.Identities.proves(r.Identity) {
			return &p.forbidden
		}
	}
	if len(p.allow) == 0 {
		return nil
	}
	refusal := &p.forbidden
	for i := range p.allow {
		a := &p.allow[i]
		if !a.covers(r) {
			continue
		}
		if a.Identities.proves(r.Identity) {
			return nil
		}
		if r.Identity == "" {
			refusal = &p.unauthenticated
		}
	}
	return refusal
}

// Counts implements [Counted].
func (p *Access) Counts(yield func(rule, outcome string, n uint64)) {
	yield("", "denied", p.counts.denied.Load())
	yield("", "would_deny", p.counts.wouldDeny.Load())
}
