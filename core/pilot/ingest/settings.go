package ingest

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/octomesh/octomesh/core/resource"
	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"
)

// settings follows the Config Server: each environment of which somebody follows something, and of no other.
type settings struct {
	cfg       Config
	endpoints *endpoints

	mu      sync.Mutex
	changed map[resource.Topic]bool // interest in them may have changed
	news    chan struct{}           // holds one element while changed has some

	environments map[string]*environment // run's alone
}

func newSettings(cfg Config, e *endpoints) *settings {
	return &settings{
		cfg: cfg, endpoints: e, changed: make(map[resource.Topic]bool), news: make(chan struct{}, 1),
		environments: make(map[string]*environment),
	}
}

// interest notes that a topic has got its first follower, or lost its last.
func (s *settings) interest(t resource.Topic) {
	s.mu.Lock()
	s.changed[t] = true
	s.mu.Unlock()
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// run begins and ends to follow environments until ctx is done.
func (s *settings) run(ctx context.Context) {
	defer func() {
		for _, e := range s.environments {
			e.end()
		}
	}()
	tick := time.NewTicker(s.cfg.Linger / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.news:
		case <-tick.C:
		}
		s.tend(ctx)
	}
}

// tend looks at what has changed, and at what has not been followed for a while.
func (s *settings) tend(ctx context.Context) {
	s.mu.Lock()
	changed := s.changed
	s.changed = make(map[resource.Topic]bool)
	s.mu.Unlock()
	for t := range changed {
		wanted := s.cfg.Cache.Followed(t)
		if e := s.environment(ctx, t.Environment, wanted); e != nil {
			e.interest(t, wanted)
		}
	}
	for name, e := range s.environments {
		if e.expire(time.Now()) {
			e.end()
			delete(s.environments, name)
			s.endpoints.forget(name)
		}
	}
}

// environment finds an environment, or begins to follow it; nil: it is not followed, and need not be.
func (s *settings) environment(ctx context.Context, name string, wanted bool) *environment {
	e := s.environments[name]
	if e != nil || !wanted {
		return e
	}
	e = &environment{name: name, settings: s, followed: make(map[resource.Topic]time.Time)}
	ctx, e.stop = context.WithCancel(ctx)
	s.environments[name] = e
	if len(s.cfg.ConfigServers) == 0 {
		e.take(&configv1.WatchResponse{Begin: true, Complete: true}) // nothing is configured
		return e
	}
	e.watches.Go(func() { e.watch(ctx) })
	e.watches.Go(func() { e.lose(ctx) })
	return e
}

// end ends to follow the environment. What the cache has stays.
func (e *environment) end() {
	e.stop()
	e.watches.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	if before := e.held; before != nil {
		e.held = newHolding()
		e.compare(before) // nothing is being rolled out here
	}
}

// watch follows one environment until ctx is done.
func (e *environment) watch(ctx context.Context) {
	keep(ctx, e.settings.cfg.Log, "the Config Server", e.settings.cfg.ConfigServers, e.follow)
}

// lose ends the patience with which endpoints wait for what operators say of instances.
func (e *environment) lose(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-time.After(e.settings.cfg.Patience):
	}
	if e.settings.endpoints.release(e.name) {
		e.settings.cfg.Log.Warn("no Config Server answers: endpoints are told of as they are registered, whatever operators say of them",
			"environment", e.name)
	}
}

// follow is one stream.
func (e *environment) follow(ctx context.Context, server grpc.ClientConnInterface) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := configv1.NewConfigClient(server).Watch(ctx, &configv1.WatchRequest{Environment: e.name}, grpc.MaxCallRecvMsgSize(maxMessage))
	if err != nil {
		return false, err
	}
	e.abandon()
	for {
		r, err := s.Recv()
		if err != nil {
			return heard, err
		}
		heard = true
		e.take(r)
	}
}
