package main

import (
	"bytes"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "github.com/octomesh/octomesh/gen/control/octo/config/v1"
	controlv1 "github.com/octomesh/octomesh/gen/control/octo/control/v1"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"

	"github.com/octomesh/octomesh/core/wire"
)

func TestAComparisonIsShownSideBySide(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC)
	res := &configv1.CompareResponse{
		Mesh: &configv1.Measured{
			Path: &directoryv1.PathReport{Target: "stock", Calls: 996, SavedByFallback: 4, Errors: []*directoryv1.ErrorCount{
				{Code: int32(wire.Unavailable), Origin: int32(wire.OriginServerProxy), Count: 5}, {Code: int32(wire.NotFound), Origin: int32(wire.OriginApplication), Count: 1},
			}},
			Tried: 1000, Failed: 10, P50: durationpb.New(1024 * time.Microsecond), P99: durationpb.New(8192 * time.Microsecond),
		},
		Direct: &configv1.Measured{Path: &directoryv1.PathReport{Target: "stock"}},
		From:   timestamppb.New(at), To: timestamppb.New(at.Add(10 * time.Minute)), Dropped: 3,
		Switches: []*configv1.ShareChange{{Application: "web", After: &configv1.Share{Permille: 50, Nodes: map[string]uint32{"a": 1000}}}},
	}
	var out bytes.Buffer
	showComparison(&out, "web", res)
	want := `web to stock, reported from 2026-01-02 03:04:00Z to 2026-01-02 03:14:00Z
share in force: 50 of 1000 for web, nodes: all others
share in force: 1000 of 1000 for web, nodes: a

WHAT                           MESH          DIRECT
calls                          1000          0
failed                         10 (1.000 %)  0
  saved by fallback            4             0
  NOT_FOUND by APPLICATION     1             0
  UNAVAILABLE by SERVER_PROXY  5             0
p50 at most                    1.024ms       -
p99 at most                    8.192ms       -

A call that fallback saved counts as failed on the path that it left. Latencies are counted in steps of a factor of two: the true value
is between half of what stands here and it.
3 calls, of any application, are in no count: more targets were reported than there is room for.
`
	if got := out.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestACheckIsATable(t *testing.T) {
	lack := func(text, remedy string) *configv1.Lack { return &configv1.Lack{Text: text, Remedy: remedy} }
	c := &configv1.Check{
		Checked: []*configv1.Checked{
			{Application: "web", Node: "n2", Seen: &controlv1.Seen{Process: &controlv1.Process{Instance: "web-2", Sdk: "go", SdkVersion: "0.1.0"}}, Lacks: []*configv1.Lack{
				lack("it has no proxy", "start octo-proxy"), lack("it does not report", "build it anew"),
			}},
			{Application: "web", Node: "n9", Lacks: []*configv1.Lack{lack("nobody has heard of web there", "see octo mesh nodes")}},
			{Application: "web", Node: "n1", Seen: &controlv1.Seen{
				Process: &controlv1.Process{Instance: "web-1", Sdk: "go", SdkVersion: "0.1.0"}, Proxy: &controlv1.Proxy{Instance: "p1", SoftwareVersion: "0.1.0"},
			}},
		},
		Lacks: []*configv1.Lack{lack("pilot p2 at h:1 does not answer", "try again")},
	}
	var out bytes.Buffer
	showCheck(&out, c, true)
	want := `NODE  APPLICATION  INSTANCE  SDK       PROXY     WHAT IS MISSING                WHAT TO DO
n2    web          web-2     go 0.1.0  none      it has no proxy                start octo-proxy
n2    web          web-2     go 0.1.0  none      it does not report             build it anew
n9    web          -         -         none      nobody has heard of web there  see octo mesh nodes
n1    web          web-1     go 0.1.0  p1 0.1.0  nothing                        -
in the way: pilot p2 at h:1 does not answer: try again
`
	if got := out.String(); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestAFleetOfNobody(t *testing.T) {
	o := start(t)
	o.golden("mesh nodes", "", "nobody has heard of any application in prod\n")
	o.expect(exitNotFound, "", args("mesh nodes web"), "nobody has heard of web in environment prod")
	o.expect(exitNotFound, "", args("mesh compare web stock"), "nobody has reported a call of web to stock in environment prod since")
	o.expect(exitNotFound, "", args("mesh set web stock 5 -m x"), `nobody knows an application "web" in environment prod`)
	o.expect(exitConflict, "", args("mesh set web stock 5 --node n1 --others 0 --force --dry-run"), "nobody has heard of web there", "not written")
	for line, text := range map[string]string{
		"mesh compare web":                   "octo mesh compare APPLICATION TARGET",
		"mesh compare web stock --since 61m": "at most 1h0m0s",
		"mesh compare web stock --since 0s":  "want more than 0",
		"mesh nodes a b":                     "octo mesh nodes [APPLICATION]",
	} {
		o.expect(exitUsage, "", args(line), text)
	}
	o.expect(exitInvalid, "", args("mesh compare web %"), "no target is called so")
	apart := start(t, "--roles", "config")
	apart.expect(exitConflict, "", args("mesh nodes"), "no Pilot and no Directory")
}
