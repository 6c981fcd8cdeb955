package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/resource"
)

const schemaUsage = "octo schema list | get TARGET | push TARGET FILE -m WHY | delete TARGET -m WHY"

func runSchema(ctx context.Context, t *terminal, args []string) error {
	if len(args) == 0 {
		return usage(schemaUsage)
	}
	switch args[0] {
	case "list":
		return listSchemas(ctx, t, args[1:])
	case "get":
		return getSchema(ctx, t, args[1:])
	case "push":
		return pushSchema(ctx, t, args[1:])
	case "delete":
		return deleteSchema(ctx, t, args[1:])
	case "-h", "--help":
		fmt.Fprintln(t.out, schemaUsage+"\n\nSays what targets serve, in protobuf's own words. octo schema VERB -h says what a verb takes.")
		return nil
	}
	return usage("%q is no verb of it: %s", args[0], schemaUsage)
}

func listSchemas(ctx context.Context, t *terminal, args []string) error {
	o := newOptions(t, "schema list", "[flags]", "Shows which targets have a schema, and their services.").shows("table, yaml or json")
	rest, err := o.parse(args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return usage("%q: octo schema list takes no arguments; octo schema get TARGET shows one", rest[0])
	}
	client, done, err := o.client()
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	list := &configv1.ListResponse{}
	if err := listAll(ctx, client, list, &configv1.ListRequest{Environment: o.environment, Kind: "schema", Limit: page}); err != nil {
		return err
	}
	switch o.output {
	case "yaml":
		showFile(t.out, o.environment, list.GetVersions())
		return nil
	case "json":
		return showJSON(t.out, list)
	}
	rows := [][]string{{"TARGET", "SERVICES", "BYTES", "REVISION", "CHANGED", "BY"}}
	for _, v := range list.GetVersions() {
		s := schemaIn(v)
		rows = append(rows, []string{
			s.GetTarget(), strings.Join(s.GetServices(), " "), fmt.Sprint(len(s.GetDescriptorSet())), fmt.Sprint(v.GetRevision()), when(v), by(v),
		})
	}
	table(t.out, rows)
	return nil
}

// schemaIn is the schema of a version; nil: it has none.
func schemaIn(v *configv1.Version) *resourcev1.Schema {
	if all := v.GetResource().GetSchemas(); len(all) == 1 {
		return all[0]
	}
	return nil
}

func getSchema(ctx context.Context, t *terminal, args []string) error {
	o := newOptions(t, "schema get", "TARGET [--out FILE] [flags]", "Shows the methods that a target's schema has.").shows("table, yaml or json")
	out := o.flags.String("out", "", "write the descriptor set to this file; - for standard output")
	revision := o.flags.Uint64("revision", 0, "an older revision; 0: the newest")
	rest, err := o.parse(args)
	if err != nil {
		return err
	}
	if len(rest) != 1 {
		return usage("octo schema get TARGET")
	}
	client, done, err := o.client()
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := client.Get(ctx, &configv1.GetRequest{Environment: o.environment, Name: "schema/" + rest[0], Revision: *revision})
	if err != nil {
		return err
	}
	s := schemaIn(r.GetVersion())
	switch {
	case s == nil:
		return &exit{exitNotFound, fmt.Sprintf("revision %d of the schema of %s deletes it", r.GetVersion().GetRevision(), rest[0])}
	case *out == "-":
		_, err := t.out.Write(s.GetDescriptorSet())
		return err
	case *out != "":
		return os.WriteFile(*out, s.GetDescriptorSet(), 0o644)
	case o.output == "yaml":
		showFile(t.out, o.environment, []*configv1.Version{r.GetVersion()})
		return nil
	case o.output == "json":
		return showJSON(t.out, r)
	}
	rows, err := methodRows(s)
	table(t.out, rows)
	return err
}

// methodRows are the methods of a schema.
func methodRows(s *resourcev1.Schema) ([][]string, error) {
	rows := [][]string{{"SERVICE", "METHOD", "REQUEST", "RESPONSE"}}
	d, err := resource.Describe(s)
	if err != nil {
		return nil, fmt.Errorf("the schema that is kept %w", err)
	}
	side := func(stream bool, m protoreflect.MessageDescriptor) string {
		if stream {
			return "stream " + string(m.FullName())
		}
		return string(m.FullName())
	}
	for _, service := range d.Services {
		for m := range d.Methods(service) {
			rows = append(rows, []string{service, string(m.Name()), side(m.IsStreamingClient(), m.Input()), side(m.IsStreamingServer(), m.Output())})
		}
	}
	return rows, nil
}

func pushSchema(ctx context.Context, t *terminal, args []string) error {
	o := newOptions(t, "schema push", "TARGET FILE -m WHY [flags]",
		"Says what a target serves: FILE is a google.protobuf.FileDescriptorSet with all imports, as\n"+
			"buf build -o FILE and protoc --include_imports -o FILE write it.").changes()
	w := o.waves()
	rest, err := o.parse(args)
	if err != nil {
		return err
	}
	if len(rest) != 2 {
		return usage("octo schema push TARGET FILE -m WHY")
	}
	why, err := o.why()
	if err != nil {
		return err
	}
	raw, err := resource.ReadBytes(rest[1])
	if err != nil {
		return usage("%v", err)
	}
	file := resource.SchemaFile(rest[0], raw)
	client, done, err := o.client()
	if err != nil {
		return err
	}
	defer done()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	r, err := client.Apply(ctx, &configv1.ApplyRequest{
		Environment: o.environment, Files: []*configv1.File{{Name: rest[1], Content: file}}, Why: why, Waves: w.request(), Force: w.force,
	})
	if err != nil {
		return err
	}
	showProblems(t.err, r.GetWarnings())
	showChanges(t.out, r.GetChanges(), "")
	showBegun(t, r.GetRollout())
	return nil
}

func deleteSchema(ctx context.Context, t *terminal, args []string) error {
	o := newOptions(t, "schema delete", "TARGET... -m WHY [flags]", "Removes the schemas of targets, all or none. Their history stays, and rollback brings them back.").changes()
	return remove(ctx, o, args, func(targets []string) []string {
		for i, target := range targets {
			targets[i] = "schema/" + target
		}
		return targets
	})
}
