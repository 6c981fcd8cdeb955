package configserver

import (
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"

	"github.com/octomesh/octomesh/core/configserver/store"
	"github.com/octomesh/octomesh/core/configserver/wave"
)

// rolledOut are the kinds that can go in waves: those that proxies are told. An instance that is taken out is out at once.
var rolledOut = []string{KindPolicy, KindAuth, KindSwitch, KindSchema}

const maxSoak = 24 * time.Hour

// soakOf is how long each stage of a roll-out lasts; 0: nothing goes in waves.
func soakOf(w *configv1.Waves) (time.Duration, error) {
	if w == nil {
		return 0, nil
	}
	soak := w.GetSoak().AsDuration()
	if w.Soak == nil {
		soak = wave.Config{}.WithDefaults().Soak
	}
	if soak <= 0 || soak > maxSoak {
		return 0, invalid("a stage cannot last %v: more than 0, and at most %v", soak, maxSoak)
	}
	return soak, nil
}

// candidate is what is current while v is being rolled out: what was, with v beside it.
func (c *change) candidate(p *plan, v *configv1.Version, have kept) *configv1.Version {
	if p.rollout == nil {
		p.rollout = &configv1.Rollout{
			Environment: c.environment, Id: p.id, Phase: configv1.Rollout_PHASE_ROLLING, Soak: durationpb.New(c.soak), Author: c.author, Verified: c.verified,
			Reason: c.reason, Begun: v.Time, Step: 1,
		}
	}
	p.rollout.Parts = append(p.rollout.Parts, &configv1.RolloutPart{Name: v.Name, From: have.revision(), To: v.Revision})
	v.Action, v.Rollout = v.Action+" in waves", p.id
	current := &configv1.Version{Environment: v.Environment, Name: v.Name, Deleted: true}
	if have.Version != nil {
		current = proto.CloneOf(have.Version)
	}
	current.Candidate = &configv1.Candidate{
		Revision: v.Revision, Resource: v.Resource, Deleted: v.Deleted, Rollout: p.id, Salt: salt(c.environment, p.id), Step: 1,
	}
	return current
}

// begin adds to a plan what keeps its roll-out.
func (c *change) begin(p *plan) error {
	r := p.rollout
	if r == nil {
		return nil
	}
	note(r, r.GetBegun().AsTime(), c.author, "begun: "+c.reason)
	value, err := proto.Marshal(r)
	if err != nil {
		return err
	}
	first := &p.groups[0]
	first.ops = append(first.ops,
		store.Op{Key: sequenceKey(c.environment), Expect: p.sequence, Value: []byte(strconv.FormatUint(r.GetId(), 10))},
		store.Op{Key: rollingKey(c.environment, r.GetId()), Expect: 0, Value: value},
	)
	return nil
}

// salt is equal for all resources of a roll-out: they reach the same proxies.
func salt(environment string, id uint64) string { return fmt.Sprintf("%s/%d", environment, id) }

// maxEvents bounds what is remembered of a roll-out.
const maxEvents = 100

func note(r *configv1.Rollout, now time.Time, author, text string) {
	r.Events = append(r.Events, &configv1.RolloutEvent{Time: timestamppb.New(now), Author: author, Text: text})
	r.Events = r.Events[max(0, len(r.Events)-maxEvents):]
}
