// Package wave decides how the roll-out of a candidate goes on: to one proxy, to 1 %, 10 %, 50 % and 100 % of them, and
// back if a proxy refuses the candidate or crashes with it. It is pure: events and the time go in, the next state comes out.
package wave

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Stage is a share of the proxies.
type Stage struct {
	// One node alone gets the candidate; then Permille is 0.
	Single bool
	// Permille of all nodes that get it.
	Permille uint32
}

// String describes a stage.
func (s Stage) String() string {
	if s.Single {
		return "1 proxy"
	}
	return fmt.Sprintf("%d %%", s.Permille/10)
}

// Stages are the stages of a roll-out, in order. In the last one everybody has the candidate, which is stable once that
// has gone well too.
var stages = [...]Stage{{Single: true}, {Permille: 10}, {Permille: 100}, {Permille: 500}, {Permille: 1000}}

// Stages returns the stages of a roll-out, in order.
func Stages() []Stage { return slices.Clone(stages[:]) }

// Config says when a roll-out goes on, and when back.
type Config struct {
	// Soak is how long a stage lasts at least: the first from when its node has applied the candidate, the others from
	// their begin. 0: 1 min.
	Soak time.Duration
	// Crashes of one node that are a loop. 0: 2.
	Crashes int
	// CrashedNodes is how many nodes that have crashed, be it once each, are too many. 0: 3.
	CrashedNodes int
}

// WithDefaults fills in what is 0.
func (c Config) WithDefaults() Config {
	if c.Soak == 0 {
		c.Soak = time.Minute
	}
	if c.Crashes == 0 {
		c.Crashes = 2
	}
	if c.CrashedNodes == 0 {
		c.CrashedNodes = 3
	}
	return c
}

// Phase is where a roll-out is.
type Phase uint8

// The phases. Done and Reverted are final.
const (
	Rolling  Phase = iota
	Paused         // an operator holds it; it reverts all the same
	Done           // the candidate is stable
	Reverted       // what was stable before still is
)

// String is the phase's name.
func (p Phase) String() string { return [...]string{"rolling", "paused", "done", "reverted"}[p] }

// State is a roll-out's. It is a value: a step returns another one, and leaves this as it is.
type State struct {
	Phase Phase
	// Stage is an index of Stages.
	Stage int
	// Since is when the stage's soak began; zero: it has not.
	Since time.Time
	// First is the node of the first stage; empty: none is chosen.
	First string
	// Why is what the phase is for: of Reverted, which node refused or crashed and what it said.
	Why string

	// Crashes of nodes with it; at most CrashedNodes entries, then it is over. It is not to be changed.
	Crashes map[string]int
}

// Kind is what has happened.
type Kind uint8

// The kinds of events.
const (
	// Tick: time has passed. Nothing but ticks and operators move a roll-out on.
	Tick Kind = iota
	// Connected: a node is there that may be the first.
	Connected
	// Left: a node is not there any more.
	Left
	// Applied: a node goes by the candidate.
	Applied
	// Refused: a node does not take the candidate, and keeps what it had (a NACK).
	Refused
	// Crashed: a node that was told the candidate came back from a crash. Whether it had applied it does not matter: what
	// crashes a proxy may do so before it answers.
	Crashed
	// Pause, Resume, Advance, Finish and Revert are an operator's words.
	Pause
	Resume
	Advance
	Finish
	Revert
)

// Event is something that has happened.
type Event struct {
	Kind Kind
	Node string // of Connected, Left, Applied, Refused and Crashed
	Text string // what the node says, or why the operator does it
	// Waiting is, of Tick, how many connected nodes of the stage have been told the candidate and have not answered. The
	// stage lasts until there is none: those that never answer lose their connection.
	Waiting int
}

// Begin is the state of a new roll-out. first is the node that gets the candidate first; empty: whichever connects next.
func Begin(first string) State { return State{First: first} }

// Over tells whether nothing more happens.
func (s State) Over() bool { return s.Phase == Done || s.Phase == Reverted }

// Nodes are the nodes that have the candidate whatever the share, and Permille the share of the others. Once it is done
// that is everybody, once it is reverted nobody.
func (s State) Nodes() []string {
	if s.Phase == Reverted || s.First == "" {
		return nil
	}
	return []string{s.First} // it stays with the first one in all stages: no node goes back and forth
}

// Permille is the share of the nodes that have the candidate, beside Nodes.
func (s State) Permille() uint32 {
	switch s.Phase {
	case Done:
		return 1000
	case Reverted:
		return 0
	}
	return stages[s.Stage].Permille
}

// Step returns the state after an event.
func (s State) Step(c Config, now time.Time, e Event) State {
	if s.Over() {
		return s
	}
	switch e.Kind {
	case Refused:
		return s.end(Reverted, fmt.Sprintf("%s refused it at %s: %s", e.Node, stages[s.Stage], e.Text))
	case Revert:
		return s.end(Reverted, e.Text)
	case Finish:
		return s.end(Done, e.Text)
	case Advance:
		return s.advance(now, e.Text)
	case Pause:
		s.Phase, s.Why = Paused, e.Text
	case Resume:
		s.Phase, s.Why = Rolling, e.Text
	case Connected:
		if s.First == "" {
			s.First = e.Node
		}
	case Left:
		if s.First == e.Node && stages[s.Stage].Single { // a node that is gone proves nothing: another one begins anew
			s.First, s.Since = "", time.Time{}
		}
	case Applied:
		if s.Since.IsZero() && s.First == e.Node {
			s.Since = now
		}
	case Crashed:
		return s.crashed(c.WithDefaults(), e)
	case Tick:
		if s.Phase == Rolling && !s.Since.IsZero() && e.Waiting == 0 && now.Sub(s.Since) >= c.WithDefaults().Soak {
			return s.advance(now, "")
		}
	}
	return s
}

func (s State) crashed(c Config, e Event) State {
	s.Crashes = maps.Clone(s.Crashes)
	if s.Crashes == nil {
		s.Crashes = make(map[string]int)
	}
	s.Crashes[e.Node]++
	switch n := s.Crashes[e.Node]; {
	case n >= c.Crashes:
		return s.end(Reverted, fmt.Sprintf("%s crashed %d times with it at %s: %s", e.Node, n, stages[s.Stage], e.Text))
	case len(s.Crashes) >= c.CrashedNodes:
		return s.end(Reverted, fmt.Sprintf("%d nodes crashed with it at %s, %s last: %s", len(s.Crashes), stages[s.Stage], e.Node, e.Text))
	}
	return s
}

func (s State) advance(now time.Time, why string) State {
	if s.Stage == len(stages)-1 {
		return s.end(Done, why)
	}
	s.Stage++
	s.Since, s.Why = now, why
	return s
}

func (s State) end(p Phase, why string) State {
	s.Phase, s.Why, s.Since = p, why, time.Time{}
	return s
}

// Equal tells whether two states are the same.
func (s State) Equal(o State) bool {
	return s.Phase == o.Phase && s.Stage == o.Stage && s.Since.Equal(o.Since) && s.First == o.First && s.Why == o.Why &&
		maps.Equal(s.Crashes, o.Crashes)
}
