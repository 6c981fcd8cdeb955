package node

import (
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
)

type nodeID struct {
	environment, instance string
	incarnation           uint64
}

type entryID struct{ environment, target, instance string }

// entry is what is wanted of one instance: that it is registered, or that it is gone, until the Dispatcher has said that
// it is. The service's lock guards it.
type entry struct {
	entryID
	node     *node // who speaks for it; nil: nobody any more, since lost
	lost     time.Time
	register *controlv1.Registration // nil: it is to go
	withdraw *controlv1.Withdrawal   // without register
	state    *controlv1.RegistrationState
	queued   bool // the Dispatcher is to be told
}

func (e *entry) incarnation() uint64 {
	if e.register != nil {
		return e.register.GetEndpoint().GetIncarnation()
	}
	return e.withdraw.GetIncarnation()
}

func (e *entry) meshAddress() string {
	if e.register != nil {
		return e.register.GetEndpoint().GetMeshAddress()
	}
	return e.withdraw.GetMeshAddress()
}

var (
	errNewer   = errors.New("a newer incarnation of the instance has registered")
	errElse    = errors.New("the instance has registered by another proxy since")
	errTooMany = errors.New("the proxy registers too many instances")
	errAll     = errors.New("the Pilot has too many instances")
	errNothing = errors.New("the registration has no endpoint")
)

// changed has the Dispatcher told of an entry. The lock is held.
func (s *Service) changed(e *entry) {
	if e.queued {
		return
	}
	e.queued = true
	s.dirty = append(s.dirty, e)
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// disown takes an entry from who speaks for it. The lock is held.
func (s *Service) disown(e *entry) {
	if e.node != nil {
		e.node.info.Instances--
		delete(e.node.entries, e)
		e.node = nil
	}
	delete(s.orphans, e)
}

// own gives it to a proxy. The lock is held.
func (s *Service) own(e *entry, n *node) {
	s.disown(e)
	e.node = n
	n.entries[e] = struct{}{}
	n.info.Instances++
}

// register takes a registration of a proxy.
func (s *Service) register(n *node, r *controlv1.Registration) {
	p := r.GetEndpoint()
	id := entryID{n.info.Environment, p.GetTarget(), p.GetInstance()}
	s.mu.Lock()
	defer s.mu.Unlock()
	refuse := func(state controlv1.RegistrationState_State, why error) {
		n.tell(id, &controlv1.RegistrationState{Target: id.target, Instance: id.instance, Incarnation: p.GetIncarnation(), State: state, Reason: why.Error()})
	}
	e := s.entries[id]
	switch {
	case p == nil:
		refuse(controlv1.RegistrationState_STATE_REFUSED, errNothing)
		return
	case e != nil && e.register != nil && e.node != nil && e.node != n && e.incarnation() > p.GetIncarnation():
		refuse(controlv1.RegistrationState_STATE_SUPERSEDED, errNewer)
		return
	case (e == nil || e.node != n) && len(n.entries) >= s.cfg.MaxInstances:
		refuse(controlv1.RegistrationState_STATE_REFUSED, errTooMany)
		return
	case e == nil && len(s.entries) >= s.cfg.MaxAll:
		refuse(controlv1.RegistrationState_STATE_REFUSED, errAll)
		return
	case e == nil:
		e = &entry{entryID: id}
		s.entries[id] = e
	case e.node != nil && e.node != n && e.register != nil:
		s.stats.superseded.Add(1)
		e.node.tell(id, &controlv1.RegistrationState{
			Target: id.target, Instance: id.instance, Incarnation: e.incarnation(), State: controlv1.RegistrationState_STATE_SUPERSEDED, Reason: errElse.Error(),
		})
	}
	same := sameRegistration(e.register, r)
	s.own(e, n)
	if !same {
		e.register, e.withdraw, e.state = r, nil, nil
	}
	if e.state != nil { // what it was told already it may not have heard
		n.tell(id, e.state)
		return
	}
	if s.nobody != "" {
		s.pending(e)
	}
	s.changed(e)
}

// pending says of an entry that there is no Dispatcher. The lock is held.
func (s *Service) pending(e *entry) {
	if e.node != nil && e.register != nil {
		e.node.tell(e.entryID, &controlv1.RegistrationState{
			Target: e.target, Instance: e.instance, Incarnation: e.incarnation(), State: controlv1.RegistrationState_STATE_PENDING,
			Reason: "the Pilot reaches no Dispatcher: " + s.nobody,
		})
	}
}

// withdraw takes a withdrawal of a proxy.
func (s *Service) withdraw(n *node, w *controlv1.Withdrawal) {
	id := entryID{n.info.Environment, w.GetTarget(), w.GetInstance()}
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[id]
	meant := e != nil && e.incarnation() == w.GetIncarnation() && e.meshAddress() == w.GetMeshAddress() && (e.node == n || e.node == nil)
	if e == nil && len(s.entries) < s.cfg.MaxAll && len(n.entries) < s.cfg.MaxInstances { // registered by another Pilot
		e = &entry{entryID: id, withdraw: w}
		s.entries[id] = e
		meant = true
	}
	if !meant {
		n.tell(id, &controlv1.RegistrationState{
			Target: id.target, Instance: id.instance, Incarnation: w.GetIncarnation(), State: controlv1.RegistrationState_STATE_WITHDRAWN,
		})
		return
	}
	s.own(e, n)
	e.register, e.withdraw, e.state = nil, w, nil
	s.changed(e)
}

// end has an entry withdrawn for which nobody speaks any more. The lock is held.
func (s *Service) end(e *entry, why controlv1.Withdrawal_Reason) {
	delete(s.orphans, e)
	if e.register != nil {
		e.withdraw = &controlv1.Withdrawal{
			Target: e.target, Instance: e.instance, Incarnation: e.incarnation(), Reason: why, MeshAddress: e.meshAddress(),
		}
		e.register, e.state = nil, nil
	}
	s.changed(e)
}

// told takes what a Dispatcher says.
func (s *Service) told(environment string, st *controlv1.RegistrationState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[entryID{environment, st.GetTarget(), st.GetInstance()}]
	if e == nil || e.incarnation() != st.GetIncarnation() {
		return // of what was before
	}
	over := false
	switch st.GetState() {
	case controlv1.RegistrationState_STATE_WITHDRAWN:
		over = e.register == nil
	case controlv1.RegistrationState_STATE_SUPERSEDED, controlv1.RegistrationState_STATE_REFUSED:
		over = true
	}
	if !over && (e.register == nil || st.GetState() == controlv1.RegistrationState_STATE_WITHDRAWN) {
		return // it has been said otherwise since
	}
	if e.node != nil && !proto.Equal(e.state, st) {
		e.node.tell(e.entryID, st)
	}
	e.state = st
	if over {
		s.disown(e)
		delete(s.entries, e.entryID)
	}
}
