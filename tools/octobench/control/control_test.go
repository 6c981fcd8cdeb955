package control_test

import (
	"io"
	"os"
	"strings"
	"testing"

	"github.com/octomesh/octomesh/tools/octobench/control"
)

// TestMain makes this binary the sides of its own measurements.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == control.Command {
		if err := control.Side(os.Args[2:]); err != nil {
			println(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	// The race detector lets each process linger for a second at its end.
	_ = os.Setenv("GORACE", os.Getenv("GORACE")+" atexit_sleep_ms=0")
	os.Exit(m.Run())
}

// small is every part in a size that takes no time.
var small = map[string][]string{
	"push":        {"--fanouts", "1,20", "--rounds", "1", "--pushes", "100", "--sharing", "2"},
	"change":      {"--instances", "100", "--subscribers", "10", "--changes", "10"},
	"slow":        {"--slow", "5", "--others", "5", "--changes", "10"},
	"sessions":    {"--streams", "100", "--connections", "4"},
	"connections": {"--real", "20"},
	"registry":    {"--targets", "20", "--total", "400", "--watchers", "20", "--changes", "5"},
}

// wanted is what stands in each part's tables, and how many gates are judged.
var wanted = map[string]struct {
	tables, gates int
	text          []string
}{
	"push":        {2, 4, []string{"20 streams over 20 connections stand", "20 streams over 2 connections", " 1 pilot ", " 20 bare "}},
	"change":      {1, 1, []string{"One change among 100 instances", "its acknowledgement", "bytes of a change's message"}},
	"slow":        {1, 2, []string{"changes that came to them 50 50", "changes that others missed beside slow streams: 0,"}},
	"sessions":    {1, 3, []string{"first connect 100 ", "all connections cut 100 ", "Pilot killed, started again 100 "}},
	"connections": {1, 3, []string{"first connect 20 ", "all connections cut 20 ", "Pilot killed, started again 20 "}},
	"registry":    {2, 2, []string{"Dispatcher ", " 20 1 ", "watches for 20 targets: 20, at most 20: ok", "watches of one key: 1, at most 1: ok"}},
}

func TestPartsMeasureAndAreJudged(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, args := range small {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out, progress strings.Builder
			r, _, err := control.Run(self, append(args, "--parts", name), &out, &progress)
			if err != nil {
				t.Fatal(err)
			}
			want := wanted[name]
			gates := 0
			for _, table := range r.Tables {
				gates += len(table.Gates)
				if md := table.Markdown(); !strings.Contains(md, "## "+table.Title) || strings.Count(md, "\n| ") != 1+len(table.Rows) {
					t.Errorf("the table on a page is\n%s", md)
				}
			}
			if len(r.Tables) != want.tables || gates != want.gates {
				t.Errorf("%d tables with %d gates, want %d with %d", len(r.Tables), gates, want.tables, want.gates)
			}
			text := strings.Join(strings.Fields(out.String()), " ")
			for _, want := range want.text {
				if !strings.Contains(text, want) {
					t.Errorf("%q is missing:\n%s", want, out.String())
				}
			}
			if !strings.Contains(progress.String(), name+": took ") {
				t.Errorf("progress is %q", progress.String())
			}
		})
	}
}

func TestWrongNumbersAreRefused(t *testing.T) {
	for _, args := range [][]string{
		{"--fanouts", "0"}, {"--fanouts", "1,x"}, {"--streams", "0"}, {"--parts", "push,dance"}, {"--targets", "10", "--total", "19"}, {"--nothing"},
	} {
		if _, _, err := control.Run("nothing", args, io.Discard, io.Discard); err == nil {
			t.Errorf("%v: taken", args)
		}
	}
}

func TestGatesThatFailSaySo(t *testing.T) {
	r := &control.Report{Tables: []control.Table{{Part: "p", Gates: []control.Gate{
		{What: "kept", Is: 1, Goal: 1.3, OK: true}, {What: "missed", Is: 1.31, Goal: 1.3},
	}}}}
	text := r.GatesMarkdown()
	for _, want := range []string{"| p: kept | 1 | 1.30 | ok |", "| p: missed | 1.31 | 1.30 | **FAILS** |"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing:\n%s", want, text)
		}
	}
}
