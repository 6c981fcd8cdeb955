package wave_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/configserver/wave"
	"github.com/octomesh/octomesh/core/pilot/snapshot"
)

var begin = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// say describes a state in a line.
func say(s wave.State) string {
	return strings.TrimSuffix(fmt.Sprintf("%v stage %d nodes %v permille %d: %s", s.Phase, s.Stage, s.Nodes(), s.Permille(), s.Why), ": ")
}

// at is an event some seconds after the begin.
type at struct {
	second int
	wave.Event
}

func ev(kind wave.Kind, node string) wave.Event {
	return wave.Event{Kind: kind, Node: node, Text: "said so"}
}

func TestRollOuts(t *testing.T) {
	tick := wave.Event{Kind: wave.Tick}
	well := []at{
		{0, ev(wave.Connected, "a")}, {1, ev(wave.Applied, "a")}, {61, tick}, {121, tick}, {181, tick}, {241, tick},
	}
	then := func(more ...at) []at { return append(append([]at(nil), well...), more...) }
	for _, c := range []struct {
		name   string
		events []at
		want   string
	}{
		{"nobody is there", []at{{600, tick}}, "rolling stage 0 nodes [] permille 0"},
		{"the first to connect is the first", []at{{0, ev(wave.Connected, "a")}, {1, ev(wave.Connected, "b")}}, "rolling stage 0 nodes [a] permille 0"},
		{"it must apply the candidate", []at{{0, ev(wave.Connected, "a")}, {600, tick}}, "rolling stage 0 nodes [a] permille 0"},
		{"another one's word counts nothing", []at{{0, ev(wave.Connected, "a")}, {0, ev(wave.Applied, "b")}, {600, tick}}, "rolling stage 0 nodes [a] permille 0"},
		{"a soak that is not over", well[:2:2], "rolling stage 0 nodes [a] permille 0"},
		{"just before its end", append(well[:2:2], at{60, tick}), "rolling stage 0 nodes [a] permille 0"},
		{"1 %", well[:3], "rolling stage 1 nodes [a] permille 10"},
		{"10 %", well[:4], "rolling stage 2 nodes [a] permille 100"},
		{"50 %", well[:5], "rolling stage 3 nodes [a] permille 500"},
		{"100 %", well, "rolling stage 4 nodes [a] permille 1000"},
		{"all went well", then(at{301, tick}), "done stage 4 nodes [a] permille 1000"},
		{"one that has not answered is waited for", append(well[:3:3], at{500, wave.Event{Kind: wave.Tick, Waiting: 1}}), "rolling stage 1 nodes [a] permille 10"},
		{"the first one refuses", append(well[:1:1], at{1, ev(wave.Refused, "a")}), "reverted stage 0 nodes [] permille 0: a refused it at 1 proxy: said so"},
		{"a refusal at 10 %", append(well[:4:4], at{130, ev(wave.Refused, "z")}), "reverted stage 2 nodes [] permille 0: z refused it at 10 %: said so"},
		{"a refusal at 100 %", then(at{242, ev(wave.Refused, "z")}), "reverted stage 4 nodes [] permille 0: z refused it at 100 %: said so"},
		{"a refusal after its end", then(at{301, tick}, at{302, ev(wave.Refused, "z")}), "done stage 4 nodes [a] permille 1000"},
		{"one crash is none", append(well[:3:3], at{70, ev(wave.Crashed, "b")}), "rolling stage 1 nodes [a] permille 10"},
		{"a crash loop", append(well[:3:3], at{70, ev(wave.Crashed, "b")}, at{80, ev(wave.Crashed, "b")}),
			"reverted stage 1 nodes [] permille 0: b crashed 2 times with it at 1 %: said so"},
		{"a crash loop before any answer", append(well[:1:1], at{1, ev(wave.Crashed, "a")}, at{2, ev(wave.Crashed, "a")}),
			"reverted stage 0 nodes [] permille 0: a crashed 2 times with it at 1 proxy: said so"},
		{"crashes here and there", append(well[:4:4], at{130, ev(wave.Crashed, "b")}, at{131, ev(wave.Crashed, "c")}, at{132, ev(wave.Crashed, "d")}),
			"reverted stage 2 nodes [] permille 0: 3 nodes crashed with it at 10 %, d last: said so"},
		{"the first one leaves", append(well[:2:2], at{30, ev(wave.Left, "a")}, at{31, ev(wave.Connected, "b")}, at{100, tick}), "rolling stage 0 nodes [b] permille 0"},
		{"another one leaves", append(well[:2:2], at{30, ev(wave.Left, "b")}, at{61, tick}), "rolling stage 1 nodes [a] permille 10"},
		{"the first one leaves later", append(well[:4:4], at{125, ev(wave.Left, "a")}, at{181, tick}), "rolling stage 3 nodes [a] permille 500"},
		{"paused", append(well[:3:3], at{70, ev(wave.Pause, "")}, at{600, tick}), "paused stage 1 nodes [a] permille 10: said so"},
		{"paused and refused", append(well[:3:3], at{70, ev(wave.Pause, "")}, at{71, ev(wave.Refused, "b")}), "reverted stage 1 nodes [] permille 0: b refused it at 1 %: said so"},
		{"paused and resumed", append(well[:3:3], at{70, ev(wave.Pause, "")}, at{80, ev(wave.Resume, "")}, at{121, tick}), "rolling stage 2 nodes [a] permille 100"},
		{"an operator moves it on", append(well[:3:3], at{62, ev(wave.Advance, "")}), "rolling stage 2 nodes [a] permille 100: said so"},
		{"the stage that an operator began soaks too", append(well[:3:3], at{62, ev(wave.Advance, "")}, at{121, tick}), "rolling stage 2 nodes [a] permille 100: said so"},
		{"an operator ends it", append(well[:3:3], at{62, ev(wave.Finish, "")}, at{63, ev(wave.Revert, "")}), "done stage 1 nodes [a] permille 1000: said so"},
		{"an operator reverts it", append(well[:5:5], at{182, ev(wave.Revert, "")}, at{600, tick}), "reverted stage 3 nodes [] permille 0: said so"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := wave.Begin("")
			for _, e := range c.events {
				before := say(s)
				next := s.Step(wave.Config{}, begin.Add(time.Duration(e.second)*time.Second), e.Event)
				if say(s) != before {
					t.Errorf("the step changed the state that it began from: %s, was %s", say(s), before)
				}
				s = next
			}
			if got := say(s); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestAStateMayBeSteppedTwice shows that states share nothing that a step changes.
func TestAStateMayBeSteppedTwice(t *testing.T) {
	s := wave.Begin("a").Step(wave.Config{}, begin, ev(wave.Crashed, "b"))
	for range 2 {
		if next := s.Step(wave.Config{}, begin, ev(wave.Crashed, "c")); next.Over() {
			t.Fatal(say(next))
		}
	}
}

// TestWavesReachTheirShareAndTakeNothingBack moves 10,000 nodes through the stages, as a Pilot's snapshot would.
func TestWavesReachTheirShareAndTakeNothingBack(t *testing.T) {
	stable, candidate := &snapshot.Resource{Version: "stable"}, &snapshot.Resource{Version: "candidate"}
	have := func(s wave.State) map[string]bool {
		w := &snapshot.Wave{Nodes: make(map[string]bool), Permille: s.Permille(), Salt: "7"}
		for _, n := range s.Nodes() {
			w.Nodes[n] = true
		}
		e, out := snapshot.Entry{Stable: stable, Candidate: candidate, Wave: w}, make(map[string]bool)
		for i := range 10_000 {
			if node := fmt.Sprintf("node-%d", i); e.For(node) == candidate {
				out[node] = true
			}
		}
		return out
	}
	s := wave.Begin("node-17")
	before := have(s)
	if len(before) != 1 || !before["node-17"] {
		t.Fatalf("the first stage has %d nodes", len(before))
	}
	for _, want := range []int{100, 1000, 5000, 10_000} {
		s = s.Step(wave.Config{}, begin, ev(wave.Advance, ""))
		now := have(s)
		if len(now) < want*8/10 || len(now) > want*12/10 {
			t.Errorf("stage %d has %d nodes, want about %d", s.Stage, len(now), want)
		}
		for n := range before {
			if !now[n] {
				t.Errorf("stage %d takes the candidate from %s", s.Stage, n)
			}
		}
		before = now
	}
	if reverted := have(s.Step(wave.Config{}, begin, ev(wave.Refused, "node-1"))); len(reverted) != 0 {
		t.Errorf("after a refusal %d nodes have the candidate", len(reverted))
	}
}
