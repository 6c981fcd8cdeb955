// Package balancer chooses where a direct call goes: S-DIRECT in proto/spec/switch.md, balance.json in conformance/vectors. It does no
// I/O and reads no clock, and draws nothing itself.
package balancer

import "time"

// LaneTag is the tag, and the key of baggage, that names a lane.
const LaneTag = "lane"

// Instance is what matters of an instance for who may be called.
type Instance struct {
	Address  string
	Weight   int
	Zone     string
	Lane     string
	Disabled bool
	Healthy  bool
}

// Callable tells whether an instance gets calls at all.
func (i *Instance) Callable() bool {
	return i.Address != "" && i.Weight > 0 && !i.Disabled && i.Healthy
}

// Tiers orders, by index, the instances that calls of a lane may go to, the nearest first: those of the lane, or of the baseline if
// the lane has none; of them those of the caller's zone, then the others. A caller without a zone has one tier.
func Tiers(all []Instance, lane, zone string) [][]int {
	tiers := tiersOf(all, lane, zone)
	if len(tiers) == 0 && lane != "" {
		return tiersOf(all, "", zone)
	}
	return tiers
}

func tiersOf(all []Instance, lane, zone string) (tiers [][]int) {
	var near, far []int
	for i := range all {
		switch {
		case !all[i].Callable() || all[i].Lane != lane:
		case zone != "" && all[i].Zone == zone:
			near = append(near, i)
		default:
			far = append(far, i)
		}
	}
	for _, t := range [][]int{near, far} {
		if len(t) > 0 {
			tiers = append(tiers, t)
		}
	}
	return tiers
}

// Endpoint is what can be picked.
type Endpoint interface {
	Weight() int64   // above 0
	InFlight() int64 // calls
	// EjectedUntil is up to when the endpoint is left out, on the clock of now.
	EjectedUntil() int64
}

// Pick returns the endpoint for one call, by the power of two choices: the first is drawn by weight, the second evenly among the
// others. Of those, and of all endpoints, the ones that skip has are left out, which are fewer than there are. The tiers are asked in
// their order for one that is not ejected; if all are, the one whose time is over first is the choice: better a dial too many than no
// call at all. draw gives a number below n. ok is false if there is nothing to choose from.
func Pick[E interface {
	comparable
	Endpoint
}](tiers [][]E, skip []E, now int64, draw func(n int64) int64) (e E, ok bool) {
	for _, tier := range tiers {
		if e, ok = pickOf(tier, skip, now, draw); ok {
			return e, true
		}
	}
	for _, tier := range tiers {
		for _, each := range tier {
			if !contains(skip, each) && (!ok || each.EjectedUntil() < e.EjectedUntil()) {
				e, ok = each, true
			}
		}
	}
	return e, ok
}

func contains[E comparable](all []E, e E) bool {
	for _, each := range all {
		if each == e {
			return true
		}
	}
	return false
}

func pickOf[E interface {
	comparable
	Endpoint
}](tier, skip []E, now int64, draw func(n int64) int64) (e E, ok bool) {
	var total, open int64
	for _, each := range tier {
		if each.EjectedUntil() <= now && !contains(skip, each) {
			total += each.Weight()
			open++
		}
	}
	if open == 0 {
		return e, false
	}
	var first, second E
	at, left := draw(total), int64(-1)
	if open > 1 {
		left = draw(open - 1)
	}
	drawn, found := false, false
	for _, each := range tier {
		// Ejections may end or begin while this runs: the draws are of what was counted above, and who is there now may differ by one.
		if each.EjectedUntil() > now || contains(skip, each) {
			continue
		}
		if !drawn {
			if at -= each.Weight(); at < 0 {
				first, drawn = each, true
				continue
			}
		}
		if !found {
			if left == 0 {
				second, found = each, true
			}
			left--
		}
	}
	switch {
	case drawn && found:
		return lighter(first, second), true
	case drawn:
		return first, true
	}
	return second, found
}

// lighter returns the one with fewer calls in flight for its weight, this call counted. If both are idle the first, which was drawn by
// weight, takes the call: else calls that come one by one would all go to the heavier.
func lighter[E Endpoint](a, b E) E {
	if a.InFlight() == 0 && b.InFlight() == 0 || (a.InFlight()+1)*b.Weight() <= (b.InFlight()+1)*a.Weight() {
		return a
	}
	return b
}

// Ejection is for how long an endpoint is left out that could not be reached so many times in a row, at least once.
func Ejection(times int) time.Duration {
	return min(time.Second<<min(times-1, 10), 30*time.Second)
}
