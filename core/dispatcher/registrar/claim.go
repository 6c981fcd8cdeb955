package registrar

import (
	"context"
	"time"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// ending is how a registration is to end.
type ending uint8

const (
	leaves ending = iota + 1 // on purpose
	silent                   // as if its lease had ended
)

// claim is what is wanted of one instance, and what the registry has of it. The table's lock guards it; only what works on
// it, of which there is one at a time, changes reg.
type claim struct {
	id
	table *Table
	lane  *lane

	owner    *Stream // nil: it was lost
	orphaned time.Time
	want     *resourcev1.Endpoint // nil: nothing
	how      ending               // without want
	last     *resourcev1.Endpoint // what was wanted last

	reg    source.Registration // nil: there is none, as far as we know
	has    *resourcev1.Endpoint
	mark   *byte // of reg, or of what is being registered: a new one each time
	again  bool  // it was registered, and lost
	doubt  bool  // the registry may have it though reg is nil
	busy   bool  // somebody works on it
	queued bool
	rests  bool // until it is tried again, or something else is wanted
	over   bool // it is not in the table any more
}

// end has it ended. The table's lock is held.
func (c *claim) end(how ending) {
	c.want, c.how = nil, how
	delete(c.table.orphans, c)
	c.lane.add(c)
}

// tell tells the owner, if there is one, of a state. The table's lock is held.
func (c *claim) tell(state controlv1.RegistrationState_State, why error) {
	if c.owner != nil {
		c.owner.tell(c.id, c.last.GetIncarnation(), state, why)
	}
}

// forget takes it out of the table. The table's lock is held.
func (c *claim) forget() {
	c.over = true
	delete(c.table.orphans, c)
	if c.table.claims[c.id] == c {
		delete(c.table.claims, c.id)
	}
}

// work does what is to be done next. It returns an error if the registry could not be asked.
func (c *claim) work(ctx context.Context) error {
	t := c.table
	t.mu.Lock()
	want, reg, has, again := c.want, c.reg, c.has, c.again
	how, last, doubt := c.how, c.last, c.doubt
	mark := c.mark
	if want != nil && reg == nil {
		mark = new(byte)
		c.mark = mark
	}
	t.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	switch {
	case want != nil && reg == nil:
		register := c.lane.registry.Register
		if again {
			register = c.lane.registry.Reclaim
		}
		reg, err := register(ctx, c.key, want, t.cfg.Lease, func() { c.lost(mark) })
		return c.registered(want, reg, mark, err)
	case want != nil && has != want:
		return c.registered(want, reg, mark, reg.Update(ctx, want))
	case want != nil:
		return nil
	case reg != nil && how == silent:
		return c.ended(reg.Abandon(ctx))
	case reg != nil:
		return c.ended(reg.Deregister(ctx))
	case how == leaves || doubt:
		return c.ended(c.lane.registry.Remove(ctx, c.key, last))
	}
	return c.ended(nil)
}

// registered takes the outcome of a registration or an update.
func (c *claim) registered(as *resourcev1.Endpoint, reg source.Registration, mark *byte, err error) error {
	t := c.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		t.stats.registered.Add(1)
		c.doubt = false
		if c.mark != mark { // lost already
			return nil
		}
		c.reg, c.has, c.again = reg, as, false
		if c.want == as {
			c.tell(controlv1.RegistrationState_STATE_PUBLISHED, nil)
		}
		return nil
	}
	t.stats.failures.Add(1)
	switch source.KindOf(err) {
	case source.Lost: // of an update: register again
		c.reg, c.has, c.mark, c.again = nil, nil, nil, true
		return nil
	case source.Superseded:
		c.finish(as, controlv1.RegistrationState_STATE_SUPERSEDED, errElse)
		return nil
	case source.Invalid:
		c.finish(as, controlv1.RegistrationState_STATE_REFUSED, err)
		return nil
	case source.Denied:
		c.tell(controlv1.RegistrationState_STATE_PENDING, err)
		c.lane.later(c)
		return nil
	}
	c.doubt = c.doubt || c.reg == nil
	c.tell(controlv1.RegistrationState_STATE_PENDING, err)
	return err
}

// finish ends a claim that cannot be had, unless something else is wanted by now. The table's lock is held.
func (c *claim) finish(as *resourcev1.Endpoint, state controlv1.RegistrationState_State, why error) {
	if state == controlv1.RegistrationState_STATE_SUPERSEDED {
		c.table.stats.superseded.Add(1)
	}
	if c.want != as {
		c.again = false
		return
	}
	c.tell(state, why)
	if c.reg != nil { // an update that cannot be: what stands there is not what is wanted
		c.want, c.how = nil, leaves
		return
	}
	c.forget()
}

// ended takes the outcome of an end.
func (c *claim) ended(err error) error {
	t := c.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.stats.failures.Add(1)
		if source.KindOf(err) == source.Denied {
			c.lane.later(c)
			return nil
		}
		return err
	}
	c.reg, c.has, c.mark, c.again, c.doubt = nil, nil, nil, false, false
	if c.want != nil {
		return nil // it came back meanwhile
	}
	t.stats.ended.Add(1)
	c.tell(controlv1.RegistrationState_STATE_WITHDRAWN, nil)
	c.forget()
	return nil
}

// lost is what the registry says when a registration does not hold any more.
func (c *claim) lost(mark *byte) {
	t := c.table
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.mark != mark || c.over {
		return
	}
	t.stats.lost.Add(1)
	c.reg, c.has, c.mark, c.again = nil, nil, nil, true
	c.lane.add(c)
}

// settled tells whether there is nothing to do. The table's lock is held.
func (c *claim) settled() bool {
	return c.over || c.want != nil && c.reg != nil && c.has == c.want
}

// stray tells whether it is an orphan that the registry has lost. It has been taken over, or whoever comes back registers
// it again. The table's lock is held.
func (c *claim) stray() bool { return c.owner == nil && c.want != nil && c.reg == nil && c.again }
