package main

import "github.com/octomesh/octomesh/tools/vectorgen/vector"

// pathStep is an event at a time, and what must come of it.
type pathStep struct {
	at     int // ms
	event  string
	random float64
	want   string // state, calls, and what is to be done
	wake   int    // ms; 0: none
	until  int    // ms, where calls wait
	scale  int
}

// pathFile scripts the way to one proxy.
func pathFile() *vector.File {
	f := &vector.File{
		Title: "The states of the path",
		Notes: []string{
			"Each step is an event at at_ms, from any moment. need: a connection is wanted, none stands and none is being made. missed: a miss (W-LIVE-6) while the connection stands. alive: a byte after a miss. " +
				"lost: the only connection has ended. gone: it was given up because its peer is silent. failed: a dial failed, and none stands. welcomed: a dial came to its WELCOME. answered: the PONG for a probe's PING. " +
				"due: the time of wake_ms has come. random is the x of S-STATE-9.",
			"result.steps has, for each: the state; calls, what a new call does whose share says mesh and to which both ways are open: mesh, wait (up to until_ms, then direct) or direct; scale, the tenths of its share " +
				"that the mesh gets, where calls is mesh; do: nothing, dial, or ping what was dialed; wake_ms, when due is to come, absent if it is not to.",
			"kind choose: the way of one call. by_mesh is what the share says, state is calls of a step, mesh and direct whether the way is open to the call, pinned whether fallback is off. " +
				"result.way: mesh, mesh_or_soon (the mesh within the wait, else direct), direct or none; saved: it counts as one that the mesh failed.",
		},
		Flags: map[string]string{},
	}
	rules := []string{"S-STATE-1", "S-STATE-2", "S-STATE-6", "S-STATE-7"}
	add := func(id, comment string, more []string, steps ...pathStep) {
		var in, out []vector.Map
		for _, s := range steps {
			in = append(in, vector.Map{"at_ms": s.at, "event": s.event, "random": s.random})
			r := pathResult(s)
			out = append(out, r)
		}
		f.Vectors = append(f.Vectors, vector.Vector{ID: "path/" + id, Comment: comment, Rules: append(append([]string{}, rules...), more...), Kind: "path",
			Input: vector.Map{"steps": in}, Result: vector.Map{"steps": out}})
	}
	suspect := func(at int, event, do string, until int) pathStep {
		return pathStep{at: at, event: event, want: "suspect wait " + do, until: until, scale: 10}
	}
	mesh := func(at int, event string) pathStep {
		return pathStep{at: at, event: event, want: "mesh mesh nothing", scale: 10}
	}
	direct := func(at int, event string, random float64, wake int) pathStep {
		return pathStep{at: at, event: event, random: random, want: "direct direct nothing", wake: wake}
	}
	probe := func(at int, event, do string) pathStep {
		return pathStep{at: at, event: event, want: "probe direct " + do}
	}
	back := func(at int, event string, scale int) pathStep {
		return pathStep{at: at, event: event, want: "returning mesh nothing", scale: scale, wake: at + 1000}
	}
	late := func(at int, event, do string) pathStep {
		return pathStep{at: at, event: event, want: "suspect direct " + do, scale: 10}
	}

	add("first-dial", "a process that has not called yet", nil, suspect(0, "need", "dial", 50), mesh(3, "welcomed"))
	add("first-dial-slow", "calls go direct after 50 ms; the WELCOME makes it mesh at once: there is nothing to return from", nil,
		suspect(0, "need", "dial", 50), late(50, "missed", "nothing"), mesh(900, "welcomed"))
	add("first-dial-fails", "nobody listens", nil, suspect(0, "need", "dial", 50), direct(1, "failed", 0.5, 1001))
	add("no-welcome", "accepted, and silent", nil, suspect(0, "need", "dial", 50), direct(2000, "failed", 0, 2500))
	add("redial", "lost, and there again within the 50 ms", nil, suspect(100, "lost", "dial", 150), mesh(140, "welcomed"))
	add("killed", "lost, and nobody there", nil, suspect(100, "lost", "dial", 150), direct(101, "failed", 1, 1601))
	add("stopped", "a miss, then gone", nil, suspect(1000, "missed", "nothing", 1050), late(1500, "missed", "nothing"), direct(2000, "gone", 0.5, 3000))
	add("paused", "a miss, then a byte", nil, suspect(1000, "missed", "nothing", 1050), mesh(1400, "alive"))
	add("missed-and-lost", "the second suspicion does not begin the 50 ms again", nil, suspect(1000, "missed", "nothing", 1050),
		pathStep{at: 1020, event: "lost", want: "suspect wait dial", until: 1050, scale: 10}, direct(1030, "failed", 0.5, 2030))
	add("moved", "a connection beside the one that stands", []string{"S-STATE-5"}, mesh(0, "welcomed"), mesh(1, "alive"))
	add("patience-over", "the peer has left and nobody followed", nil, direct(5000, "failed", 0.5, 6000))
	add("early", "due before its time does nothing", nil, direct(0, "failed", 0.5, 1000), direct(999, "due", 0, 1000), probe(1000, "due", "dial"))
	add("return", "ten steps of a second", []string{"S-STATE-3", "S-STATE-8"}, direct(0, "gone", 0.5, 1000), probe(1000, "due", "dial"), probe(1001, "welcomed", "ping"),
		back(1002, "answered", 1), back(2002, "due", 2), back(3002, "due", 3), back(4002, "due", 4), back(5002, "due", 5), back(6002, "due", 6), back(7002, "due", 7),
		back(8002, "due", 8), back(9002, "due", 9), mesh(10002, "due"))
	add("return-late-ticks", "a step that comes late does not delay the next", []string{"S-STATE-8"}, direct(0, "gone", 0.5, 1000), probe(1000, "due", "dial"), probe(1001, "welcomed", "ping"),
		back(1002, "answered", 1), pathStep{at: 2500, event: "due", want: "returning mesh nothing", scale: 2, wake: 3002}, back(3002, "due", 3))
	add("pauses", "double to 10 s, spread", []string{"S-STATE-9"}, direct(0, "failed", 0.5, 1000), probe(1000, "due", "dial"), direct(1000, "failed", 0.5, 3000), probe(3000, "due", "dial"),
		direct(3000, "lost", 0, 5000), probe(5000, "due", "dial"), direct(5000, "gone", 1, 17000), probe(17000, "due", "dial"), direct(17000, "failed", 0.5, 27000),
		probe(27000, "due", "dial"), direct(27000, "failed", 0.25, 34500))
	add("welcome-without-pong", "a WELCOME alone is no return", nil, direct(0, "gone", 0.5, 1000), probe(1000, "due", "dial"), probe(1010, "welcomed", "ping"), direct(3010, "gone", 0.5, 5010))
	add("dialed-by-a-call", "what a call without another way has dialed is a probe", nil, direct(0, "gone", 0.5, 1000), probe(300, "welcomed", "ping"), back(301, "answered", 1))
	add("fails-beside", "its dials that fail do not move the next probe", nil, direct(0, "gone", 0.5, 1000), direct(200, "failed", 0.5, 1000), direct(400, "need", 0.5, 1000))
	add("flaps", "lost on its way back: the pause grows", []string{"S-STATE-9"}, direct(0, "failed", 0.5, 1000), probe(1000, "due", "dial"), probe(1001, "welcomed", "ping"), back(1002, "answered", 1),
		pathStep{at: 1500, event: "lost", want: "suspect wait dial", until: 1550, scale: 1}, direct(1501, "failed", 0.5, 3501))
	add("suspect-on-the-way", "a miss on the way back, and a byte: the step goes on", []string{"S-STATE-8"}, direct(0, "failed", 0.5, 1000), probe(1000, "due", "dial"), probe(1001, "welcomed", "ping"), back(1002, "answered", 1),
		back(2002, "due", 2), pathStep{at: 2500, event: "missed", want: "suspect wait nothing", until: 2550, scale: 2}, back(2520, "alive", 2), back(3520, "due", 3))
	for _, c := range chooseCases() {
		f.Vectors = append(f.Vectors, vector.Vector{ID: "path/choose/" + c.id, Comment: c.comment, Rules: []string{"S-STATE-10", "S-STATE-11", "S-AGAIN-11"}, Kind: "choose",
			Input:  vector.Map{"by_mesh": c.byMesh, "state": c.state, "mesh": c.mesh, "direct": c.direct, "pinned": c.pinned},
			Result: vector.Map{"way": c.way, "saved": c.saved}})
	}
	return f
}

func pathResult(s pathStep) vector.Map {
	var words [3]string
	at := 0
	for _, r := range s.want {
		if r == ' ' {
			at++
			continue
		}
		words[at] += string(r)
	}
	r := vector.Map{"state": words[0], "calls": words[1], "do": words[2]}
	if s.wake > 0 {
		r["wake_ms"] = s.wake
	}
	switch words[1] {
	case "wait":
		r["until_ms"] = s.until
	case "mesh":
		r["scale"] = s.scale
	}
	return r
}

type chooseCase struct {
	id, comment          string
	byMesh               bool
	state                string
	mesh, direct, pinned bool
	way                  string
	saved                bool
}

func chooseCases() []chooseCase {
	return []chooseCase{
		{"mesh", "the share says mesh", true, "mesh", true, true, false, "mesh", false},
		{"direct", "the share says direct", false, "mesh", true, true, false, "direct", false},
		{"direct-in-suspect", "which no state changes", false, "wait", true, true, false, "direct", false},
		{"suspect", "it waits", true, "wait", true, true, false, "mesh_or_soon", false},
		{"gone", "it goes direct", true, "direct", true, true, false, "direct", true},
		{"gone-no-direct", "nothing direct is open: the proxy, however it fares", true, "direct", true, false, false, "mesh", false},
		{"suspect-no-direct", "nor does it give up after 50 ms", true, "wait", true, false, false, "mesh", false},
		{"gone-pinned", "fallback is off", true, "direct", true, true, true, "mesh", false},
		{"suspect-pinned", "fallback is off", true, "wait", true, true, true, "mesh", false},
		{"direct-pinned", "the share holds without fallback, too", false, "mesh", true, true, true, "direct", false},
		{"share-direct-none-known", "the share says direct, and nothing direct is open", false, "mesh", true, false, false, "mesh", false},
		{"no-proxy", "the share says mesh, and there is no proxy", true, "mesh", false, true, false, "direct", false},
		{"no-proxy-pinned", "which is no fallback", true, "mesh", false, true, true, "direct", false},
		{"nothing", "neither", true, "mesh", false, false, false, "none", false},
	}
}
