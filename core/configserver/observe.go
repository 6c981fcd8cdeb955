package configserver

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"

	"github.com/octomesh/octomesh/core/configserver/store"
	"github.com/octomesh/octomesh/core/configserver/wave"
)

// Bounds of what a Pilot says at once.
const (
	maxObservations = 1000
	maxNodes        = 3
	maxFailures     = 100
	maxFailureText  = 1000
)

// observer is one Pilot's stream. What it says is kept in the store, for whoever moves roll-outs on.
type observer struct {
	service *Service
	pilot   string
	said    map[string]observed // by key
}

// observed is what was kept last.
type observed struct {
	at    int64 // the store's revision
	said  *configv1.Observation
	since time.Time
}

// Observe implements the service.
func (s *Service) Observe(g grpc.ClientStreamingServer[configv1.ObserveRequest, configv1.ObserveResponse]) error {
	id, proved, err := caller(g.Context())
	if err != nil {
		return err
	}
	if proved {
		if err := s.cfg.MayObserve(id); err != nil {
			return status.Errorf(codes.PermissionDenied, "%s may not say what becomes of roll-outs: %v", id, err)
		}
	}
	o := &observer{service: s, said: make(map[string]observed)}
	defer o.end()
	for {
		m, err := g.Recv()
		if errors.Is(err, io.EOF) {
			return g.SendAndClose(&configv1.ObserveResponse{})
		}
		if err != nil {
			return err
		}
		if o.pilot == "" {
			o.pilot = m.GetPilot()
		}
		if o.pilot == "" || len(o.pilot) > maxAuthor || len(m.GetObservations()) > maxObservations {
			return invalid("a Pilot's name is missing or too long, or it says more than %d things at once", maxObservations)
		}
		for _, seen := range m.GetObservations() {
			if err := o.observe(g.Context(), seen); err != nil {
				return err
			}
		}
	}
}

// observe takes what a Pilot sees of one roll-out.
func (o *observer) observe(ctx context.Context, seen *configv1.Observation) error {
	r, _, err := o.service.rolling(ctx, seen.GetEnvironment(), seen.GetRollout())
	if err != nil || r == nil {
		return err // it is over, and the Pilot has not heard so yet
	}
	if events := failures(r, seen); len(events) > 0 {
		_, err := o.service.move(ctx, move{environment: r.Environment, id: r.Id, now: o.service.now(), events: events})
		if err != nil {
			return err
		}
	}
	seen.Refusals = nil
	seen.Crashes = nil
	seen.Nodes = seen.Nodes[:min(len(seen.Nodes), maxNodes)]
	key := observedKey(r.Environment, r.Id, o.pilot)
	last, now := o.said[key], o.service.now()
	if proto.Equal(last.said, seen) && now.Sub(last.since) < o.service.cfg.Pace.Repeat {
		return nil
	}
	value, err := proto.Marshal(seen)
	if err != nil {
		return err
	}
	at, err := o.service.store.Commit(ctx, store.Op{Key: key, Expect: store.Any, Value: value})
	if err != nil {
		return storeError(err)
	}
	o.said[key] = observed{at, seen, now}
	return nil
}

// failures are the events of what a Pilot has seen go wrong, and nobody has said before.
func failures(r *configv1.Rollout, seen *configv1.Observation) []wave.Event {
	var out []wave.Event
	for _, f := range seen.GetCrashes()[:min(len(seen.GetCrashes()), maxFailures)] {
		for n := r.GetCrashes()[f.GetNode()]; n < min(f.GetCount(), maxFailures); n++ {
			out = append(out, wave.Event{Kind: wave.Crashed, Node: f.GetNode(), Text: cutText(f.GetText())})
		}
	}
	for _, f := range seen.GetRefusals()[:min(len(seen.GetRefusals()), maxFailures)] {
		out = append(out, wave.Event{Kind: wave.Refused, Node: f.GetNode(), Text: cutText(f.GetText())})
	}
	return out
}

func cutText(text string) string {
	if len(text) > maxFailureText {
		return text[:maxFailureText] + "…"
	}
	return text
}

// end forgets what the Pilot has said, unless it has said something since by another stream.
func (o *observer) end() {
	ctx, cancel := context.WithTimeout(context.Background(), o.service.cfg.Pace.Stale)
	defer cancel()
	for key, said := range o.said {
		_, err := o.service.store.Commit(ctx, store.Op{Key: key, Expect: said.at, Delete: true})
		var conflict *store.ConflictError
		if err != nil && !errors.As(err, &conflict) {
			return // whoever moves roll-outs on sees that it gets old
		}
	}
}
