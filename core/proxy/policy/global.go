package policy

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/octomesh/octomesh/core/wire"
)

// Property is where an entry of a descriptor has its value from.
type Property uint8

// The properties.
const (
	Fixed Property = iota // it is the same for each call
	Service
	Method
	Caller
	Route
	Metadata // the first value of a key
	Baggage
)

// Part is an entry of a descriptor.
type Part struct {
	Key      string
	Property Property
	From     string // the value if it is Fixed, the key of Metadata and Baggage
}

// GlobalRules is a compiled octo.resource.v1.RateLimit with global.
type GlobalRules struct {
	Name      string
	Condition Condition
	Route     string // empty: any
	// Domain, Parts, Calls and Per are what the service is asked with. Two limits for which they are equal have the same counters.
	Domain      string
	Parts       []Part
	Calls       uint32
	Per         time.Duration
	Deny        bool // what the service does not answer for
	DryRun      bool
	Timeout     time.Duration
	MaxCounters int
	Origin      wire.Origin
}

// maxAsking bounds the calls that wait for an answer about one counter. Those beyond count as not answered.
const maxAsking = 1024

// Counters is what goes on of a global limit from one generation to the next: what was granted, and counts.
type Counters struct {
	refused, would, waited atomic.Uint64
	allowed, denied        atomic.Uint64 // without an answer

	mu    sync.Mutex
	asked string // what the service is asked with
	table *table
}

// table is the counters of what the service is asked with. What was granted for something else does not go on.
type table struct {
	mu sync.RWMutex
	by map[string]*Counter
}

// GlobalLimit refuses calls that come faster than all proxies together may let them begin.
type GlobalLimit struct {
	rules    GlobalRules
	asker    Asker // nil: there is no service
	counters *Counters
	table    *table
	only     *Counter // of a descriptor that is the same for each call
	refusal  wire.Status
	silence  wire.Status // the service did not answer
	full     wire.Status
}

// NewGlobalLimit makes the policy.
func NewGlobalLimit(rules GlobalRules, asker Asker, counters *Counters) *GlobalLimit {
	p := &GlobalLimit{rules: rules, asker: asker, counters: counters}
	p.refusal = wire.Refuse(wire.ReasonRateLimited, rules.Origin, "over the global rate limit "+rules.Name)
	p.silence = wire.Refuse(wire.ReasonRateLimited, rules.Origin, "the rate limit service does not answer, and then the limit "+rules.Name+" refuses")
	p.full = wire.Refuse(wire.ReasonRateLimited, rules.Origin, "too many calls wait for the rate limit service's word on "+rules.Name)
	p.table = counters.begin(&rules)
	dynamic := false
	for _, part := range rules.Parts {
		dynamic = dynamic || part.Property != Fixed
	}
	if !dynamic && asker != nil {
		p.only = p.counter("", func() []string { return p.values(nil) })
	}
	return p
}

// begin returns the table of what is asked for from now on.
func (c *Counters) begin(rules *GlobalRules) *table {
	asked := fmt.Sprintf("%q %q %d %v %v %v", rules.Domain, rules.Parts, rules.Calls, rules.Per, rules.Timeout, rules.DryRun)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked != asked {
		c.asked, c.table = asked, &table{by: make(map[string]*Counter)}
	}
	return c.table
}

// Name implements [Policy].
func (p *GlobalLimit) Name() string { return "rate_limit" }

// Rule is the limit's name.
func (p *GlobalLimit) Rule() string { return p.rules.Name }

// Check implements [Policy]. A call that waited for an answer comes here again.
func (p *GlobalLimit) Check(r Request) Decision {
	if p.rules.Route != "" && p.rules.Route != r.Route || !holds(p.rules.Condition, &r) {
		return Decision{}
	}
	c := p.only
	if c == nil {
		var counts bool
		if c, counts = p.of(&r); !counts {
			return Decision{}
		}
	}
	if c == nil {
		return p.unanswered()
	}
	switch out, until := c.take(r.Now, r.Since != 0); {
	case out == pass:
		return Decision{}
	case out == refused && p.rules.DryRun:
		p.counters.would.Add(1)
		return Decision{}
	case out == refused:
		p.counters.refused.Add(1)
		return refuseFor(&p.refusal, until-r.Now)
	case out == failed:
		return p.unanswered()
	}
	return p.ask(c, &r)
}

// ask has a call wait for the service, if that makes sense.
func (p *GlobalLimit) ask(c *Counter, r *Request) Decision {
	down, probe := p.asker.Down(r.Now)
	if probe {
		p.asker.Ask(c)
	}
	switch {
	case down, r.Since != 0 && r.Now-r.Since >= int64(p.rules.Timeout):
		return p.unanswered()
	case p.rules.DryRun: // it takes no time
		c.owed.Add(1)
		p.asker.Ask(c)
		return Decision{}
	case c.lot.Len() >= maxAsking:
		return p.unanswered()
	case r.Since == 0:
		p.counters.waited.Add(1)
	}
	c.parked.Store(true)
	return Decision{Verdict: Park, Lot: &c.lot, Arrange: c}
}

// unanswered is what becomes of a call about which the service says nothing.
func (p *GlobalLimit) unanswered() Decision {
	if !p.rules.Deny || p.rules.DryRun {
		p.counters.allowed.Add(1)
		return Decision{}
	}
	p.counters.denied.Add(1)
	return refuseFor(&p.silence, int64(time.Second))
}

// of returns the counter of a call; nil: there are too many. It counts only if it has a value for each entry.
func (p *GlobalLimit) of(r *Request) (c *Counter, counts bool) {
	var space [256]byte
	key := space[:0]
	for i := range p.rules.Parts {
		part := &p.rules.Parts[i]
		switch part.Property {
		case Fixed:
			continue
		case Route:
			key = append(binary.AppendUvarint(key, uint64(len(r.Route))), r.Route...)
			continue
		}
		value, ok := part.value(r)
		if !ok {
			return nil, false
		}
		key = binary.AppendUvarint(key, uint64(len(value)))
		key = append(key, value...)
	}
	if p.asker == nil {
		return nil, true
	}
	p.table.mu.RLock()
	c = p.table.by[string(key)]
	p.table.mu.RUnlock()
	if c != nil {
		return c, true
	}
	return p.counter(string(key), func() []string { return p.values(r) }), true
}

// value is a call's value of the entry.
func (p *Part) value(r *Request) (value []byte, ok bool) {
	var entries []wire.Entry
	switch p.Property {
	case Service:
		return r.Head.Service, true
	case Method:
		return r.Head.Method, true
	case Caller:
		return r.Caller, true
	case Metadata:
		entries = r.Head.Metadata
	case Baggage:
		entries = r.Head.Baggage
	}
	for i := range entries {
		if string(entries[i].Key) == p.From {
			return entries[i].Value, true
		}
	}
	return nil, false
}

// values are the values of a call's descriptor.
func (p *GlobalLimit) values(r *Request) (all []string) {
	for i := range p.rules.Parts {
		part := &p.rules.Parts[i]
		switch part.Property {
		case Fixed:
			all = append(all, part.From)
		case Route:
			all = append(all, r.Route)
		default:
			v, _ := part.value(r)
			all = append(all, Sendable(v))
		}
	}
	return all
}

// maxValue bounds a value of a descriptor, in bytes.
const maxValue = 256

// Sendable is a value as the service is told it: by its hash if it is long, or no text.
func Sendable(v []byte) string {
	if len(v) <= maxValue && utf8.Valid(v) {
		return string(v)
	}
	sum := sha256.Sum256(v)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// counter returns the counter of a key, or makes it. Nil: there are too many that are being asked about.
func (p *GlobalLimit) counter(key string, values func() []string) *Counter {
	all := p.table
	all.mu.Lock()
	defer all.mu.Unlock()
	if c := all.by[key]; c != nil {
		return c
	}
	if len(all.by) >= p.rules.MaxCounters && !all.forget() {
		return nil
	}
	c := &Counter{asker: p.asker, Descriptor: Descriptor{
		Domain: p.rules.Domain, Values: values(), Calls: p.rules.Calls, Per: p.rules.Per, Timeout: p.rules.Timeout,
	}}
	for _, part := range p.rules.Parts {
		c.Keys = append(c.Keys, part.Key)
	}
	if p.rules.DryRun {
		c.would = &p.counters.would
	}
	c.lot = Bounded{Lot: &Lot{}, Max: 2 * maxAsking, For: p.rules.Timeout, Full: p.full, Expired: p.silence, Resumes: true}
	all.by[key] = c
	return c
}

// maxForgetting is how many counters are looked at to make room for one.
const maxForgetting = 32

// forget makes room for a counter: one of those that nobody asks about now goes, by chance. What was granted to it lapses. The
// lock is held.
func (t *table) forget() bool {
	tries := 0
	for key, old := range t.by {
		if old.idle() {
			delete(t.by, key)
			return true
		}
		if tries++; tries == maxForgetting {
			break
		}
	}
	return false
}

// Counts implements [Counted].
func (p *GlobalLimit) Counts(yield func(rule, outcome string, n uint64)) {
	c := p.counters
	yield(p.rules.Name, "refused", c.refused.Load())
	yield(p.rules.Name, "would_refuse", c.would.Load())
	yield(p.rules.Name, "waited", c.waited.Load())
	yield(p.rules.Name, "unanswered_allowed", c.allowed.Load())
	yield(p.rules.Name, "unanswered_refused", c.denied.Load())
}
