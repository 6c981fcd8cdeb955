package directory

import "time"

// Source is who says something of a target.
type Source uint8

// The sources, in the order of their rank.
const (
	Proxy Source = iota
	ControlPlane
	Disk
	sources
	Nobody = sources
)

var sourceNames = [...]string{"proxy", "control plane", "disk", "none"}

// String returns the source in words.
func (s Source) String() string { return sourceNames[s] }

// Switch is a target's mesh switch, as one source has it.
type Switch struct {
	Permille uint32
	Revision uint64
}

// Word is what a source's message says of a target, but for what does not matter here.
type Word struct {
	// Known: PRESENT or DELETED.
	Known  bool
	Stale  bool
	Age    time.Duration
	Switch *Switch // nil: none
}

// Sources decides which of the sources of a target counts: D-WATCH in proto/spec/directory.md. Times are since any moment.
type Sources struct {
	at [sources]struct {
		said  bool // there is a word
		word  Word // the last one that was known
		fresh bool // its stream goes on, and its last word was known, and not stale
		since time.Duration
		own   uint64 // the revision of the switch that this stream has; 0: none
	}
	held *Switch
	// highest is the highest revision that was seen. A switch that was removed does not come back by one that is not higher.
	highest uint64
}

// Said takes a message of a source's stream, or what the disk has.
func (s *Sources) Said(from Source, w Word, now time.Duration) {
	a := &s.at[from]
	a.fresh = w.Known && !w.Stale && from != Disk
	if w.Known {
		a.said, a.word, a.since = true, w, now
	}
	switch {
	case w.Switch != nil:
		a.own = w.Switch.Revision
		if w.Switch.Revision > s.highest {
			held := *w.Switch
			s.held, s.highest = &held, w.Switch.Revision
		}
	case w.Known && a.own != 0:
		if s.held != nil && s.held.Revision == a.own {
			s.held = nil
		}
		a.own = 0
	}
}

// Ended takes the end of a source's stream.
func (s *Sources) Ended(from Source) {
	a := &s.at[from]
	a.fresh, a.own = false, 0
}

// Counts is whose endpoints count.
func (s *Sources) Counts(now time.Duration) Source {
	proxy, plane := &s.at[Proxy], &s.at[ControlPlane]
	switch {
	case proxy.said && proxy.fresh:
		return Proxy
	case plane.said && plane.fresh:
		return ControlPlane
	case proxy.said && plane.said:
		if s.Age(ControlPlane, now) < s.Age(Proxy, now) {
			return ControlPlane
		}
		return Proxy
	case proxy.said:
		return Proxy
	case plane.said:
		return ControlPlane
	case s.at[Disk].said:
		return Disk
	}
	return Nobody
}

// Age is how old the last known word of a source is, by what it said of itself and the time since. Not known: 0.
func (s *Sources) Age(of Source, now time.Duration) time.Duration {
	if of >= sources || !s.at[of].said {
		return 0
	}
	return s.at[of].word.Age + max(now-s.at[of].since, 0)
}

// Fresh tells whether a source's stream stands, and what it said last is known and not stale.
func (s *Sources) Fresh(of Source) bool { return of < sources && s.at[of].fresh }

// AskControlPlane tells whether the control plane is to be asked beside the proxy.
func (s *Sources) AskControlPlane() bool { return !s.at[Proxy].fresh }

// Switch is the mesh switch that holds; nil: none.
func (s *Sources) Switch() *Switch { return s.held }
