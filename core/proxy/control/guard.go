package control

import (
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// The shrink guard. The Dispatcher has one towards registries, and says of each endpoint that surely left that it did
// (STANDING_LEFT). What goes without that word was lost on the way: a Dispatcher began anew before a registry that is
// half empty, or a Pilot errs. If it is all of a target's endpoints, or more than half of four or more, they are held: they
// stay in rotation, until that word comes, they are there again, an operator drops them here, or they prove dead.

// minGuarded is the size from which on half of the endpoints are a mass.
const minGuarded = 4

// mass tells whether to remove some of n is to remove too many.
func mass(n, removed int) bool {
	return removed > 0 && (removed >= n || n >= minGuarded && 2*removed > n)
}

// left tells whether the item is no endpoint, but the word that one has left.
func (it item) left() bool {
	e, ok := it.message.(*resourcev1.Endpoint)
	return ok && e.GetStanding() == resourcev1.Standing_STANDING_LEFT
}

// present tells whether the item is an endpoint that the control plane has.
func (it item) present() bool {
	_, ok := it.message.(*resourcev1.Endpoint)
	return ok && !it.held && !it.left()
}

// hold makes an endpoint a held one.
func (it item) hold() item {
	e := proto.CloneOf(it.message.(*resourcev1.Endpoint))
	e.Standing = resourcev1.Standing_STANDING_HELD
	it.message, it.held = e, true
	return it
}

// shrinkTime is how long removals without a word add up: one that a Pilot tells in parts is one.
const shrinkTime = 10 * time.Second

// lost is an endpoint that went without a word a moment ago.
type lost struct {
	name string
	item item
	at   time.Time
}

// shrink removes endpoints of one target that went without a word, or holds them, with those that went just before. n is how
// many it had, less those that surely left.
func (s *state) shrink(c *change, t resource.Topic, n int, names []string, now time.Time) {
	recent := slices.DeleteFunc(s.lost[t.Target], func(l lost) bool {
		_, again := s.resources[t.Kind][l.name] // or it is said by now that it left
		return again || now.Sub(l.at) >= shrinkTime
	})
	if !mass(n+len(recent), len(names)+len(recent)) {
		for _, name := range names {
			recent = append(recent, lost{name, s.resources[t.Kind][name], now})
			s.set(c, t, name, item{})
		}
		s.lost[t.Target] = recent
		return
	}
	for _, name := range names {
		s.set(c, t, name, s.resources[t.Kind][name].hold())
	}
	for _, l := range recent {
		s.set(c, t, l.name, l.item.hold())
	}
	c.held += len(names) + len(recent)
	delete(s.lost, t.Target)
}

// forgetLost forgets what went too long ago to matter.
func (s *state) forgetLost(now time.Time) {
	maps.DeleteFunc(s.lost, func(_ string, all []lost) bool {
		return !slices.ContainsFunc(all, func(l lost) bool { return now.Sub(l.at) < shrinkTime })
	})
}

// Held is an endpoint that the control plane does not have any more and the proxy keeps in rotation, since it may be a
// mistake.
type Held struct {
	Target   string `json:"target"`
	Instance string `json:"instance"`
}

// Held lists what is held, sorted.
func (c *Client) Held() []Held {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]Held, 0, len(c.state.held))
	for name, t := range c.state.held {
		instance, _ := t.LocalName(name)
		out = append(out, Held{t.Target, instance})
	}
	slices.SortFunc(out, func(a, b Held) int {
		return strings.Compare(a.Target+" "+a.Instance, b.Target+" "+b.Instance)
	})
	return out
}

// Drop removes held endpoints of a target, since somebody knows that they are gone; none named: all of them. It returns how
// many it removed.
func (c *Client) Drop(target, why string, instances ...string) (n int) {
	c.applying.Lock()
	defer c.applying.Unlock()
	change := newChange(resource.KindEndpoint)
	c.mu.Lock()
	for name, t := range c.state.held {
		instance, _ := t.LocalName(name)
		if t.Target == target && (len(instances) == 0 || slices.Contains(instances, instance)) {
			change.add(t, name)
		}
	}
	for name, t := range change.topics {
		c.state.set(change, t, name, item{})
		n++
	}
	c.mu.Unlock()
	if n == 0 {
		return 0
	}
	c.cfg.Log.Warn("endpoints that were held are dropped", "target", target, "instances", n, "why", why)
	if err := c.put(change); err != nil {
		c.cfg.Log.Error("held endpoints cannot be dropped", "error", err)
		return 0
	}
	c.mu.Lock()
	c.changed()
	c.mu.Unlock()
	return n
}
