package fleet

import (
	"context"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/octomesh/octomesh/core/report"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
)

const (
	// Page is how many processes a message of a roster has at most.
	Page = 500
	// DefaultSince is how far sums go back if nobody says.
	DefaultSince = 10 * time.Minute
)

// Service implements octo.control.v1.Fleet.
type Service struct {
	controlv1.UnimplementedFleetServer
	Who  *Roster
	Book *report.Book
}

// Register adds the service to a gRPC server.
func (s *Service) Register(g grpc.ServiceRegistrar) { controlv1.RegisterFleetServer(g, s) }

// Roster implements the service.
func (s *Service) Roster(r *controlv1.RosterRequest, out grpc.ServerStreamingServer[controlv1.RosterResponse]) error {
	if r.GetEnvironment() == "" {
		return status.Error(codes.InvalidArgument, "an environment is missing")
	}
	for page := range slices.Chunk(s.Who.Seen(r.GetEnvironment(), r.GetApplication()), Page) {
		if err := out.Send(&controlv1.RosterResponse{Seen: page}); err != nil {
			return err
		}
	}
	return nil
}

// Sums implements the service.
func (s *Service) Sums(_ context.Context, r *controlv1.SumsRequest) (*controlv1.SumsResponse, error) {
	since := DefaultSince
	if r.GetSince() != nil {
		since = r.GetSince().AsDuration()
	}
	switch {
	case r.GetEnvironment() == "" || r.GetTarget() == "":
		return nil, status.Error(codes.InvalidArgument, "an environment or a target is missing")
	case since <= 0 || since > report.Reach:
		return nil, status.Errorf(codes.InvalidArgument, "%v back: want more than 0 and at most %v", since, report.Reach)
	}
	w := s.Book.Window(r.GetEnvironment(), r.GetApplication(), r.GetTarget(), since)
	res := &controlv1.SumsResponse{From: timestamppb.New(w.From), Dropped: w.Dropped}
	for k, c := range w.Cells {
		res.Sums = append(res.Sums, &controlv1.PathSum{Application: k.Application, Path: c.Path(k.Target, k.Path)})
	}
	return res, nil
}
