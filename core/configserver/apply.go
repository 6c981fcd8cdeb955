package configserver

import (
	"context"
	"errors"
	"fmt"
	"slices"

	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/resource"
)

// wish is what one resource is to become.
type wish struct {
	name     string
	expected *uint64 // revision that it must have; nil: any
	resource *resourcev1.Configuration
	remove   bool
}

// reading is files that were parsed.
type reading struct {
	file *configv1.File
	doc  *resource.Document
	conf *resourcev1.Configuration
}

// Apply implements the service.
func (s *Service) Apply(ctx context.Context, r *configv1.ApplyRequest) (*configv1.ApplyResponse, error) {
	if err := check(r.GetEnvironment(), ""); err != nil {
		return nil, err
	}
	soak, err := soakOf(r.GetWaves())
	if err != nil {
		return nil, err
	}
	readings, err := parse(r.GetFiles())
	if err != nil {
		return nil, err
	}
	wishes, problems := wishesOf(readings, r.GetRevisions())
	if err := wrong(problems); err != nil {
		return nil, err
	}
	c := &change{
		service: s, environment: r.GetEnvironment(), action: "apply", dry: r.GetDryRun(), wishes: wishes, waves: r.GetWaves() != nil,
		soak: soak, force: r.GetForce(), guarded: true,
	}
	if !c.dry {
		if c.author, c.verified, err = s.author(ctx, r.GetWhy()); err != nil {
			return nil, err
		}
		c.reason = r.GetWhy().GetReason()
	}
	out := &configv1.ApplyResponse{}
	c.validate = func(whole *resourcev1.Configuration) error {
		var problems []resource.Problem
		for _, g := range readings {
			merge(whole, g.conf)
		}
		for _, g := range readings {
			found := resource.ValidateConfiguration(g.conf, whole, r.GetEnvironment())
			s.references(ctx, r.GetEnvironment(), found, r.GetForce())
			g.doc.Locate(found)
			problems = append(problems, found...)
		}
		out.Warnings = encodeProblems(resource.Warnings(problems))
		return wrong(problems)
	}
	done, err := c.run(ctx)
	if err != nil {
		return nil, err
	}
	out.Changes, out.Rollout, out.Parts = done.changes, done.rollout.GetId(), uint32(done.parts)
	out.Warnings = append(out.Warnings, done.warnings...)
	return out, nil
}

// parse reads all files, or says what is wrong with any of them.
func parse(files []*configv1.File) ([]reading, error) {
	size := 0
	for _, f := range files {
		size += len(f.GetContent())
	}
	switch {
	case len(files) == 0:
		return nil, invalid("no file is given")
	case size > MaxFiles:
		return nil, invalid("the files have %d bytes together, at most %d: apply fewer at a time", size, MaxFiles)
	}
	var out []reading
	var problems []resource.Problem
	for _, f := range files {
		g := reading{file: f, conf: &resourcev1.Configuration{}}
		var err error
		if g.doc, err = resource.Parse(f.GetName(), f.GetContent(), g.conf); err != nil {
			var e *resource.Error
			if !errors.As(err, &e) {
				return nil, invalid("%v", err)
			}
			problems = append(problems, e.Problems...)
		}
		for _, schema := range g.conf.GetSchemas() {
			resource.CompleteSchema(schema)
		}
		out = append(out, g)
	}
	return out, wrong(problems)
}

// wishesOf gathers what files say, and what they say twice.
func wishesOf(readings []reading, revisions map[string]uint64) (wishes []wish, problems []resource.Problem) {
	first := make(map[string]string)
	for _, g := range readings {
		items := split(g.conf)
		var found []resource.Problem
		for name := range g.conf.GetRevisions() {
			if !slices.ContainsFunc(items, func(i item) bool { return i.name == name }) {
				found = append(found, resource.Problem{Field: "revisions[\"" + name + "\"]", Text: "names no resource of this file"})
			}
		}
		for _, i := range items {
			if other, dup := first[i.name]; dup {
				if other != g.file.GetName() { // within a file the validation says it
					found = append(found, resource.Problem{Field: i.field, Resource: i.name, Text: "stands in " + other + " too: write it once"})
				}
				continue
			}
			first[i.name] = g.file.GetName()
			w := wish{name: i.name, resource: i.one}
			if e, ok := g.conf.GetRevisions()[i.name]; ok {
				w.expected = &e
			} else if e, ok := revisions[i.name]; ok {
				w.expected = &e
			}
			wishes = append(wishes, w)
		}
		g.doc.Locate(found)
		problems = append(problems, found...)
	}
	return wishes, problems
}

// references asks registries for targets that no resource knows. One that they do not know either is refused: calls to it
// would be. That nobody can be asked is no reason to refuse anything.
func (s *Service) references(ctx context.Context, environment string, problems []resource.Problem, force bool) {
	if s.cfg.Registries == nil || force {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, registryPatience)
	defer cancel()
	for i := range problems {
		p := &problems[i]
		if p.Target == "" {
			continue
		}
		switch known, err := s.cfg.Registries(ctx, environment, p.Target); {
		case err != nil:
			p.Text += fmt.Sprintf(" (none could be asked: %v)", err)
		case known:
			p.Text = fmt.Sprintf("no application and no policy has the name %q; a registry knows it", p.Target)
		default:
			p.Warning = false
			p.Text = fmt.Sprintf("leads nowhere: no registry, no application and no policy knows %q. Correct it, or say --force if it comes later", p.Target)
		}
	}
}
