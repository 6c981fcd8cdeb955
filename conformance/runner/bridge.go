package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
	wirev1 "github.com/octomesh/octomesh/gen/go/octo/wire/v1"
)

// bridge is gRPC's own client and server in one program, and what does not apply to it.
type bridge struct {
	program *program
	gaps    []*gap
}

// gap is cases that do not apply.
type gap struct {
	*conformancev1.Gap
	patterns []*regexp.Regexp
	fits     []bool // a case
}

// readBridge reads what does not apply. Without a program there is no bridge, and nil is fine.
func readBridge(path string, p *program) (*bridge, error) {
	if p == nil {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	list := &conformancev1.Bridge{}
	if err := parse(text, list); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	b := &bridge{program: p}
	for i, g := range list.Gaps {
		if g.Reason == "" || len(g.Cases) == 0 {
			return nil, fmt.Errorf("%s: gaps[%d]: want cases and a reason", path, i)
		}
		one := &gap{Gap: g, fits: make([]bool, len(g.Cases))}
		for _, name := range g.Cases {
			pattern, err := wildcard(name)
			if err != nil {
				return nil, fmt.Errorf("%s: gaps[%d]: %w", path, i, err)
			}
			one.patterns = append(one.patterns, pattern)
		}
		b.gaps = append(b.gaps, one)
	}
	return b, nil
}

// wildcard is a pattern in which * stands for anything.
func wildcard(text string) (*regexp.Regexp, error) {
	return regexp.Compile("^" + strings.ReplaceAll(regexp.QuoteMeta(text), `\*`, ".*") + "$")
}

// Semantics that every case with a bridge holds, and every one with binary metadata.
const (
	binaryMetadata = 22
	binaryInText   = 26
	mapping        = 46
)

// jobs are those of a case with gRPC at one end, where it is one through both proxies.
func (b *bridge) jobs(c *conformancev1.Case, testees []*program) (all []*job) {
	if b == nil || len(c.Topologies) > 0 && !slices.Contains(c.Topologies, conformancev1.Topology_TOPOLOGY_MESH) {
		return nil
	}
	name := c.Name
	c = proto.CloneOf(c)
	if slices.Contains(c.Semantics, binaryMetadata) {
		c.Semantics = append(c.Semantics, binaryInText)
	}
	c.Semantics = append(c.Semantics, mapping)
	for _, t := range bridged {
		why := b.gap(name, t)
		for _, p := range testees {
			j := &job{name: c.Name, c: c, topology: t, client: b.program, server: p, gap: why}
			if t == conformancev1.Topology_TOPOLOGY_BRIDGE_OUT {
				j.client, j.server = p, b.program
			}
			all = append(all, j)
		}
	}
	return all
}

// gap is why a case does not apply; empty: it does.
func (b *bridge) gap(name string, t conformancev1.Topology) (reason string) {
	for _, g := range b.gaps {
		if len(g.Topologies) > 0 && !slices.Contains(g.Topologies, t) {
			continue
		}
		for i, p := range g.patterns {
			if p.MatchString(name) {
				g.fits[i], reason = true, g.Reason
			}
		}
	}
	return reason
}

// unused says which of the list fit no case.
func (b *bridge) unused() error {
	if b == nil {
		return nil
	}
	var errs []error
	for _, g := range b.gaps {
		for i, fits := range g.fits {
			if !fits {
				errs = append(errs, fmt.Errorf("the list of what a bridge cannot say: %q fits no case", g.Cases[i]))
			}
		}
	}
	return errors.Join(errs...)
}

// leaveOut takes out the jobs that do not apply, and reports them.
func (r *run) leaveOut(jobs []*job) (rest []*job) {
	for _, j := range jobs {
		if j.gap == "" {
			rest = append(rest, j)
			continue
		}
		r.add(j, nil, 0)
		j.result.Verdict, j.result.Problems = conformancev1.CaseResult_VERDICT_NOT_APPLICABLE, []string{j.gap}
	}
	return rest
}

// stock tells whether an end is gRPC's own.
func stock(t conformancev1.Topology, name string) bool {
	return t == conformancev1.Topology_TOPOLOGY_BRIDGE_IN && name == clientEnd || t == conformancev1.Topology_TOPOLOGY_BRIDGE_OUT && name == serverEnd
}

// stockListen is where a server of gRPC's own listens, for its proxy to dial.
func (w *world) stockListen(instance string) string {
	return "unix:" + filepath.Join(w.dir, instance+".srv")
}

// proxyLines are further lines of the file of the proxy beside an instance of an end.
func (w *world) proxyLines(name, instance string) string {
	if !stock(w.topology, name) {
		return w.proxyTLS(name)
	}
	return fmt.Sprintf("grpc:\n  application: app-%s\n  targets: {%s: %s, octo.conformance.v1.NoSuchService: %s}\n"+
		"  servers:\n  - {targets: [%s], instance: %s, address: %q}\n", name, serviceName, other(name), other(name), name, instance, w.stockListen(instance))
}

// dialed waits until a proxy has a connection to the server of gRPC's own beside it.
func (p *proxy) dialed() error {
	return p.until(func() (bool, error) {
		body, err := p.metrics()
		open := false
		if err == nil {
			err = samples(body, func(name string, _ map[string]string, value float64) {
				open = open || name == "octo_sessions_server" && value > 0
			})
		}
		return open, err
	})
}

// bridgeTells says what of a status there is to judge beside its code: who concluded it and why, and what that means for another try.
// Where all ends speak the protocol that is all of it. gRPC's own client learns from the bridge whom of the mesh a conclusion is of, and
// what gRPC itself concludes, at either end, has a code and no more.
func (a *attempt) bridgeTells(origins []wirev1.Origin) (who, disposition bool) {
	t := a.world.topology
	if !slices.Contains(bridged, t) {
		return true, true
	}
	own := wirev1.Origin_ORIGIN_SERVER_SDK
	if stock(t, a.caller) {
		own = wirev1.Origin_ORIGIN_CLIENT_SDK
	}
	return !slices.Contains(origins, own), !stock(t, a.caller) && !slices.Contains(origins, own)
}

// withoutBridge is the metadata that a handler saw, without what a client of gRPC's own and the bridge add to it.
func (a *attempt) withoutBridge(entry *conformancev1.LedgerEntry) []*conformancev1.Entry {
	if !stock(a.world.topology, callerOf(entry.Server)) {
		return entry.Info.Metadata
	}
	return slices.DeleteFunc(slices.Clone(entry.Info.Metadata), func(e *conformancev1.Entry) bool {
		return e.Key == "via" && string(e.Value) == "2 octo" || e.Key == "user-agent"
	})
}

// table tells what does not apply, and why.
func (b *bridge) table() string {
	if b == nil || len(b.gaps) == 0 {
		return ""
	}
	var out strings.Builder
	out.WriteString("\n## Not applicable with a bridge\n\nWhat gRPC's own clients and servers have no word for, from `conformance/bridge.yaml`.\n\n| cases | topology | why |\n|---|---|---|\n")
	for _, g := range b.gaps {
		where := "both"
		if len(g.Topologies) == 1 {
			where = topologyName(g.Topologies[0])
		}
		fmt.Fprintf(&out, "| `%s` | %s | %s |\n", strings.Join(g.Cases, "`, `"), where, g.Reason)
	}
	return out.String()
}
