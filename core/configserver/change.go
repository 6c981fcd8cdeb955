package configserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/configserver/store"
)

// change is a request that writes.
type change struct {
	service        *Service
	environment    string
	action         string
	author, reason string
	verified, dry  bool
	wishes         []wish
	validate       func(whole *resourcev1.Configuration) error // may be nil
	waves, force   bool
	soak           time.Duration
	guarded        bool // switches that rise are checked before
}

// plan is what a change would do, and what it has done.
type plan struct {
	changes  []*configv1.Change
	groups   []group // of those that change, in their order
	warnings []*configv1.Problem
	rollout  *configv1.Rollout // that begins; nil: none
	id       uint64            // of a roll-out that would begin
	sequence int64             // the store's revision of the key that counts them
	parts    int               // that it was written in
	forced   map[string]bool   // switches that are written although something is in the way
}

// group is what has to be written together for one resource.
type group struct {
	*configv1.Change
	ops []store.Op
}

// run makes the change; if others overtake it, it looks again at what is there now, unless a revision was expected.
// What is too much for one commit is written in parts, each whole; what is there already is not written again.
func (c *change) run(ctx context.Context) (*plan, error) {
	written := make(map[string]*configv1.Change)
	for range attempts {
		p, err := c.plan(ctx, written)
		if err != nil {
			return nil, partly(err, len(written))
		}
		parts, err := p.divide()
		if err != nil || c.dry {
			return p, err
		}
		p.parts = len(parts)
		for len(parts) > 0 {
			if err = c.commit(ctx, parts[0], written); err != nil {
				break
			}
			parts = parts[1:]
		}
		var conflict *store.ConflictError
		switch {
		case err == nil:
			for i, ch := range p.changes { // what an earlier attempt has written is unchanged by now
				if w := written[ch.GetName()]; w != nil {
					p.changes[i] = w
				}
			}
			return p, nil
		case !errors.As(err, &conflict):
			return nil, partly(storeError(err), len(written))
		}
	}
	return nil, partly(status.Errorf(codes.Aborted, "others change the same resources all the time: gave up after %d attempts", attempts), len(written))
}

// partly says of an error that a part was written before.
func partly(err error, written int) error {
	if written == 0 {
		return err
	}
	return status.Errorf(status.Code(err), "%d resources were written before this, since they are too many for one commit; the others were not: %s. Apply again to go on",
		written, status.Convert(err).Message())
}

func (c *change) commit(ctx context.Context, part []group, written map[string]*configv1.Change) error {
	var ops []store.Op
	for _, g := range part {
		ops = append(ops, g.ops...)
	}
	if len(ops) == 0 {
		return nil
	}
	if _, err := c.service.store.Commit(ctx, ops...); err != nil {
		return err
	}
	for _, g := range part {
		written[g.GetName()] = g.Change
		c.service.log.Info("configuration changed", "environment", c.environment, "resource", g.GetName(), "action", c.action,
			"revision", g.GetNewRevision(), "author", c.author, "verified", c.verified, "reason", c.reason, "waves", c.waves)
	}
	return nil
}

// divide cuts the groups into parts that fit into one commit each. A roll-out is one part.
func (p *plan) divide() ([][]group, error) {
	var out [][]group
	ops, bytes := 0, 0
	for _, g := range p.groups {
		size := 0
		for _, op := range g.ops {
			size += len(op.Key) + len(op.Value)
		}
		if n := len(out); n == 0 || ops+len(g.ops) > store.MaxOps || bytes+size > store.MaxBytes {
			if n > 0 && p.rollout != nil {
				return nil, invalid("this is too much to go in waves together: at most %d bytes with what it replaces. Apply fewer at a time", store.MaxBytes)
			}
			out, ops, bytes = append(out, nil), 0, 0
		}
		out[len(out)-1] = append(out[len(out)-1], g)
		ops, bytes = ops+len(g.ops), bytes+size
	}
	return out, nil
}

// plan compares wishes with what is there.
func (c *change) plan(ctx context.Context, written map[string]*configv1.Change) (*plan, error) {
	have, _, err := c.service.all(ctx, c.environment, "")
	if err != nil {
		return nil, err
	}
	if c.validate != nil {
		whole := &resourcev1.Configuration{}
		for _, k := range have {
			if k.live() {
				merge(whole, k.GetResource())
			}
		}
		if err := c.validate(whole); err != nil {
			return nil, err
		}
	}
	p, live, bytes := &plan{}, 0, 0
	if err := c.guard(ctx, p, have); err != nil {
		return nil, err
	}
	if c.waves {
		last, at, err := c.service.lastRollout(ctx, c.environment)
		if err != nil {
			return nil, err
		}
		p.id, p.sequence = last+1, at
	}
	for _, k := range have {
		if k.live() {
			live++
		}
		bytes += k.size
	}
	for _, w := range c.wishes {
		if done := written[w.name]; done != nil {
			p.changes = append(p.changes, done)
			continue
		}
		if err := c.one(ctx, p, w, have[w.name]); err != nil {
			return nil, err
		}
		switch p.changes[len(p.changes)-1].GetAction() {
		case configv1.Change_ACTION_CREATED:
			live++
		case configv1.Change_ACTION_UPDATED, configv1.Change_ACTION_DELETED:
			c.warn(p, w, have)
		}
	}
	if n := len(p.rollout.GetParts()); n > MaxRolledOut {
		return nil, invalid("%d resources would go in waves together, at most %d can: apply fewer at a time", n, MaxRolledOut)
	}
	if live > MaxResources {
		return nil, invalid("environment %s would have %d resources, at most %d: delete what nobody needs", c.environment, live, MaxResources)
	}
	for _, g := range p.groups {
		bytes += len(g.ops[0].Value)
	}
	if bytes > MaxEnvironment {
		return nil, invalid("environment %s would have %d bytes, at most %d: every Pilot keeps them. Delete what nobody needs", c.environment, bytes, MaxEnvironment)
	}
	return p, c.begin(p)
}

// warn says that a change of what matters most goes to everybody at once.
func (c *change) warn(p *plan, w wish, have map[string]kept) {
	kind, target, _ := parseName(w.name)
	if c.waves || kind != KindPolicy && kind != KindAuth {
		return
	}
	app := have[KindApplication+"/"+target]
	if !app.live() || app.GetResource().GetApplications()[0].GetTier() != resourcev1.Tier_TIER_CRITICAL {
		return
	}
	p.warnings = append(p.warnings, &configv1.Problem{
		Resource: w.name, Warning: true, Text: target + " is TIER_CRITICAL, and all proxies get this at once: --waves brings it to one of them first",
	})
}

// one plans the change of one resource.
func (c *change) one(ctx context.Context, p *plan, w wish, have kept) error {
	if w.expected != nil && *w.expected != have.revision() {
		return c.conflict(ctx, w, have)
	}
	ch := &configv1.Change{Name: w.name, OldRevision: have.revision(), Action: configv1.Change_ACTION_UPDATED}
	var before *resourcev1.Configuration
	if have.live() {
		before = have.GetResource()
	}
	switch {
	case w.remove && !have.live() && have.GetCandidate() == nil:
		return status.Errorf(codes.NotFound, "%s is not in environment %s", w.name, c.environment)
	case w.remove:
		ch.Action = configv1.Change_ACTION_DELETED
	case !have.live():
		ch.Action = configv1.Change_ACTION_CREATED
	case proto.Equal(before, w.resource):
		ch.Action, ch.NewRevision = configv1.Change_ACTION_UNCHANGED, have.revision()
		p.changes = append(p.changes, ch)
		return nil
	}
	if id := have.GetCandidate().GetRollout(); id != 0 && c.dry {
		p.warnings = append(p.warnings, &configv1.Problem{
			Resource: w.name, Warning: true, Text: fmt.Sprintf("is being rolled out by roll-out %d: it can be written when that is over", id),
		})
	} else if id != 0 {
		return status.Errorf(codes.FailedPrecondition,
			"%s is being rolled out (roll-out %d): end that first, by octo rollout revert %d or octo rollout finish %d. Nothing was written",
			label(c.environment, w.name), id, id, id)
	}
	if err := c.service.refused(ctx, c, w); err != nil {
		return err
	}
	v := &configv1.Version{
		Environment: c.environment, Name: w.name, Revision: have.GetRevision() + 1, Deleted: w.remove, Author: c.author,
		Verified: c.verified, Reason: c.reason, Time: timestamppb.New(c.service.now()), Action: c.action, Resource: w.resource,
	}
	if p.forced[w.name] {
		v.Action += ", forced"
	}
	ch.NewRevision, ch.Fields = v.Revision, compare(before, w.resource)
	p.changes = append(p.changes, ch)
	current := v
	if kind, _, _ := parseName(w.name); c.waves && slices.Contains(rolledOut, kind) {
		current = c.candidate(p, v, have)
	}
	ops, err := c.service.write(v, current, have.at)
	p.groups = append(p.groups, group{ch, ops})
	return err
}

// write is what keeps a new version in the history, and what is current by now: it, or what it is the candidate of.
func (s *Service) write(v, current *configv1.Version, at int64) ([]store.Op, error) {
	past, err := proto.Marshal(v)
	if err != nil {
		return nil, status.Errorf(codes.Internal, "%s: %v", v.GetName(), err)
	}
	now := past
	if current != v {
		if now, err = proto.Marshal(current); err != nil {
			return nil, status.Errorf(codes.Internal, "%s: %v", v.GetName(), err)
		}
	}
	ops := []store.Op{
		{Key: currentKey(v.GetEnvironment(), v.GetName()), Expect: at, Value: now},
		{Key: historyKey(v.GetEnvironment(), v.GetName(), v.GetRevision()), Expect: 0, Value: past},
	}
	if kept := uint64(s.cfg.Kept); v.GetRevision() > kept {
		ops = append(ops, store.Op{Key: historyKey(v.GetEnvironment(), v.GetName(), v.GetRevision()-kept), Expect: store.Any, Delete: true})
	}
	return ops, nil
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
