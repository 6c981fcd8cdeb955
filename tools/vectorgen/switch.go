package main

import (
	"strings"

	"github.com/octomesh/octomesh/tools/vectorgen/vector"
)

// switchFile holds whose word the switch goes by.
func switchFile() *vector.File {
	f := &vector.File{
		Title: "Who says which share of the calls takes the mesh",
		Notes: []string{
			"kind decide: words are \"on\", \"off\", \"auto\", a permille as text, or \"\" for none; console and scale may be absent. result.by is who decided: target, file, environment, console, default; mode: auto, on, off; " +
				"permille is what new calls go by, scaled where scale (tenths) is given.",
			"kind file: text is a kill switch's file. result.targets has the word for each target that is asked for, \"\" for none; bad_line is the first line that is wrong, from 1; a file with one says nothing.",
			"kind sources: steps are what the sources of a Directory say, each at at_ms. source: proxy, control_plane, disk. said: a message of its stream, with state, stale, age_ms, and the switch, if any; ended: its stream ended. " +
				"result.steps: whose endpoints count (none: nobody's), the switch that holds (absent: none), and whether the control plane is to be asked. Both proxy and control plane are configured.",
		},
		Flags: map[string]string{},
	}
	f.Vectors = append(append(decisions(), switchTexts()...), sourceScripts()...)
	return f
}

func decisions() []vector.Vector {
	var out []vector.Vector
	type q struct {
		file, env   string
		console     int // −1: none
		forbidden   bool
		scale       int
		by, mode    string
		permille    int
		id, comment string
	}
	const none = -1
	for _, c := range []q{
		{id: "default", comment: "nobody says anything", console: none, by: "default", mode: "auto", permille: 1000},
		{id: "console", comment: "the console's", console: 50, by: "console", mode: "auto", permille: 50},
		{id: "console-zero", comment: "0 is a word", console: 0, by: "console", mode: "auto", permille: 0},
		{id: "console-too-much", comment: "more than 1000 is 1000", console: 4000, by: "console", mode: "auto", permille: 1000},
		{id: "environment", comment: "the environment before the console", env: "7", console: 50, by: "environment", mode: "auto", permille: 7},
		{id: "environment-off", comment: "the kill switch", env: "off", console: 1000, by: "environment", mode: "off", permille: 0},
		{id: "environment-on", comment: "no fallback either", env: "on", console: 0, by: "environment", mode: "on", permille: 1000},
		{id: "file", comment: "the file before the environment", file: "500", env: "on", console: 0, by: "file", mode: "auto", permille: 500},
		{id: "file-off", comment: "for a process that runs", file: "off", env: "1000", console: 1000, by: "file", mode: "off", permille: 0},
		{id: "file-auto", comment: "back to the console, over the environment", file: "auto", env: "off", console: 50, by: "console", mode: "auto", permille: 50},
		{id: "file-auto-default", comment: "or the default", file: "auto", env: "off", console: none, by: "default", mode: "auto", permille: 1000},
		{id: "forbidden", comment: "the target forbids direct calls", console: 50, forbidden: true, by: "target", mode: "on", permille: 1000},
		{id: "forbidden-off", comment: "over the kill switch, too", file: "off", console: 50, forbidden: true, by: "target", mode: "on", permille: 1000},
		{id: "forbidden-whole", comment: "which allows no fallback either", console: none, forbidden: true, by: "target", mode: "on", permille: 1000},
		{id: "forbidden-on", comment: "what says the same already", env: "on", console: 50, forbidden: true, by: "environment", mode: "on", permille: 1000},
		{id: "scaled", comment: "on the way back", console: 500, scale: 3, by: "console", mode: "auto", permille: 150},
		{id: "scaled-down", comment: "rounded down", console: 7, scale: 5, by: "console", mode: "auto", permille: 3},
		{id: "scaled-whole", comment: "at its end", console: 7, scale: 10, by: "console", mode: "auto", permille: 7},
	} {
		in := vector.Map{"file": c.file, "environment": c.env, "forbidden": c.forbidden}
		if c.console != none {
			in["console"] = c.console
		}
		if c.scale > 0 {
			in["scale"] = c.scale
		}
		rules := []string{"S-SWITCH-1", "S-SWITCH-2"}
		if c.scale > 0 {
			rules = append(rules, "S-STATE-8")
		}
		out = append(out, vector.Vector{ID: "switch/decide/" + c.id, Comment: c.comment, Rules: rules, Kind: "decide", Input: in,
			Result: vector.Map{"by": c.by, "mode": c.mode, "permille": c.permille}})
	}
	return out
}

func switchTexts() []vector.Vector {
	var out []vector.Vector
	add := func(id, comment, text string, badLine int, asked ...string) {
		r := vector.Map{}
		if badLine > 0 {
			r["bad_line"] = badLine
		} else {
			targets := vector.Map{}
			for _, a := range asked {
				name, word, _ := strings.Cut(a, "=")
				targets[name] = word
			}
			r["targets"] = targets
		}
		out = append(out, vector.Vector{ID: "switch/file/" + id, Comment: comment, Rules: []string{"S-SWITCH-4"}, Kind: "file", Input: vector.Map{"text": text}, Result: r})
	}
	add("empty", "says nothing", "", 0, "shop.cart=")
	add("all", "a line for all", "* off\n", 0, "shop.cart=off", "shop.stock=off")
	add("one", "a line for one, before that for all", "*\t1000\nshop.cart 0", 0, "shop.cart=0", "shop.stock=1000")
	add("one-first", "in either order", "shop.cart 0\n* 1000\n", 0, "shop.cart=0", "shop.stock=1000")
	add("only-one", "others are not meant", "shop.cart on\n", 0, "shop.cart=on", "shop.stock=")
	add("auto", "one is excepted", "* off\nshop.cart auto\n", 0, "shop.cart=auto", "shop.stock=off")
	add("comments", "comments, empty lines, blanks, CR", "# in an emergency\r\n\r\n  shop.cart   250  # a quarter\r\n\n", 0, "shop.cart=250")
	add("too-much", "over 1000", "* 1001\n", 1)
	add("negative", "below 0", "shop.cart 10\n* -1\n", 2)
	add("percent", "not a number", "* 50%\n", 1)
	add("leading-zero", "written otherwise than a permille is", "* 010\n", 1)
	add("upper-case", "words are lower case", "* OFF\n", 1)
	add("no-word", "a name alone", "shop.cart\n", 1)
	add("three-words", "too many", "\nshop.cart 5 6\n", 2)
	add("twice", "a name that stands twice", "shop.cart 5\n\nshop.cart 5\n", 3)
	add("half-good", "one bad line makes all bad", "shop.cart 0\nshop.stock nine\n", 2)
	return out
}

type sourceStep struct {
	at                   int
	source, event, state string
	stale                bool
	age                  int
	permille, revision   int // revision 0: no switch
	endpoints            string
	wantPermille         int // −1: none
	ask                  bool
}

func sourceScripts() []vector.Vector {
	var out []vector.Vector
	add := func(id, comment string, rules []string, steps ...sourceStep) {
		var in, res []vector.Map
		for _, s := range steps {
			m := vector.Map{"at_ms": s.at, "source": s.source, "event": s.event}
			if s.event == "said" {
				m["state"], m["stale"], m["age_ms"] = s.state, s.stale, s.age
				if s.revision > 0 {
					m["switch"] = vector.Map{"permille": s.permille, "revision": s.revision}
				}
			}
			in = append(in, m)
			r := vector.Map{"endpoints": s.endpoints, "ask_control_plane": s.ask}
			if s.wantPermille >= 0 {
				r["permille"] = s.wantPermille
			}
			res = append(res, r)
		}
		out = append(out, vector.Vector{ID: "switch/sources/" + id, Comment: comment, Rules: rules, Kind: "sources", Input: vector.Map{"steps": in}, Result: vector.Map{"steps": res}})
	}
	who, what := []string{"D-WATCH-8", "D-WATCH-9"}, []string{"D-WATCH-4", "D-WATCH-7", "S-SWITCH-1"}
	const none = -1
	add("proxy", "the proxy's word is enough", who, sourceStep{at: 0, source: "proxy", event: "said", state: "present", endpoints: "proxy", wantPermille: none})
	add("deleted", "DELETED is a word", who, sourceStep{at: 0, source: "proxy", event: "said", state: "deleted", endpoints: "proxy", wantPermille: none})
	add("unknown", "UNKNOWN is none", who, sourceStep{at: 0, source: "proxy", event: "said", state: "unknown", endpoints: "none", wantPermille: none, ask: true},
		sourceStep{at: 5, source: "control_plane", event: "said", state: "present", endpoints: "control_plane", wantPermille: none, ask: true},
		sourceStep{at: 9, source: "proxy", event: "said", state: "present", endpoints: "proxy", wantPermille: none})
	add("disk-only", "nobody is there", who, sourceStep{at: 0, source: "disk", event: "said", state: "present", age: 86_400_000, permille: 20, revision: 7, endpoints: "disk", wantPermille: 20, ask: true},
		sourceStep{at: 1, source: "proxy", event: "ended", endpoints: "disk", wantPermille: 20, ask: true})
	add("disk-first", "then somebody is", who, sourceStep{at: 0, source: "disk", event: "said", state: "present", endpoints: "disk", wantPermille: none, ask: true},
		sourceStep{at: 3, source: "proxy", event: "said", state: "unknown", endpoints: "disk", wantPermille: none, ask: true},
		sourceStep{at: 4, source: "proxy", event: "said", state: "present", endpoints: "proxy", wantPermille: none})
	add("killed", "the proxy's last word holds until the control plane answers", who, sourceStep{at: 0, source: "proxy", event: "said", state: "present", endpoints: "proxy", wantPermille: none},
		sourceStep{at: 100, source: "proxy", event: "ended", endpoints: "proxy", wantPermille: none, ask: true},
		sourceStep{at: 200, source: "control_plane", event: "said", state: "present", endpoints: "control_plane", wantPermille: none, ask: true},
		sourceStep{at: 9000, source: "proxy", event: "said", state: "unknown", endpoints: "control_plane", wantPermille: none, ask: true},
		sourceStep{at: 9100, source: "proxy", event: "said", state: "present", endpoints: "proxy", wantPermille: none})
	add("stale", "a proxy that hears nothing", who, sourceStep{at: 0, source: "proxy", event: "said", state: "present", endpoints: "proxy", wantPermille: none},
		sourceStep{at: 10_000, source: "proxy", event: "said", state: "present", stale: true, age: 10_000, endpoints: "proxy", wantPermille: none, ask: true},
		sourceStep{at: 10_400, source: "control_plane", event: "said", state: "present", endpoints: "control_plane", wantPermille: none, ask: true},
		sourceStep{at: 20_000, source: "proxy", event: "said", state: "present", endpoints: "proxy", wantPermille: none})
	add("both-old", "the younger word", who, sourceStep{at: 0, source: "control_plane", event: "said", state: "present", age: 4000, endpoints: "control_plane", wantPermille: none, ask: true},
		sourceStep{at: 100, source: "control_plane", event: "ended", endpoints: "control_plane", wantPermille: none, ask: true},
		sourceStep{at: 200, source: "proxy", event: "said", state: "present", stale: true, age: 60_000, endpoints: "control_plane", wantPermille: none, ask: true},
		sourceStep{at: 300, source: "proxy", event: "said", state: "deleted", stale: true, age: 20, endpoints: "proxy", wantPermille: none, ask: true})
	add("both-stale-tie", "at a tie the proxy's", who, sourceStep{at: 0, source: "control_plane", event: "said", state: "present", stale: true, age: 20_000, endpoints: "control_plane", wantPermille: none, ask: true},
		sourceStep{at: 0, source: "proxy", event: "said", state: "present", stale: true, age: 20_000, endpoints: "proxy", wantPermille: none, ask: true})
	add("highest", "the highest revision over all sources", what, sourceStep{at: 0, source: "disk", event: "said", state: "present", permille: 100, revision: 5, endpoints: "disk", wantPermille: 100, ask: true},
		sourceStep{at: 1, source: "proxy", event: "said", state: "present", permille: 50, revision: 4, endpoints: "proxy", wantPermille: 100},
		sourceStep{at: 2, source: "proxy", event: "said", state: "present", permille: 200, revision: 6, endpoints: "proxy", wantPermille: 200},
		sourceStep{at: 3, source: "proxy", event: "ended", endpoints: "proxy", wantPermille: 200, ask: true},
		sourceStep{at: 4, source: "control_plane", event: "said", state: "present", permille: 0, revision: 9, endpoints: "control_plane", wantPermille: 0, ask: true},
		sourceStep{at: 5, source: "proxy", event: "said", state: "present", permille: 200, revision: 6, endpoints: "proxy", wantPermille: 0})
	add("same-revision", "one revision has one word; a source that differs by node does not change it", what,
		sourceStep{at: 0, source: "proxy", event: "said", state: "present", permille: 50, revision: 4, endpoints: "proxy", wantPermille: 50},
		sourceStep{at: 1, source: "control_plane", event: "said", state: "present", permille: 1000, revision: 4, endpoints: "proxy", wantPermille: 50})
	add("removed", "a stream that has it no more has removed it", what, sourceStep{at: 0, source: "proxy", event: "said", state: "present", permille: 50, revision: 4, endpoints: "proxy", wantPermille: 50},
		sourceStep{at: 1, source: "proxy", event: "said", state: "present", endpoints: "proxy", wantPermille: none},
		sourceStep{at: 2, source: "control_plane", event: "said", state: "present", permille: 50, revision: 4, endpoints: "proxy", wantPermille: none},
		sourceStep{at: 3, source: "proxy", event: "said", state: "present", permille: 60, revision: 8, endpoints: "proxy", wantPermille: 60})
	add("not-removed", "a new stream that has none yet has removed nothing", what, sourceStep{at: 0, source: "proxy", event: "said", state: "present", permille: 50, revision: 4, endpoints: "proxy", wantPermille: 50},
		sourceStep{at: 1, source: "proxy", event: "ended", endpoints: "proxy", wantPermille: 50, ask: true},
		sourceStep{at: 2, source: "proxy", event: "said", state: "unknown", endpoints: "proxy", wantPermille: 50, ask: true},
		sourceStep{at: 3, source: "proxy", event: "said", state: "present", endpoints: "proxy", wantPermille: 50})
	return out
}
