package register

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/octomesh/octomesh/core/resource"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// held is what an instance says of itself.
type held struct {
	client  *Client
	id      processID
	told    func(Status)
	details Details
	said    map[string]Status
	over    bool
}

var (
	errOff  = errors.New("register: this proxy registers no instances: control.register is off in its configuration")
	errLeft = errors.New("register: the proxy leaves")
)

var _ Registrar = (*Client)(nil)

// describe sets what an instance says of itself.
func (d *Details) describe(e *resourcev1.Endpoint) {
	e.DirectAddress, e.Weight, e.Tags = d.DirectAddress, d.Weight, d.Tags
	if d.Zone != "" {
		e.Zone = d.Zone
	}
}

// check refuses what cannot be, with the field.
func (d *Details) check() error {
	switch {
	case len(d.Targets) == 0:
		return errors.New("register: targets are missing")
	case !resource.IsName(d.Instance):
		return fmt.Errorf("register: instance %q cannot be a name", d.Instance)
	case d.Application != "" && !resource.IsName(d.Application):
		return fmt.Errorf("register: application %q cannot be a name", d.Application)
	}
	s := &resourcev1.Snapshot{}
	for _, t := range slices.Compact(slices.Sorted(slices.Values(d.Targets))) {
		e := &resourcev1.Endpoint{Target: t, Instance: d.Instance, MeshAddress: "mesh:1"}
		d.describe(e)
		s.Endpoints = append(s.Endpoints, e)
	}
	if err := resource.Errors(resource.Validate(s, "")); err != nil {
		return fmt.Errorf("register: %w", err)
	}
	return nil
}

// Register implements [Registrar].
func (c *Client) Register(d Details, told func(Status)) (Held, error) {
	if c == nil || c.cfg.Silent {
		return nil, errOff
	}
	if err := d.check(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left {
		return nil, errLeft
	}
	p := c.process(processID{d.Instance, d.Incarnation}, d.Application)
	h := &held{client: c, id: p.processID, told: told, details: d, said: make(map[string]Status)}
	targets := d.Targets
	if p.held != nil { // the same process says it anew
		p.held.over = true
		targets = slices.Concat(targets, p.held.details.Targets)
	}
	p.held = h
	c.look(d.Instance, targets)
	return h, nil
}

// Update implements [Held].
func (h *held) Update(d Details) error {
	if err := d.check(); err != nil {
		return err
	}
	c := h.client
	c.mu.Lock()
	defer c.mu.Unlock()
	if (processID{d.Instance, d.Incarnation}) != h.id {
		return ErrOther
	}
	if h.over {
		return nil
	}
	targets := slices.Concat(h.details.Targets, d.Targets)
	h.details = d
	clear(h.said)
	c.look(h.id.instance, targets)
	return nil
}

// Withdraw implements [Held].
func (h *held) Withdraw() { h.end(controlv1.Withdrawal_REASON_LEFT) }

// Release implements [Held].
func (h *held) Release() {
	time.AfterFunc(releaseKept, func() { h.end(controlv1.Withdrawal_REASON_LOST) })
}

func (h *held) end(why controlv1.Withdrawal_Reason) {
	c := h.client
	c.mu.Lock()
	defer c.mu.Unlock()
	if h.over {
		return
	}
	h.over = true
	if p := c.processes[h.id]; p != nil && p.held == h {
		p.held, p.why = nil, why
		c.tidy(p)
	}
	c.look(h.id.instance, h.details.Targets, why)
}

// tellHeld tells those that speak for an instance what became of a target. The lock is held.
func (c *Client) tellHeld(instance, target string) {
	for _, p := range c.processes {
		h := p.held
		if p.instance != instance || h == nil || !slices.Contains(h.details.Targets, target) {
			continue
		}
		st := Status{Target: target, State: pending, Reason: "the instance has no direct address, and no SERVE connection for the target"}
		e := c.entries[entryID{target, instance}]
		switch {
		case e == nil || e.want == nil:
		case e.incarnation() > p.incarnation:
			st.State, st.Reason = superseded, "a newer incarnation of the instance has registered"
		case e.state == 0:
			st.Reason = "the control plane has not answered yet"
		default:
			st.State, st.Reason = e.state, e.reason
		}
		if h.said[target] != st {
			h.said[target] = st
			h.told(st)
		}
	}
}
