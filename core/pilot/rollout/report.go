package rollout

import (
	"cmp"
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/grpc"

	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"
)

const (
	firstPause = 100 * time.Millisecond
	maxPause   = 5 * time.Second
)

// Run tells the Config Server until ctx is done.
func (o *Observer) Run(ctx context.Context) {
	pause := firstPause
	for n := 0; ctx.Err() == nil && len(o.cfg.ConfigServers) > 0; n++ {
		told, err := o.tell(ctx, o.cfg.ConfigServers[n%len(o.cfg.ConfigServers)])
		if ctx.Err() != nil {
			return
		}
		if told {
			pause = firstPause
		}
		wait := time.Duration(float64(pause) * (0.5 + rand.Float64()))
		o.cfg.Log.Warn("the Config Server is not told how roll-outs go; they wait", "error", err, "pause", wait)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		pause = min(2*pause, maxPause)
	}
}

// tell is one stream.
func (o *Observer) tell(ctx context.Context, server grpc.ClientConnInterface) (told bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := configv1.NewConfigClient(server).Observe(ctx)
	if err != nil {
		return false, err
	}
	repeat := time.NewTicker(o.cfg.Repeat)
	defer repeat.Stop()
	for {
		if all := o.observations(); len(all) > 0 || !told {
			if err := s.Send(&configv1.ObserveRequest{Pilot: o.cfg.Pilot, Observations: all}); err != nil {
				_, err = s.CloseAndRecv() // says why
				return told, err
			}
			told = true
		}
		select {
		case <-s.Context().Done():
			_, err = s.CloseAndRecv()
			return told, err
		case <-repeat.C:
		case <-o.news:
			select { // others follow
			case <-ctx.Done():
			case <-time.After(o.cfg.Gather):
			}
		}
	}
}

// observations are what is to be said of each roll-out.
func (o *Observer) observations() []*configv1.Observation {
	o.mu.Lock()
	defer o.mu.Unlock()
	type key struct {
		environment string
		rollout     uint64
	}
	together := make(map[key][]place)
	for p, c := range o.rolling {
		k := key{p.topic.Environment, c.rollout}
		together[k] = append(together[k], p)
	}
	var out []*configv1.Observation
	for k, places := range together {
		out = append(out, o.observe(k.environment, k.rollout, places))
	}
	return out
}

// standing is how one node stands to a roll-out.
type standing struct{ chosen, waiting bool }

// observe counts the nodes of one roll-out, whose resources go together. The lock is held.
func (o *Observer) observe(environment string, id uint64, places []place) *configv1.Observation {
	out := &configv1.Observation{Environment: environment, Rollout: id}
	nodes := make(map[string]standing)
	first := ""
	for i, p := range places {
		c := o.rolling[p]
		if i == 0 || c.step < out.Step { // the last that it has heard of all of them
			out.Step = c.step
		}
		first = cmp.Or(first, c.first)
		followers := o.cfg.Cache.Followers(p.topic)
		there := make(map[string]bool, len(followers))
		for _, n := range followers {
			there[n] = true
			s := nodes[n]
			if c.wave.Has(n) {
				_, refused := c.refused[n]
				s.chosen = true
				s.waiting = s.waiting || !c.applied[n] && !refused
			}
			nodes[n] = s
		}
		maps.DeleteFunc(c.applied, func(n string, _ bool) bool { return !there[n] }) // it says so again when it comes back
		for n, why := range c.refused {
			out.Refusals = append(out.Refusals, &configv1.Failure{Node: n, Text: p.topic.Kind.String() + " " + p.topic.Target + ": " + why})
		}
		for _, f := range c.crashed {
			out.Crashes = append(out.Crashes, f)
		}
	}
	out.Connected = uint32(len(nodes))
	for n, s := range nodes {
		if s.chosen {
			out.Chosen++
			if s.waiting {
				out.Waiting++
			} else {
				out.Applied++
			}
		}
		if n == first {
			out.FirstConnected, out.FirstApplied = true, s.chosen && !s.waiting
		}
	}
	for n := range nodes {
		if len(out.Nodes) == maxNodes || first != "" {
			break
		}
		out.Nodes = append(out.Nodes, n)
	}
	byNode := func(a, b *configv1.Failure) int { return cmp.Compare(a.GetNode(), b.GetNode()) }
	slices.SortFunc(out.Refusals, byNode)
	slices.SortFunc(out.Crashes, byNode)
	return out
}
