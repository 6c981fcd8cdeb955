package directory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/octomesh/octomesh/core/proxy/register"
	"github.com/octomesh/octomesh/core/wire"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
)

// RegisterStream is one call of Register. Receive returns io.EOF after a half-close, and fails once the call is over: with the
// return of the handler at the latest.
type RegisterStream interface {
	Receive() (*directoryv1.RegisterRequest, error)
	Send(*directoryv1.RegisterResponse) error
}

// maxTargets bounds the targets of one registration.
const maxTargets = 100

// Register answers a Register: the instance is known for as long as the stream stands and, when that is lost, 10 s longer.
func (s *Service) Register(ctx context.Context, c Caller, stream RegisterStream) error {
	if s.cfg.Registrar == nil {
		return s.refuse(wire.FailedPrecondition, "nobody registers instances here: this side has no control plane")
	}
	leave, refused := s.admit(c, true)
	if refused != nil {
		return refused
	}
	defer leave()
	r := &registration{service: s, caller: c, news: make(chan struct{}, 1), states: make(map[string]register.Status)}
	defer r.release()
	requests := make(chan request)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.receivers.Go(func() { receive(ctx, stream, requests) })
	for {
		select {
		case q := <-requests:
			if errors.Is(q.err, io.EOF) && r.held == nil && !r.waits() {
				return s.refuse(wire.InvalidArgument, "the stream has no request")
			}
			if errors.Is(q.err, io.EOF) {
				return nil
			}
			if q.err != nil {
				return q.err
			}
			if err := r.asked(q.message); err != nil {
				return err
			}
		case <-r.news:
		case <-r.changed:
			if err := r.register(); err != nil {
				return err
			}
		case <-ctx.Done():
			return &Error{Code: wire.Cancelled, Message: "the registration's stream is over"}
		}
		if over, err := r.tell(stream); over || err != nil {
			return err
		}
	}
}

// Wait returns when no goroutine of a call that has ended is left. Call it when the transport has ended.
func (s *Service) Wait() { s.receivers.Wait() }

type request struct {
	message *directoryv1.RegisterRequest
	err     error
}

func receive(ctx context.Context, stream RegisterStream, to chan<- request) {
	for {
		m, err := stream.Receive()
		select {
		case to <- request{m, err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// registration is what one stream has registered. But for states it belongs to the stream's goroutine.
type registration struct {
	service *Service
	caller  Caller
	held    register.Held
	details register.Details
	changed <-chan struct{} // while it waits for the process to be attached
	left    bool            // withdrawn by its own word
	said    *directoryv1.RegisterResponse

	mu     sync.Mutex
	states map[string]register.Status
	news   chan struct{}
}

// waits tells whether targets are not attached yet.
func (r *registration) waits() bool { return r.changed != nil }

// asked does what a request asks for.
func (r *registration) asked(q *directoryv1.RegisterRequest) error {
	s, c := r.service, r.caller
	if err := s.checkEnvironment(q.GetEnvironment()); err != nil {
		return err
	}
	if err := s.checkIdentity(c, q.GetApplication(), q.GetInstance(), q.GetIncarnation()); err != nil {
		return err
	}
	if q.GetDeregister() {
		r.withdraw()
		return nil
	}
	if n := len(q.GetTargets()); n == 0 || n > maxTargets {
		return s.refuse(wire.InvalidArgument, "a registration names 1 to %d targets, and this one %d", maxTargets, n)
	}
	if r.held != nil && q.GetIncarnation() != r.details.Incarnation {
		return s.refuse(wire.InvalidArgument, "the incarnation has changed within a stream")
	}
	r.details = register.Details{
		Application: q.GetApplication(), Instance: q.GetInstance(), Incarnation: q.GetIncarnation(), Targets: q.GetTargets(),
		DirectAddress: q.GetDirectAddress(), Weight: q.Weight, Zone: q.GetZone(), Tags: q.GetTags(), Identity: c.Identity,
	}
	return r.register()
}

// register passes the details on, once the process is attached with all targets.
func (r *registration) register() error {
	if serves := r.service.cfg.Serves; serves != nil {
		attached, changed := serves(r.caller)
		if r.changed = nil; slices.ContainsFunc(r.details.Targets, func(t string) bool { return !slices.Contains(attached, t) }) {
			r.changed = changed
			return nil
		}
	}
	var err error
	if r.held != nil {
		err = r.held.Update(r.details)
	} else {
		r.held, err = r.service.cfg.Registrar.Register(r.details, r.told)
	}
	if err != nil {
		return r.service.refuse(wire.InvalidArgument, "%v", err)
	}
	return nil
}

// told notes what became of a target. It is called by the registrar.
func (r *registration) told(st register.Status) {
	r.mu.Lock()
	r.states[st.Target] = st
	r.mu.Unlock()
	select {
	case r.news <- struct{}{}:
	default:
	}
}

// withdraw ends the registration by the instance's own word.
func (r *registration) withdraw() {
	r.left, r.changed = true, nil
	if r.held != nil {
		r.held.Withdraw()
		r.held = nil
	}
}

// release leaves what is held to its lease.
func (r *registration) release() {
	if r.held != nil {
		r.held.Release()
	}
}

// tell says the state if it is another one than was said before, and tells whether the registration is over.
func (r *registration) tell(stream RegisterStream) (over bool, err error) {
	now, over, err := r.state()
	if err != nil || now == nil {
		return over, err
	}
	if r.said == nil || r.said.State != now.State || r.said.Reason != now.Reason {
		r.said = now
		err = stream.Send(now)
	}
	return over, err
}

// state is the state of all targets together: the worst. nil: nothing is known.
func (r *registration) state() (now *directoryv1.RegisterResponse, over bool, err error) {
	switch {
	case r.left:
		return &directoryv1.RegisterResponse{State: directoryv1.RegisterResponse_STATE_WITHDRAWN}, true, nil
	case r.waits():
		return &directoryv1.RegisterResponse{
			State: directoryv1.RegisterResponse_STATE_PENDING, Reason: "the process is not attached to this proxy with all targets that it registers",
		}, false, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now = &directoryv1.RegisterResponse{State: directoryv1.RegisterResponse_STATE_PUBLISHED}
	known := 0
	for _, target := range r.details.Targets {
		st, ok := r.states[target]
		if !ok {
			continue
		}
		known++
		said := &directoryv1.RegisterResponse{Reason: fmt.Sprintf("%s: %s", target, st.Reason)}
		switch st.State {
		case controlv1.RegistrationState_STATE_REFUSED:
			return nil, true, r.service.refuse(wire.FailedPrecondition, "target %s: %s", target, st.Reason)
		case controlv1.RegistrationState_STATE_SUPERSEDED:
			said.State = directoryv1.RegisterResponse_STATE_SUPERSEDED
			return said, true, nil
		case controlv1.RegistrationState_STATE_WITHDRAWN:
			said.State = directoryv1.RegisterResponse_STATE_WITHDRAWN
			return said, true, nil
		case controlv1.RegistrationState_STATE_PENDING:
			said.State = directoryv1.RegisterResponse_STATE_PENDING
			now = said
		}
	}
	if known == 0 {
		return nil, false, nil
	}
	if known < len(r.details.Targets) && now.State == directoryv1.RegisterResponse_STATE_PUBLISHED {
		now.State, now.Reason = directoryv1.RegisterResponse_STATE_PENDING, "the control plane has not said anything of all targets yet"
	}
	return now, false, nil
}
