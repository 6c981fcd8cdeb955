package registrar

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	"github.com/octomesh/octomesh/core/resource"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
)

// ErrClosed says that the table was closed.
var ErrClosed = errors.New("registrar: it is closed")

// Stream is one who speaks for instances: a Pilot. What it has registered outlives it for [Config.Keep]. Its methods are
// safe for concurrent use, but for Next.
type Stream struct {
	table *Table
	ready chan struct{} // holds one element while there are states

	// The table's lock guards these.
	states map[id]*controlv1.RegistrationState
	order  []id
	closed bool
}

// State is what became of a registration.
type State struct {
	Environment string
	*controlv1.RegistrationState
}

// Open makes a stream. Close it.
func (t *Table) Open() *Stream {
	s := &Stream{table: t, ready: make(chan struct{}, 1), states: make(map[id]*controlv1.RegistrationState)}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.opened()
	return s
}

// Close leaves what was registered to whoever takes it over.
func (s *Stream) Close() {
	t := s.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.closed {
		return
	}
	s.closed, s.states, s.order = true, nil, nil
	now := time.Now()
	for _, c := range t.claims {
		if c.owner == s {
			c.owner, c.orphaned = nil, now
			if c.want != nil {
				t.orphans[c] = struct{}{}
			}
		}
	}
	t.gone()
}

// tell keeps the newest state of an instance until it is taken. The table's lock is held.
func (s *Stream) tell(i id, incarnation uint64, state controlv1.RegistrationState_State, why error) {
	if s.closed {
		return
	}
	st := &controlv1.RegistrationState{Target: i.key.Target, Instance: i.instance, Incarnation: incarnation, State: state}
	if why != nil {
		st.Reason = why.Error()
	}
	if s.states[i] == nil {
		s.order = append(s.order, i)
	}
	s.states[i] = st
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// Next waits until there are states, and takes them; most bounds how many.
func (s *Stream) Next(ctx context.Context, most int) ([]State, error) {
	t := s.table
	for {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-t.group.Context().Done():
			return nil, ErrClosed
		case <-s.ready:
		}
		t.mu.Lock()
		n := min(most, len(s.order))
		out := make([]State, 0, n)
		for _, i := range s.order[:n] {
			out = append(out, State{i.key.Environment, s.states[i]})
			delete(s.states, i)
		}
		if s.order = s.order[n:]; len(s.order) > 0 {
			select {
			case s.ready <- struct{}{}:
			default:
			}
		} else {
			s.order = nil
		}
		t.mu.Unlock()
		if n > 0 {
			return out, nil
		}
	}
}

// Register makes an instance known, or changes what is known of it. The endpoint belongs to the table from then on.
func (s *Stream) Register(environment string, r *controlv1.Registration) {
	e := r.GetEndpoint()
	i := id{source.Key{Environment: environment, Target: e.GetTarget()}, e.GetInstance()}
	err := check(i.key, r)
	lane := s.table.lane(i.key)
	if err == nil && lane == nil {
		err = errNone
	}
	t := s.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.closed {
		return
	}
	c := t.claims[i]
	if err == nil && c == nil && len(t.claims) >= t.cfg.MaxInstances {
		err = fmt.Errorf("%w: %d", errTooMany, t.cfg.MaxInstances)
	}
	if err != nil {
		s.tell(i, e.GetIncarnation(), controlv1.RegistrationState_STATE_REFUSED, err)
		return
	}
	if c == nil {
		c = &claim{id: i, table: t, lane: lane}
		t.claims[i] = c
	} else if c.owner != nil && c.owner != s {
		if c.want != nil && c.want.GetIncarnation() > e.GetIncarnation() {
			s.tell(i, e.GetIncarnation(), controlv1.RegistrationState_STATE_SUPERSEDED, errNewer)
			return
		}
		t.stats.superseded.Add(1)
		c.tell(controlv1.RegistrationState_STATE_SUPERSEDED, errElse)
	}
	c.owner, c.again = s, false
	delete(t.orphans, c)
	if c.want == nil || !proto.Equal(c.want, e) {
		c.want = e
	}
	c.last = c.want
	if c.settled() {
		c.tell(controlv1.RegistrationState_STATE_PUBLISHED, nil)
		return
	}
	lane.add(c)
}

// check refuses what cannot be registered.
func check(key source.Key, r *controlv1.Registration) error {
	if r.GetEndpoint() == nil {
		return errOwnNames
	}
	if a := r.GetApplication(); a != "" && !resource.IsName(a) {
		return fmt.Errorf("application %q: it is no name", a)
	}
	_, err := source.Encode(key, r.GetEndpoint())
	return err
}

// Withdraw ends a registration if it is of that incarnation and mesh address, also one of a stream that was lost, or of
// another Dispatcher; but not what another stream speaks for.
func (s *Stream) Withdraw(environment string, w *controlv1.Withdrawal) {
	i := id{source.Key{Environment: environment, Target: w.GetTarget()}, w.GetInstance()}
	meant := i.of(w.GetIncarnation(), w.GetMeshAddress())
	how := leaves
	if w.GetReason() == controlv1.Withdrawal_REASON_SILENT {
		how = silent
	}
	lane := s.table.lane(i.key)
	t := s.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.closed {
		return
	}
	c := t.claims[i]
	switch {
	case i.key.Check() != nil || !resource.IsName(i.instance) || lane == nil || c != nil && !source.Same(c.last, meant):
	case c != nil && c.owner != nil && c.owner != s: // it has been registered since by another Pilot
	case c != nil && (how == leaves || c.owner == s):
		c.owner = s
		c.end(how)
		return
	case c == nil && how == leaves && len(t.claims) < t.cfg.MaxInstances: // registered by somebody who is gone
		c = &claim{id: i, table: t, lane: lane, owner: s, last: meant}
		t.claims[i] = c
		c.end(how)
		return
	}
	s.tell(i, w.GetIncarnation(), controlv1.RegistrationState_STATE_WITHDRAWN, nil)
}
