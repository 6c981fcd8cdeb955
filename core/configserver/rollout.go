package configserver

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"

	"github.com/octomesh/octomesh/core/configserver/store"
	"github.com/octomesh/octomesh/core/configserver/wave"
)

// Keys of roll-outs. Those that go on stand apart from those that are over, so that whoever moves them reads little.
const (
	sequencePrefix = "config/rollouts/"
	rollingPrefix  = "config/rolling/"
	rolledPrefix   = "config/rolled/"
	observedPrefix = "config/observed/"

	keptRollouts = 100 // that are over, in an environment
)

func sequenceKey(environment string) string { return sequencePrefix + url.PathEscape(environment) }

func rollingKey(environment string, id uint64) string {
	return rollingPrefix + numbered(environment, id)
}

func rolledKey(environment string, id uint64) string { return rolledPrefix + numbered(environment, id) }

func observedKey(environment string, id uint64, pilot string) string {
	return observedPrefix + numbered(environment, id) + "/" + url.PathEscape(pilot)
}

func numbered(environment string, id uint64) string {
	return fmt.Sprintf("%s/%020d", url.PathEscape(environment), id)
}

// lastRollout is the number of an environment's last roll-out, 0 if there was none, and the store's revision of it.
func (s *Service) lastRollout(ctx context.Context, environment string) (id uint64, at int64, err error) {
	e, err := s.store.Get(ctx, sequenceKey(environment))
	if errors.Is(err, store.ErrNotFound) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, storeError(err)
	}
	if id, err = strconv.ParseUint(string(e.Value), 10, 64); err != nil {
		return 0, 0, status.Errorf(codes.DataLoss, "key %q of the store is no number: %v", e.Key, err)
	}
	return id, e.Revision, nil
}

func decodeRollout(e store.Entry) (*configv1.Rollout, error) {
	r := &configv1.Rollout{}
	if err := proto.Unmarshal(e.Value, r); err != nil {
		return nil, status.Errorf(codes.DataLoss, "key %q of the store is no roll-out: %v", e.Key, err)
	}
	return r, nil
}

// rolling reads a roll-out that goes on; nil: it does not.
func (s *Service) rolling(ctx context.Context, environment string, id uint64) (*configv1.Rollout, int64, error) {
	e, err := s.store.Get(ctx, rollingKey(environment, id))
	if errors.Is(err, store.ErrNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, storeError(err)
	}
	r, err := decodeRollout(e)
	return r, e.Revision, err
}

var phases = map[wave.Phase]configv1.Rollout_Phase{
	wave.Rolling: configv1.Rollout_PHASE_ROLLING, wave.Paused: configv1.Rollout_PHASE_PAUSED,
	wave.Done: configv1.Rollout_PHASE_DONE, wave.Reverted: configv1.Rollout_PHASE_REVERTED,
}

// stateOf is what decides how a roll-out goes on.
func stateOf(r *configv1.Rollout) wave.State {
	s := wave.State{Stage: int(r.GetStage()), First: r.GetFirst(), Why: r.GetWhy(), Crashes: make(map[string]int)}
	for phase, is := range phases {
		if is == r.GetPhase() {
			s.Phase = phase
		}
	}
	if r.Since != nil {
		s.Since = r.Since.AsTime()
	}
	for node, n := range r.GetCrashes() {
		s.Crashes[node] = int(n)
	}
	return s
}

// put takes a state into a roll-out.
func put(r *configv1.Rollout, s wave.State) {
	r.Phase, r.Stage, r.First, r.Why, r.Permille = phases[s.Phase], uint32(s.Stage), s.First, s.Why, s.Permille()
	r.Since = nil
	if !s.Since.IsZero() {
		r.Since = timestamppb.New(s.Since)
	}
	r.Crashes = make(map[string]uint32)
	for node, n := range s.Crashes {
		r.Crashes[node] = uint32(n)
	}
}

// move is something that happens to a roll-out.
type move struct {
	environment string
	id          uint64
	author      string // who does it; empty: it happens
	verified    bool
	now         time.Time
	begun       time.Time // no stage has soaked longer than since then; zero: whatever the roll-out says
	events      []wave.Event
}

// move has something happen to a roll-out. It returns what it is by then; nil: it does not go on any more.
func (s *Service) move(ctx context.Context, m move) (*configv1.Rollout, error) {
	for range attempts {
		r, at, err := s.rolling(ctx, m.environment, m.id)
		if err != nil || r == nil {
			return nil, err
		}
		before := stateOf(r)
		next := before
		if !next.Since.IsZero() && next.Since.Before(m.begun) {
			next.Since = m.begun
		}
		from := next
		for _, e := range m.events {
			next = next.Step(wave.Config{Soak: r.GetSoak().AsDuration()}, m.now, e)
		}
		if next.Equal(from) {
			return r, nil
		}
		ops, err := s.moved(ctx, m, r, at, before, next)
		if err != nil {
			return nil, err
		}
		_, err = s.store.Commit(ctx, ops...)
		var conflict *store.ConflictError
		if errors.As(err, &conflict) {
			continue
		}
		if err == nil {
			s.log.Info("roll-out", "environment", m.environment, "id", m.id, "phase", next.Phase, "stage", r.GetEvents()[len(r.GetEvents())-1].GetText(), "author", m.author)
		}
		return r, storeError(err)
	}
	return nil, status.Errorf(codes.Aborted, "others move roll-out %d all the time: gave up after %d attempts", m.id, attempts)
}

// moved is what a step of a roll-out writes. It changes r.
func (s *Service) moved(ctx context.Context, m move, r *configv1.Rollout, at int64, before, next wave.State) ([]store.Op, error) {
	put(r, next)
	chosen := !slices.Equal(before.Nodes(), next.Nodes()) || before.Permille() != next.Permille()
	if chosen || next.Over() {
		r.Step++
	}
	note(r, m.now, m.author, happened(before, next))
	var ops []store.Op
	for _, part := range r.GetParts() {
		k, err := s.current(ctx, r.GetEnvironment(), part.GetName())
		if err != nil {
			return nil, err
		}
		if k.GetCandidate().GetRollout() != r.GetId() {
			return nil, status.Errorf(codes.DataLoss, "%s is not being rolled out by roll-out %d", part.GetName(), r.GetId())
		}
		more, err := s.movedPart(ctx, m, r, k, next, chosen)
		if err != nil {
			return nil, err
		}
		ops = append(ops, more...)
	}
	value, err := proto.Marshal(r)
	if err != nil {
		return nil, err
	}
	if !next.Over() {
		return append(ops, store.Op{Key: rollingKey(r.Environment, r.Id), Expect: at, Value: value}), nil
	}
	ops = append(ops, store.Op{Key: rollingKey(r.Environment, r.Id), Expect: at, Delete: true},
		store.Op{Key: rolledKey(r.Environment, r.Id), Expect: 0, Value: value})
	if r.Id > keptRollouts {
		ops = append(ops, store.Op{Key: rolledKey(r.Environment, r.Id-keptRollouts), Expect: store.Any, Delete: true})
	}
	return ops, nil
}

// movedPart is what a step writes of one resource.
func (s *Service) movedPart(ctx context.Context, m move, r *configv1.Rollout, k kept, next wave.State, chosen bool) ([]store.Op, error) {
	c := k.GetCandidate()
	switch next.Phase {
	case wave.Done:
		e, err := s.store.Get(ctx, historyKey(k.GetEnvironment(), k.GetName(), c.GetRevision()))
		if err != nil {
			return nil, storeError(err)
		}
		v, err := decode(e)
		if err != nil {
			return nil, err
		}
		value, err := proto.Marshal(v.Version)
		if err != nil {
			return nil, err
		}
		ops, err := s.acquit(ctx, k.GetEnvironment(), k.GetName(), c)
		return append(ops, store.Op{Key: currentKey(k.GetEnvironment(), k.GetName()), Expect: k.at, Value: value}), err
	case wave.Reverted:
		v := &configv1.Version{
			Environment: k.GetEnvironment(), Name: k.GetName(), Revision: c.GetRevision() + 1, Resource: k.GetResource(), Deleted: k.GetDeleted(),
			Author: m.author, Verified: m.verified, Reason: next.Why, Time: timestamppb.New(m.now), Rollout: r.GetId(),
			Action: fmt.Sprintf("revert of roll-out %d", r.GetId()),
		}
		if m.author == "" {
			v.Author, v.Verified = fmt.Sprintf("roll-out %d", r.GetId()), true
		}
		ops, err := s.write(v, v, k.at)
		if err == nil && m.author == "" { // what an operator takes back need not be bad
			var op store.Op
			op, err = s.quarantine(ctx, k.GetEnvironment(), k.GetName(), r, c, next.Why, m.now)
			ops = append(ops, op)
		}
		return ops, err
	}
	if !chosen {
		return []store.Op{{Key: currentKey(k.GetEnvironment(), k.GetName()), Expect: k.at, Keep: true}}, nil
	}
	v := proto.CloneOf(k.Version)
	v.Candidate.Nodes, v.Candidate.Permille, v.Candidate.Step = next.Nodes(), next.Permille(), r.GetStep()
	value, err := proto.Marshal(v)
	return []store.Op{{Key: currentKey(k.GetEnvironment(), k.GetName()), Expect: k.at, Value: value}}, err
}

// happened says what a step has changed.
func happened(before, next wave.State) string {
	switch {
	case next.Phase != before.Phase && next.Phase == wave.Rolling:
		return "resumed: " + next.Why
	case next.Phase != before.Phase && next.Phase == wave.Done && next.Why == "":
		return "done"
	case next.Phase != before.Phase:
		return next.Phase.String() + ": " + next.Why
	case next.Stage != before.Stage && next.Why != "":
		return "advanced to " + wave.Stages()[next.Stage].String() + ": " + next.Why
	case next.Stage != before.Stage:
		return "at " + wave.Stages()[next.Stage].String()
	case next.First != before.First && next.First == "":
		return before.First + " has left before it proved anything"
	case next.First != before.First:
		return next.First + " is the first"
	case before.Since.IsZero() && !next.Since.IsZero():
		return next.First + " goes by it"
	case len(next.Crashes) > 0:
		return "a crash"
	}
	return "again"
}
