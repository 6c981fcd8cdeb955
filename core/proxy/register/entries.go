package register

import (
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/proto"

	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
)

const (
	published  = controlv1.RegistrationState_STATE_PUBLISHED
	pending    = controlv1.RegistrationState_STATE_PENDING
	superseded = controlv1.RegistrationState_STATE_SUPERSEDED
	withdrawn  = controlv1.RegistrationState_STATE_WITHDRAWN
	refused    = controlv1.RegistrationState_STATE_REFUSED
)

// want has a target of an instance registered. The lock is held.
func (c *Client) want(id entryID, r *controlv1.Registration) {
	e := c.entries[id]
	if e == nil {
		if len(c.entries) >= maxEntries {
			c.cfg.Log.Error("an instance is not registered: too many are", "target", id.target, "instance", id.instance, "most", maxEntries)
			return
		}
		e = &entry{entryID: id}
		c.entries[id] = e
	}
	if e.want != nil && proto.Equal(e.want, r) {
		return
	}
	e.want, e.withdraw, e.state, e.reason = r, nil, 0, ""
	c.changed(e)
}

// end has it withdrawn. The lock is held.
func (c *Client) end(e *entry, why controlv1.Withdrawal_Reason) {
	p := e.want.GetEndpoint()
	over := e.state == superseded || e.state == refused
	e.withdraw = &controlv1.Withdrawal{
		Target: e.target, Instance: e.instance, Incarnation: p.GetIncarnation(), MeshAddress: p.GetMeshAddress(), Reason: why,
	}
	e.want, e.state, e.reason = nil, 0, ""
	if over { // it is not registered, and what is belongs to another
		c.forget(e)
		return
	}
	c.changed(e)
}

func (c *Client) forget(e *entry) {
	delete(c.entries, e.entryID)
	c.settle()
}

// changed has the Pilot told. The lock is held.
func (c *Client) changed(e *entry) {
	if e.queued {
		return
	}
	e.queued = true
	c.dirty = append(c.dirty, e)
	c.ring()
}

// told takes what the Pilot says.
func (c *Client) told(st *controlv1.RegistrationState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[entryID{st.GetTarget(), st.GetInstance()}]
	if e == nil || e.incarnation() != st.GetIncarnation() {
		return // of what was before
	}
	if e.want == nil {
		if st.GetState() == withdrawn || st.GetState() == superseded {
			c.forget(e)
		}
		return
	}
	before := e.state
	e.state, e.reason = st.GetState(), st.GetReason()
	switch e.state {
	case withdrawn: // of an earlier word; the answer to the last one comes
		e.state, e.reason = before, ""
		return
	case superseded, refused:
		c.again(e)
	}
	if before != e.state {
		c.log(e)
	}
	c.tellHeld(e.instance, e.target)
}

func (c *Client) log(e *entry) {
	fields := []any{"target", e.target, "instance", e.instance, "state", e.status().State}
	switch e.state {
	case published:
		c.cfg.Log.Info("an instance is registered", fields...)
	case pending:
		c.cfg.Log.Info("an instance is yet to be registered", append(fields, "reason", e.reason)...)
	default:
		c.cfg.Log.Warn("an instance that is attached is not registered; it is tried again", append(fields, "reason", e.reason, "after", againAfter)...)
	}
}

// again tries a registration again after a while, as long as it is wanted: whatever stood in its way may have gone. The
// lock is held.
func (c *Client) again(e *entry) {
	want := e.want
	time.AfterFunc(againAfter/2+rand.N(againAfter), func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.entries[e.entryID] == e && e.want == want && (e.state == superseded || e.state == refused) {
			c.changed(e)
		}
	})
}
