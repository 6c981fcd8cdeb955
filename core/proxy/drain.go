package proxy

import (
	"context"
	"math"
	"time"

	answers "github.com/octomesh/octomesh/core/proxy/directory"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/transport"
)

const (
	sweepEvery = 20 * time.Millisecond // how late a deadline may be noticed
	drainEvery = 10 * time.Millisecond
)

// sweep ends calls that have run out of time and asks silent peers whether they live. While no call has a
// deadline it rests between ticks.
func (p *Proxy) sweep(ctx context.Context) {
	beat := transport.NewBeat()
	defer beat.Stop()
	fast := time.NewTimer(sweepEvery)
	defer fast.Stop()
	var wake <-chan struct{}
	var b session.Batch
	for idle := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-beat.C():
			inTime := beat.Take()
			for _, s := range p.list(callerKind, instanceKind, remoteKind, upstreamKind, serverKind) {
				s.Tick(inTime)
			}
			p.pool.Tidy()
			p.dialServers()
			p.closeFinished()
			continue
		case <-wake:
			wake, idle = nil, 0
		case <-fast.C:
		}
		if idle++; p.sweepOnce(&b) > 0 {
			idle = 0
		}
		if idle > int(transport.TickEvery/sweepEvery) {
			wake = p.clock.Rest()
			// What came since the sweep found nobody to wake.
			if p.sweepOnce(&b) == 0 {
				continue
			}
			p.clock.Resume()
			wake, idle = nil, 0
		}
		fast.Reset(sweepEvery)
	}
}

// sweepOnce ends or sends on what is due, and returns how many calls and copies will be due some time.
func (p *Proxy) sweepOnce(b *session.Batch) (limited int) {
	b.Now = p.clock.Now()
	for _, s := range p.list(callerKind, remoteKind) {
		limited += s.Sweep(b)
	}
	for _, s := range p.list(upstreamKind) {
		limited += s.SweepShadows(b)
	}
	b.Flush()
	return limited
}

// closeFinished closes the connections that this proxy dialed and that have served their time: the dialer
// closes first, unless its protocol has no word that asks it to.
func (p *Proxy) closeFinished() {
	for _, s := range p.list(upstreamKind, serverKind) {
		if s.Finished() {
			s.Close()
		}
	}
	for _, s := range p.list(callerKind) {
		if s.Wordless() && s.Finished() {
			s.Close()
		}
	}
}

// Drain leaves: it accepts nothing new, asks every peer to move, serves until all have and no call is
// open, and ends the proxy. What is open at the drain deadline ends UNKNOWN; Drain returns how many calls
// that were.
func (p *Proxy) Drain(ctx context.Context) (cut int) {
	if p.parting.Swap(true) {
		p.group.Wait()
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, p.cfg.DrainDeadline)
	defer cancel()
	p.local.targets.Changed()
	p.withdraw(ctx)
	p.draining.Store(true)
	for _, l := range p.listening() {
		_ = l.Close()
	}
	p.log.Info("draining", "deadline", p.cfg.DrainDeadline.String())
	p.farewell(ctx)
	p.local.leave(answers.ErrLeaving)
	p.until(ctx, func() bool { return p.finished(callerKind, remoteKind) && !p.awaitsCallers() })
	cut = p.cutOff()
	p.endCopies()
	p.until(ctx, func() bool {
		for _, s := range p.list(instanceKind, upstreamKind, serverKind) { // also one whose dial has ended just now
			s.SendDrained()
		}
		p.closeFinished()
		return p.finished(instanceKind, upstreamKind, serverKind)
	})
	p.until(ctx, func() bool {
		return len(p.list(callerKind, remoteKind, instanceKind, upstreamKind, serverKind)) == 0 && p.open() == 0
	})
	p.awaited.stop()
	p.Close()
	return cut
}

// open is how many connections stand that were accepted. Some may not have said HELLO: they are still to be told that the
// proxy leaves, so that they dial again, and do not count a lost connection as a failure.
func (p *Proxy) open() (n int) {
	for _, l := range p.listening() {
		n += l.Open()
	}
	return n
}

// awaitsCallers tells whether connections of foreign clients may stand that were accepted and have said nothing yet: some protocols
// begin with a call, which nobody could send again. They have session.HelloTimeout for it.
func (p *Proxy) awaitsCallers() bool {
	foreign := len(p.cfg.Protocols) > 0 || len(p.cfg.Entrances) > 0
	return foreign && p.open() > len(p.list(callerKind, remoteKind, instanceKind))
}

// endCopies cancels the copies of calls that are under way: nobody waits for them.
func (p *Proxy) endCopies() {
	b := session.Batch{Now: math.MaxInt64}
	for _, s := range p.list(upstreamKind) {
		s.SweepShadows(&b)
	}
	b.Flush()
}

// until polls a condition that peers bring about.
func (p *Proxy) until(ctx context.Context, done func() bool) {
	poll := time.NewTicker(drainEvery)
	defer poll.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
		}
	}
}

// finished tells whether the peers of the kinds have drained and no call of theirs is open.
func (p *Proxy) finished(kinds ...kind) bool {
	for _, s := range p.list(kinds...) {
		if !s.Finished() {
			return false
		}
	}
	return true
}

// cutOff ends what is open at the drain deadline.
func (p *Proxy) cutOff() (cut int) {
	for _, s := range p.list(callerKind, remoteKind) {
		if s.Finished() {
			continue
		}
		cut += s.Streams()
		s.DrainDeadline("the proxy's drain deadline has passed")
	}
	return cut
}
