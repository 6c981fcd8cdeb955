package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	agentv1 "github.com/octomesh/octomesh/gen/control/octo/agent/v1"

	"github.com/octomesh/octomesh/core/proxy/admin"
)

// leastFailures is how many times in a row an admin socket has not answered before its proxy is said to be silent, however long ago the
// first time was: the agent itself may have been stopped meanwhile.
const leastFailures = 3

// answer is what became of asking a process how it is.
type answer struct {
	child  *child
	asked  time.Time
	status *admin.Status
	err    error
}

func askFor(ctx context.Context, c *child) answer {
	a := answer{child: c, asked: time.Now()}
	a.status, a.err = ask(ctx, c.admin)
	return a
}

// silence is how long a process has not answered.
type silence struct {
	since    time.Time // asked and not answered for the first time
	failures int
	told     bool
}

// failed counts one more failure, and returns how long it is silent by now; 0: too few to say.
func (s *silence) failed(asked, now time.Time) time.Duration {
	if s.failures == 0 {
		s.since = asked
	}
	if s.failures++; s.failures < leastFailures {
		return 0
	}
	return max(now.Sub(s.since), 1)
}

// judge goes by what a process has answered, or not.
func (k *keeper) judge(a answer) {
	c := k.child
	if c == nil || a.child != c || !c.alive() {
		return
	}
	if a.err == nil || errors.Is(a.err, errOld) {
		k.heard(c, a.status)
		return
	}
	h := k.agent.cfg.GetHealth()
	if c.since() == 0 {
		if limit := h.GetStartDeadline().AsDuration(); c.age() > limit {
			k.log.Error("the process does not get ready, and is killed", "pid", c.PID, "after", limit)
			c.kill(fmt.Sprintf("it was not ready within %v and was killed", limit))
		}
		return
	}
	silent := k.silence.failed(a.asked, time.Now())
	if silent == 0 {
		return
	}
	k.show(func(p *agentv1.Proxy) {
		p.State, p.Why = agentv1.Proxy_STATE_SILENT, "its admin socket does not answer: "+a.err.Error()
	})
	limit := h.GetSilence().AsDuration()
	switch {
	case silent >= limit && h.GetOnSilence() == agentv1.HealthConfig_ON_SILENCE_KILL:
		k.log.Error("the process hangs, and is killed", "pid", c.PID, "silent", silent, "error", a.err)
		c.kill(fmt.Sprintf("it did not answer for %v and was killed", limit))
	case !k.silence.told:
		k.silence.told = true
		k.log.Warn("the process does not answer at its admin socket", "pid", c.PID, "silent", silent, "error", a.err)
	}
}

// heard goes by an answer; nil: of one that is too old to say how it is.
func (k *keeper) heard(c *child, s *admin.Status) {
	if k.silence.told {
		k.log.Info("the process answers again", "pid", c.PID)
	}
	k.silence = silence{}
	switch {
	case s == nil:
		k.show(func(p *agentv1.Proxy) { p.State, p.Why = agentv1.Proxy_STATE_SERVING, errOld.Error() })
	case s.PID != c.PID || s.Start != c.Start:
		k.follow(s)
	default:
		c.serve() // it answers on the sockets that it serves
		k.answered(s)
	}
}

// answered shows what the proxy's process says of itself.
func (k *keeper) answered(s *admin.Status) {
	k.show(func(p *agentv1.Proxy) {
		p.State, p.Why = agentv1.Proxy_STATE_SERVING, ""
		if k.last != "" {
			p.Why = "the process before: " + k.last
		}
		if !s.Ready {
			p.State, p.Why = agentv1.Proxy_STATE_UNREADY, strings.Join(s.Reasons, "; ")
		}
		p.Version, p.Environment, p.Instance, p.Generation = s.Version, s.Environment, s.Instance, s.Generation
		p.Sessions = make(map[string]uint32, len(s.Sessions))
		for kind, n := range s.Sessions {
			p.Sessions[kind] = uint32(n)
		}
	})
}
