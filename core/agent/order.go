package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	agentv1 "github.com/octomesh/octomesh/gen/control/octo/agent/v1"
)

// order is what an operator wants of a proxy.
type order struct {
	upgrade bool
	binary  string // of an upgrade; empty: the one that the agent's file names
	tell    func(*agentv1.Progress)
	done    chan error // has room for one
}

// obey does what an operator wants.
func (k *keeper) obey(ctx context.Context, o *order) error {
	tell := func(step agentv1.Progress_Step, c *child, format string, args ...any) {
		p := &agentv1.Progress{Name: k.cfg.GetName(), Step: step, Text: fmt.Sprintf(format, args...)}
		if c != nil {
			p.Pid, p.Version = uint32(c.PID), k.proxy().GetVersion()
		}
		o.tell(p)
	}
	do, what := k.restart, "restart"
	if o.upgrade {
		do, what = k.upgrade, "upgrade"
	}
	tell(agentv1.Progress_STEP_BEGUN, k.child, "")
	begun := time.Now()
	err := do(ctx, o, tell)
	if err != nil {
		k.log.Error("the "+what+" failed", "error", err)
		tell(agentv1.Progress_STEP_FAILED, k.child, "%v", err)
		return fmt.Errorf("%s: %w", k.cfg.GetName(), err)
	}
	k.log.Info("the "+what+" is done", "pid", k.child.PID, "took", time.Since(begun))
	tell(agentv1.Progress_STEP_DONE, k.child, "")
	return nil
}

type teller func(step agentv1.Progress_Step, c *child, format string, args ...any)

// upgrade has a new process take over. Until it serves the process that runs is left alone.
func (k *keeper) upgrade(ctx context.Context, o *order, tell teller) error {
	binary := o.binary
	if binary == "" {
		binary = k.configured()
	}
	if err := k.readBootstrap(); err != nil {
		return k.unchanged(fmt.Errorf("its configuration is wrong: %w", err))
	}
	next, err := k.agent.launch(k.cfg, binary, k.adminSocket(), "--takeover")
	if err != nil {
		return k.unchanged(err)
	}
	k.log.Info("a successor is started", "pid", next.PID, "binary", binary)
	k.show(func(p *agentv1.Proxy) { p.State, p.Why = agentv1.Proxy_STATE_UPGRADING, "" })
	if err := k.awaitServing(ctx, next); err != nil {
		return k.unchanged(fmt.Errorf("the new process (%s) does not serve: %w", binary, err))
	}
	before := k.child
	k.mu.Lock()
	k.noted.Binary, k.noted.Configured = o.binary, k.configured()
	k.mu.Unlock()
	k.again, k.refused, k.last, k.backoff.crashes = time.Time{}, nil, "", 0
	k.take(next)
	if a := askFor(ctx, next); a.err == nil && a.status.PID == next.PID {
		k.answered(a.status)
	}
	tell(agentv1.Progress_STEP_SERVING, next, "")
	if before == nil {
		return nil
	}
	if err := before.gone(ctx, k.drain()); err != nil {
		return fmt.Errorf("the new process serves, but the one before does not leave: %w", err)
	}
	if !next.alive() {
		return errors.New("the new process has served, and ended: " + next.why())
	}
	return nil
}

// unchanged says of an upgrade that has failed what is so now.
func (k *keeper) unchanged(err error) error {
	c := k.child
	switch {
	case c == nil:
		return fmt.Errorf("%w; no process ran before, and none does", err)
	case !c.alive():
		return fmt.Errorf("%w; the process before, %d, has ended meanwhile", err, c.PID)
	}
	k.show(func(p *agentv1.Proxy) {
		p.State, p.Why = agentv1.Proxy_STATE_SERVING, "the last upgrade failed: "+err.Error()
	})
	return fmt.Errorf("%w; process %d serves on", err, c.PID)
}

// awaitServing waits until a new process serves. One that does not in time is killed.
func (k *keeper) awaitServing(ctx context.Context, c *child) error {
	limit := k.agent.cfg.GetHealth().GetStartDeadline().AsDuration()
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case <-c.served:
		return nil
	case <-c.ended:
		return errors.New(c.why())
	case <-ctx.Done():
		if k.agent.stops.Load() {
			c.kill("the agent ends, and its proxies with it")
			return errors.New("the agent ends")
		}
		return errors.New("the agent ends; the new process goes on alone")
	case <-late.C:
	}
	c.kill(fmt.Sprintf("it was not ready within %v and was killed", limit))
	if err := c.gone(ctx, killTimeout); err != nil {
		return err
	}
	return errors.New(c.why())
}

// restart ends the process and starts another one.
func (k *keeper) restart(ctx context.Context, _ *order, tell teller) error {
	if err := k.readBootstrap(); err != nil {
		return k.unchanged(fmt.Errorf("its configuration is wrong: %w", err))
	}
	if err := checkBinary(k.binary()); err != nil {
		return k.unchanged(err)
	}
	if c := k.child; c != nil {
		k.show(func(p *agentv1.Proxy) { p.State, p.Why = agentv1.Proxy_STATE_LEAVING, "" })
		if err := c.end(ctx, k.drain()); err != nil {
			return err
		}
		k.child = nil
	}
	k.last, k.backoff.crashes = "", 0
	k.start()
	c := k.child
	if c == nil {
		return errors.New(k.proxy().GetWhy())
	}
	if err := k.awaitServing(ctx, c); err != nil {
		if !c.alive() {
			k.lost(ctx)
		}
		return fmt.Errorf("the new process does not serve: %w", err)
	}
	if a := askFor(ctx, c); a.err == nil && a.status.PID == c.PID {
		k.answered(a.status)
	}
	tell(agentv1.Progress_STEP_SERVING, c, "")
	return nil
}
