package grpc

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/octomesh/octomesh/core/proxy"
	"github.com/octomesh/octomesh/core/resource"
)

const (
	// lookAgain is how late a Watch tells what the proxy finds out by itself: that nobody answers, or somebody does again.
	lookAgain = 2 * time.Second
	// maxListed bounds the services of one List, as gRPC's own servers do.
	maxListed = 100
)

type serving = grpc_health_v1.HealthCheckResponse_ServingStatus

// health answers a call to grpc.health.v1.Health.
func (q *question) health() error {
	switch q.Method {
	case "Check", "Watch":
		r := &grpc_health_v1.HealthCheckRequest{}
		if err := q.receiveOnly(r); err != nil {
			return err
		}
		if q.Method == "Watch" {
			return q.watch(r.GetService())
		}
		return q.check(r.GetService())
	case "List":
		if err := q.receiveOnly(&grpc_health_v1.HealthListRequest{}); err != nil {
			return err
		}
		return q.list()
	}
	return q.noMethod()
}

func (q *question) check(service string) error {
	ctx, cancel := context.WithTimeout(q.l.Context(), learn)
	defer cancel()
	is, err := q.learn(ctx, service)
	switch {
	case err != nil:
		return err
	case is == proxy.HealthUnknown:
		return status.Errorf(codes.Unavailable, "the control plane has said nothing of %q yet", service)
	case is == proxy.HealthAbsent:
		return status.Errorf(codes.NotFound, "no such service, and no target of its name: %q", service)
	}
	return q.send(&grpc_health_v1.HealthCheckResponse{Status: servingOf(is)})
}

// learn is how a service is, once that is known, or ctx ends.
func (q *question) learn(ctx context.Context, service string) (proxy.Health, error) {
	target := q.target(service)
	if target != "" && !resource.IsName(target) {
		return proxy.HealthAbsent, nil
	}
	news, stop, err := q.follow(target)
	if err != nil {
		return 0, err
	}
	defer stop()
	for {
		if is := q.mesh.Health(target, service, q.Caller); is != proxy.HealthUnknown {
			return is, nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return proxy.HealthUnknown, nil
		}
	}
}

// watch tells how a service is, and tells it again when that has changed, until the call ends.
func (q *question) watch(service string) error {
	ctx, target := q.l.Context(), q.target(service)
	if target != "" && !resource.IsName(target) { // and none ever will be
		if err := q.send(&grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVICE_UNKNOWN}); err != nil {
			return err
		}
		<-ctx.Done()
		return context.Cause(ctx)
	}
	news, stop, err := q.follow(target)
	if err != nil {
		return err
	}
	defer stop()
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	for told := proxy.HealthUnknown; ; {
		if is := q.mesh.Health(target, service, q.Caller); is != told && is != proxy.HealthUnknown {
			if err := q.send(&grpc_health_v1.HealthCheckResponse{Status: servingOf(is)}); err != nil {
				return err
			}
			told = is
		}
		select {
		case <-news:
		case <-again.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// list tells how the proxy is, and the services that it knows by name.
func (q *question) list() error {
	if n := len(q.a.Services); n >= maxListed {
		return status.Errorf(codes.ResourceExhausted, "the proxy knows %d services, and lists %d at most: ask for those that matter by Check", n, maxListed-1)
	}
	ctx, cancel := context.WithTimeout(q.l.Context(), learn)
	defer cancel()
	out := &grpc_health_v1.HealthListResponse{Statuses: make(map[string]*grpc_health_v1.HealthCheckResponse)}
	for _, service := range append([]string{""}, q.a.Services...) {
		is, err := q.learn(ctx, service)
		if err != nil {
			return err
		}
		out.Statuses[service] = &grpc_health_v1.HealthCheckResponse{Status: servingOf(is)}
	}
	return q.send(out)
}

func servingOf(is proxy.Health) serving {
	switch is {
	case proxy.HealthAbsent:
		return grpc_health_v1.HealthCheckResponse_SERVICE_UNKNOWN
	case proxy.HealthDown:
		return grpc_health_v1.HealthCheckResponse_NOT_SERVING
	case proxy.HealthUp:
		return grpc_health_v1.HealthCheckResponse_SERVING
	}
	return grpc_health_v1.HealthCheckResponse_UNKNOWN
}
