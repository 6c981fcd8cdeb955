package directory

import (
	"github.com/octomesh/octomesh/core/report"
	"github.com/octomesh/octomesh/core/wire"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
)

// Reports takes what SDKs measured. What it is given it may keep, and not change. It must not block.
type Reports interface {
	Reported(c Caller, r *directoryv1.ReportRequest)
}

// Report answers a Report.
func (s *Service) Report(c Caller, r *directoryv1.ReportRequest) (*directoryv1.ReportResponse, error) {
	if err := s.checkEnvironment(r.GetEnvironment()); err != nil {
		return nil, err
	}
	if err := s.checkIdentity(c, r.GetApplication(), r.GetInstance(), r.GetIncarnation()); err != nil {
		return nil, err
	}
	if n := len(r.GetPaths()); n > report.MaxPaths {
		return nil, s.refuse(wire.InvalidArgument, "a report has at most %d paths, and this one %d", report.MaxPaths, n)
	}
	s.stats.reports.Add(1)
	s.cfg.Book.Add(s.cfg.Environment, r)
	if s.cfg.Reports != nil {
		s.cfg.Reports.Reported(c, r)
	}
	return s.pace.Answer(), nil
}
