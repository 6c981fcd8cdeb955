package directory

import (
	"testing"
	"time"

	"github.com/octomesh/octomesh/sdks/go/internal/vectors"
)

func TestSourcesVectors(t *testing.T) {
	byName := map[string]Source{"proxy": Proxy, "control_plane": ControlPlane, "disk": Disk, "none": Nobody}
	type script struct {
		Steps []struct {
			At     int64 `json:"at_ms"`
			Source string
			Event  string
			State  string
			Stale  bool
			Age    int64 `json:"age_ms"`
			Switch *Switch
		}
	}
	type results struct {
		Steps []struct {
			Endpoints string
			Permille  *uint32
			Ask       bool `json:"ask_control_plane"`
		}
	}
	vectors.Each(t, "switch.json", "sources", func(t *testing.T, in script, out results) {
		var s Sources
		for i, step := range in.Steps {
			at := time.Duration(step.At) * time.Millisecond
			if step.Event == "ended" {
				s.Ended(byName[step.Source])
			} else {
				s.Said(byName[step.Source], Word{Known: step.State != "unknown", Stale: step.Stale,
					Age: time.Duration(step.Age) * time.Millisecond, Switch: step.Switch}, at)
			}
			want := out.Steps[i]
			if got := s.Counts(at); got != byName[want.Endpoints] || s.AskControlPlane() != want.Ask {
				t.Fatalf("step %d: endpoints of %v, ask %v", i, got, s.AskControlPlane())
			}
			held := s.Switch()
			if (held != nil) != (want.Permille != nil) || held != nil && held.Permille != *want.Permille {
				t.Fatalf("step %d: the switch is %v", i, held)
			}
		}
	})
}
