package proxy

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/octomesh/octomesh/core/proxy/policy"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/wire"
)

const (
	// awaitFor is how long instances of the predecessor may take to attach, and calls to them wait.
	awaitFor = 5 * time.Second
	// maxAwaiting bounds the calls that wait so for one target.
	maxAwaiting = 4096
)

// awaited is the instances that were attached to the process from which this one has taken over, and have not come yet
// (L-FINE-11, L-HAND-5). Calls to them wait.
type awaited struct {
	some atomic.Bool // somebody is awaited; a look without the lock

	mu      sync.Mutex
	targets map[string]map[instance]bool
	// anybody: the predecessor died before it could say who was attached to it.
	anybody bool
	lots    map[string]*policy.Bounded
	timer   *time.Timer
	settled chan struct{} // closed when nobody is awaited
}

// instance names a process that serves.
type instance struct {
	application, name string
	incarnation       uint64
}

func instanceOf(p *session.Peer) instance { return instance{p.Application, p.Instance, p.Incarnation} }

// Expect has calls to instances wait until they attach, for five seconds at most: those that were attached to the process
// from which this one takes over. If the list is not complete, calls to any target wait so.
func (p *Proxy) Expect(instances []*session.Peer, complete bool) {
	a := &p.awaited
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.targets == nil {
		a.targets, a.lots = make(map[string]map[instance]bool), make(map[string]*policy.Bounded)
	}
	for _, i := range instances {
		for _, t := range i.Targets {
			if a.targets[t] == nil {
				a.targets[t] = make(map[instance]bool)
			}
			a.targets[t][instanceOf(i)] = true
		}
	}
	a.anybody = a.anybody || !complete
	if len(a.targets) == 0 && !a.anybody {
		return
	}
	if a.settled == nil {
		a.settled = make(chan struct{})
	}
	a.some.Store(true)
	if a.timer != nil {
		a.timer.Stop()
	}
	a.timer = time.AfterFunc(awaitFor, func() { p.giveUp() })
}

// giveUp awaits nobody any more.
func (p *Proxy) giveUp() {
	a := &p.awaited
	a.mu.Lock()
	missing := len(a.targets)
	a.targets, a.anybody = nil, false
	lots := a.settle()
	a.mu.Unlock()
	if missing > 0 {
		p.log.Warn("instances that were attached to the process before did not come", "targets", missing)
	}
	wakeAll(lots)
}

// settle ends the waiting if nobody is awaited. The lock is held; the lots are to be woken without it.
func (a *awaited) settle() (woken []*policy.Bounded) {
	if len(a.targets) > 0 || a.anybody {
		return nil
	}
	for _, l := range a.lots {
		woken = append(woken, l)
	}
	a.lots = nil
	a.some.Store(false)
	if a.timer != nil {
		a.timer.Stop()
	}
	if a.settled != nil {
		close(a.settled)
		a.settled = nil
	}
	return woken
}

func wakeAll(lots []*policy.Bounded) {
	for _, l := range lots {
		l.WakeAll()
	}
}

// came takes note of an instance that has attached, or, if it is gone, will not.
func (p *Proxy) came(peer *session.Peer, gone bool) {
	a := &p.awaited
	if !a.some.Load() {
		return
	}
	var woken []*policy.Bounded
	a.mu.Lock()
	for _, t := range peer.Targets {
		all := a.targets[t]
		delete(all, instanceOf(peer))
		if len(all) == 0 {
			delete(a.targets, t)
		}
		if l := a.lots[t]; l != nil && (!gone || len(all) == 0) {
			woken = append(woken, l)
			delete(a.lots, t)
		}
	}
	woken = append(woken, a.settle()...)
	a.mu.Unlock()
	wakeAll(woken)
}

// lot is where calls to a target wait; nil: no instance of it is awaited, or for too many targets somebody waits.
func (a *awaited) lot(target string) *policy.Bounded {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.targets[target]) == 0 && !a.anybody {
		return nil
	}
	l := a.lots[target]
	if l == nil && len(a.lots) < maxDemanded {
		l = policy.NewBounded(&policy.Lot{}, maxAwaiting, awaitFor, wire.OriginServerProxy)
		if a.lots == nil {
			a.lots = make(map[string]*policy.Bounded)
		}
		a.lots[target] = l
	}
	return l
}

// awaits parks an inbound call to a target of which an instance is awaited. False: none is, or too much waits, and the call is
// to be refused.
func (p *Proxy) awaits(c *session.Call, target []byte) bool {
	a := &p.awaited
	if !a.some.Load() {
		return false
	}
	lot := a.lot(string(target))
	if lot == nil || !c.ParkIn(lot) {
		return false
	}
	if name := string(target); p.attached.has(target) || a.lot(name) != lot { // just before the call was in the lot; its own lock is held here
		p.group.Go(func(context.Context) { lot.WakeAll() })
	}
	return true
}

// Settled waits until no instance is awaited.
func (p *Proxy) Settled(ctx context.Context) error {
	p.awaited.mu.Lock()
	settled := p.awaited.settled
	p.awaited.mu.Unlock()
	if settled == nil {
		return nil
	}
	select {
	case <-settled:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// list returns who is awaited.
func (a *awaited) list() (all []*session.Peer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	byInstance := make(map[instance]*session.Peer)
	for target, instances := range a.targets {
		for i := range instances {
			p := byInstance[i]
			if p == nil {
				p = &session.Peer{Application: i.application, Instance: i.name, Incarnation: i.incarnation}
				byInstance[i] = p
				all = append(all, p)
			}
			p.Targets = append(p.Targets, target)
		}
	}
	return all
}

// stop ends the timer with the proxy.
func (a *awaited) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.timer != nil {
		a.timer.Stop()
	}
}
