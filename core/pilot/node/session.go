package node

import (
	"context"
	"errors"
	"io"
	"maps"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/octomesh/octomesh/core/fleet"
	"github.com/octomesh/octomesh/core/resource"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
)

const (
	// introduceWithin is how long a proxy may take to say who it is.
	introduceWithin = 10 * time.Second
	// maxReports bounds the answers to reports that wait to be sent to one proxy.
	maxReports = 100
)

// node is one proxy's stream.
type node struct {
	service *Service
	beside  *fleet.Source // who is beside the proxy
	grpc    grpc.BidiStreamingServer[controlv1.ConnectRequest, controlv1.ConnectResponse]

	// The service's lock guards these.
	info    Info
	entries map[*entry]struct{}
	states  map[entryID]*controlv1.RegistrationState // to be told, the newest of each
	reports []*directoryv1.ReportResponse
	sending bool
	over    bool
}

// Connect implements the service.
func (s *Service) Connect(g grpc.BidiStreamingServer[controlv1.ConnectRequest, controlv1.ConnectResponse]) error {
	first := make(chan error, 1)
	var in *controlv1.Introduction
	go func() { // it ends when this method has returned, or before
		r, err := g.Recv()
		in = r.GetIntroduction()
		first <- err
	}()
	late := time.NewTimer(introduceWithin)
	defer late.Stop()
	select {
	case err := <-first:
		if err != nil {
			return over(err)
		}
	case <-late.C:
		return status.Errorf(codes.DeadlineExceeded, "no introduction within %v", introduceWithin)
	}
	leave, err := s.admit(g.Context(), in)
	if err != nil {
		return err
	}
	defer leave()
	if err := g.SendHeader(nil); err != nil { // so that the proxy knows at once that it is taken
		return err
	}
	n := &node{
		service: s, grpc: g, entries: make(map[*entry]struct{}), states: make(map[entryID]*controlv1.RegistrationState),
		info: Info{
			Environment: in.GetEnvironment(), Instance: in.GetInstance(), Incarnation: in.GetIncarnation(), Version: in.GetSoftwareVersion(),
			Zone: in.GetZone(), Since: time.Now(),
		},
	}
	n.beside = s.cfg.Roster.Open(n.info.Environment, &controlv1.Proxy{
		Instance: n.info.Instance, Incarnation: n.info.Incarnation, SoftwareVersion: n.info.Version, Zone: n.info.Zone, Since: timestamppb.New(n.info.Since),
	})
	defer n.beside.Close()
	s.mu.Lock()
	s.nodes[n] = struct{}{}
	delete(s.lost, n.id())
	s.mu.Unlock()
	defer s.leave(n)
	if s.cfg.Introduced != nil {
		s.cfg.Introduced(n.info, in)
	}
	return over(n.listen(rate.NewLimiter(rate.Limit(s.cfg.WordsPerSecond), 5*int(s.cfg.WordsPerSecond)+1)))
}

// over is the end of a stream that its proxy has ended.
func over(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// admit refuses who says nothing of himself, or something that is not so.
func (s *Service) admit(ctx context.Context, in *controlv1.Introduction) (leave func(), err error) {
	switch {
	case in == nil:
		return nil, status.Error(codes.InvalidArgument, "the first word is no introduction")
	case !resource.IsName(in.GetEnvironment()) || !resource.IsName(in.GetInstance()):
		return nil, status.Errorf(codes.InvalidArgument, "the introduction needs an environment and an instance, not %q and %q", in.GetEnvironment(), in.GetInstance())
	case in.GetZone() != "" && !resource.IsName(in.GetZone()) || len(in.GetSoftwareVersion()) > 255:
		return nil, status.Error(codes.InvalidArgument, "the introduction's zone or software version cannot be")
	}
	if s.cfg.Admit == nil {
		return func() {}, nil
	}
	return s.cfg.Admit(ctx, in)
}

func (n *node) id() nodeID {
	return nodeID{n.info.Environment, n.info.Instance, n.info.Incarnation}
}

// listen takes what the proxy says until the stream ends.
func (n *node) listen(pace *rate.Limiter) error {
	s := n.service
	for {
		r, err := n.grpc.Recv()
		if err != nil {
			return err
		}
		s.stats.words.Add(1)
		if !pace.Allow() {
			s.stats.slowed.Add(1)
			if err := pace.Wait(n.grpc.Context()); err != nil {
				return err
			}
		}
		switch w := r.GetWord().(type) {
		case *controlv1.ConnectRequest_Introduction:
			return status.Error(codes.InvalidArgument, "a second introduction")
		case *controlv1.ConnectRequest_Register:
			s.register(n, w.Register)
		case *controlv1.ConnectRequest_Withdraw:
			s.withdraw(n, w.Withdraw)
		case *controlv1.ConnectRequest_Anomaly:
			s.anomaly(n.snapshot(), w.Anomaly)
		case *controlv1.ConnectRequest_Applied:
			n.applied(w.Applied)
		case *controlv1.ConnectRequest_Attendance:
			n.beside.Attended(w.Attendance)
		case *controlv1.ConnectRequest_Condition:
			n.beside.Fares(w.Condition)
		case *controlv1.ConnectRequest_Report:
			answer := s.report(n.snapshot(), w.Report)
			s.mu.Lock()
			if len(n.reports) < maxReports {
				n.reports = append(n.reports, answer)
				n.wake()
			}
			s.mu.Unlock()
		}
	}
}

func (n *node) snapshot() Info {
	n.service.mu.Lock()
	defer n.service.mu.Unlock()
	return n.info
}

func (n *node) applied(a *controlv1.Applied) {
	n.service.mu.Lock()
	defer n.service.mu.Unlock()
	n.info.Generation, n.info.Hash = a.GetGeneration(), a.GetHash()
	if len(n.info.Hash) > 255 {
		n.info.Hash = n.info.Hash[:255]
	}
}

// leave keeps what a proxy has registered for a while: it comes back, maybe.
func (s *Service) leave(n *node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n.over = true
	delete(s.nodes, n)
	now := time.Now()
	for e := range maps.Clone(n.entries) {
		s.disown(e)
		e.lost = now
		if e.register != nil {
			s.orphans[e] = struct{}{}
			s.lost[n.id()] = now
		}
	}
}

// tell has a state sent. The service's lock is held.
func (n *node) tell(id entryID, st *controlv1.RegistrationState) {
	if n.over {
		return
	}
	n.states[id] = st
	n.wake()
}

// wake has what waits sent, unless somebody does so already. The service's lock is held.
func (n *node) wake() {
	if !n.sending {
		n.sending = true
		go n.send() // it ends when nothing waits, or with the stream
	}
}

func (n *node) send() {
	s := n.service
	for {
		s.mu.Lock()
		states, reports := n.states, n.reports
		n.states, n.reports = make(map[entryID]*controlv1.RegistrationState), nil
		if n.sending = !n.over && len(states)+len(reports) > 0; !n.sending {
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		for _, st := range states {
			if n.grpc.Send(&controlv1.ConnectResponse{Word: &controlv1.ConnectResponse_Registration{Registration: st}}) != nil {
				return // and nothing more goes, since sending stays true
			}
		}
		for _, r := range reports {
			if n.grpc.Send(&controlv1.ConnectResponse{Word: &controlv1.ConnectResponse_Report{Report: r}}) != nil {
				return
			}
		}
	}
}
