// Package directory decides how an SDK deals with Directories. It does no I/O and reads no clock: events go in, actions
// come out, so that SDKs in other languages can be held to the same table.
package directory

import (
	"time"

	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
)

// Phase is where a registration stands.
type Phase uint8

// The phases.
const (
	Off        Phase = iota // there is nobody to register with, or it is not wanted
	Connecting              // no stream stands; for 10 s the last one's word holds
	Pending                 // said, and not in rotation yet
	Published               // in rotation
	Superseded              // a newer process has the instance's name: over
	Withdrawn               // by this process, or by the control plane: over
)

// Ended is how a stream ended, as far as it matters.
type Ended uint8

// The ways in which a stream ends.
const (
	// Lost: nobody refused it.
	Lost Ended = iota
	// Moved: the Directory leaves, and another one is there.
	Moved
	// Refused: the Directory will not have it as it is. It may once somebody has changed something.
	Refused
)

const (
	firstPause   = 100 * time.Millisecond
	maxPause     = 10 * time.Second
	refusedPause = 30 * time.Second
	movedPause   = 20 * time.Millisecond
)

// Registration is one instance's registration at one Directory after the other. The zero value is to be begun.
type Registration struct {
	Phase  Phase
	Reason string // for people
	pauses Pauses
}

// Begin says that a stream is to be opened.
func (r *Registration) Begin() {
	if r.Phase == Off {
		r.Phase = Connecting
	}
}

// Said takes a Directory's word. over tells that nothing more is to be done.
func (r *Registration) Said(state directoryv1.RegisterResponse_State, reason string) (over bool) {
	r.pauses.Heard()
	switch state {
	case directoryv1.RegisterResponse_STATE_PUBLISHED:
		r.Phase, r.Reason = Published, ""
	case directoryv1.RegisterResponse_STATE_SUPERSEDED:
		r.Phase, r.Reason = Superseded, reason
	case directoryv1.RegisterResponse_STATE_WITHDRAWN:
		r.Phase, r.Reason = Withdrawn, reason
	default: // what is not known is not a promise
		r.Phase, r.Reason = Pending, reason
	}
	return r.Over()
}

// Over tells that nothing more is to be done.
func (r *Registration) Over() bool { return r.Phase == Superseded || r.Phase == Withdrawn }

// Ended takes a stream's end, and returns after what time the next one is to be opened.
func (r *Registration) Ended(how Ended, retryAfter time.Duration, reason string, random float64) time.Duration {
	r.Phase, r.Reason = Connecting, reason
	return r.pauses.Ended(how, retryAfter, random)
}

// Pauses are those between the streams of one kind to a Directory.
type Pauses struct {
	failures int // streams in a row that ended before they said anything
}

// Heard takes a word of the Directory.
func (p *Pauses) Heard() { p.failures = 0 }

// Ended takes a stream's end, and returns after what time the next one is to be opened: not before the Directory's own word,
// if it gave one. random is in [0, 1): pauses are spread, so that not all who lost a Directory come at once.
func (p *Pauses) Ended(how Ended, retryAfter time.Duration, random float64) time.Duration {
	var pause time.Duration
	switch {
	case how == Moved:
		pause = movedPause
	case how == Refused:
		pause = refusedPause
	default:
		pause = min(firstPause<<min(p.failures, 10), maxPause)
		p.failures++
	}
	if retryAfter > 0 { // they have been told different times already, and are spread forward only
		return retryAfter + time.Duration(random*float64(retryAfter)/4)
	}
	return pause/2 + time.Duration(random*float64(pause))
}
