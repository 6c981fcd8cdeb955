// Package fallback decides which of the two ways calls take, the mesh or direct, when one of them fails, and when a call goes
// again. It does no I/O and reads no clock: events, times and draws go in, what is to be done comes out. The rules are
// S-STATE and S-AGAIN in proto/spec/switch.md; conformance/vectors/path.json and fallback.json hold SDKs of all languages to them.
package fallback

import "time"

// State is where the way to the local proxy stands.
type State uint8

// The states.
const (
	Mesh      State = iota // the proxy is there, as far as anybody knows
	Suspect                // a sign of life is missing, or the connection
	Direct                 // the proxy is gone
	Probe                  // it is being tried again
	Returning              // it is back, and gets its calls by and by
)

var stateNames = [...]string{"mesh", "suspect", "direct", "probe", "returning"}

// String returns the state in a word.
func (s State) String() string { return stateNames[s] }

// Event is what happens to the connection to the proxy.
type Event uint8

// The events.
const (
	Need     Event = iota // a connection is wanted; none stands, and none is being made
	Missed                // a miss, while the connection stands
	Alive                 // a byte came after a miss
	Lost                  // the connection has ended, and no other stands
	Gone                  // it was given up, since its peer is silent
	Failed                // a dial failed, and no connection stands
	Welcomed              // a dial came to its WELCOME
	Answered              // a PONG came for the PING of a probe
	Due                   // the time of Wake has come
)

// Do is what an event asks for.
type Do uint8

// What is to be done.
const (
	Nothing Do = iota
	Dial
	Ping // what was dialed
)

// Advice is what the way's state means for a new call that is to go by the mesh, and could go direct.
type Advice uint8

// The advices.
const (
	GoMesh Advice = iota
	Wait          // for a connection, or a sign of life; then go direct
	GoDirect
)

const (
	// Patience is how long new calls wait in suspect.
	Patience = 50 * time.Millisecond
	// Steps of the return, one after the other.
	Steps = 10
	step  = time.Second

	firstPause = time.Second
	maxPause   = 10 * time.Second
	maxFails   = 10 // of which more make no longer pause
)

// Path is the state of the way to one proxy. Times are since any moment that its owner chooses.
type Path struct {
	State State
	// Scale is how many tenths of its share the mesh gets, where it gets calls at all.
	Scale int
	// until is up to when calls wait (Suspect), when to probe (Direct), or when the next step is due (Returning).
	until time.Duration
	fails int // times in a row that the way was lost before it had come back wholly
}

// New returns the way to a proxy that nobody has called yet.
func New() Path { return Path{Scale: Steps} }

// On takes an event. random is in [0, 1): it spreads the probes of many processes.
func (p *Path) On(e Event, now time.Duration, random float64) Do {
	switch p.State {
	case Mesh, Returning:
		return p.onMesh(e, now, random)
	case Suspect:
		return p.onSuspect(e, now, random)
	case Direct:
		switch {
		case e == Welcomed: // who could not go direct has dialed
			p.State = Probe
			return Ping
		case e == Due && now >= p.until:
			p.State = Probe
			return Dial
		}
	case Probe:
		switch e {
		case Welcomed:
			return Ping
		case Answered:
			p.State, p.Scale, p.until = Returning, 1, now+step
		case Failed, Lost, Gone:
			p.leave(now, random)
		}
	}
	return Nothing
}

func (p *Path) onMesh(e Event, now time.Duration, random float64) Do {
	switch e {
	case Need, Lost:
		p.State, p.until = Suspect, now+Patience
		return Dial
	case Missed:
		p.State, p.until = Suspect, now+Patience
	case Gone, Failed:
		p.leave(now, random)
	case Due:
		if p.State == Returning && now >= p.until {
			p.Scale++
			p.resume(p.until)
		}
	}
	return Nothing
}

func (p *Path) onSuspect(e Event, now time.Duration, random float64) Do {
	switch e {
	case Alive, Welcomed:
		p.resume(now)
	case Lost:
		return Dial
	case Gone, Failed:
		p.leave(now, random)
	}
	return Nothing
}

// resume goes on where suspicion came.
func (p *Path) resume(now time.Duration) {
	p.State, p.until = Returning, now+step
	if p.Scale == Steps {
		p.State, p.fails = Mesh, 0
	}
}

// leave gives the way up until a probe. Who has lost it before it was back wholly waits longer each time.
func (p *Path) leave(now time.Duration, random float64) {
	if p.Scale < Steps {
		p.fails = min(p.fails+1, maxFails)
	}
	pause := min(firstPause<<p.fails, maxPause)
	p.State, p.Scale, p.until = Direct, 0, now+pause/2+time.Duration(random*float64(pause))
}

// Calls is what the state means for a new call, and up to when it waits.
func (p *Path) Calls(now time.Duration) (a Advice, until time.Duration) {
	switch {
	case p.State == Mesh || p.State == Returning:
		return GoMesh, 0
	case p.State == Suspect && now < p.until:
		return Wait, p.until
	}
	return GoDirect, 0
}

// Wake is when Due is to come; ok is false while nothing waits for a time.
func (p *Path) Wake() (at time.Duration, ok bool) {
	return p.until, p.State == Direct || p.State == Returning
}
