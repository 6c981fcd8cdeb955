package main

import (
	"context"
	"fmt"
	"strings"

	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"
)

func runGet(ctx context.Context, t *terminal, args []string) error {
	o := newOptions(t, "get", "[KIND [NAME]] [flags]",
		"Shows one resource, those of a kind, or all. With -o yaml it is a file that apply takes, with the revisions\n"+
			"that it was made from: if somebody changes them meanwhile, apply refuses.").shows("table, yaml or json")
	revision := o.flags.Uint64("revision", 0, "an older revision of one resource; 0: the newest")
	rest, err := o.parse(args)
	if err != nil {
		return err
	}
	client, done, err := o.client()
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	list := &configv1.ListResponse{}
	if len(rest) == 0 || len(rest) == 1 && !strings.Contains(rest[0], "/") {
		if *revision != 0 {
			return usage("--revision is of one resource: name it")
		}
		if err := listAll(ctx, client, list, &configv1.ListRequest{Environment: o.environment, Kind: strings.Join(rest, ""), Limit: page}); err != nil {
			return err
		}
	} else {
		resource, err := name(rest)
		if err != nil {
			return err
		}
		r, err := client.Get(ctx, &configv1.GetRequest{Environment: o.environment, Name: resource, Revision: *revision})
		if err != nil {
			return err
		}
		list.Versions = []*configv1.Version{r.GetVersion()}
	}
	switch o.output {
	case "yaml":
		showFile(t.out, o.environment, list.GetVersions())
		return nil
	case "json":
		return showJSON(t.out, list)
	}
	table(t.out, versionRows(list.GetVersions()))
	return nil
}

// page is how many resources are read at once.
const page = 500

// listAll reads a list in pages.
func listAll(ctx context.Context, client configv1.ConfigClient, into *configv1.ListResponse, r *configv1.ListRequest) error {
	for {
		p, err := client.List(ctx, r)
		if err != nil {
			return err
		}
		into.Versions = append(into.Versions, p.GetVersions()...)
		if !p.GetMore() || len(p.GetVersions()) == 0 {
			return nil
		}
		r.After = p.GetVersions()[len(p.GetVersions())-1].GetName()
	}
}

func runHistory(ctx context.Context, t *terminal, args []string) error {
	o := newOptions(t, "history", "[KIND [NAME]] [flags]", "Shows who changed what, when and why, the newest first.").shows("table or json")
	limit := o.flags.Uint("n", 0, "how many at most (default 20)")
	rest, err := o.parse(args)
	if err != nil {
		return err
	}
	which := strings.Join(rest, "/")
	if len(rest) > 2 || o.output == "yaml" {
		return usage("octo history [KIND [NAME]] [-o table|json]")
	}
	client, done, err := o.client()
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	h, err := client.History(ctx, &configv1.HistoryRequest{Environment: o.environment, Name: which, Limit: uint32(*limit)})
	if err != nil {
		return err
	}
	if o.output == "json" {
		return showJSON(t.out, h)
	}
	table(t.out, versionRows(h.GetVersions()))
	return nil
}

func runDiff(ctx context.Context, t *terminal, args []string) error {
	o := newOptions(t, "diff", "-f FILE... | KIND NAME [--from REVISION] [--to REVISION]",
		"Compares files with what is kept, or two revisions of a resource (the newest with the one before it).\n"+
			"Ends with 6 if there are differences.").shows("table or json")
	var files paths
	o.flags.Var(&files, "f", "file, folder, or - for standard input; may stand several times")
	from := o.flags.Uint64("from", 0, "older revision; 0: the one before --to")
	to := o.flags.Uint64("to", 0, "newer revision; 0: the newest")
	rest, err := o.parse(args)
	if err != nil {
		return err
	}
	if o.output == "yaml" || (len(files) > 0) == (len(rest) > 0) {
		return usage("octo diff -f FILE..., or octo diff KIND NAME")
	}
	client, done, err := o.client()
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if len(files) > 0 {
		return diffFiles(ctx, o, client, files)
	}
	resource, err := name(rest)
	if err != nil {
		return err
	}
	d, err := client.Diff(ctx, &configv1.DiffRequest{Environment: o.environment, Name: resource, From: *from, To: *to})
	if err != nil {
		return err
	}
	if o.output == "json" {
		err = showJSON(t.out, d)
	} else if len(d.GetFields()) > 0 {
		fmt.Fprintf(t.out, "%s revision %d -> %d (%s: %s)\n", resource, d.GetFrom().GetRevision(), d.GetTo().GetRevision(),
			d.GetTo().GetAuthor(), d.GetTo().GetReason())
		showFields(t.out, d.GetFields())
	}
	if err == nil && len(d.GetFields()) > 0 {
		err = &exit{exitDiffers, ""}
	}
	return err
}

func diffFiles(ctx context.Context, o *options, client configv1.ConfigClient, files paths) error {
	read, err := files.read(o.terminal.in)
	if err != nil {
		return err
	}
	preview, err := client.Apply(ctx, &configv1.ApplyRequest{Environment: o.environment, Files: read, DryRun: true, Force: true})
	if err != nil {
		return err
	}
	showProblems(o.terminal.err, preview.GetWarnings())
	differs := false
	for _, c := range preview.GetChanges() {
		differs = differs || c.GetAction() != configv1.Change_ACTION_UNCHANGED
	}
	if o.output == "json" {
		err = showJSON(o.terminal.out, preview)
	} else {
		for _, c := range preview.GetChanges() {
			if c.GetAction() != configv1.Change_ACTION_UNCHANGED {
				fmt.Fprintf(o.terminal.out, "%s would be %s\n", c.GetName(), actions[c.GetAction()])
				showFields(o.terminal.out, c.GetFields())
			}
		}
	}
	if err == nil && differs {
		err = &exit{exitDiffers, ""}
	}
	return err
}

func runExplain(ctx context.Context, t *terminal, args []string) error {
	o := newOptions(t, "explain", "TARGET [--caller APPLICATION] [--node NODE] [--service S] [--method M]",
		"Shows which resources bind calls to a target, and of each field which change gave it its value.").shows("table or json")
	r := &configv1.ExplainRequest{}
	o.flags.StringVar(&r.Caller, "caller", "", "application that calls; empty: any")
	o.flags.StringVar(&r.Node, "node", "", "the caller's node; empty: any")
	o.flags.StringVar(&r.Service, "service", "", "full name of the protobuf service; empty: any")
	o.flags.StringVar(&r.Method, "method", "", "method; empty: any")
	rest, err := o.parse(args)
	if err != nil {
		return err
	}
	if len(rest) != 1 || o.output == "yaml" {
		return usage("octo explain TARGET [-o table|json]")
	}
	r.Environment, r.Target = o.environment, rest[0]
	client, done, err := o.client()
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	e, err := client.Explain(ctx, r)
	if err != nil {
		return err
	}
	if o.output == "json" {
		return showJSON(t.out, e)
	}
	for i, b := range e.GetBindings() {
		if i > 0 {
			fmt.Fprintln(t.out)
		}
		showBinding(t, b)
	}
	return nil
}

func showBinding(t *terminal, b *configv1.Binding) {
	title := b.GetName()
	if b.GetRevision() > 0 {
		title += fmt.Sprintf(" (revision %d)", b.GetRevision())
	}
	fmt.Fprintf(t.out, "%s: %s\n", title, b.GetText())
	var rows [][]string
	for _, f := range b.GetFields() {
		from := "default"
		if f.GetRevision() > 0 {
			from = fmt.Sprintf("revision %d, %s: %s", f.GetRevision(), f.GetAuthor(), f.GetReason())
		}
		rows = append(rows, []string{"  " + f.GetField(), f.GetValue(), from})
	}
	table(t.out, rows)
}
