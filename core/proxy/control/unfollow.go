package control

import (
	"slices"
	"time"

	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// Uses has f asked how often a target was called so far, and whether an instance of it is attached here. Call it before
// Run. Without it no target is ever left.
func (c *Client) Uses(f func(target string) (calls uint64, attached bool)) { c.uses = f }

// unfollowIdle adds to the time for which targets were not called, and leaves those that were not for too long.
func (c *Client) unfollowIdle(passed time.Duration) {
	if c.uses == nil || c.cfg.Unfollow < 0 {
		return
	}
	c.mu.Lock()
	targets := c.state.targets()
	led := c.state.leads()
	c.mu.Unlock()
	var gone []string
	for _, target := range targets {
		calls, attached := c.uses(target)
		c.mu.Lock()
		used := attached || led[target] || calls != c.calls[target] || slices.Contains(c.cfg.Targets, target)
		if c.calls[target] = calls; used {
			delete(c.state.idle, target)
		} else if c.state.idle[target] += passed; c.state.idle[target] >= c.cfg.Unfollow {
			gone = append(gone, target)
		}
		c.mu.Unlock()
	}
	if len(gone) > 0 {
		c.unfollow(gone)
	}
}

// leads are the targets to which policies of others lead.
func (s *state) leads() map[string]bool {
	out := make(map[string]bool)
	for _, it := range s.resources[resource.KindServicePolicy] {
		for _, to := range resource.References(it.message.(*resourcev1.ServicePolicy)) {
			out[to] = true
		}
	}
	return out
}

// unfollow leaves targets: nothing more is brought of them, and the proxy forgets what there was. A call to one follows it
// again.
func (c *Client) unfollow(targets []string) {
	c.applying.Lock()
	defer c.applying.Unlock()
	var changes []*change
	c.mu.Lock()
	for _, target := range targets {
		delete(c.state.followed, target)
		delete(c.state.idle, target)
		delete(c.calls, target)
		for _, k := range kinds {
			delete(c.state.answered, c.state.topic(k, target))
		}
	}
	for _, k := range kinds {
		change := newChange(k)
		for name := range c.state.resources[k] {
			if t, err := resource.TopicOf(k, name); err == nil && slices.Contains(targets, t.Target) {
				c.state.set(change, t, name, item{})
			}
		}
		changes = append(changes, change)
	}
	c.state.indexSwitches()
	if c.stream != nil {
		c.stream.unsubscribe(targets)
	}
	c.changed()
	c.mu.Unlock()
	if err := c.put(changes...); err != nil {
		c.cfg.Log.Error("targets that nobody calls cannot be forgotten", "error", err)
	}
	c.cfg.Log.Info("targets that nobody has called for long are not followed any more", "targets", len(targets))
}
