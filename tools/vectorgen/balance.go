package main

import (
	"fmt"

	"github.com/octomesh/octomesh/tools/vectorgen/vector"
)

// balanceFile holds where direct calls go.
func balanceFile() *vector.File {
	f := &vector.File{
		Title: "Direct balancing",
		Notes: []string{
			"kind tiers: the instances that calls may go to, by name, the nearest tier first.",
			"kind pick: tiers of instances with weight, calls in flight and until when they are ejected; now_ms; skip, those that the call has tried; draws, the numbers that are drawn, in order. result.picked is absent if there is nothing to pick; " +
				"result.below has what each draw must be below: as many as were drawn.",
			"kind ejection: for how long an instance is left out that could not be reached so many times in a row.",
		},
		Flags: map[string]string{},
	}
	f.Vectors = append(append(tiers(), picks()...), ejections()...)
	return f
}

// instance is written "name zone lane", and what else differs from one that is called.
func instance(name, zone, lane string, other vector.Map) vector.Map {
	m := vector.Map{"name": name, "zone": zone, "lane": lane, "address": name + ":7000", "weight": 100, "disabled": false, "healthy": true}
	for k, v := range other {
		m[k] = v
	}
	return m
}

func tiers() []vector.Vector {
	var out []vector.Vector
	add := func(id, comment, lane, zone string, all []vector.Map, want ...[]string) {
		if want == nil {
			want = [][]string{}
		}
		out = append(out, vector.Vector{ID: "balance/tiers/" + id, Comment: comment, Rules: []string{"S-DIRECT-1", "S-DIRECT-4"}, Kind: "tiers",
			Input: vector.Map{"lane": lane, "zone": zone, "instances": all}, Result: vector.Map{"tiers": want}})
	}
	plain := []vector.Map{instance("a", "z1", "", nil), instance("b", "z2", "", nil), instance("c", "z1", "", nil)}
	add("zone", "the caller's zone first", "", "z1", plain, []string{"a", "c"}, []string{"b"})
	add("no-zone", "a caller without a zone has one tier", "", "", plain, []string{"a", "b", "c"})
	add("other-zone", "none in its zone", "", "z3", plain, []string{"a", "b", "c"})
	add("none", "nobody there", "", "z1", []vector.Map{})
	add("not-called", "who gets nothing", "", "", []vector.Map{
		instance("disabled", "", "", vector.Map{"disabled": true}), instance("weightless", "", "", vector.Map{"weight": 0}), instance("unhealthy", "", "", vector.Map{"healthy": false}),
		instance("mesh-only", "", "", vector.Map{"address": ""}), instance("good", "", "", nil)}, []string{"good"})
	add("nobody-callable", "and nobody else", "", "", []vector.Map{instance("disabled", "", "", vector.Map{"disabled": true})})
	lanes := []vector.Map{instance("base1", "z1", "", nil), instance("gray2", "z2", "gray", nil), instance("base2", "z2", "", nil), instance("blue1", "z1", "blue", nil)}
	add("lane", "the caller's lane before its zone", "gray", "z1", lanes, []string{"gray2"})
	add("lane-absent", "a lane that nobody has: the baseline", "red", "z1", lanes, []string{"base1"}, []string{"base2"})
	add("no-lane", "the baseline has no lane", "", "z2", lanes, []string{"base2"}, []string{"base1"})
	add("lane-not-callable", "a lane of which nobody may be called is not there", "gray", "", []vector.Map{instance("base", "", "", nil), instance("gray", "", "gray", vector.Map{"weight": 0})}, []string{"base"})
	add("lanes-only", "without a baseline there is nobody for the others", "", "", []vector.Map{instance("gray", "", "gray", nil)})
	return out
}

// e is an endpoint that can be picked.
func e(name string, weight, inFlight, ejectedUntil int) vector.Map {
	return vector.Map{"name": name, "weight": weight, "in_flight": inFlight, "ejected_until_ms": ejectedUntil}
}

func picks() []vector.Vector {
	var out []vector.Vector
	add := func(id, comment string, tiers [][]vector.Map, skip []string, draws, below []int, want string, rules ...string) {
		if skip == nil {
			skip = []string{}
		}
		r := vector.Map{"below": below}
		if want != "" {
			r["picked"] = want
		}
		out = append(out, vector.Vector{ID: "balance/pick/" + id, Comment: comment, Rules: append(rules, "S-DIRECT-1", "S-DIRECT-5"), Kind: "pick",
			Input: vector.Map{"tiers": tiers, "skip": skip, "now_ms": 1000, "draws": draws}, Result: r})
	}
	one := func(all ...vector.Map) [][]vector.Map { return [][]vector.Map{all} }
	none := []int{}
	add("only", "one alone", one(e("a", 5, 9, 0)), nil, []int{0}, []int{5}, "a")
	add("nobody", "none", [][]vector.Map{}, nil, none, none, "")
	idle := one(e("a", 300, 0, 0), e("b", 100, 0, 0), e("c", 100, 0, 0))
	for _, d := range []struct {
		first int
		want  string
	}{{0, "a"}, {299, "a"}, {300, "b"}, {399, "b"}, {400, "c"}, {499, "c"}} {
		add(fmt.Sprintf("idle-%d", d.first), "both idle: the first, which was drawn by weight", idle, nil, []int{d.first, 0}, []int{500, 2}, d.want)
	}
	busy := one(e("a", 1, 2, 0), e("b", 2, 3, 0), e("c", 1, 0, 0))
	add("busy-first-wins-not", "3 over 1 against 4 over 2", busy, nil, []int{0, 0}, []int{4, 2}, "b")
	add("busy-second", "the second is drawn evenly among the others", busy, nil, []int{0, 1}, []int{4, 2}, "c")
	add("busy-before", "the others keep their order", busy, nil, []int{3, 0}, []int{4, 2}, "c")
	add("busy-middle", "4 over 2 against 3 over 1", busy, nil, []int{1, 0}, []int{4, 2}, "b")
	add("busy-middle-idle", "4 over 2 against 1 over 1", busy, nil, []int{2, 1}, []int{4, 2}, "c")
	add("tie", "the first at a tie", one(e("a", 1, 1, 0), e("b", 2, 3, 0)), nil, []int{1, 0}, []int{3, 1}, "b")
	add("idle-against-busy", "one idle is not both", one(e("a", 1, 5, 0), e("b", 1, 0, 0)), nil, []int{0, 0}, []int{2, 1}, "b")
	ejected := one(e("a", 100, 0, 1001), e("b", 100, 0, 1000), e("c", 100, 0, 0))
	add("ejected", "who is left out is not drawn", ejected, nil, []int{0, 0}, []int{200, 1}, "b", "S-DIRECT-2")
	add("skip", "nor whom the call has tried", ejected, []string{"b"}, []int{0}, []int{100}, "c", "S-DIRECT-6")
	add("all-ejected", "the first to come back", one(e("a", 100, 0, 3000), e("b", 100, 0, 2000), e("c", 100, 0, 2500)), nil, none, none, "b", "S-DIRECT-6")
	add("all-ejected-skip", "that was not tried", one(e("a", 100, 0, 3000), e("b", 100, 0, 2000), e("c", 100, 0, 2500)), []string{"b"}, none, none, "c", "S-DIRECT-6")
	zones := [][]vector.Map{{e("near", 100, 50, 0)}, {e("far", 100, 0, 0)}}
	add("near", "the near zone, however busy", zones, nil, []int{0}, []int{100}, "near")
	add("near-tried", "unless it was tried", zones, []string{"near"}, []int{0}, []int{100}, "far")
	add("near-ejected", "or is all ejected", [][]vector.Map{{e("near", 100, 0, 5000)}, {e("far", 100, 0, 0)}}, nil, []int{0}, []int{100}, "far", "S-DIRECT-4")
	add("zones-ejected", "of all zones the first to come back", [][]vector.Map{{e("near", 100, 0, 5000)}, {e("far", 100, 0, 4000)}}, nil, none, none, "far", "S-DIRECT-6")
	return out
}

func ejections() []vector.Vector {
	var out []vector.Vector
	for i, seconds := range []int{1, 2, 4, 8, 16, 30, 30} {
		out = append(out, vector.Vector{ID: fmt.Sprintf("balance/ejection/%d", i+1), Comment: "1 s doubling to 30 s", Rules: []string{"S-DIRECT-2"}, Kind: "ejection",
			Input: vector.Map{"times": i + 1}, Result: vector.Map{"ms": seconds * 1000}})
	}
	return out
}
