package configserver

import (
	"context"
	"errors"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"

	"github.com/octomesh/octomesh/core/configserver/store"
	"github.com/octomesh/octomesh/core/configserver/wave"
)

// Rollouts implements the service.
func (s *Service) Rollouts(ctx context.Context, r *configv1.RolloutsRequest) (*configv1.RolloutsResponse, error) {
	if err := check(r.GetEnvironment(), ""); err != nil {
		return nil, err
	}
	out := &configv1.RolloutsResponse{}
	for _, prefix := range []string{rollingPrefix, rolledPrefix} {
		entries, err := s.rollouts(ctx, prefix, r)
		if err != nil {
			return nil, storeError(err)
		}
		for _, e := range entries {
			one, err := decodeRollout(e)
			if err != nil {
				return nil, err
			}
			out.Rollouts = append(out.Rollouts, one)
		}
	}
	if r.GetId() != 0 && len(out.Rollouts) == 0 {
		return nil, noRollout(r.GetEnvironment(), r.GetId())
	}
	said, err := s.observations(ctx, r.GetEnvironment())
	if err != nil {
		return nil, storeError(err)
	}
	for _, one := range out.Rollouts {
		if !stateOf(one).Over() {
			one.Progress = progress(one, said[observedKey(one.Environment, one.Id, "")])
		}
	}
	slices.SortFunc(out.Rollouts, func(a, b *configv1.Rollout) int { return int(int64(b.Id) - int64(a.Id)) })
	return out, nil
}

func (s *Service) rollouts(ctx context.Context, prefix string, r *configv1.RolloutsRequest) ([]store.Entry, error) {
	if r.GetId() == 0 {
		entries, _, err := s.store.List(ctx, prefix+below(r.GetEnvironment(), ""))
		return entries, err
	}
	e, err := s.store.Get(ctx, prefix+numbered(r.GetEnvironment(), r.GetId()))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return []store.Entry{e}, err
}

func noRollout(environment string, id uint64) error {
	return status.Errorf(codes.NotFound, "there is no roll-out %d in environment %s, or it is long over", id, environment)
}

// progress adds up what Pilots say. One that has not heard of the last step counts as one that waits.
func progress(r *configv1.Rollout, words []word) *configv1.Progress {
	p := &configv1.Progress{Pilots: uint32(len(words))}
	for _, w := range words {
		p.Connected += w.GetConnected()
		if w.GetStep() != r.GetStep() {
			p.Waiting++
			continue
		}
		p.Chosen += w.GetChosen()
		p.Applied += w.GetApplied()
		p.Waiting += w.GetWaiting()
	}
	return p
}

var steering = map[configv1.SteerRequest_Action]wave.Kind{
	configv1.SteerRequest_ACTION_PAUSE: wave.Pause, configv1.SteerRequest_ACTION_RESUME: wave.Resume,
	configv1.SteerRequest_ACTION_ADVANCE: wave.Advance, configv1.SteerRequest_ACTION_FINISH: wave.Finish, configv1.SteerRequest_ACTION_REVERT: wave.Revert,
}

// Steer implements the service.
func (s *Service) Steer(ctx context.Context, r *configv1.SteerRequest) (*configv1.SteerResponse, error) {
	if err := check(r.GetEnvironment(), ""); err != nil {
		return nil, err
	}
	kind, ok := steering[r.GetAction()]
	if !ok {
		return nil, invalid("say what to do with the roll-out: pause, resume, advance, finish or revert")
	}
	who, verified, err := s.author(ctx, r.GetWhy())
	if err != nil {
		return nil, err
	}
	one, err := s.move(ctx, move{
		environment: r.GetEnvironment(), id: r.GetId(), author: who, verified: verified, now: s.now(),
		events: []wave.Event{{Kind: kind, Text: r.GetWhy().GetReason()}},
	})
	if err != nil || one != nil {
		return &configv1.SteerResponse{Rollout: one}, err
	}
	e, err := s.store.Get(ctx, rolledKey(r.GetEnvironment(), r.GetId()))
	if err != nil {
		return nil, noRollout(r.GetEnvironment(), r.GetId())
	}
	if one, err = decodeRollout(e); err != nil {
		return nil, err
	}
	return nil, status.Errorf(codes.FailedPrecondition, "roll-out %d is over: %v: %s", r.GetId(), stateOf(one).Phase, one.GetWhy())
}
