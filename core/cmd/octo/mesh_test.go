package main

import (
	"regexp"
	"strings"
	"testing"
)

const tiers = `applications:
- {name: web, owner: team-web, tier: TIER_CRITICAL}
- {name: batch, owner: team-batch, tier: TIER_INTERNAL}
- {name: report, owner: team-batch, tier: TIER_INTERNAL}
`

// times and what widens with them.
var timeCell = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ`)

// golden runs a command that must succeed and write exactly this, with T in place of times.
func (o *operator) golden(line, reason, want string) {
	o.t.Helper()
	a := strings.Fields(line)
	if reason != "" {
		a = append(a, "-m", reason)
	}
	code, out, err := o.octo("", a...)
	if got := timeCell.ReplaceAllString(out, "T"); code != exitDone || got != want {
		o.t.Errorf("octo %s ended with %d, and wrote\n%s%swant\n%s", line, code, got, err, want)
	}
}

func TestTheMeshSwitchAtTheCommandLine(t *testing.T) {
	o := start(t, "--roles", "config")
	o.expect(exitDone, tiers, args("apply -f - -m", "who there is"))
	o.golden("mesh get", "", "no switch is set in prod: SDKs go by their own settings\n")
	o.expect(exitNotFound, "", args("mesh get web stock"), "no switch is set for web to stock in environment prod")
	o.golden("mesh set web stock 50 --dry-run", "", `APPLICATION  TARGET  NODES  BEFORE  NOW  REVISION
web          stock   all    -       50   1
not written: --dry-run
`)
	o.golden("mesh set web stock 50", "first step", `APPLICATION  TARGET  NODES  BEFORE  NOW  REVISION
web          stock   all    -       50   1
`)
	o.golden("mesh set web stock 1000 --node b,a --node c", "three nodes", `APPLICATION  TARGET  NODES       BEFORE  NOW   REVISION
web          stock   all others  50      50    2
web          stock   a,b,c       50      1000  2
`)
	o.golden("mesh set web stock 200 --node c", "less of one", `APPLICATION  TARGET  NODES       BEFORE  NOW   REVISION
web          stock   all others  50      50    3
web          stock   a,b         1000    1000  3
web          stock   c           1000    200   3
`)
	o.golden("mesh set * stock,mail 5", "everybody", `APPLICATION  TARGET  NODES  BEFORE  NOW  REVISION
*            mail    all    -       5    1
*            stock   all    -       5    1
`)
	o.golden("mesh get web", "", `APPLICATION  TARGET  NODES       SHARE  SINCE                 BY                WHY
*            mail    all         5      T  alice (unproved)  everybody
web          stock   all others  50     T  alice (unproved)  less of one
web          stock   a,b         1000   T  alice (unproved)  less of one
web          stock   c           200    T  alice (unproved)  less of one
`)
	o.golden("mesh get other stock", "", `APPLICATION  TARGET  NODES  SHARE  SINCE                 BY                WHY
*            stock   all    5      T  alice (unproved)  everybody
`)
	o.golden("mesh off web stock", "it burns", `APPLICATION  TARGET  NODES       BEFORE  NOW  REVISION
web          stock   all others  50      0    4
web          stock   a,b         1000    0    4
web          stock   c           200     0    4
`)
	o.golden("mesh set web stock 0", "once more", `APPLICATION  TARGET  NODES  BEFORE  NOW  REVISION
web          stock   all    0       0    4 (unchanged)
`)
	o.golden("mesh history web stock -n 2", "", `TIME                  APPLICATION  TARGET  NODES       SHARE  BY                HOW       WHY
T  web          stock   all         0      alice (unproved)  mesh set  it burns
T  web          stock   all others  50     alice (unproved)  mesh set  less of one
T  web          stock   a,b         1000   alice (unproved)  mesh set  less of one
T  web          stock   c           200    alice (unproved)  mesh set  less of one
`)
	o.expect(exitDone, "", args("explain stock --caller web --node a"), "calls of web: 0 of 1000 go through the mesh")
	o.golden("mesh set --tier internal cart 1000", "the least first", `APPLICATION  TARGET  NODES  BEFORE  NOW   REVISION
batch        cart    all    -       1000  1
report       cart    all    -       1000  1
`)
	o.expect(exitDone, "", args("delete switch/batch,cart -m x"))
	o.expect(exitDone, "", args("mesh history"), "removed", "the least first", "it burns")
	o.expect(exitDone, "", args("mesh get -o json"), `"permille": 1000`)
}

func TestASwitchThatCannotBeSetIsRefused(t *testing.T) {
	o := start(t, "--roles", "config")
	o.expect(exitDone, tiers, args("apply -f - -m", "who there is"))
	for line, text := range map[string]string{
		"mesh":                                      "octo mesh set",
		"mesh push":                                 "octo mesh push",
		"mesh set web stock":                        "octo mesh set APPLICATION TARGET PERMILLE",
		"mesh set web stock 1001 -m x":              "PERMILLE 1001: want a number from 0",
		"mesh set web stock -- -1 -m x":             "PERMILLE -1",
		"mesh set web stock half -m x":              "PERMILLE half",
		"mesh set web , 5 -m x":                     "name at least one target",
		"mesh set web stock 5":                      "a reason is missing",
		"mesh set web stock 5 -m x --others 5":      "give --node",
		"mesh set web stock 5 -m x --others 1001":   "--others 1001",
		"mesh set --tier vital stock 5 -m x":        "--tier vital: want critical",
		"mesh set --tier critical web stock 5":      "the tier says which applications",
		"mesh set web stock 5 --node a --all-nodes": "not both",
		"mesh get a b c":                            "octo mesh get",
		"mesh history web":                          "octo mesh history APPLICATION TARGET",
		"mesh get -o yaml":                          "octo mesh",
	} {
		o.expect(exitUsage, "", strings.Fields(line), text)
	}
	for line, text := range map[string]string{
		"mesh set web octo.directory 5 -m x":       "is served by the proxy itself",
		"mesh set w%b stock 5 -m x":                "does not fit",
		"mesh set -e Nowhere web stock 5 -m x":     `environment "Nowhere"`,
		"mesh set web stock 5 -m x --node a,b,a%b": "node_shares[0].nodes[1]",
	} {
		a := strings.Fields(line)
		if strings.Contains(line, "--node") {
			a = append(a, "--others", "0")
		}
		o.expect(exitInvalid, "", a, text)
	}
	o.expect(exitConflict, "", args("mesh set web stock 5 --node a -m x"), "say what share the other nodes get")
	o.expect(exitNotFound, "", args("mesh set --tier standard stock 5 -m x"), "no application in environment prod is of TIER_STANDARD")
	o.expect(exitNotFound, "", args("mesh history web stock"), "never was")
	o.golden("mesh get", "", "no switch is set in prod: SDKs go by their own settings\n")
}
