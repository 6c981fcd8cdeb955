package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"

	"github.com/octomesh/octomesh/core/configserver"
	"github.com/octomesh/octomesh/core/resource"
)

// paths is a flag that may stand several times.
type paths []string

// String implements flag.Value.
func (p *paths) String() string { return fmt.Sprint([]string(*p)) }

// Set implements flag.Value.
func (p *paths) Set(path string) error { *p = append(*p, path); return nil }

// read reads files, the YAML files of folders, and for "-" standard input.
func (p paths) read(in io.Reader) ([]*configv1.File, error) {
	var out []*configv1.File
	for _, path := range p {
		if path == "-" {
			data, err := io.ReadAll(io.LimitReader(in, resource.MaxFile))
			if err != nil {
				return nil, err
			}
			out = append(out, &configv1.File{Name: "standard input", Content: data})
			continue
		}
		files, err := filesOf(path)
		if err != nil {
			return nil, usage("-f %s: %v", path, err)
		}
		for _, f := range files {
			data, err := resource.ReadBytes(f)
			if err != nil {
				return nil, usage("-f %s: %v", path, err)
			}
			out = append(out, &configv1.File{Name: f, Content: data})
		}
	}
	if len(out) == 0 {
		return nil, usage("no file is given: use -f FILE, -f FOLDER or -f -")
	}
	size := 0
	for _, f := range out {
		size += len(f.Content)
	}
	if size > configserver.MaxFiles {
		return nil, &exit{exitInvalid, fmt.Sprintf("refused, nothing was written: the files have %d bytes together, at most %d: apply fewer at a time", size, configserver.MaxFiles)}
	}
	return out, nil
}

func filesOf(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	var out []string
	err = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if ext := filepath.Ext(p); err == nil && !d.IsDir() && (ext == ".yaml" || ext == ".yml") {
			out = append(out, p)
		}
		return err
	})
	slices.Sort(out)
	if err == nil && len(out) == 0 {
		err = errors.New("the folder has no .yaml file")
	}
	return out, err
}

func runApply(ctx context.Context, t *terminal, args []string) error {
	o := newOptions(t, "apply", "-f FILE... -m WHY [flags]",
		"Checks files (octo.resource.v1.Configuration in YAML), shows what they change, and writes it: all or nothing.\n"+
			"What somebody else changes between the preview and the writing is not overwritten.").changes()
	var files paths
	o.flags.Var(&files, "f", "file, folder, or - for standard input; may stand several times")
	w := o.waves()
	dry := o.flags.Bool("dry-run", false, "check and show, and write nothing")
	rest, err := o.parse(args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return usage("%q: files are given with -f", rest[0])
	}
	read, err := files.read(t.in)
	if err != nil {
		return err
	}
	request := &configv1.ApplyRequest{Environment: o.environment, Files: read, DryRun: true, Waves: w.request(), Force: w.force}
	if !*dry {
		if request.Why, err = o.why(); err != nil {
			return err
		}
	}
	client, done, err := o.client()
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	preview, err := client.Apply(ctx, request)
	if err != nil {
		return err
	}
	showProblems(t.err, preview.GetWarnings())
	if *dry {
		showChanges(t.out, preview.GetChanges(), ", not written: --dry-run")
		return nil
	}
	request.DryRun, request.Revisions = false, make(map[string]uint64)
	for _, c := range preview.GetChanges() {
		request.Revisions[c.GetName()] = c.GetOldRevision()
	}
	applied, err := client.Apply(ctx, request)
	if err != nil {
		return err
	}
	showChanges(t.out, applied.GetChanges(), "")
	if n := applied.GetParts(); n > 1 {
		fmt.Fprintf(t.out, "written in %d parts, each as a whole: it was too much for one\n", n)
	}
	showBegun(t, applied.GetRollout())
	return nil
}

func runRollback(ctx context.Context, t *terminal, args []string) error {
	o := newOptions(t, "rollback", "KIND NAME [--to REVISION] -m WHY [flags]",
		"Writes an older revision again, as a new one. `octo history KIND NAME` lists them.").changes()
	to := o.flags.Uint64("to", 0, "revision to go back to; 0: the one before the newest")
	w := o.waves()
	expected := o.flags.Uint64("if", 0, "only if this is the newest revision; 0: whichever it is")
	rest, err := o.parse(args)
	if err != nil {
		return err
	}
	resource, err := name(rest)
	if err != nil {
		return err
	}
	why, err := o.why()
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
	r, err := client.Rollback(ctx, &configv1.RollbackRequest{
		Environment: o.environment, Name: resource, To: *to, Expected: *expected, Why: why, Waves: w.request(), Force: w.force,
	})
	if err != nil {
		return err
	}
	showChanges(t.out, []*configv1.Change{r.GetChange()}, "")
	showBegun(t, r.GetRollout())
	return nil
}

func runDelete(ctx context.Context, t *terminal, args []string) error {
	o := newOptions(t, "delete", "KIND NAME | KIND/NAME... -m WHY [flags]",
		"Removes resources, all or none. Their history stays, and rollback brings them back.").changes()
	return remove(ctx, o, args, func(rest []string) []string {
		if one, err := name(rest); err == nil {
			return []string{one}
		}
		return rest
	})
}

// remove removes resources. What is left of the command line names makes names of.
func remove(ctx context.Context, o *options, args []string, names func(rest []string) []string) error {
	w := o.waves()
	rest, err := o.parse(args)
	if err != nil {
		return err
	}
	if rest = names(rest); len(rest) == 0 {
		return usage("name what to delete, such as: policy shop.cart")
	}
	why, err := o.why()
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
	r, err := client.Delete(ctx, &configv1.DeleteRequest{Environment: o.environment, Names: rest, Why: why, Waves: w.request(), Force: w.force})
	if err != nil {
		return err
	}
	showChanges(o.terminal.out, r.GetChanges(), "")
	showBegun(o.terminal, r.GetRollout())
	return nil
}
