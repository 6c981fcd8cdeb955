package proxy

import (
	"context"
	"sync"
	"time"

	"github.com/octomesh/octomesh/core/proxy/policy"
	"github.com/octomesh/octomesh/core/proxy/route"
	"github.com/octomesh/octomesh/core/proxy/session"
	"github.com/octomesh/octomesh/core/proxy/store"
	"github.com/octomesh/octomesh/core/resource"
	"github.com/octomesh/octomesh/core/wire"
)

// Demander is a source that learns of targets when somebody asks for them. Follow and Known are called from the
// goroutines that read connections, and must not wait.
type Demander interface {
	store.Source
	// Follow begins to bring what there is about a target, unless it does so already. False: there can be nothing.
	Follow(target string) bool
	// Known tells whether all about the target has been said, and applied: that it has nothing, too.
	Known(target string) bool
	// Answers has f called, from any goroutine, whenever a target may have become known. It is called once, before Run.
	Answers(f func())
}

const (
	// demandWait is how long a call waits for the source to say something about its target.
	demandWait = 5 * time.Second
	// maxDemanding bounds the calls that wait so for one target, maxDemanded the targets.
	maxDemanding = 1024
	maxDemanded  = 1024
)

// demand is the calls whose targets are not known yet.
type demand struct {
	source Demander // nil: what no generation has does not exist

	mu   sync.Mutex
	lots map[string]*policy.Bounded
}

// lot is where calls to a target wait; nil: for too many targets somebody waits.
func (d *demand) lot(target string) *policy.Bounded {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l := d.lots[target]; l != nil {
		return l
	}
	if len(d.lots) >= maxDemanded {
		for name, l := range d.lots { // those whose calls have all run out of time
			if l.Len() == 0 {
				delete(d.lots, name)
			}
		}
	}
	if len(d.lots) >= maxDemanded {
		return nil
	}
	if d.lots == nil {
		d.lots = make(map[string]*policy.Bounded)
	}
	l := policy.NewBounded(&policy.Lot{}, maxDemanding, demandWait, wire.OriginClientProxy)
	d.lots[target] = l
	return l
}

// answered has the calls go on whose targets are known.
func (d *demand) answered() {
	var known []*policy.Bounded
	d.mu.Lock()
	for target, l := range d.lots {
		if d.source.Known(target) {
			known = append(known, l)
			delete(d.lots, target)
		}
	}
	d.mu.Unlock()
	for _, l := range known {
		l.WakeAll()
	}
}

// demands parks an outbound call to a target of which the source has not said anything yet. False: it has, or
// too much waits, and the call is to be refused.
func (p *Proxy) demands(c *session.Call, target string, d route.Direction) bool {
	source := p.demand.source
	if source == nil || d != route.Outbound {
		return false
	}
	if source.Known(target) || !source.Follow(target) {
		return false
	}
	lot := p.demand.lot(target)
	if lot == nil || !c.ParkIn(lot) {
		return false
	}
	if source.Known(target) { // just before the call was in the lot; its own lock is held here
		p.group.Go(func(context.Context) { lot.WakeAll() })
	}
	return true
}

// unheard tells whether the source may have something about a target yet: that there is none must not be said then.
func (p *Proxy) unheard(target string) bool {
	source := p.demand.source
	return source != nil && resource.IsName(target) && !source.Known(target)
}
