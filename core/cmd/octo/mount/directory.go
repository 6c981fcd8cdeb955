// Package mount puts services of the control plane that speak the wire protocol on servers of the Go SDK. The services
// themselves know of no SDK.
package mount

import (
	"context"
	"errors"

	octomesh "github.com/octomesh/octomesh/sdks/go"
	sdkdirectory "github.com/octomesh/octomesh/sdks/go/directory"

	"github.com/octomesh/octomesh/core/directory"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
)

// Directory adds a Directory to a server, which is of target [directory.Target] and of the service's environment. The server must
// listen on TCP, where each connection has an address of its own: limits for connections go by it. Wait for the service when
// the server has ended.
func Directory(to octomesh.Registrar, s *directory.Service) {
	sdkdirectory.RegisterDirectory(to, &server{service: s})
}

type server struct{ service *directory.Service }

// callerOf is who calls, by the connection.
func callerOf(ctx context.Context) directory.Caller {
	p, _ := octomesh.PeerInfo(ctx)
	return directory.Caller{
		Connection: p.Address, Application: p.Application, Instance: p.Instance, Incarnation: p.Incarnation, Identity: p.Verified,
		SDK: p.SDK, SDKVersion: p.SDKVersion,
	}
}

// Watch implements the service.
func (m *server) Watch(ctx context.Context, r *directoryv1.WatchRequest, out *octomesh.ServerSender[directoryv1.WatchResponse]) error {
	return asError(m.service.Watch(ctx, callerOf(ctx), r, out.Send))
}

// Register implements the service.
func (m *server) Register(ctx context.Context, stream *octomesh.ServerStream[directoryv1.RegisterRequest, directoryv1.RegisterResponse]) error {
	return asError(m.service.Register(ctx, callerOf(ctx), stream))
}

// Report implements the service.
func (m *server) Report(ctx context.Context, r *directoryv1.ReportRequest) (*directoryv1.ReportResponse, error) {
	res, err := m.service.Report(callerOf(ctx), r)
	return res, asError(err)
}

// asError is how an error leaves the handler.
func asError(err error) error {
	var e *directory.Error
	if !errors.As(err, &e) {
		return err
	}
	return &octomesh.Error{Code: octomesh.Code(e.Code), Message: e.Message, RetryAfter: e.RetryAfter}
}
