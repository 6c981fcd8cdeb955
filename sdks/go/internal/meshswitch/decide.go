package meshswitch

// Mode is which ways calls may take at all.
type Mode uint8

// The modes.
const (
	Auto Mode = iota // both, by the share
	On               // the mesh alone
	Off              // direct alone
)

// Word is what somebody on this host says of a target, by the environment or a file.
type Word struct {
	// Said: there is a word. The zero value says nothing, and asks whoever comes next.
	Said bool
	// Back: the word is that nobody on this host has one, whatever comes next of them.
	Back bool
	Mode Mode
	// Share, in permille, where HasShare is set.
	Share    uint32
	HasShare bool
}

// Console is the switch that the control plane has for a target.
type Console struct {
	Permille uint32
	Revision uint64
}

// Who is whose word a decision goes by.
type Who uint8

// Those who can say it, the first before the others.
const (
	ByTarget      Who = iota // the target's policy forbids direct calls
	ByFile                   // the kill switch's file
	ByEnvironment            // the environment, or an option in its place
	ByConsole
	ByDefault
)

var whoNames = [...]string{"target", "file", "environment", "console", "default"}

// String returns who it is in a word.
func (w Who) String() string { return whoNames[w] }

// Decision is what holds for new calls.
type Decision struct {
	Mode     Mode
	Permille uint32
	By       Who
}

// Decide puts the words in their order: the target's own policy, the kill switch by file and by environment, the console's switch,
// and that all calls take the mesh. console is nil if nobody has set a switch.
func Decide(file, environment Word, console *Console, forbidden bool) Decision {
	d := local(file, environment)
	if d.By == ByConsole {
		d.Permille, d.By = Whole, ByDefault
		if console != nil {
			d.Permille, d.By = min(console.Permille, Whole), ByConsole
		}
	}
	if forbidden && (d.Mode != On || d.Permille < Whole) {
		return Decision{Mode: On, Permille: Whole, By: ByTarget}
	}
	return d
}

// local is what is said on this host; by the console if nothing is.
func local(file, environment Word) Decision {
	for _, w := range []struct {
		Word
		by Who
	}{{file, ByFile}, {environment, ByEnvironment}} {
		switch {
		case w.Back:
			return Decision{By: ByConsole}
		case w.Said && w.Mode == Off:
			return Decision{Mode: Off, By: w.by}
		case w.Said && w.Mode == On:
			return Decision{Mode: On, Permille: Whole, By: w.by}
		case w.Said && w.HasShare:
			return Decision{Permille: min(w.Share, Whole), By: w.by}
		}
	}
	return Decision{By: ByConsole}
}

// Scaled is the share while the mesh returns: tenths of what it is to be.
func Scaled(permille uint32, tenths int) uint32 { return permille * uint32(tenths) / 10 }
