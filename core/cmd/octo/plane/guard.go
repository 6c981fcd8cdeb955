package plane

import (
	"context"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/octomesh/octomesh/core/pilot/callers"
	"github.com/octomesh/octomesh/core/transport/identity"
)

// With TLS, these say of each service who may call it. What is not listed nobody may.
const (
	serviceConfig    = "octo.config.v1.Config"
	serviceDispatch  = "octo.dispatch.v1.Dispatch"
	serviceDiscovery = "envoy.service.discovery.v3.AggregatedDiscoveryService"
	serviceNode      = "octo.control.v1.Node"
	serviceLimits    = "envoy.service.ratelimit.v3.RateLimitService"
)

// may tells whether a peer may call a method: nil, or a status that says why not.
func (p *Plane) may(peer identity.ID, method string) error {
	service, name, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	switch service {
	case serviceConfig: // it looks at --writers itself
		return nil
	case serviceDiscovery, serviceNode: // the Pilot holds callers to their own names
		return nil
	case serviceLimits: // who may call at all is of the environment, as those are whose calls are counted
		return nil
	case serviceDispatch:
		for _, role := range []string{RolePilot, RoleDirectory, "health", "inspect"} {
			if identity.MayBe(peer, role) == nil {
				return nil
			}
		}
		if (name == "Troubled" || name == "Confirm") && p.mayWrite(peer) == nil {
			return nil
		}
		return status.Errorf(codes.PermissionDenied, "%s may not call %s: roles of the control plane may, and for Troubled and Confirm those of the Dispatcher's --writers", peer, method)
	}
	return status.Errorf(codes.PermissionDenied, "%s may not call %s: nobody may", peer, method)
}

// ofHere refuses a request about another environment than the one that certificates are of.
func (p *Plane) ofHere(request any) error {
	r, ok := request.(interface{ GetEnvironment() string })
	if own := p.id.ID().Environment; ok && r.GetEnvironment() != "" && r.GetEnvironment() != own {
		return status.Errorf(codes.PermissionDenied, "this control plane's certificate is of environment %q, the request about %q: ask the one of that environment", own, r.GetEnvironment())
	}
	return nil
}

func (p *Plane) guardUnary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	if err := p.guard(ctx, info.FullMethod); err != nil {
		return nil, err
	}
	if err := p.ofHere(request); err != nil {
		return nil, err
	}
	return handle(ctx, request)
}

func (p *Plane) guardStream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	if err := p.guard(s.Context(), info.FullMethod); err != nil {
		return err
	}
	return handle(srv, &guarded{s, p})
}

func (p *Plane) guard(ctx context.Context, method string) error {
	peer, err := callers.Of(ctx)
	if err != nil {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	return p.may(peer, method)
}

// guarded is a stream whose requests are looked at.
type guarded struct {
	grpc.ServerStream
	plane *Plane
}

// RecvMsg implements grpc.ServerStream.
func (g *guarded) RecvMsg(m any) error {
	if err := g.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	return g.plane.ofHere(m)
}
