package agent

import (
	"context"
	"path/filepath"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	agentv1 "github.com/octomesh/octomesh/gen/control/octo/agent/v1"
)

// service is what operators call.
type service struct {
	agentv1.UnimplementedAgentServer
	agent *Agent
}

// List implements agentv1.AgentServer.
func (s *service) List(context.Context, *agentv1.ListRequest) (*agentv1.ListResponse, error) {
	list := &agentv1.ListResponse{}
	for _, k := range s.agent.keepers {
		list.Proxies = append(list.Proxies, k.proxy())
	}
	return list, nil
}

// Restart implements agentv1.AgentServer.
func (s *service) Restart(r *agentv1.RestartRequest, out agentv1.Agent_RestartServer) error {
	keepers, err := s.named(r.GetNames())
	if err != nil {
		return err
	}
	return s.each(out.Context(), keepers, order{}, func(p *agentv1.Progress) error {
		return out.Send(&agentv1.RestartResponse{Progress: p})
	})
}

// Upgrade implements agentv1.AgentServer.
func (s *service) Upgrade(r *agentv1.UpgradeRequest, out agentv1.Agent_UpgradeServer) error {
	if b := r.GetBinary(); b != "" {
		if !filepath.IsAbs(b) {
			return status.Errorf(codes.InvalidArgument, "binary %q is not an absolute path: the agent may stand in another folder than you", b)
		}
		if err := checkBinary(b); err != nil {
			return status.Errorf(codes.InvalidArgument, "binary: %v", err)
		}
	}
	keepers, err := s.named(r.GetNames())
	if err != nil {
		return err
	}
	if err := fits(r.GetBinary(), keepers); err != nil {
		return status.Errorf(codes.InvalidArgument, "binary: %v", err)
	}
	return s.each(out.Context(), keepers, order{upgrade: true, binary: r.GetBinary()}, func(p *agentv1.Progress) error {
		return out.Send(&agentv1.UpgradeResponse{Progress: p})
	})
}

// each gives an order to proxies, one after another, and stops at the first that cannot carry it out. Nobody who listens any more does not end
// what was begun, but begins nothing else.
func (s *service) each(ctx context.Context, keepers []*keeper, what order, send func(*agentv1.Progress) error) error {
	if !s.agent.orders.TryLock() {
		return status.Error(codes.Aborted, "another restart or upgrade goes on: try again when it is over")
	}
	defer s.agent.orders.Unlock()
	for n, k := range keepers {
		if err := s.order(ctx, k, what, send); err != nil {
			if left := len(keepers) - n - 1; left > 0 {
				return status.Errorf(codes.Internal, "%v; it stops here, and %d others are left as they were", err, left)
			}
			return status.Error(codes.Internal, err.Error())
		}
		if ctx.Err() != nil {
			return status.FromContextError(ctx.Err()).Err()
		}
	}
	return nil
}

func (s *service) order(ctx context.Context, k *keeper, what order, send func(*agentv1.Progress) error) error {
	told := make(chan *agentv1.Progress)
	over := s.agent.group.Context()
	what.done = make(chan error, 1)
	what.tell = func(p *agentv1.Progress) {
		select {
		case told <- p:
		case <-over.Done():
		}
	}
	select {
	case k.orders <- &what:
	case <-over.Done():
		return status.Error(codes.Unavailable, "the agent ends")
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		select {
		case p := <-told:
			_ = send(p) // whoever has gone misses it
		case err := <-what.done:
			return err
		}
	}
}

// named are the keepers of the names; none: all.
func (s *service) named(names []string) (keepers []*keeper, err error) {
	if len(names) == 0 {
		return s.agent.keepers, nil
	}
	for _, name := range names {
		found := false
		for _, k := range s.agent.keepers {
			if k.cfg.GetName() == name {
				keepers, found = append(keepers, k), true
			}
		}
		if !found {
			return nil, status.Errorf(codes.NotFound, "there is no proxy %q; `octo proxy list` shows them", name)
		}
	}
	return keepers, nil
}
