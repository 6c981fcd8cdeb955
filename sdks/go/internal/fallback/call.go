package fallback

import "github.com/octomesh/octomesh/core/wire"

// Ways are what a call could take.
type Ways struct {
	// Mesh: a proxy is configured, and nobody has switched it off here.
	Mesh bool
	// Direct: endpoints are known, the target does not forbid it, and nobody has switched it off here.
	Direct bool
	// Pinned: calls do not change over because a way fails.
	Pinned bool
}

// Way is what a call takes.
type Way uint8

// The ways.
const (
	ByNone       Way = iota // there is none
	ByMesh                  // however the proxy fares
	ByMeshOrSoon            // as soon as the proxy is there; direct if that takes too long
	ByDirect
)

// Choose decides for a call: byShare is what the share says. saved tells that the call is one that the mesh would have failed.
func Choose(byShare bool, state Advice, w Ways) (way Way, saved bool) {
	switch {
	case !w.Mesh && !w.Direct:
		return ByNone, false
	case !w.Mesh, w.Direct && !byShare:
		return ByDirect, false
	case !w.Direct, w.Pinned, state == GoMesh:
		return ByMesh, false
	case state == Wait:
		return ByMeshOrSoon, false
	}
	return ByDirect, true
}

// Ended is how an attempt ended.
type Ended struct {
	Code        wire.Code
	Reason      wire.Reason
	Origin      wire.Origin
	Disposition wire.Disposition
}

// Call is what matters of a call beside how its attempt ended.
type Call struct {
	Idempotent bool
	// FirstRequest: its REQUEST is all that was sent.
	FirstRequest bool
	// FreeUsed: it has had the re-send that costs nothing.
	FreeUsed bool
	// Resent is how often it was sent again.
	Resent int
	// Other: the other way is open to it.
	Other bool
	// Tokens of the retry budget, in tenths.
	Tokens int64
}

// Next is what becomes of a call.
type Next uint8

// The ends of an attempt.
const (
	End   Next = iota // the call ends so
	Same              // it goes again, on another connection of the way that it took
	Other             // it goes the other way
)

const (
	// MaxAgain is how often a call is sent again at most.
	MaxAgain = 2
	// Cost is what a re-send costs that may be the second run of a call, in tenths of a token.
	Cost = 10
	// Budget is how many tenths there are at most.
	Budget = 100
)

// Again decides how a call goes on after an attempt has failed. cost is what to take from the budget, free tells that the call's
// free re-send is used up.
func Again(e Ended, c Call) (next Next, cost int64, free bool) {
	if !c.FirstRequest || c.Resent >= MaxAgain {
		return End, 0, false
	}
	if e.Disposition == wire.DispositionNotProcessed {
		return surelyNot(e, c), 0, false
	}
	switch {
	case e.Code != wire.Unavailable || e.Disposition != wire.DispositionUnknown || !c.Idempotent:
		return End, 0, false
	case e.Reason == wire.ReasonConnectionLost && e.Origin == wire.OriginClientSDK && !c.FreeUsed:
		return Same, 0, true
	case c.Tokens < Cost:
		return End, 0, false
	}
	return Same, Cost, false
}

// surelyNot decides for a call that ran nowhere.
func surelyNot(e Ended, c Call) Next {
	switch {
	case !e.Reason.Rule().Path: // a refusal: another way would go round it
		return End
	case e.Reason == wire.ReasonProxyDraining && c.Resent == 0: // a successor is there
		return Same
	case c.Other:
		return Other
	case e.Reason == wire.ReasonProxyUnreachable && e.Origin == wire.OriginClientSDK: // all that there is was tried
		return End
	}
	return Same
}
