package dispatcher

import (
	"context"
	"errors"
	"io"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/octomesh/octomesh/core/dispatcher/registrar"
	"github.com/octomesh/octomesh/core/transport/identity"
	dispatchv1 "github.com/octomesh/octomesh/gen/control/octo/dispatch/v1"
)

const (
	// statesAtOnce is how many states one response has at most.
	statesAtOnce = 1000
	maxReason    = 1000 // bytes
	maxAuthor    = 255
)

// Publish implements the service.
func (s *Server) Publish(g grpc.BidiStreamingServer[dispatchv1.PublishRequest, dispatchv1.PublishResponse]) error {
	who, proved, err := s.caller(g.Context(), s.cfg.MayPublish, "register instances")
	if err != nil {
		return err
	}
	if err := g.SendHeader(nil); err != nil { // so that it is known at once that somebody listens
		return err
	}
	st := s.table.Open()
	defer st.Close()
	ctx, cancel := context.WithCancelCause(g.Context())
	telling := make(chan struct{})
	go func() {
		defer close(telling)
		cancel(tell(ctx, g, st))
	}()
	heard := make(chan error, 1)
	go func() { // it ends when this method has returned, or before
		for {
			r, err := g.Recv()
			if err == nil && proved && r.GetEnvironment() != who.Environment {
				err = status.Errorf(codes.PermissionDenied, "%s may not register instances of environment %q", who, r.GetEnvironment())
			}
			if err != nil {
				heard <- err
				return
			}
			for _, w := range r.GetWithdraw() {
				st.Withdraw(r.GetEnvironment(), w)
			}
			for _, reg := range r.GetRegister() {
				st.Register(r.GetEnvironment(), reg)
			}
		}
	}()
	select {
	case err = <-heard:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	cancel(err)
	<-telling
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case errors.Is(err, registrar.ErrClosed):
		return status.Error(codes.Unavailable, "the Dispatcher leaves: go to another one")
	}
	return err
}

// tell sends what becomes of registrations.
func tell(ctx context.Context, g grpc.BidiStreamingServer[dispatchv1.PublishRequest, dispatchv1.PublishResponse], st *registrar.Stream) error {
	for {
		states, err := st.Next(ctx, statesAtOnce)
		if err != nil {
			return err
		}
		for len(states) > 0 {
			r := &dispatchv1.PublishResponse{Environment: states[0].Environment}
			for len(states) > 0 && states[0].Environment == r.Environment {
				r.States = append(r.States, states[0].RegistrationState)
				states = states[1:]
			}
			if err := g.Send(r); err != nil {
				return err
			}
		}
	}
}

// caller is whom TLS has proved, if he may do something; proved is false without TLS.
func (s *Server) caller(ctx context.Context, may func(identity.ID) error, what string) (id identity.ID, proved bool, err error) {
	p, _ := peer.FromContext(ctx)
	if p == nil {
		return id, false, nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return id, false, nil
	}
	if id, err = identity.PeerOf(info.State); err != nil {
		return id, true, status.Errorf(codes.Unauthenticated, "the certificate names nobody: %v", err)
	}
	if err := may(id); err != nil {
		return id, true, status.Errorf(codes.PermissionDenied, "%s may not %s: %v", id, what, err)
	}
	return id, true, nil
}

// Troubled implements the service.
func (s *Server) Troubled(_ context.Context, r *dispatchv1.TroubledRequest) (*dispatchv1.TroubledResponse, error) {
	out := &dispatchv1.TroubledResponse{}
	for _, st := range s.hub.Troubled() {
		if r.GetEnvironment() != "" && st.Key.Environment != r.GetEnvironment() {
			continue
		}
		k := &dispatchv1.KeyStatus{
			Key:       &dispatchv1.Key{Environment: st.Key.Environment, Target: st.Key.Target},
			Endpoints: uint32(st.Endpoints), Held: st.Held, Live: st.Live, Degraded: st.Degraded, AgeMs: uint64(st.Age.Milliseconds()),
			Refused: st.Refused,
		}
		if st.Err != nil {
			k.Error = st.Err.Error()
		}
		out.Keys = append(out.Keys, k)
	}
	return out, nil
}

// Confirm implements the service. Other Dispatchers that watch the key hold the instances on until they are asked, too.
func (s *Server) Confirm(ctx context.Context, r *dispatchv1.ConfirmRequest) (*dispatchv1.ConfirmResponse, error) {
	who, proved, err := s.caller(ctx, s.cfg.MayConfirm, "confirm removals")
	if err != nil {
		return nil, err
	}
	reason, author := strings.TrimSpace(r.GetReason()), strings.TrimSpace(r.GetAuthor())
	key := keyOf(r.GetKey())
	switch {
	case reason == "":
		return nil, status.Error(codes.InvalidArgument, "a reason is missing: say why (octo: -m)")
	case len(reason) > maxReason || len(author) > maxAuthor:
		return nil, status.Errorf(codes.InvalidArgument, "a reason has at most %d bytes, an author %d", maxReason, maxAuthor)
	case !proved && author == "":
		return nil, status.Error(codes.InvalidArgument, "an author is missing: without TLS one has to say who one is (octo: $USER)")
	case proved && key.Environment != who.Environment:
		return nil, status.Errorf(codes.PermissionDenied, "%s may not confirm removals in environment %q", who, key.Environment)
	}
	if err := key.Check(); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	n := s.hub.Confirm(key, r.GetInstances()...)
	s.log.Warn("somebody says that held instances are gone", "key", key.String(), "instances", r.GetInstances(), "removed", n,
		"identity", who.String(), "author", author, "reason", reason)
	return &dispatchv1.ConfirmResponse{Removed: uint32(n)}, nil
}
