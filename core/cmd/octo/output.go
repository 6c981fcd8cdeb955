package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/resource"
)

// table writes rows in columns. Cells lose what would break them.
func table(w io.Writer, rows [][]string) {
	clean := strings.NewReplacer("\t", " ", "\n", " ", "\r", " ")
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			if row[i] = clean.Replace(cell); row[i] == "" {
				row[i] = "-"
			}
		}
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	_ = tw.Flush()
}

// showJSON writes a message as JSON with the names of its proto file.
func showJSON(w io.Writer, m proto.Message) error {
	raw, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return err
	}
	// protojson varies its spaces on purpose; encoding/json does not.
	out, err := json.MarshalIndent(json.RawMessage(raw), "", "  ")
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s\n", out)
	return nil
}

// showFile writes resources as a file that apply takes, with their revisions.
func showFile(w io.Writer, environment string, versions []*configv1.Version) {
	file := &resourcev1.Configuration{Environment: environment, Revisions: make(map[string]uint64)}
	for _, v := range versions {
		r := v.GetResource()
		file.Revisions[v.GetName()] = v.GetRevision()
		file.Applications = append(file.Applications, r.GetApplications()...)
		file.Policies = append(file.Policies, r.GetPolicies()...)
		file.AuthPolicies = append(file.AuthPolicies, r.GetAuthPolicies()...)
		file.MeshSwitches = append(file.MeshSwitches, r.GetMeshSwitches()...)
		file.Instances = append(file.Instances, r.GetInstances()...)
		file.Schemas = append(file.Schemas, r.GetSchemas()...)
	}
	_, _ = w.Write(resource.Format(file))
}

// by is who made a version, and when is at what time.
func by(v *configv1.Version) string {
	if !v.GetVerified() {
		return v.GetAuthor() + " (unproved)"
	}
	return v.GetAuthor()
}

func when(v *configv1.Version) string { return v.GetTime().AsTime().Format("2006-01-02 15:04:05Z") }

func versionRows(versions []*configv1.Version) [][]string {
	rows := [][]string{{"NAME", "REVISION", "CHANGED", "BY", "HOW", "WHY"}}
	for _, v := range versions {
		revision := fmt.Sprint(v.GetRevision())
		if c := v.GetCandidate(); c != nil {
			revision += fmt.Sprintf(" (%d by roll-out %d)", c.GetRevision(), c.GetRollout())
		}
		rows = append(rows, []string{
			v.GetName(), revision, when(v), by(v), v.GetAction(), v.GetReason(),
		})
	}
	return rows
}

func showProblems(w io.Writer, problems []*configv1.Problem) {
	for _, p := range problems {
		fmt.Fprintln(w, resource.Problem{
			File: p.GetFile(), Line: int(p.GetLine()), Resource: p.GetResource(), Field: p.GetField(), Text: p.GetText(), Warning: p.GetWarning(),
		})
	}
}

// showFields writes changed fields, as "+", "-" and "~".
func showFields(w io.Writer, fields []*configv1.FieldChange) {
	for _, f := range fields {
		switch {
		case f.GetBefore() == "":
			fmt.Fprintf(w, "  + %s: %s\n", f.GetField(), f.GetAfter())
		case f.GetAfter() == "":
			fmt.Fprintf(w, "  - %s: %s\n", f.GetField(), f.GetBefore())
		default:
			fmt.Fprintf(w, "  ~ %s: %s -> %s\n", f.GetField(), f.GetBefore(), f.GetAfter())
		}
	}
}

var actions = map[configv1.Change_Action]string{
	configv1.Change_ACTION_UNCHANGED: "unchanged", configv1.Change_ACTION_CREATED: "created",
	configv1.Change_ACTION_UPDATED: "updated", configv1.Change_ACTION_DELETED: "deleted",
}

// showChanges writes what each resource has become. It tells whether any is not what it was.
func showChanges(w io.Writer, changes []*configv1.Change, suffix string) bool {
	any := false
	for _, c := range changes {
		fmt.Fprintf(w, "%s %s", c.GetName(), actions[c.GetAction()])
		if c.GetAction() == configv1.Change_ACTION_UNCHANGED {
			fmt.Fprintf(w, " (revision %d)\n", c.GetOldRevision())
			continue
		}
		any = true
		fmt.Fprintf(w, " (revision %d)%s\n", c.GetNewRevision(), suffix)
		if c.GetAction() == configv1.Change_ACTION_UPDATED {
			showFields(w, c.GetFields())
		}
	}
	return any
}
