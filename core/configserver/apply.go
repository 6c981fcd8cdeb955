package configserver

import (
	"context"
	"errors"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/configserver/store"
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
	readings, err := parse(r.GetFiles())
	if err != nil {
		return nil, err
	}
	wishes, problems := wishesOf(readings, r.GetRevisions())
	if err := wrong(problems); err != nil {
		return nil, err
	}
	c := &change{service: s, environment: r.GetEnvironment(), action: "apply", dry: r.GetDryRun(), wishes: wishes}
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
			g.doc.Locate(found)
			problems = append(problems, found...)
		}
		out.Warnings = encodeProblems(resource.Warnings(problems))
		return wrong(problems)
	}
	out.Changes, err = c.run(ctx)
	if err != nil {
		return nil, err
	}
	return out, nil
}

// parse reads all files, or says what is wrong with any of them.
func parse(files []*configv1.File) ([]reading, error) {
	if len(files) == 0 {
		return nil, invalid("no file is given")
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

// change is a request that writes.
type change struct {
	service        *Service
	environment    string
	action         string
	author, reason string
	verified, dry  bool
	wishes         []wish
	validate       func(whole *resourcev1.Configuration) error // may be nil
}

// run makes the change; if others overtake it, it looks again at what is there now, unless a revision was expected.
func (c *change) run(ctx context.Context) ([]*configv1.Change, error) {
	for range attempts {
		changes, ops, err := c.plan(ctx)
		if err != nil || c.dry || len(ops) == 0 {
			return changes, err
		}
		_, err = c.service.store.Commit(ctx, ops...)
		var conflict *store.ConflictError
		if errors.As(err, &conflict) {
			continue
		}
		if err != nil {
			return nil, storeError(err)
		}
		for _, ch := range changes {
			if ch.GetAction() == configv1.Change_ACTION_UNCHANGED {
				continue
			}
			c.service.log.Info("configuration changed", "environment", c.environment, "resource", ch.GetName(), "action", c.action,
				"revision", ch.GetNewRevision(), "author", c.author, "verified", c.verified, "reason", c.reason)
		}
		return changes, nil
	}
	return nil, status.Errorf(codes.Aborted, "others change the same resources all the time: gave up after %d attempts", attempts)
}

// plan compares wishes with what is there.
func (c *change) plan(ctx context.Context) (changes []*configv1.Change, ops []store.Op, err error) {
	have, _, err := c.service.all(ctx, c.environment, "")
	if err != nil {
		return nil, nil, err
	}
	if c.validate != nil {
		whole := &resourcev1.Configuration{}
		for _, k := range have {
			if k.live() {
				merge(whole, k.GetResource())
			}
		}
		if err := c.validate(whole); err != nil {
			return nil, nil, err
		}
	}
	for _, w := range c.wishes {
		ch, op, err := c.one(ctx, w, have[w.name])
		if err != nil {
			return nil, nil, err
		}
		changes, ops = append(changes, ch), append(ops, op...)
	}
	if len(ops) > store.MaxOps {
		return nil, nil, invalid("%d resources would change, at most %d can at once: apply fewer files at a time", len(ops)/2, MaxChanges)
	}
	return changes, ops, nil
}

// one plans the change of one resource.
func (c *change) one(ctx context.Context, w wish, have kept) (*configv1.Change, []store.Op, error) {
	if w.expected != nil && *w.expected != have.revision() {
		return nil, nil, c.conflict(ctx, w, have)
	}
	ch := &configv1.Change{Name: w.name, OldRevision: have.revision(), Action: configv1.Change_ACTION_UPDATED}
	var before *resourcev1.Configuration
	if have.live() {
		before = have.GetResource()
	}
	switch {
	case w.remove && !have.live():
		return nil, nil, status.Errorf(codes.NotFound, "%s is not in environment %s", w.name, c.environment)
	case w.remove:
		ch.Action = configv1.Change_ACTION_DELETED
	case !have.live():
		ch.Action = configv1.Change_ACTION_CREATED
	case proto.Equal(before, w.resource):
		ch.Action, ch.NewRevision = configv1.Change_ACTION_UNCHANGED, have.revision()
		return ch, nil, nil
	}
	v := &configv1.Version{
		Environment: c.environment, Name: w.name, Revision: have.GetRevision() + 1, Deleted: w.remove, Author: c.author,
		Verified: c.verified, Reason: c.reason, Time: timestamppb.New(c.service.now()), Action: c.action, Resource: w.resource,
	}
	ch.NewRevision, ch.Fields = v.Revision, compare(before, w.resource)
	value, err := proto.Marshal(v)
	if err != nil {
		return nil, nil, status.Errorf(codes.Internal, "%s: %v", w.name, err)
	}
	return ch, []store.Op{
		{Key: currentKey(c.environment, w.name), Expect: have.at, Value: value},
		{Key: historyKey(c.environment, w.name, v.Revision), Expect: 0, Value: value},
	}, nil
}

// conflict says what is there in place of what was expected, and what has changed meanwhile.
func (c *change) conflict(ctx context.Context, w wish, have kept) error {
	detail := &configv1.Conflict{Name: w.name, Expected: *w.expected, Actual: have.Version}
	if *w.expected > 0 && have.Version != nil {
		if old, err := c.service.version(ctx, c.environment, w.name, *w.expected); err == nil {
			detail.Fields = compare(old.GetResource(), have.GetResource())
		}
	}
	return refuse(codes.Aborted, protoadapt.MessageV1Of(detail), "%s: revision %d was expected, but it %s. Nothing was written: read it again, and decide anew",
		label(c.environment, w.name), *w.expected, changedBy(have.Version))
}

// Delete implements the service.
func (s *Service) Delete(ctx context.Context, r *configv1.DeleteRequest) (*configv1.DeleteResponse, error) {
	if len(r.GetNames()) == 0 {
		return nil, invalid("no resource is named")
	}
	c := &change{service: s, environment: r.GetEnvironment(), action: "delete", reason: r.GetWhy().GetReason()}
	for i, name := range r.GetNames() {
		if err := check(r.GetEnvironment(), name); err != nil {
			return nil, err
		}
		if name == "" || slices.Contains(r.GetNames()[:i], name) {
			return nil, invalid("%q: name each resource once", name)
		}
		w := wish{name: name, remove: true}
		if e, ok := r.GetRevisions()[name]; ok {
			w.expected = &e
		}
		c.wishes = append(c.wishes, w)
	}
	var err error
	if c.author, c.verified, err = s.author(ctx, r.GetWhy()); err != nil {
		return nil, err
	}
	changes, err := c.run(ctx)
	if err != nil {
		return nil, err
	}
	return &configv1.DeleteResponse{Changes: changes}, nil
}

// Rollback implements the service.
func (s *Service) Rollback(ctx context.Context, r *configv1.RollbackRequest) (*configv1.RollbackResponse, error) {
	if err := check(r.GetEnvironment(), r.GetName()); err != nil {
		return nil, err
	}
	who, verified, err := s.author(ctx, r.GetWhy())
	if err != nil {
		return nil, err
	}
	have, err := s.current(ctx, r.GetEnvironment(), r.GetName())
	if err != nil {
		return nil, err
	}
	if e := r.GetExpected(); e != 0 && have.GetRevision() != e {
		c := &change{service: s, environment: r.GetEnvironment()}
		return nil, c.conflict(ctx, wish{name: r.GetName(), expected: &e}, have)
	}
	to := r.GetTo()
	if to == 0 {
		if have.GetRevision() < 2 {
			return nil, status.Errorf(codes.FailedPrecondition, "%s has no older revision to go back to", r.GetName())
		}
		to = have.GetRevision() - 1
	}
	old, err := s.version(ctx, r.GetEnvironment(), r.GetName(), to)
	if err != nil {
		return nil, err
	}
	revision := have.revision()
	c := &change{
		service: s, environment: r.GetEnvironment(), action: rollbackAction(to), author: who, verified: verified,
		reason: r.GetWhy().GetReason(),
		wishes: []wish{{name: r.GetName(), expected: &revision, resource: old.GetResource(), remove: old.GetDeleted()}},
		// What was sound once need not be so in a newer version of the server.
		validate: func(whole *resourcev1.Configuration) error {
			return wrong(resource.ValidateConfiguration(old.GetResource(), whole, ""))
		},
	}
	changes, err := c.run(ctx)
	if err != nil {
		return nil, err
	}
	return &configv1.RollbackResponse{Change: changes[0]}, nil
}
