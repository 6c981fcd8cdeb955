package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/configserver"
	"github.com/octomesh/octomesh/core/resource"
)

const meshForm = "set APPLICATION TARGET PERMILLE -m WHY | off APPLICATION TARGET -m WHY | get [APPLICATION [TARGET]] | history [APPLICATION TARGET] | nodes [APPLICATION] | compare APPLICATION TARGET [--since 10m]"

// meshOptions are what the mesh commands take beside what all commands do.
type meshOptions struct {
	*options
	nodes         names
	tier          string
	others        int
	allNodes      bool
	dryRun, force bool
	limit         uint
	since         time.Duration
}

// names is a flag of names parted by commas, which may stand several times.
type names []string

// String implements flag.Value.
func (l *names) String() string { return strings.Join(*l, ",") }

// Set implements flag.Value.
func (l *names) Set(text string) error {
	for name := range strings.SplitSeq(text, ",") {
		if name = strings.TrimSpace(name); name != "" {
			*l = append(*l, name)
		}
	}
	return nil
}

// noShare is the value of --others that says nothing.
const noShare = -1

func runMesh(ctx context.Context, t *terminal, args []string) error {
	o := &meshOptions{options: newOptions(t, "mesh", meshForm,
		"Says which share of an application's calls to a target goes through the mesh; the others go direct. APPLICATION \"*\" is every\n"+
			"application without a switch of its own, TARGET may be several, parted by commas. Running SDKs follow within two seconds.\n"+
			"  set      the share, from 0 to 1000 of 1000 calls: of all nodes, or with --node of these\n"+
			"  off      nothing goes through the mesh, from no node\n"+
			"  get      what is set, by whom and why\n"+
			"  history  what was set before\n"+
			"  nodes    who runs where, with which SDK and proxy\n"+
			"  compare  calls, errors and latencies by either path, as SDKs have reported them").shows("table or json").changes()}
	f := o.flags
	f.Var(&o.nodes, "node", "set: these nodes alone, parted by commas; the others keep their share")
	f.IntVar(&o.others, "others", noShare, "set --node: the share of the other nodes, where no switch is set yet")
	f.StringVar(&o.tier, "tier", "", "set, off: all applications of a tier in place of APPLICATION: critical, important, standard, internal")
	f.BoolVar(&o.allNodes, "all-nodes", false, "set: no node keeps a share of its own")
	f.BoolVar(&o.dryRun, "dry-run", false, "set, off: check and show, and write nothing")
	f.BoolVar(&o.force, "force", false, "set: whatever the check finds; the history says that it was forced")
	f.UintVar(&o.limit, "n", 0, "history: how many at most (default 20)")
	f.DurationVar(&o.since, "since", 10*time.Minute, "compare: how far back, at most 1h")
	rest, err := o.parse(args)
	if err != nil {
		return err
	}
	if len(rest) == 0 || o.output == "yaml" {
		return usage("octo mesh %s; -h says more", meshForm)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	switch what, rest := rest[0], rest[1:]; what {
	case "set":
		return o.set(ctx, rest)
	case "off":
		o.allNodes = true
		return o.set(ctx, append(rest, "0"))
	case "get":
		return o.get(ctx, rest)
	case "history":
		return o.history(ctx, rest)
	case "nodes":
		return o.showNodes(ctx, rest)
	case "compare":
		return o.compare(ctx, rest)
	}
	return usage("octo mesh %s: want %s", rest[0], meshForm)
}

// mesh connects to the server.
func (o *options) mesh() (configv1.MeshClient, func(), error) {
	conn, err := o.connect()
	if err != nil {
		return nil, nil, err
	}
	return configv1.NewMeshClient(conn), func() { _ = conn.Close() }, nil
}

// request is what a command line of set asks for.
func (o *meshOptions) request(rest []string) (*configv1.SetRequest, error) {
	r := &configv1.SetRequest{Environment: o.environment, Nodes: o.nodes, AllNodes: o.allNodes, DryRun: o.dryRun, Force: o.force}
	if o.tier == "" {
		if len(rest) != 3 {
			return nil, usage("octo mesh set APPLICATION TARGET PERMILLE, or octo mesh set --tier TIER TARGET PERMILLE")
		}
		r.Application, rest = rest[0], rest[1:]
	} else {
		tier, ok := resourcev1.Tier_value["TIER_"+strings.ToUpper(strings.TrimPrefix(strings.ToLower(o.tier), "tier_"))]
		if !ok || tier == 0 {
			return nil, usage("--tier %s: want critical, important, standard or internal", o.tier)
		}
		if len(rest) != 2 {
			return nil, usage("octo mesh set --tier TIER TARGET PERMILLE: the tier says which applications")
		}
		r.Tier = resourcev1.Tier(tier)
	}
	var targets names
	_ = targets.Set(rest[0])
	if r.Targets = targets; len(targets) == 0 {
		return nil, usage("name at least one target")
	}
	permille, err := strconv.ParseUint(rest[1], 10, 32)
	if err != nil || permille > resource.MaxPermille {
		return nil, usage("PERMILLE %s: want a number from 0 (nothing goes through the mesh) to 1000 (all does)", rest[1])
	}
	r.Permille = uint32(permille)
	if o.others != noShare {
		if o.others < 0 || o.others > resource.MaxPermille {
			return nil, usage("--others %d: want a number from 0 to 1000", o.others)
		}
		if len(o.nodes) == 0 {
			return nil, usage("--others is the share of the nodes that --node does not name: give --node")
		}
		others := uint32(o.others)
		r.Others = &others
	}
	if len(o.nodes) > 0 && o.allNodes {
		return nil, usage("--node or --all-nodes: not both")
	}
	if !o.dryRun {
		if r.Why, err = o.why(); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (o *meshOptions) set(ctx context.Context, rest []string) error {
	r, err := o.request(rest)
	if err != nil {
		return err
	}
	client, done, err := o.mesh()
	if err != nil {
		return err
	}
	defer done()
	res, err := client.Set(ctx, r)
	if err != nil {
		return err
	}
	found := res.GetCheck()
	for _, n := range found.GetNotes() {
		fmt.Fprintf(o.terminal.err, "octo mesh: %s\n", n)
	}
	if o.output == "json" {
		if err := showJSON(o.terminal.out, res); err != nil {
			return err
		}
	} else {
		showCheck(o.terminal.out, found, o.dryRun)
		if n := found.GetEligible() + found.GetIneligible(); n > 0 {
			fmt.Fprintf(o.terminal.out, "%d of %d processes are eligible\n\n", found.GetEligible(), n)
		}
		table(o.terminal.out, changeRows(res.GetChanges()))
	}
	if !o.dryRun {
		return nil
	}
	if o.output != "json" {
		fmt.Fprintln(o.terminal.out, "not written: --dry-run")
	}
	if found.GetIneligible() > 0 || len(found.GetLacks()) > 0 {
		return &exit{exitConflict, "it would be refused: --force sets it all the same"}
	}
	return nil
}

func changeRows(changes []*configv1.ShareChange) [][]string {
	rows := [][]string{{"APPLICATION", "TARGET", "NODES", "BEFORE", "NOW", "REVISION"}}
	for _, c := range changes {
		revision := fmt.Sprint(c.GetChange().GetNewRevision())
		if c.GetChange().GetAction() == configv1.Change_ACTION_UNCHANGED {
			revision += " (unchanged)"
		}
		for _, d := range compareShares(c.GetBefore(), c.GetAfter()) {
			rows = append(rows, []string{c.GetApplication(), c.GetTarget(), d.nodes, d.before, d.now, revision})
		}
	}
	return rows
}

// shares of some nodes, before and after.
type shareRow struct{ nodes, before, now string }

// compareShares has a row for all nodes, and one for each group of nodes that changes alike.
func compareShares(before, after *configv1.Share) []shareRow {
	said := func(s *configv1.Share, node string) string {
		if s == nil {
			return ""
		}
		if own, ok := s.GetNodes()[node]; ok {
			return fmt.Sprint(own)
		}
		return fmt.Sprint(s.GetPermille())
	}
	groups := make(map[[2]string][]string)
	for _, of := range []*configv1.Share{before, after} {
		for n := range of.GetNodes() {
			k := [2]string{said(before, n), said(after, n)}
			if !slices.Contains(groups[k], n) {
				groups[k] = append(groups[k], n)
			}
		}
	}
	all := "all"
	if len(groups) > 0 {
		all = "all others"
	}
	rows := []shareRow{{all, said(before, ""), said(after, "")}}
	for k, nodes := range groups {
		rows = append(rows, shareRow{nodesText(nodes), k[0], k[1]})
	}
	slices.SortFunc(rows[1:], func(a, b shareRow) int { return cmp.Compare(a.nodes, b.nodes) })
	return rows
}

// shownNodes is how many nodes of a group a table names.
const shownNodes = 5

func nodesText(nodes []string) string {
	slices.Sort(nodes)
	if more := len(nodes) - shownNodes; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(nodes[:shownNodes], ","), more)
	}
	return strings.Join(nodes, ",")
}

// get shows what is set for an application, a target, or all.
func (o *meshOptions) get(ctx context.Context, rest []string) error {
	if len(rest) > 2 {
		return usage("octo mesh get [APPLICATION [TARGET]]")
	}
	client, done, err := o.client()
	if err != nil {
		return err
	}
	defer done()
	all := &configv1.ListResponse{}
	if err := listAll(ctx, client, all, &configv1.ListRequest{Environment: o.environment, Kind: configserver.KindSwitch, Limit: page}); err != nil {
		return err
	}
	out := &configv1.ListResponse{Versions: holding(all.GetVersions(), rest)}
	switch {
	case len(out.Versions) == 0 && len(rest) > 0:
		return &exit{exitNotFound, fmt.Sprintf("no switch is set for %s in environment %s: SDKs go by their own settings", strings.Join(rest, " to "), o.environment)}
	case o.output == "json":
		return showJSON(o.terminal.out, out)
	case len(out.Versions) == 0:
		fmt.Fprintf(o.terminal.out, "no switch is set in %s: SDKs go by their own settings\n", o.environment)
		return nil
	}
	rows := [][]string{{"APPLICATION", "TARGET", "NODES", "SHARE", "SINCE", "BY", "WHY"}}
	for _, v := range out.Versions {
		for _, row := range switchRows(v) {
			rows = append(rows, append(row, when(v), by(v), v.GetReason()))
		}
	}
	table(o.terminal.out, rows)
	return nil
}

// holding are the switches that hold for an application's calls: its own, and of other targets those of every application.
func holding(all []*configv1.Version, of []string) []*configv1.Version {
	if len(of) == 0 {
		return all
	}
	of[0] = strings.TrimSuffix(of[0], resource.EveryApplication)
	own := make(map[string]bool)
	for _, v := range all {
		for _, s := range v.GetResource().GetMeshSwitches() {
			own[s.GetTarget()] = own[s.GetTarget()] || s.GetApplication() == of[0]
		}
	}
	var out []*configv1.Version
	for _, v := range all {
		for _, s := range v.GetResource().GetMeshSwitches() {
			holds := s.GetApplication() == of[0] || s.GetApplication() == "" && !own[s.GetTarget()]
			if holds && (len(of) == 1 || of[1] == s.GetTarget()) {
				out = append(out, v)
			}
		}
	}
	return out
}

// switchRows are the first cells of a version's rows: of all nodes, and of those with a share of their own.
func switchRows(v *configv1.Version) [][]string {
	if v.GetDeleted() {
		application, target, _ := strings.Cut(strings.TrimPrefix(v.GetName(), configserver.KindSwitch+"/"), ",")
		return [][]string{{cmp.Or(application, resource.EveryApplication), target, "all", "removed"}}
	}
	var rows [][]string
	for _, s := range v.GetResource().GetMeshSwitches() {
		application, suffix := cmp.Or(s.GetApplication(), resource.EveryApplication), ""
		if c := v.GetCandidate(); c != nil {
			suffix = fmt.Sprintf(" (changing by roll-out %d)", c.GetRollout())
		}
		share := &configv1.Share{Permille: s.GetPermille(), Nodes: resource.NodeShares(s)}
		for _, r := range compareShares(nil, share) {
			rows = append(rows, []string{application, s.GetTarget(), r.nodes, r.now + suffix})
		}
	}
	return rows
}

func (o *meshOptions) history(ctx context.Context, rest []string) error {
	which := configserver.KindSwitch
	switch len(rest) {
	case 0:
	case 2:
		which += "/" + strings.TrimSuffix(rest[0], resource.EveryApplication) + "," + rest[1]
	default:
		return usage("octo mesh history, or octo mesh history APPLICATION TARGET")
	}
	client, done, err := o.client()
	if err != nil {
		return err
	}
	defer done()
	h, err := client.History(ctx, &configv1.HistoryRequest{Environment: o.environment, Name: which, Limit: uint32(o.limit)})
	if err != nil {
		return err
	}
	if o.output == "json" {
		return showJSON(o.terminal.out, h)
	}
	rows := [][]string{{"TIME", "APPLICATION", "TARGET", "NODES", "SHARE", "BY", "HOW", "WHY"}}
	for _, v := range h.GetVersions() {
		for _, row := range switchRows(v) {
			rows = append(rows, append(append([]string{when(v)}, row...), by(v), v.GetAction(), v.GetReason()))
		}
	}
	table(o.terminal.out, rows)
	return nil
}
