package session

import "github.com/octomesh/octomesh/core/wire"

// enqueueTime is the time at which a frame of the call is queued. A batch's time serves all calls but those
// that shall say where their time went: of those the way through the batch counts too.
func (c *Call) enqueueTime(batch int64) int64 {
	if c.timings {
		return max(c.down.opts.Clock.Now(), batch)
	}
	return batch
}

// addTimings puts the proxy's stages behind the head of the final RESPONSE.
func (c *Call) addTimings(out *wire.Out) {
	now := c.enqueueTime(c.answered)
	received, _ := wire.ScanTimings(out.Head)
	c.behind = wire.AppendHopTimings(c.behind[:0], wire.HopTimes{
		Received: received, Instance: c.down.opts.Instance,
		Total: now - c.arrived, Request: c.sent - c.arrived, Response: now - c.answered,
	})
	out.Post = c.behind
}
