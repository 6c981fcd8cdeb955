package policy

import (
	"sync"
	"sync/atomic"

	"github.com/octomesh/octomesh/core/proxy/cluster"
	"github.com/octomesh/octomesh/core/wire"
)

// Ejections counts a target's. It outlives generations.
type Ejections struct {
	mu    sync.Mutex // held while deciding, so that two do not both take the last place
	total atomic.Uint64
}

// Total returns how often an endpoint was ejected.
func (e *Ejections) Total() uint64 { return e.total.Load() }

// OutlierRules is a compiled octo.resource.v1.OutlierEjection. Times are nanoseconds.
type OutlierRules struct {
	InARow     uint32 // 0: failures in a row do not eject
	Permille   uint32 // 0: shares of failures do not eject
	MinCalls   uint32
	Window     int64
	Codes      Codes
	Base, Cap  int64
	MaxPercent int
}

// Outlier ejects the endpoints of a target whose calls fail. It has no timer: what ended is counted when it ends,
// and balancers compare the end of an ejection with the time of the call.
type Outlier struct {
	rules   OutlierRules
	members []*cluster.Endpoint // in rotation
	state   *Ejections
}

// NewOutlier makes the policy for the endpoints of a target that are in rotation.
func NewOutlier(rules OutlierRules, members []*cluster.Endpoint, state *Ejections) *Outlier {
	return &Outlier{rules, members, state}
}

// Done counts how a call to an endpoint ended, and ejects the endpoint if that was one failure too many: then it returns
// true.
func (o *Outlier) Done(e *cluster.Endpoint, st *wire.Status, now int64) (ejected bool) {
	result := Judge(st, o.rules.Codes)
	if result == Unsaid {
		return false
	}
	t := e.Note(result == Failure, now, o.rules.Window)
	return result == Failure && o.tooMany(t) && o.eject(e, now)
}

func (o *Outlier) tooMany(t cluster.Tally) bool {
	r := &o.rules
	return r.InARow > 0 && t.InARow >= r.InARow ||
		r.Permille > 0 && t.Calls >= r.MinCalls && uint64(t.Failures)*1000 >= uint64(t.Calls)*uint64(r.Permille)
}

// eject takes the endpoint out unless too many are out already; then its next failure asks again.
func (o *Outlier) eject(e *cluster.Endpoint, now int64) bool {
	o.state.mu.Lock()
	defer o.state.mu.Unlock()
	if e.Ejected(now) || (o.Ejected(now)+1)*100 > o.rules.MaxPercent*len(o.members) {
		return false
	}
	e.Eject(now, o.rules.Base, o.rules.Cap)
	o.state.total.Add(1)
	return true
}

// Ejected returns how many of the target's endpoints are ejected now.
func (o *Outlier) Ejected(now int64) (n int) {
	for _, e := range o.members {
		if e.Ejected(now) {
			n++
		}
	}
	return n
}

// Total returns how often an endpoint of the target was ejected.
func (o *Outlier) Total() uint64 { return o.state.Total() }
