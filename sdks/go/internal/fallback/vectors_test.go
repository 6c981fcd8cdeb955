package fallback

import (
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/wire"
	"github.com/octomesh/octomesh/sdks/go/internal/vectors"
)

var (
	eventsByName = map[string]Event{"need": Need, "missed": Missed, "alive": Alive, "lost": Lost, "gone": Gone, "failed": Failed,
		"welcomed": Welcomed, "answered": Answered, "due": Due}
	doNames      = map[Do]string{Nothing: "nothing", Dial: "dial", Ping: "ping"}
	advices      = map[string]Advice{"mesh": GoMesh, "wait": Wait, "direct": GoDirect}
	advicesNames = map[Advice]string{GoMesh: "mesh", Wait: "wait", GoDirect: "direct"}
	wayNames     = map[Way]string{ByNone: "none", ByMesh: "mesh", ByMeshOrSoon: "mesh_or_soon", ByDirect: "direct"}
	nextNames    = map[Next]string{End: "end", Same: "same", Other: "other"}
)

func ms(n int) time.Duration { return time.Duration(n) * time.Millisecond }

func TestPathVectors(t *testing.T) {
	type steps struct {
		Steps []struct {
			AtMS   int `json:"at_ms"`
			Event  string
			Random float64
		}
	}
	type results struct {
		Steps []struct {
			State, Calls, Do string
			Scale            int
			UntilMS          int  `json:"until_ms"`
			WakeMS           *int `json:"wake_ms"`
		}
	}
	vectors.Each(t, "path.json", "path", func(t *testing.T, in steps, out results) {
		p := New()
		for i, s := range in.Steps {
			want := out.Steps[i]
			do := p.On(eventsByName[s.Event], ms(s.AtMS), s.Random)
			calls, until := p.Calls(ms(s.AtMS))
			if p.State.String() != want.State || advicesNames[calls] != want.Calls || doNames[do] != want.Do || until != ms(want.UntilMS) {
				t.Fatalf("step %d, %s: %v, calls %s until %v, %s", i, s.Event, p.State, advicesNames[calls], until, doNames[do])
			}
			if calls == GoMesh && p.Scale != want.Scale {
				t.Fatalf("step %d, %s: %d tenths, want %d", i, s.Event, p.Scale, want.Scale)
			}
			wake, ok := p.Wake()
			if ok != (want.WakeMS != nil) || ok && wake != ms(*want.WakeMS) {
				t.Fatalf("step %d, %s: due %v at %v", i, s.Event, ok, wake)
			}
		}
	})
}

func TestChooseVectors(t *testing.T) {
	type question struct {
		ByMesh               bool `json:"by_mesh"`
		State                string
		Mesh, Direct, Pinned bool
	}
	vectors.Each(t, "path.json", "choose", func(t *testing.T, in question, out struct {
		Way   string
		Saved bool
	}) {
		way, saved := Choose(in.ByMesh, advices[in.State], Ways{in.Mesh, in.Direct, in.Pinned})
		if wayNames[way] != out.Way || saved != out.Saved {
			t.Fatal(wayNames[way], saved)
		}
	})
}

func TestAgainVectors(t *testing.T) {
	type question struct {
		Code        wire.Code
		Reason      wire.Reason
		Origin      wire.Origin
		Disposition wire.Disposition
		Idempotent  bool
		First       bool `json:"first_request"`
		FreeUsed    bool `json:"free_used"`
		Resent      int
		Tokens      int64
		Other       bool
	}
	vectors.Each(t, "fallback.json", "", func(t *testing.T, in question, out struct {
		Next string
		Cost int64
		Free bool
	}) {
		next, cost, free := Again(Ended{in.Code, in.Reason, in.Origin, in.Disposition},
			Call{in.Idempotent, in.First, in.FreeUsed, in.Resent, in.Other, in.Tokens})
		if nextNames[next] != out.Next || cost != out.Cost || free != out.Free {
			t.Fatal(nextNames[next], cost, free)
		}
	})
}
