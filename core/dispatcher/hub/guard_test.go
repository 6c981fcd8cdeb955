package hub

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// guarded is a guard with endpoints i0, i1, ….
func guarded(n int) *guard {
	g := &guard{window: 30 * time.Second}
	g.apply(source.Event{Kind: source.Full, Endpoints: instances(0, n)}, at(0))
	return g
}

func at(seconds int) time.Time { return time.Unix(1_000_000+int64(seconds), 0) }

func instances(from, to int) (out []*resourcev1.Endpoint) {
	for i := from; i < to; i++ {
		out = append(out, &resourcev1.Endpoint{Instance: fmt.Sprintf("i%d", i)})
	}
	return out
}

// without is a change that removes instances.
func without(why source.Reason, from, to int) source.Event {
	e := source.Event{Kind: source.Change}
	for i := from; i < to; i++ {
		e.Removed = append(e.Removed, source.Removal{Instance: fmt.Sprintf("i%d", i), Reason: why})
	}
	return e
}

func full(endpoints ...*resourcev1.Endpoint) source.Event {
	return source.Event{Kind: source.Full, Endpoints: endpoints}
}

func TestShrinkGuardHoldsMassRemovals(t *testing.T) {
	for _, c := range []struct {
		what        string
		n           int
		events      []source.Event // a second apart
		shown, held int
	}{
		{"the only one expires", 1, []source.Event{without(source.Expired, 0, 1)}, 1, 1},
		{"the only one deregisters", 1, []source.Event{without(source.Deregistered, 0, 1)}, 0, 0},
		{"two of three go", 3, []source.Event{without(source.Unknown, 0, 2)}, 1, 0},
		{"three of three go", 3, []source.Event{without(source.Unknown, 0, 3)}, 3, 3},
		{"half of four go", 4, []source.Event{without(source.Unknown, 0, 2)}, 2, 0},
		{"three of four go", 4, []source.Event{without(source.Unknown, 0, 3)}, 4, 3},
		{"three of four deregister", 4, []source.Event{without(source.Deregistered, 0, 3)}, 1, 0},
		{"all of ten deregister", 10, []source.Event{without(source.Deregistered, 0, 10)}, 0, 0},
		{"half of ten expire", 10, []source.Event{without(source.Expired, 0, 5)}, 5, 0},
		{"six of ten expire", 10, []source.Event{without(source.Expired, 0, 6)}, 10, 6},
		{"an empty full set", 10, []source.Event{full()}, 10, 10},
		{"half of a full set", 10, []source.Event{full(instances(0, 5)...)}, 5, 0},
		{"less than half of a full set", 10, []source.Event{full(instances(0, 4)...)}, 10, 6},
		{"all others in a full set", 4, []source.Event{full(instances(4, 8)...)}, 8, 4},
		{"one by one, more than half", 10, []source.Event{without(0, 0, 1), without(0, 1, 2), without(0, 2, 3), without(0, 3, 4), without(0, 4, 5), without(0, 5, 6)}, 5, 1},
		{"additions pass beside what is held", 4, []source.Event{{Kind: source.Change, Endpoints: instances(4, 5), Removed: without(0, 0, 4).Removed}}, 5, 4},
		{"held ones deregister after all", 4, []source.Event{without(0, 0, 4), without(source.Deregistered, 0, 3)}, 1, 1},
		{"held ones come back in a change", 4, []source.Event{without(0, 0, 4), {Kind: source.Change, Endpoints: instances(0, 4)}}, 4, 0},
		{"held ones come back in a full set", 4, []source.Event{full(), full(instances(0, 4)...)}, 4, 0},
		{"some deregister, most of the others expire", 10, []source.Event{{Kind: source.Change, Removed: append(without(source.Deregistered, 0, 4).Removed, without(source.Expired, 4, 8).Removed...)}}, 6, 4},
		{"entries that cannot be used are not gone", 4, []source.Event{{Kind: source.Full, Refused: []source.Refusal{{Instance: "i0"}, {Instance: "i1"}, {Instance: "i2"}, {Instance: "i3"}}}}, 4, 0},
		{"what was never there goes", 1, []source.Event{without(0, 7, 9)}, 1, 0},
		{"held ones go again", 4, []source.Event{without(0, 0, 4), without(0, 0, 4), full()}, 4, 4},
	} {
		g := guarded(c.n)
		for i, e := range c.events {
			g.apply(e, at(i+1))
		}
		if len(g.endpoints) != c.shown || len(g.held) != c.held {
			t.Errorf("%s: %d are shown and %d held (%v), want %d and %d", c.what, len(g.endpoints), len(g.held), g.heldNames(), c.shown, c.held)
		}
		if !slices.IsSortedFunc(g.endpoints, func(a, b *resourcev1.Endpoint) int { return byInstance(a, b.GetInstance()) }) {
			t.Errorf("%s: not sorted", c.what)
		}
	}
}

func TestShrinkGuardLetsRollingReplacementPass(t *testing.T) {
	g := guarded(10)
	for i := range 10 { // as a registry without reasons tells of a roll-out with new names
		g.apply(source.Event{Kind: source.Change, Endpoints: instances(10+i, 11+i)}, at(2*i))
		if _, held := g.apply(without(source.Unknown, i, i+1), at(2*i+1)); held > 0 {
			t.Fatalf("step %d of a roll-out is held", i)
		}
	}
	if len(g.endpoints) != 10 || g.has("i0") != nil || g.has("i19") == nil {
		t.Errorf("it ends with %d endpoints", len(g.endpoints))
	}
}

func TestShrinkGuardLetsSlowShrinkingPass(t *testing.T) {
	g := guarded(10)
	for i := range 9 {
		if _, held := g.apply(without(source.Expired, i, i+1), at(31*(i+1))); held > 0 {
			t.Fatalf("one of %d in half a minute is held", 10-i)
		}
	}
	if _, held := g.apply(without(source.Expired, 9, 10), at(1000)); held != 1 {
		t.Error("the last one went")
	}
}

func TestConfirmedRemovalsGo(t *testing.T) {
	g := guarded(6)
	g.apply(full(), at(1))
	if n, _ := g.confirm(at(100), "i1", "i3", "i99"); n != 2 || len(g.endpoints) != 4 || len(g.held) != 4 {
		t.Errorf("it removed %d; %d are left and %d held", n, len(g.endpoints), len(g.held))
	}
	if n, _ := g.confirm(at(100)); n != 4 || len(g.endpoints) != 0 || len(g.held) != 0 {
		t.Errorf("it removed %d; %d are left and %d held", n, len(g.endpoints), len(g.held))
	}
	if changed, _ := g.apply(full(instances(0, 1)...), at(2)); !changed || len(g.endpoints) != 1 {
		t.Error("it does not go on")
	}
	g = guarded(4)
	if n, _ := g.confirm(at(100)); n != 0 || len(g.endpoints) != 4 {
		t.Error("it removed what was not held")
	}
}

func TestWhoSurelyLeftIsSaidToHaveLeft(t *testing.T) {
	g := guarded(10)
	left := func(what string, want ...string) {
		t.Helper()
		if got := g.leftNames(); !slices.Equal(got, want) {
			t.Errorf("%s: %v have left, want %v", what, got, want)
		}
	}
	g.apply(without(source.Deregistered, 0, 2), at(1))
	left("two deregister", "i0", "i1")
	g.apply(without(source.Expired, 2, 3), at(2))
	left("one goes alone", "i0", "i1", "i2")
	g.apply(full(), at(3))
	left("the others go without a word, and are held", "i0", "i1", "i2")
	g.apply(source.Event{Kind: source.Change, Endpoints: instances(1, 2)}, at(4))
	left("one is there again", "i0", "i2")
	if n, changed := g.confirm(at(5), "i5", "i77"); n != 1 || !changed {
		t.Errorf("%d confirmed, changed: %v", n, changed)
	}
	left("two are confirmed, one of which was never here", "i0", "i2", "i5", "i77")
	g.apply(without(source.Deregistered, 6, 7), at(1000))
	left("the others are long gone", "i6")
}

func TestHowManyHaveLeftIsBounded(t *testing.T) {
	g := guarded(maxLeft + 5)
	g.apply(without(source.Deregistered, 0, 5), at(1))
	g.apply(without(source.Deregistered, 5, maxLeft+5), at(2))
	if len(g.left) != maxLeft {
		t.Errorf("%d have left", len(g.left))
	}
	if _, first := g.left["i0"]; first {
		t.Error("the first is to be forgotten first")
	}
}

func TestFarewells(t *testing.T) {
	before := &Snapshot{Left: []string{"a", "b", "c"}}
	now := &Snapshot{Left: []string{"b", "d"}, Endpoints: []*resourcev1.Endpoint{{Instance: "c"}}}
	if left, forgotten := (Update{Before: before, Now: now}).Farewells(); !slices.Equal(left, []string{"d"}) || !slices.Equal(forgotten, []string{"a"}) {
		t.Errorf("left %v, forgotten %v", left, forgotten)
	}
	if left, forgotten := (Update{Now: now}).Farewells(); !slices.Equal(left, []string{"b", "d"}) || len(forgotten) > 0 {
		t.Errorf("the first time: left %v, forgotten %v", left, forgotten)
	}
}
