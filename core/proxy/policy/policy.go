// Package policy decides whether a call may go on. A policy is made for one target of one generation; what
// it counts lives in a state of its own that outlasts the generation.
package policy

import (
	"time"

	"github.com/octomesh/octomesh/core/wire"
)

// Verdict is what a policy says of a call.
type Verdict uint8

// The verdicts.
const (
	// Continue lets the call pass to the next policy, and past the last one to the balancer.
	Continue Verdict = iota
	// Refuse ends the call with the decision's status. It is final: no second path, no second upstream.
	Refuse
	// Park holds the call in the decision's lot until it is resumed, and then asks the same policy again.
	Park
)

// Decision is a verdict with what belongs to it.
type Decision struct {
	Verdict Verdict
	Status  wire.Status // with Refuse; it is shared: its slices are not to be written to
	Lot     *Bounded    // with Park: where the call waits
	Arrange Arranger    // with Park: who sees to it that the call is resumed; nil: that is seen to
}

// Arranger arranges for calls in a lot to be resumed.
type Arranger interface {
	// Arrange is called once a call is in the lot, with its lock held: it neither waits nor resumes a call.
	Arrange()
}

// Request is a call as policies see it. The slices are borrowed: a policy keeps none of them.
type Request struct {
	Head   *wire.RequestHead
	Caller []byte // the calling application: from HELLO, or as a proxy passed it on
	// Identity is whom TLS proved the peer to be; empty: nobody was proved.
	Identity string
	// Route is the name of the one that the call took.
	Route string
	// Now is the proxy's monotonic time, read once a batch.
	Now int64
	// Passed counts the policies of the chain that have let the call pass. 0 for a new call; the chain
	// counts it up. The data path keeps it, Since and Unary with a parked or admitted call.
	Passed int
	// Since is when the policy that is being asked parked the call; 0: it did not.
	Since int64
	// Unary tells that the call has one message each way.
	Unary bool
}

// Condition selects calls. Nil stands for one that holds for every call.
type Condition interface {
	Holds(h *wire.RequestHead, caller []byte) bool
}

func holds(c Condition, r *Request) bool { return c == nil || c.Holds(r.Head, r.Caller) }

// Outcome is how an admitted call ended.
type Outcome struct {
	Status wire.Status
	Took   time.Duration // since it arrived
	Now    int64
	Unary  bool
}

// Policy checks calls. It neither waits nor allocates, and may be used by many goroutines at once.
type Policy interface {
	// Name is for metrics and the config dump.
	Name() string
	// Check gets the request by value: what goes through an interface by pointer is allocated.
	Check(Request) Decision
}

// Holder is a policy that holds something for each call that it lets pass, such as one of a bounded number
// of slots. Done gives it back and is called once for each such call.
type Holder interface {
	Policy
	Done(Outcome)
}

// Chain asks policies in their order. The zero Chain lets every call pass.
type Chain struct {
	policies []Policy
	holders  []Holder // by index of policies; nil where the policy holds nothing
}

// NewChain returns the chain of the policies.
func NewChain(policies ...Policy) Chain {
	c := Chain{policies: policies, holders: make([]Holder, len(policies))}
	for i, p := range policies {
		c.holders[i], _ = p.(Holder)
	}
	return c
}

// Policies returns what the chain asks, in order.
func (c *Chain) Policies() []Policy { return c.policies }

// Check asks the policies from r.Passed on; the first that does not continue decides.
//
//   - Continue: the data path calls Done with r.Passed once the call has ended, however it ended.
//   - Refuse: what the policies before had taken has been given back; Done must not follow.
//   - Park: what the policies before took is kept. The data path adds the call to the lot and, when it is
//     resumed, checks again with the same Passed; if it gives up instead it calls Done.
func (c *Chain) Check(r *Request) Decision {
	for r.Passed < len(c.policies) {
		d := c.policies[r.Passed].Check(*r)
		switch d.Verdict {
		case Continue:
			r.Passed++
			r.Since = 0
		case Refuse:
			c.Done(r.Passed, Outcome{Status: d.Status, Now: r.Now, Unary: r.Unary})
			r.Passed, r.Since = 0, 0
			return d
		default:
			if r.Since == 0 {
				r.Since = r.Now
			}
			return d
		}
	}
	return Decision{}
}

// Done gives back what the first passed policies hold for a call.
func (c *Chain) Done(passed int, o Outcome) {
	for i := min(passed, len(c.holders)) - 1; i >= 0; i-- {
		if h := c.holders[i]; h != nil {
			h.Done(o)
		}
	}
}
