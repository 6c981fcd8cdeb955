package configserver

import (
	"context"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"

	"github.com/octomesh/octomesh/core/configserver/store"
	"github.com/octomesh/octomesh/core/configserver/wave"
)

// Election chooses one of several Config Servers. That two believe for a while to be chosen does no harm: each step of a
// roll-out is a compare-and-swap.
type Election interface {
	// Lead waits until this one is chosen and calls lead, whose context ends when it is not any more; again and again,
	// until ctx is done.
	Lead(ctx context.Context, lead func(context.Context))
}

// Pace is how roll-outs are watched. 0 stands for the default.
type Pace struct {
	// Tick is how often the leader looks. Default 500 ms.
	Tick time.Duration
	// Settle is how long a new leader waits for Pilots to say what they see before it moves anything on. Default 10 s.
	Settle time.Duration
	// Repeat is after what time a Pilot's word is kept again though it says the same. Default 5 s.
	Repeat time.Duration
	// Stale is after what time a Pilot that says nothing is believed to be gone. Default 20 s.
	Stale time.Duration
	// Absence is how long the first proxy may be away before another one is chosen: one that crashes comes back, and
	// tells. Default 30 s.
	Absence time.Duration
}

func (p Pace) withDefaults() Pace {
	for _, d := range []struct {
		value *time.Duration
		is    time.Duration
	}{
		{&p.Tick, 500 * time.Millisecond}, {&p.Settle, 10 * time.Second}, {&p.Repeat, 5 * time.Second}, {&p.Stale, 20 * time.Second},
		{&p.Absence, 30 * time.Second},
	} {
		if *d.value == 0 {
			*d.value = d.is
		}
	}
	return p
}

// Run moves roll-outs on until ctx is done, while this Config Server is the one that does.
func (s *Service) Run(ctx context.Context) {
	if s.cfg.Election == nil {
		s.lead(ctx)
		return
	}
	s.cfg.Election.Lead(ctx, s.lead)
}

// leader is what one that moves roll-outs on remembers.
type leader struct {
	service *Service
	begun   time.Time
	heard   map[string]heard     // by key of what Pilots say
	missing map[string]time.Time // since when a roll-out's first proxy is away, by key
}

// heard is when a Pilot's word was new, by the leader's own clock.
type heard struct {
	at  int64
	now time.Time
}

func (s *Service) lead(ctx context.Context) {
	l := &leader{service: s, begun: s.now(), heard: make(map[string]heard), missing: make(map[string]time.Time)}
	tick := time.NewTicker(s.cfg.Pace.Tick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := l.look(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("roll-outs stand still: the store does not answer", "error", err)
		}
	}
}

// look looks at all roll-outs once.
func (l *leader) look(ctx context.Context) error {
	entries, _, err := l.service.store.List(ctx, rollingPrefix)
	if err != nil {
		return err
	}
	said, err := l.service.observations(ctx, "")
	if err != nil {
		return err
	}
	l.remember(said)
	running := make(map[string]bool)
	for _, e := range entries {
		r, err := decodeRollout(e)
		if err != nil {
			return err
		}
		own := observedKey(r.Environment, r.Id, "")
		running[own] = true
		if err := l.step(ctx, r, e.Key, said[own]); err != nil {
			return err
		}
	}
	return l.sweep(ctx, said, running)
}

// word is what one Pilot says.
type word struct {
	*configv1.Observation
	key string
	at  int64
}

// observations are what Pilots say of roll-outs of an environment, or of all, by the roll-out.
func (s *Service) observations(ctx context.Context, environment string) (map[string][]word, error) {
	prefix := observedPrefix
	if environment != "" {
		prefix += below(environment, "")
	}
	entries, _, err := s.store.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	out := make(map[string][]word)
	for _, e := range entries {
		o := &configv1.Observation{}
		if err := proto.Unmarshal(e.Value, o); err != nil {
			return nil, err
		}
		own := e.Key[:strings.LastIndexByte(e.Key, '/')+1]
		out[own] = append(out[own], word{o, e.Key, e.Revision})
	}
	return out, nil
}

// remember notes which words are new, and forgets those that are gone.
func (l *leader) remember(said map[string][]word) {
	now, there := l.service.now(), make(map[string]bool)
	for _, words := range said {
		for _, w := range words {
			there[w.key] = true
			if l.heard[w.key].at != w.at {
				l.heard[w.key] = heard{w.at, now}
			}
		}
	}
	for key := range l.heard {
		if !there[key] {
			delete(l.heard, key)
		}
	}
}

// step moves one roll-out on, as far as Pilots say that it may.
func (l *leader) step(ctx context.Context, r *configv1.Rollout, key string, words []word) error {
	now := l.service.now()
	words = slices.DeleteFunc(slices.Clone(words), func(w word) bool { return now.Sub(l.heard[w.key].now) > l.service.cfg.Pace.Stale })
	m := move{environment: r.Environment, id: r.Id, now: now, begun: l.begun}
	waiting, first, applied := 0, false, false
	for _, w := range words {
		if w.GetStep() != r.GetStep() {
			waiting++ // it has not heard of this step
		} else {
			waiting += int(w.GetWaiting())
			applied = applied || w.GetFirstApplied()
		}
		first = first || w.GetFirstConnected()
		if r.GetFirst() == "" && len(w.GetNodes()) > 0 && len(m.events) == 0 {
			m.events = append(m.events, wave.Event{Kind: wave.Connected, Node: w.GetNodes()[0]})
		}
	}
	switch {
	case first || r.GetFirst() == "":
		delete(l.missing, key)
	case l.missing[key].IsZero():
		l.missing[key] = now
	case now.Sub(l.missing[key]) > l.service.cfg.Pace.Absence:
		delete(l.missing, key)
		m.events = append(m.events, wave.Event{Kind: wave.Left, Node: r.GetFirst()})
	}
	if applied {
		m.events = append(m.events, wave.Event{Kind: wave.Applied, Node: r.GetFirst()})
	}
	if len(words) > 0 && now.Sub(l.begun) >= l.service.cfg.Pace.Settle {
		m.events = append(m.events, wave.Event{Kind: wave.Tick, Waiting: waiting})
	}
	if len(m.events) == 0 {
		return nil
	}
	_, err := l.service.move(ctx, m)
	return err
}

// sweep removes what was said of roll-outs that are over.
func (l *leader) sweep(ctx context.Context, said map[string][]word, running map[string]bool) error {
	var ops []store.Op
	for own, words := range said {
		for _, w := range words {
			old := l.service.now().Sub(l.heard[w.key].now) > 2*l.service.cfg.Pace.Stale
			if (!running[own] || old) && len(ops) < store.MaxOps {
				ops = append(ops, store.Op{Key: w.key, Expect: store.Any, Delete: true})
			}
		}
	}
	if len(ops) == 0 {
		return nil
	}
	_, err := l.service.store.Commit(ctx, ops...)
	return err
}
