package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"

	reports "github.com/octomesh/octomesh/core/report"
	"github.com/octomesh/octomesh/core/wire"
)

// showCheck writes what was found about the nodes.
func showCheck(w io.Writer, c *configv1.Check, eligibleToo bool) {
	rows := [][]string{{"NODE", "APPLICATION", "INSTANCE", "SDK", "PROXY", "WHAT IS MISSING", "WHAT TO DO"}}
	for _, one := range c.GetChecked() {
		p := one.GetSeen().GetProcess()
		row := []string{one.GetNode(), one.GetApplication(), p.GetInstance(), sdkText(p), proxyText(one.GetSeen().GetProxy())}
		if len(one.GetLacks()) == 0 && eligibleToo {
			rows = append(rows, append(row, "nothing", ""))
		}
		for _, l := range one.GetLacks() {
			rows = append(rows, append(slices.Clone(row), l.GetText(), l.GetRemedy()))
		}
	}
	if len(rows) > 1 {
		table(w, rows)
	}
	for _, l := range c.GetLacks() {
		fmt.Fprintf(w, "in the way: %s: %s\n", l.GetText(), l.GetRemedy())
	}
}

func sdkText(p *controlv1.Process) string {
	return strings.TrimSpace(p.GetSdk() + " " + p.GetSdkVersion())
}

func proxyText(x *controlv1.Proxy) string {
	if x == nil {
		return "none"
	}
	return x.GetInstance() + " " + x.GetSoftwareVersion()
}

// healthText is how a proxy fares.
func healthText(x *controlv1.Proxy) string {
	if x == nil {
		return ""
	}
	var all []string
	c := x.GetCondition()
	if c.GetDraining() {
		all = append(all, "leaves")
	}
	if c.GetDegraded() {
		all = append(all, "hears of no Pilot")
	}
	if n := c.GetQuarantined(); n > 0 {
		all = append(all, fmt.Sprintf("refuses %d resources", n))
	}
	return cmp.Or(strings.Join(all, ", "), "well")
}

// showSources tells on standard error who did not answer: what is shown is not all.
func showSources(t *terminal, sources []*configv1.Source) (missing bool) {
	for _, s := range sources {
		if s.GetError() != "" {
			missing = true
			fmt.Fprintf(t.err, "octo mesh: %s %s at %s does not answer, and what it knows is missing: %s\n", s.GetRole(), s.GetName(), s.GetAddress(), s.GetError())
		}
	}
	return missing
}

func (o *meshOptions) showNodes(ctx context.Context, rest []string) error {
	if len(rest) > 1 {
		return usage("octo mesh nodes [APPLICATION]")
	}
	client, done, err := o.mesh()
	if err != nil {
		return err
	}
	defer done()
	application := strings.Join(rest, "")
	stream, err := client.Nodes(ctx, &configv1.NodesRequest{Environment: o.environment, Application: application})
	if err != nil {
		return err
	}
	all := &configv1.NodesResponse{}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		all.Seen, all.Sources = append(all.Seen, m.GetSeen()...), append(all.Sources, m.GetSources()...)
	}
	missing := showSources(o.terminal, all.GetSources())
	switch {
	case o.output == "json":
		err = showJSON(o.terminal.out, all)
	case len(all.GetSeen()) == 0 && application != "":
		return &exit{exitNotFound, fmt.Sprintf("nobody has heard of %s in environment %s", application, o.environment)}
	case len(all.GetSeen()) == 0:
		fmt.Fprintf(o.terminal.out, "nobody has heard of any application in %s\n", o.environment)
	default:
		rows := [][]string{{"APPLICATION", "NODE", "INSTANCE", "SDK", "RUNTIME", "FEATURES", "TARGETS", "PROXY", "PROXY'S HEALTH"}}
		for _, s := range all.GetSeen() {
			p := s.GetProcess()
			targets := nodesText(slices.Clone(p.GetTargets()))
			if p.GetMoreTargets() > 0 {
				targets = fmt.Sprintf("%d", len(p.GetTargets())+int(p.GetMoreTargets()))
			}
			rows = append(rows, []string{
				p.GetApplication(), p.GetNode(), p.GetInstance(), sdkText(p), p.GetRuntime(), strings.Join(p.GetFeatures(), ","), targets,
				proxyText(s.GetProxy()), healthText(s.GetProxy()),
			})
		}
		table(o.terminal.out, rows)
	}
	if err == nil && missing {
		err = &exit{exitFailed, ""}
	}
	return err
}

func (o *meshOptions) compare(ctx context.Context, rest []string) error {
	if len(rest) != 2 {
		return usage("octo mesh compare APPLICATION TARGET [--since 10m]")
	}
	if o.since <= 0 || o.since > reports.Reach {
		return usage("--since %v: want more than 0 and at most %v, which is how long reports are kept", o.since, reports.Reach)
	}
	client, done, err := o.mesh()
	if err != nil {
		return err
	}
	defer done()
	r := &configv1.CompareRequest{Environment: o.environment, Application: rest[0], Target: rest[1], Since: durationpb.New(o.since)}
	if r.Application == "*" {
		r.Application = ""
	}
	res, err := client.Compare(ctx, r)
	if err != nil {
		return err
	}
	missing := showSources(o.terminal, res.GetSources())
	switch {
	case o.output == "json":
		err = showJSON(o.terminal.out, res)
	case res.GetMesh().GetTried()+res.GetDirect().GetTried() == 0:
		return &exit{exitNotFound, fmt.Sprintf("nobody has reported a call of %s to %s in environment %s since %s; SDKs report about every 10 s",
			rest[0], rest[1], o.environment, clockTime(res.GetFrom().AsTime()))}
	default:
		showComparison(o.terminal.out, rest[0], res)
	}
	if err == nil && missing {
		err = &exit{exitFailed, ""}
	}
	return err
}

func clockTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05Z") }

func showComparison(w io.Writer, application string, res *configv1.CompareResponse) {
	mesh, direct := res.GetMesh(), res.GetDirect()
	fmt.Fprintf(w, "%s to %s, reported from %s to %s\n", application, mesh.GetPath().GetTarget(), clockTime(res.GetFrom().AsTime()), clockTime(res.GetTo().AsTime()))
	for _, s := range res.GetSwitches() {
		for _, row := range compareShares(nil, s.GetAfter()) {
			fmt.Fprintf(w, "share in force: %s of 1000 for %s, nodes: %s\n", row.now, s.GetApplication(), row.nodes)
		}
	}
	if len(res.GetSwitches()) == 0 {
		fmt.Fprintln(w, "share in force: no switch is set: SDKs go by their own settings")
	}
	fmt.Fprintln(w)
	rows := [][]string{{"WHAT", "MESH", "DIRECT"}, {"calls", countText(mesh.GetTried()), countText(direct.GetTried())}, {"failed", failed(mesh), failed(direct)},
		{"  saved by fallback", countText(mesh.GetPath().GetSavedByFallback()), countText(direct.GetPath().GetSavedByFallback())}}
	errorsOf := func(m *configv1.Measured) map[string]uint64 {
		out := make(map[string]uint64)
		for _, e := range m.GetPath().GetErrors() {
			out["  "+wire.Code(e.GetCode()).String()+" by "+reports.OriginName(e.GetOrigin())] += e.GetCount()
		}
		return out
	}
	m, d := errorsOf(mesh), errorsOf(direct)
	kinds := maps.Clone(m)
	maps.Copy(kinds, d)
	for _, k := range slices.Sorted(maps.Keys(kinds)) {
		rows = append(rows, []string{k, countText(m[k]), countText(d[k])})
	}
	rows = append(rows, []string{"p50 at most", duration(mesh.GetP50()), duration(direct.GetP50())}, []string{"p99 at most", duration(mesh.GetP99()), duration(direct.GetP99())})
	table(w, rows)
	fmt.Fprintln(w, "\nA call that fallback saved counts as failed on the path that it left. Latencies are counted in steps of a factor of two: the true value\nis between half of what stands here and it.")
	if n := res.GetDropped(); n > 0 {
		fmt.Fprintf(w, "%d calls, of any application, are in no count: more targets were reported than there is room for.\n", n)
	}
}

func countText(n uint64) string { return fmt.Sprint(n) }

// failed is how many, and which share.
func failed(m *configv1.Measured) string {
	if m.GetTried() == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (%.3f %%)", m.GetFailed(), 100*float64(m.GetFailed())/float64(m.GetTried()))
}

func duration(d *durationpb.Duration) string {
	if d == nil {
		return ""
	}
	return d.AsDuration().String()
}
