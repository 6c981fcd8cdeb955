package configserver

import (
	"context"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/resource"
)

// Delete implements the service.
func (s *Service) Delete(ctx context.Context, r *configv1.DeleteRequest) (*configv1.DeleteResponse, error) {
	if len(r.GetNames()) == 0 {
		return nil, invalid("no resource is named")
	}
	soak, err := soakOf(r.GetWaves())
	if err != nil {
		return nil, err
	}
	c := &change{
		service: s, environment: r.GetEnvironment(), action: "delete", reason: r.GetWhy().GetReason(), waves: r.GetWaves() != nil,
		soak: soak, force: r.GetForce(), guarded: true,
	}
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
	if c.author, c.verified, err = s.author(ctx, r.GetWhy()); err != nil {
		return nil, err
	}
	done, err := c.run(ctx)
	if err != nil {
		return nil, err
	}
	return &configv1.DeleteResponse{Changes: done.changes, Rollout: done.rollout.GetId()}, nil
}

// Rollback implements the service.
func (s *Service) Rollback(ctx context.Context, r *configv1.RollbackRequest) (*configv1.RollbackResponse, error) {
	if err := check(r.GetEnvironment(), r.GetName()); err != nil {
		return nil, err
	}
	soak, err := soakOf(r.GetWaves())
	if err != nil {
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
		reason: r.GetWhy().GetReason(), waves: r.GetWaves() != nil, soak: soak, force: r.GetForce(), guarded: true,
		wishes: []wish{{name: r.GetName(), expected: &revision, resource: old.GetResource(), remove: old.GetDeleted()}},
		// What was sound once need not be so in a newer version of the server.
		validate: func(whole *resourcev1.Configuration) error {
			return wrong(resource.ValidateConfiguration(old.GetResource(), whole, ""))
		},
	}
	done, err := c.run(ctx)
	if err != nil {
		return nil, err
	}
	return &configv1.RollbackResponse{Change: done.changes[0], Rollout: done.rollout.GetId()}, nil
}
