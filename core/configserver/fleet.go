package configserver

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"

	"github.com/octomesh/octomesh/core/fleet"
	"github.com/octomesh/octomesh/core/report"
	"github.com/octomesh/octomesh/core/resource"
)

// Part is a process of the control plane that hears of a part of the fleet.
type Part struct {
	Role, Name, Address string
	Conn                grpc.ClientConnInterface
}

// fleetPatience is how long a part may take to answer: one that does not is told to be missing.
const fleetPatience = 5 * time.Second

// errNoFleet says that nobody is there who could be asked.
var errNoFleet = status.Error(codes.FailedPrecondition, "this control plane has no Pilot and no Directory: nobody hears of proxies and SDKs")

// eachPart asks all parts at once, and says who was asked, with why some did not answer. ask is called concurrently.
func (s *Service) eachPart(ctx context.Context, ask func(context.Context, controlv1.FleetClient) error) ([]*configv1.Source, error) {
	if s.cfg.Fleet == nil {
		return nil, errNoFleet
	}
	ctx, cancel := context.WithTimeout(ctx, fleetPatience)
	defer cancel()
	parts, err := s.cfg.Fleet(ctx)
	if err != nil {
		return nil, status.Errorf(codes.Unavailable, "who the Pilots and Directories are is not known: %v: try again", err)
	}
	sources := make([]*configv1.Source, len(parts))
	var wg sync.WaitGroup
	for i, p := range parts {
		sources[i] = &configv1.Source{Role: p.Role, Name: p.Name, Address: p.Address}
		wg.Go(func() {
			if err := ask(ctx, controlv1.NewFleetClient(p.Conn)); err != nil {
				sources[i].Error = status.Convert(err).Message()
			}
		})
	}
	wg.Wait()
	return sources, nil
}

// roster asks all parts who is there. A process that is seen twice is in it once.
func (s *Service) roster(ctx context.Context, environment, application string) ([]*controlv1.Seen, []*configv1.Source, error) {
	var mu sync.Mutex
	var all []*controlv1.Seen
	sources, err := s.eachPart(ctx, func(ctx context.Context, c controlv1.FleetClient) error {
		stream, err := c.Roster(ctx, &controlv1.RosterRequest{Environment: environment, Application: application})
		for err == nil {
			var m *controlv1.RosterResponse
			if m, err = stream.Recv(); err == nil {
				mu.Lock()
				all = append(all, m.GetSeen()...)
				mu.Unlock()
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	})
	fleet.Sort(all)
	return fleet.Unite(all), sources, err
}

// Nodes implements the service.
func (m Mesh) Nodes(r *configv1.NodesRequest, out grpc.ServerStreamingServer[configv1.NodesResponse]) error {
	if err := check(r.GetEnvironment(), ""); err != nil {
		return err
	}
	all, sources, err := m.roster(out.Context(), r.GetEnvironment(), r.GetApplication())
	if err != nil {
		return err
	}
	first := &configv1.NodesResponse{Sources: sources}
	for page := range slices.Chunk(all, fleet.Page) {
		first.Seen = page
		if err := out.Send(first); err != nil {
			return err
		}
		first = &configv1.NodesResponse{}
	}
	if len(all) == 0 {
		return out.Send(first)
	}
	return nil
}

// Compare implements the service.
func (m Mesh) Compare(ctx context.Context, r *configv1.CompareRequest) (*configv1.CompareResponse, error) {
	if err := check(r.GetEnvironment(), ""); err != nil {
		return nil, err
	}
	since := fleet.DefaultSince
	if r.GetSince() != nil {
		since = r.GetSince().AsDuration()
	}
	switch {
	case !resource.IsName(r.GetTarget()):
		return nil, invalid("target %q: no target is called so", r.GetTarget())
	case r.GetApplication() != "" && !resource.IsName(r.GetApplication()):
		return nil, invalid("application %q: no application is called so", r.GetApplication())
	case since <= 0 || since > report.Reach:
		return nil, invalid("%v back: want more than 0 and at most %v, which is how long it is kept", since, report.Reach)
	}
	out := &configv1.CompareResponse{To: timestamppb.New(time.Now())}
	by := map[directoryv1.PathReport_Path]*report.Cell{directoryv1.PathReport_PATH_MESH: {}, directoryv1.PathReport_PATH_DIRECT: {}}
	var mu sync.Mutex
	sources, err := m.eachPart(ctx, func(ctx context.Context, c controlv1.FleetClient) error {
		got, err := c.Sums(ctx, &controlv1.SumsRequest{
			Environment: r.GetEnvironment(), Application: r.GetApplication(), Target: r.GetTarget(), Since: durationpb.New(since),
		})
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		for _, one := range got.GetSums() {
			if cell := by[one.GetPath().GetPath()]; cell != nil {
				cell.Add(one.GetPath())
			}
		}
		out.Dropped += got.GetDropped()
		if out.From == nil || got.GetFrom().AsTime().After(out.From.AsTime()) {
			out.From = got.GetFrom() // all that is counted everywhere
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out.Sources = sources
	out.Mesh = measured(by[directoryv1.PathReport_PATH_MESH], r.GetTarget(), directoryv1.PathReport_PATH_MESH)
	out.Direct = measured(by[directoryv1.PathReport_PATH_DIRECT], r.GetTarget(), directoryv1.PathReport_PATH_DIRECT)
	out.Switches, err = m.inForce(ctx, r)
	return out, err
}

// measured is what people compare of a cell. A call that fallback saved has failed on the path that it left.
func measured(c *report.Cell, target string, path directoryv1.PathReport_Path) *configv1.Measured {
	out := &configv1.Measured{Path: c.Path(target, path), Tried: c.Calls + c.Saved, Failed: c.Failed() + c.Saved}
	if d, ok := c.Quantile(0.5); ok {
		out.P50 = durationpb.New(d)
	}
	if d, ok := c.Quantile(0.99); ok {
		out.P99 = durationpb.New(d)
	}
	return out
}

// inForce are the switches that hold for an application's calls to a target; of every application, all of the target's.
func (m Mesh) inForce(ctx context.Context, r *configv1.CompareRequest) (out []*configv1.ShareChange, err error) {
	have, _, err := m.all(ctx, r.GetEnvironment(), KindSwitch)
	if err != nil {
		return nil, err
	}
	shown := func(k kept) {
		s := switchOf(k)
		out = append(out, &configv1.ShareChange{Application: applicationOf(s), Target: s.GetTarget(), After: shareOf(s)})
	}
	if a := r.GetApplication(); a != "" {
		for _, who := range []string{a, ""} {
			if k := have[KindSwitch+"/"+who+","+r.GetTarget()]; k.live() {
				shown(k)
				break
			}
		}
		return out, nil
	}
	for _, k := range have {
		if k.live() && switchOf(k).GetTarget() == r.GetTarget() {
			shown(k)
		}
	}
	slices.SortFunc(out, func(a, b *configv1.ShareChange) int { return strings.Compare(a.GetApplication(), b.GetApplication()) })
	return out, nil
}
