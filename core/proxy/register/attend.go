package register

import (
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/core/fleet"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
)

const (
	// attendEvery is how long there is at least between two words of who came and left.
	attendEvery = 100 * time.Millisecond
	// maxAttended bounds the processes in one word.
	maxAttended = 100
	// lookEvery is how late it may be noticed that the proxy fares otherwise.
	lookEvery = time.Second
)

// attendance is who is beside the proxy, and of whom the Pilot is to be told. The client's lock guards it.
type attendance struct {
	here  map[fleet.ID]*controlv1.Process
	dirty map[fleet.ID]struct{}
	last  time.Time // when it was told
	timer bool      // somebody rings when the next may be said

	fares *controlv1.Condition // the proxy itself, as it was looked at last
	said  *controlv1.Condition // of that, what the Pilot was told; nil: nothing, which means well
}

// Attend notes who is beside the proxy, or is not any more, and has the Pilot told. It does not wait.
func (c *Client) Attend(p *controlv1.Process, here bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := &c.attendance
	id := fleet.IDOf(p)
	if here {
		a.here[id] = p
	} else {
		delete(a.here, id)
	}
	if !c.connected { // whoever comes next is told of all who are here
		return
	}
	a.dirty[id] = struct{}{}
	c.ring()
}

// attended is who came, changed or left. The lock is held.
func (c *Client) attended(now time.Time) (all []*controlv1.ConnectRequest) {
	a := &c.attendance
	if len(a.dirty) == 0 {
		return nil
	}
	if wait := attendEvery - now.Sub(a.last); wait > 0 {
		if !a.timer {
			a.timer = true
			time.AfterFunc(wait, func() {
				c.mu.Lock()
				c.attendance.timer = false
				c.mu.Unlock()
				c.ring()
			})
		}
		return nil
	}
	a.last = now
	word, n := &controlv1.Attendance{}, 0
	for id := range a.dirty {
		if n == maxAttended {
			break // the rest after a while
		}
		n++
		delete(a.dirty, id)
		if p := a.here[id]; p != nil {
			word.Here = append(word.Here, p)
		} else {
			word.Gone = append(word.Gone, &controlv1.Process{Application: id.Application, Instance: id.Instance, Incarnation: id.Incarnation})
		}
	}
	if len(a.dirty) > 0 {
		c.ring()
	}
	return []*controlv1.ConnectRequest{{Word: &controlv1.ConnectRequest_Attendance{Attendance: word}}}
}

// attendAnew has a Pilot told that knows of nobody. The lock is held.
func (c *Client) attendAnew() {
	a := &c.attendance
	clear(a.dirty)
	for id := range a.here {
		a.dirty[id] = struct{}{}
	}
	a.said, a.last = nil, time.Time{}
}

// checkUp looks how the proxy fares. No lock is held: who is asked has locks of its own.
func (c *Client) checkUp() {
	now := &controlv1.Condition{}
	if c.cfg.Condition != nil {
		now.Degraded, now.Quarantined = c.cfg.Condition()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attendance.fares = now
}

// condition is how the proxy fares, if the Pilot has heard otherwise. The lock is held.
func (c *Client) condition() []*controlv1.ConnectRequest {
	a := &c.attendance
	now := &controlv1.Condition{Draining: c.left, Degraded: a.fares.GetDegraded(), Quarantined: a.fares.GetQuarantined()}
	before := a.said
	if before == nil {
		before = &controlv1.Condition{}
	}
	if proto.Equal(now, before) {
		return nil
	}
	a.said = now
	return []*controlv1.ConnectRequest{{Word: &controlv1.ConnectRequest_Condition{Condition: now}}}
}
