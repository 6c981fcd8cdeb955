package register

import (
	"time"

	"github.com/octomesh/octomesh/core/report"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
)

const (
	// maxReported bounds the applications of which is reported at once.
	maxReported = 100
	// lastWords is how long a client that says nothing any more waits until the Pilot has what was measured.
	lastWords = time.Second
)

// reports are what SDKs have measured, on its way to the Pilot. The client's lock guards them.
type reports struct {
	pending report.Pending
	sent    []*directoryv1.ReportRequest // that are not answered yet, in their order
	next    time.Time                    // when the next may be said; zero: as soon as there are some
	timer   bool                         // somebody rings then
}

// Report has the Pilot told what an SDK has measured: added up with what others have, each interval that the Pilot says.
func (c *Client) Report(r *directoryv1.ReportRequest) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.reports.pending.Dropped
	if c.reports.pending.Add(r); before == 0 && c.reports.pending.Dropped > 0 {
		c.cfg.Log.Warn("what SDKs have measured is not passed on whole: too many applications and targets are reported", "most", report.MaxPaths)
	}
	c.ring()
}

// reported are the reports that may be said now. The lock is held.
func (c *Client) reported(now time.Time) (all []*controlv1.ConnectRequest) {
	r := &c.reports
	if r.pending.Empty() || len(r.sent) > 0 {
		return nil
	}
	if r.next.IsZero() {
		r.next = now.Add(report.DefaultInterval)
	}
	if wait := r.next.Sub(now); wait > 0 && !c.left {
		if !r.timer {
			r.timer = true
			time.AfterFunc(wait, func() {
				c.mu.Lock()
				c.reports.timer = false
				c.mu.Unlock()
				c.ring()
			})
		}
		return nil
	}
	r.sent = r.pending.Take(c.cfg.Environment, maxReported)
	for _, one := range r.sent {
		all = append(all, &controlv1.ConnectRequest{Word: &controlv1.ConnectRequest_Report{Report: one}})
	}
	return all
}

// answered takes the Pilot's answer to the oldest report.
func (c *Client) answered(a *directoryv1.ReportResponse) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := &c.reports
	if len(r.sent) == 0 {
		return
	}
	if r.sent = r.sent[1:]; len(r.sent) > 0 {
		return
	}
	r.next = time.Now().Add(time.Duration(a.GetIntervalMs()) * time.Millisecond)
	c.settle()
	if c.yielded && r.pending.Empty() {
		c.stop()
		return
	}
	c.ring()
}

// unanswered takes back what the Pilot has not said that it has: the next one is told.
func (c *Client) unanswered() {
	for _, r := range c.reports.sent {
		c.reports.pending.Add(r)
	}
	c.reports.sent = nil
}
