package policy

import (
	"math"
	"sync/atomic"
	"time"
)

// Asker has a rate limit service asked about counters, off the goroutines that read connections.
type Asker interface {
	// Ask has the service asked about a counter soon. It is called with a call's lock held: it neither waits nor
	// resumes a call.
	Ask(c *Counter)
	// Down tells whether the service does not answer, so that no call is to wait for it. With probe, which one caller is told
	// from time to time, the counter is to be asked about nevertheless.
	Down(now int64) (down, probe bool)
}

// Descriptor is what names a counter at the service, and the limit's figures if the policy has them.
type Descriptor struct {
	Domain string
	// Keys and Values are its entries.
	Keys, Values []string
	Calls        uint32 // in the time Per; 0: the service knows
	Per          time.Duration
	// Timeout is how long a question may take.
	Timeout time.Duration
}

// grant is what the service last said of a counter. But for left it does not change.
type grant struct {
	left  atomic.Int64 // calls that may begin; below 0: more have tried
	seen  int64        // what left was when whoever asks last looked
	low   int64        // with so many left more are asked for
	until int64        // it says nothing from then on
	kind  grantKind
}

type grantKind uint8

const (
	granted    grantKind = iota
	over                 // the limit is used up
	unanswered           // the service did not answer
)

// taken closes all that a grant holds: nobody takes from it any more.
const taken = math.MinInt64 / 2

// Answer is what the service said about a counter.
type Answer struct {
	// Over: what was asked for is over the limit, and not granted.
	Over bool
	// Remaining is how much of the limit is left after this.
	Remaining int64
	// Limit is how many calls it lets begin in a window; 0: it did not say, or has no limit for it.
	Limit int64
	// Until is when what was granted, or refused, lapses, on the proxy's clock.
	Until int64
}

const (
	// minPause and maxPause bound how long a counter is not asked about after the service said that the limit is used up, or
	// did not answer; within them it is a twentieth of the limit's time.
	minPause = int64(20 * time.Millisecond)
	maxPause = int64(500 * time.Millisecond)
	// maxAhead is for how long calls are asked for in advance at most; less if a tenth of the limit's time is.
	maxAhead = time.Second
)

// Counter is what one proxy knows of one counter of a rate limit service: how many calls were granted to it in advance.
//
// Calls take what was granted without a lock. Whoever asks, one at a time, goes by Begin and then one of Granted and Failed.
type Counter struct {
	Descriptor
	asker  Asker
	lot    Bounded
	would  *atomic.Uint64 // a dry run's count of calls over the limit; nil: it is none
	grant  atomic.Pointer[grant]
	parked atomic.Bool  // calls wait, or are about to: others queue up behind them
	owed   atomic.Int64 // calls of a dry run that passed before they were asked for
	state  atomic.Uint32

	// Whoever asks has these.

	rate     float64 // calls a nanosecond that were let begin lately
	used     int64   // calls that were let begin
	from     int64   // since then
	asked    int64   // what is being asked for
	owes     int64   // of it for calls that passed
	limit    int64   // what the service said the limit is; 0: nothing yet
	exact    bool    // the service does not count what it refuses, and says what it would have granted
	rest     int64   // what it said is left of it
	restAt   int64   // when
	restTill int64   // how long that holds
	mark     int64   // what it said at some time before
	markAt   int64   // when
	drain    float64 // how fast all proxies together use it up, a nanosecond
	overTill int64   // it is used up till then
}

// outcome is what a counter says of a call.
type outcome uint8

const (
	pass    outcome = iota
	refused         // until is when to come again
	unknown         // wait for an answer
	failed          // there was none
)

// take takes a call from what was granted. Those that have waited go first.
func (c *Counter) take(now int64, waited bool) (out outcome, until int64) {
	g := c.grant.Load()
	if g == nil || now >= g.until {
		return unknown, 0
	}
	switch g.kind {
	case over:
		return refused, g.until
	case unanswered:
		return failed, 0
	}
	if !waited && c.parked.Load() {
		return unknown, 0
	}
	left := g.left.Add(-1)
	if left == g.low {
		c.asker.Ask(c)
	}
	if left >= 0 {
		return pass, 0
	}
	return unknown, 0
}

// Arrange implements [Arranger].
func (c *Counter) Arrange() { c.asker.Ask(c) }

// idle tells whether the counter may be forgotten.
func (c *Counter) idle() bool {
	return c.state.Load() == stateIdle && !c.parked.Load() && c.owed.Load() == 0
}

// States of a counter: a question about it is under way at most once.
const (
	stateIdle uint32 = iota
	stateQueued
	stateAsking
	stateAgain // asking, and then once more
)

// Queue tells whether the counter is to be put into the queue of those to ask about; else it stands there, or will by itself.
func (c *Counter) Queue() bool {
	for {
		switch s := c.state.Load(); s {
		case stateIdle:
			if c.state.CompareAndSwap(s, stateQueued) {
				return true
			}
		case stateAsking:
			if c.state.CompareAndSwap(s, stateAgain) {
				return false
			}
		default:
			return false
		}
	}
}

// Begin takes the counter out of the queue and returns how many calls to ask for, at least so many; 0: none, and End follows.
func (c *Counter) Begin(now, least int64) int64 {
	c.state.Store(stateAsking)
	c.wake(now) // what is left may do
	rest := c.learn(now)
	if now < c.overTill {
		if rest == 0 {
			c.close(c.overTill)
			c.wake(now)
		}
		return 0
	}
	waiting, owes := int64(c.lot.Len()), c.owed.Load()
	ahead := max(int64(c.rate*float64(c.horizon()))-rest, 0)
	want := max(waiting+owes+ahead, least)
	if want == 0 {
		return 0
	}
	if most := c.most(now); most > 0 {
		want = min(want, most)
	}
	c.asked, c.owes = want, min(owes, want)
	return want
}

// learn looks at how fast calls come, and returns how many of what was granted are left.
func (c *Counter) learn(now int64) (rest int64) {
	g := c.grant.Load()
	if g != nil && g.kind == granted {
		left := max(g.left.Load(), 0)
		c.used += g.seen - left
		g.seen = left
		if now < g.until {
			rest = left
		}
	}
	since := now - c.from
	if since < c.horizon() {
		return rest
	}
	fresh := float64(c.used) / float64(since)
	if since < 4*c.horizon() {
		fresh = (c.rate + fresh) / 2
	}
	c.rate, c.used, c.from = fresh, 0, now
	return rest
}

// horizon is for how long calls are asked for in advance, in nanoseconds.
func (c *Counter) horizon() int64 { return int64(min(c.per()/10, maxAhead)) }

// pause is how long to ask nothing after a refusal or a failure.
func (c *Counter) pause() int64 { return min(max(int64(c.per()/20), minPause), maxPause) }

func (c *Counter) per() time.Duration {
	if c.Per > 0 {
		return c.Per
	}
	return time.Second
}

// most bounds what is asked for at once: others ask too, and what is asked for beyond the limit is refused as a whole. It is a
// quarter of what is left, or a tenth of the limit while that is not known; of a service that counts nothing that it refuses it is
// all that is left. 0: the limit is not known.
func (c *Counter) most(now int64) int64 {
	switch limit := max(c.limit, int64(c.Calls)); {
	case limit == 0:
		return 0
	case now < c.restTill && c.exact:
		return max(c.rest, 1)
	case now < c.restTill:
		return max((c.rest-int64(c.drain*float64(now-c.restAt)))/4, 1)
	default:
		return max(limit/10, 1)
	}
}

// Granted takes the service's answer, resumes those who waited for it, and tells whether to ask again at once.
func (c *Counter) Granted(a Answer, now int64) (again bool) {
	if a.Limit > 0 {
		c.limit = a.Limit
	}
	c.drained(a, now)
	switch {
	case a.Over && a.Remaining > 0 && a.Remaining < c.asked && now < a.Until:
		c.exact = true
		return true // there is less than was asked for
	case a.Over:
		c.overTill = max(a.Until, now+c.pause())
		if c.learn(now) == 0 {
			c.close(c.overTill)
		}
	default:
		c.owed.Add(-c.owes)
		g := &grant{until: a.Until, seen: c.asked - c.owes + c.carry(a.Until, now)}
		g.low = g.seen / 2
		g.left.Store(g.seen)
		c.grant.Store(g)
	}
	return c.wake(now) || c.owed.Load() > 0
}

// drained learns how fast the limit is being used up.
func (c *Counter) drained(a Answer, now int64) {
	switch since := now - c.markAt; {
	case now >= c.restTill || a.Remaining > c.mark: // another window
		c.drain, c.mark, c.markAt = 0, a.Remaining, now
	case since >= c.horizon()/4:
		c.drain = float64(c.mark-a.Remaining) / float64(since)
		c.mark, c.markAt = a.Remaining, now
	}
	c.rest, c.restAt, c.restTill = a.Remaining, now, a.Until
}

// close refuses calls until a time.
func (c *Counter) close(until int64) {
	if n := c.owed.Swap(0); c.would != nil {
		c.would.Add(uint64(n))
	}
	c.grant.Store(&grant{until: until, kind: over})
}

// carry takes what is left of the last grant, if it is of the same window. What is left of the one before it lapses.
func (c *Counter) carry(until, now int64) int64 {
	old := c.grant.Load()
	if old == nil || old.kind != granted {
		return 0
	}
	left := max(old.left.Swap(taken), 0)
	c.used += old.seen - left
	if now >= old.until || until-old.until > int64(c.per()/2) {
		return 0
	}
	return left
}

// Failed says that the service did not answer, and has those who wait go on.
func (c *Counter) Failed(now int64) {
	c.owed.Store(0)
	if g := c.grant.Load(); g == nil || now >= g.until || g.kind != granted || g.left.Load() <= 0 {
		c.learn(now)
		c.grant.Store(&grant{until: now + c.pause(), kind: unanswered})
	}
	c.wake(now)
}

// wake resumes calls as far as the grant goes, and tells whether some wait for more.
func (c *Counter) wake(now int64) (more bool) {
	g := c.grant.Load()
	n := c.lot.Len()
	if g != nil && now < g.until {
		if g.kind != granted {
			c.parked.Store(false)
		}
		for ; n > 0 && (g.kind != granted || g.left.Load() > 0); n-- {
			c.lot.WakeOne() // one that finds too little after all is in the lot again, behind the others
		}
	}
	if c.lot.Len() > 0 {
		return true
	}
	c.parked.Store(false)
	return false
}

// End ends a question, and tells whether the counter is to be put into the queue again.
func (c *Counter) End() (again bool) {
	if c.state.CompareAndSwap(stateAsking, stateIdle) {
		return false
	}
	c.state.Store(stateQueued)
	return true
}
