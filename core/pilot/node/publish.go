package node

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc"

	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
	dispatchv1 "github.com/octomesh/octomesh/gen/control/octo/dispatch/v1"
)

const (
	firstPause, maxPause = 100 * time.Millisecond, 5 * time.Second
	// batch is how many instances one request to the Dispatcher speaks of at most.
	batch = 500
	// maxMessage bounds a response of the Dispatcher's, in bytes.
	maxMessage = 16 << 20
)

type publishing = grpc.BidiStreamingClient[dispatchv1.PublishRequest, dispatchv1.PublishResponse]

// publish tells Dispatchers what is registered, one at a time, until ctx is done.
func (s *Service) publish(ctx context.Context) {
	pause := firstPause
	for n := 0; ctx.Err() == nil; n++ {
		heard, err := s.publishTo(ctx, s.cfg.Dispatchers[n%len(s.cfg.Dispatchers)])
		if ctx.Err() != nil {
			return
		}
		if heard {
			pause = firstPause
		}
		wait := time.Duration(float64(pause) * (0.5 + rand.Float64()))
		s.cfg.Log.Warn("no Dispatcher takes registrations; what is registered stays", "error", err, "pause", wait)
		s.mu.Lock()
		s.nobody = err.Error()
		for _, e := range s.entries {
			if e.state.GetState() != controlv1.RegistrationState_STATE_PUBLISHED {
				s.pending(e)
			}
		}
		s.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		pause = min(2*pause, maxPause)
	}
}

// publishTo is one stream.
func (s *Service) publishTo(ctx context.Context, dispatcher grpc.ClientConnInterface) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, err := dispatchv1.NewDispatchClient(dispatcher).Publish(ctx, grpc.MaxCallRecvMsgSize(maxMessage), grpc.WaitForReady(false))
	if err != nil {
		return false, err
	}
	if _, err := g.Header(); err != nil { // the Dispatcher is there, and has taken the stream
		return false, err
	}
	s.mu.Lock()
	s.nobody = ""
	for _, e := range s.entries { // this one has heard nothing yet
		s.changed(e)
	}
	s.mu.Unlock()
	var saying sync.WaitGroup
	defer saying.Wait()
	defer cancel()
	saying.Go(func() { s.say(ctx, g, cancel) })
	for {
		r, err := g.Recv()
		if err != nil {
			return true, err
		}
		for _, st := range r.GetStates() {
			s.told(r.GetEnvironment(), st)
		}
	}
}

// say sends what has changed.
func (s *Service) say(ctx context.Context, g publishing, failed func()) {
	for {
		for requests := s.requests(); len(requests) > 0; requests = s.requests() {
			for _, r := range requests {
				if g.Send(r) != nil {
					failed() // Recv says why
					return
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-s.news:
		}
	}
}

// requests takes the next few of what has changed, by environment.
func (s *Service) requests() (all []*dispatchv1.PublishRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(len(s.dirty), batch)
	by := make(map[string]*dispatchv1.PublishRequest)
	for _, e := range s.dirty[:n] {
		e.queued = false
		r := by[e.environment]
		if r == nil {
			r = &dispatchv1.PublishRequest{Environment: e.environment}
			by[e.environment] = r
			all = append(all, r)
		}
		switch {
		case s.entries[e.entryID] != e: // it is over
		case e.register != nil:
			r.Register = append(r.Register, e.register)
		default:
			r.Withdraw = append(r.Withdraw, e.withdraw)
		}
	}
	if s.dirty = s.dirty[n:]; len(s.dirty) == 0 {
		s.dirty = nil
	}
	return all
}
