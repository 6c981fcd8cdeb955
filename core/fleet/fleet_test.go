package fleet_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/octomesh/octomesh/core/fleet"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
)

// told is what a presence has said last of each process.
type told struct {
	here map[string]*controlv1.Process
	n    int
}

func (d *told) tell(p *controlv1.Process, here bool) {
	d.n++
	if delete(d.here, p.GetInstance()); here {
		d.here[p.GetInstance()] = p
	}
}

func presence() (*fleet.Presence, *told) {
	d := &told{here: make(map[string]*controlv1.Process)}
	return fleet.NewPresence(d.tell), d
}

func process(instance string) *controlv1.Process {
	return &controlv1.Process{Application: "web", Instance: instance, Incarnation: 3, Sdk: "go", SdkVersion: "0.1.0"}
}

func TestAProcessIsPresentWhileAnythingOfItIsOpen(t *testing.T) {
	t.Parallel()
	p, d := presence()
	serving := process("a")
	serving.Serves = true
	leaves := []func(){
		p.Enter(process("a")), p.Enter(serving),
		p.Watch(process("a"), &directoryv1.WatchRequest{Target: "stock", Node: "n1", Runtime: "go1.26.0", Features: []string{"switch", "report", "switch"}}),
		p.Watch(process("a"), &directoryv1.WatchRequest{Target: "mail"}),
		p.Watch(process("a"), &directoryv1.WatchRequest{Target: "mail"}),
	}
	a := d.here["a"]
	if a.GetNode() != "n1" || a.GetRuntime() != "go1.26.0" || !slices.Equal(a.GetFeatures(), []string{"report", "switch"}) || !a.GetServes() ||
		!slices.Equal(a.GetTargets(), []string{"mail", "stock"}) || a.GetSdk() != "go" {
		t.Fatal(a)
	}
	leaves[4]()
	leaves[4]() // once is enough
	leaves[1]()
	if a = d.here["a"]; a.GetServes() || !slices.Equal(a.GetTargets(), []string{"mail", "stock"}) {
		t.Fatal(a)
	}
	leaves[2]()
	leaves[3]()
	if a = d.here["a"]; len(a.GetTargets()) != 0 {
		t.Fatal(a)
	}
	leaves[0]()
	if len(d.here) != 0 {
		t.Fatal(d.here)
	}
	var nobody *fleet.Presence
	nobody.Enter(process("a"))()
	p.Enter(&controlv1.Process{Application: "web"})()
	if n := d.n; n != 10 {
		t.Fatalf("told %d times", n)
	}
}

func TestWhatIsKeptOfAProcessIsBounded(t *testing.T) {
	t.Parallel()
	p, d := presence()
	long := strings.Repeat("x", 300)
	many := []string{long}
	for i := range 100 {
		many = append(many, fmt.Sprint("f", i))
	}
	of := process("a")
	of.SdkVersion = long
	for i := range 120 {
		p.Watch(of, &directoryv1.WatchRequest{Target: fmt.Sprint("t", i), Node: "not a name", Runtime: long, Features: many})
	}
	a := d.here["a"]
	if len(a.GetFeatures()) != 16 || len(a.GetTargets()) != 50 || a.GetMoreTargets() != 70 || len(a.GetSdkVersion()) != 64 || len(a.GetRuntime()) != 64 || a.GetNode() != "" {
		t.Fatal(a)
	}
	r := fleet.NewRoster()
	s := r.Open("prod", &controlv1.Proxy{Instance: "p"})
	s.Attended(&controlv1.Attendance{Here: []*controlv1.Process{a}}) // all of that is sound
	for _, bad := range []*controlv1.Process{
		{Application: "web"}, {Application: "a b", Instance: "x"}, {Application: "web", Instance: "x", Node: "a b"}, {Application: "web", Instance: "x", Sdk: long},
		{Application: "web", Instance: "x", Features: many}, {Application: "web", Instance: "x", Features: []string{long}},
		{Application: "web", Instance: "x", Targets: make([]string, 51)}, {Application: "web", Instance: "x", Targets: []string{""}},
	} {
		s.Attended(&controlv1.Attendance{Here: []*controlv1.Process{bad}})
	}
	for i := range 1100 {
		s.Attended(&controlv1.Attendance{Here: []*controlv1.Process{process(fmt.Sprint("i", i))}})
	}
	if st := r.Stats(); st.Processes != 1000 || st.Passed != 101 || st.Proxies != 1 {
		t.Fatal(st)
	}
	s.Attended(&controlv1.Attendance{Gone: []*controlv1.Process{process("i3"), process("never")}})
	if st := r.Stats(); st.Processes != 999 {
		t.Fatal(st)
	}
	s.Close()
	s.Close()
	if st := r.Stats(); st.Processes != 0 || st.Proxies != 0 {
		t.Fatal(st)
	}
}

func TestARosterHasEachProcessWithItsProxy(t *testing.T) {
	t.Parallel()
	r := fleet.NewRoster()
	proxy, other, directory := r.Open("prod", &controlv1.Proxy{Instance: "p"}), r.Open("test", &controlv1.Proxy{Instance: "p"}), r.Open("prod", nil)
	proxy.Tell(process("a"), true)
	proxy.Tell(process("c"), true)
	directory.Tell(process("b"), true)
	directory.Tell(process("a"), true) // its proxy is stale, and it asks here too
	other.Tell(process("d"), true)
	proxy.Fares(&controlv1.Condition{Draining: true})
	shown := func(application string) string {
		var all []string
		for _, s := range fleet.Unite(r.Seen("prod", application)) {
			all = append(all, s.GetProcess().GetInstance()+"@"+s.GetProxy().GetInstance())
		}
		return strings.Join(all, " ")
	}
	if got := shown("web"); got != "a@p b@ c@p" || shown("mail") != "" {
		t.Fatal(got)
	}
	if s := fleet.Unite(r.Seen("prod", ""))[0]; !s.GetProxy().GetCondition().GetDraining() {
		t.Fatal(s)
	}
	proxy.Close()
	proxy.Tell(process("z"), true) // what comes late is of nobody
	if got := shown(""); got != "a@ b@" || r.Stats().Processes != 3 {
		t.Fatal(got, r.Stats())
	}
	var nobody *fleet.Roster
	s := nobody.Open("prod", nil)
	s.Tell(process("a"), true)
	s.Attended(nil)
	s.Fares(nil)
	s.Close()
}
