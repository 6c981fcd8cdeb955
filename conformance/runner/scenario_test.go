package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

func TestScenariosThatMakeNoSenseAreRefused(t *testing.T) {
	const ends = "ends: [{name: c, proxy: true}, {name: s, target: t}], "
	for _, wrong := range []string{"{name: c, disk_bytes: 1}", "{name: c, proxy: true, trap: true}"} {
		if _, err := expandScenarios(suite(t, "scenarios: [{name: a, ends: ["+wrong+"]}]")); err == nil || !strings.Contains(err.Error(), "for proxies with a control plane") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
	for name, text := range map[string]string{
		"control: {}, links: [{name: l, to: octo, only: [c]}]":                                                    "",
		"control: {}, steps: [{repeat: {times: 2, steps: [{begin: {name: b, client: c, target: t}}, {end: b}]}}]": "",
		"links: [{name: l, to: s, only: [c]}]":                                                                    "leads to no Pilot",
		"control: {}, links: [{name: l, to: octo, only: [s]}]":                                                    `only "s"`,
		"steps: [{repeat: {times: 2}}]":                                                                           "what is repeated",
		"steps: [{repeat: {times: 2, steps: [{begin: {name: b, client: c, target: t}}]}}, {end: b}]":              "and no others",
		"steps: [{begin: {name: b, client: c, target: t}}, {repeat: {times: 2, steps: [{end: b}]}}]":              "and no others",
		"steps: [{repeat: {times: 2, steps: [{synced: {}}]}}]":                                                    "with a control plane",
		"steps: [{batch: {name: b, client: c, target: t, calls: 1, one_way: true}}]":                              "where they vary",
		"steps: [{begin: {name: b, client: c, target: t, within_ms: 1000}}, {end: b}]":                            "made anew",
		"steps: [{batch: {name: b, client: c, target: t, calls: 1, within_ms: 1000, after_ms: 1000}}]":            "a part of within_ms",
		"steps: [{disk: {proxy: c-proxy}}]":                                                                       "with a control plane",
	} {
		_, err := expandScenarios(suite(t, "scenarios: [{name: a, "+ends+name+"}]"))
		if text == "" && err != nil || text != "" && (err == nil || !strings.Contains(err.Error(), text)) {
			t.Errorf("%s: %v, want %q", name, err, text)
		}
	}
}

func TestAllStepsAreSeen(t *testing.T) {
	all, err := expandScenarios(suite(t, `
scenarios:
- name: a
  control: {}
  ends: [{name: c, proxy: true}]
  steps:
  - repeat: {times: 2, steps: [{repeat: {times: 2, steps: [{made_up: {target: deep}}]}}, {unheard: "policies: [{target: said}]"}]}
`))
	if err != nil {
		t.Fatal(err)
	}
	targets, err := (&stage{s: all[0]}).targets()
	if err != nil || strings.Join(targets, " ") != "deep said" {
		t.Fatal(targets, err)
	}
}

// TestSpoiltFilesAreWholeAgainBefore spoils one after the other, and never twice in the same way.
func TestSpoiltFilesAreWholeAgainBefore(t *testing.T) {
	gone := make(chan struct{})
	a := &actor{End: &conformancev1.End{Name: "c"}, end: end{proxy: &proxy{process: &process{gone: gone}}}}
	s := &stage{dir: t.TempDir(), ends: map[string]*actor{"c": a}, spoilt: make(map[string]spoilt)}
	dir := s.states(a)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	whole := bytes.Repeat([]byte("state "), 50)
	read := func(n int) []byte {
		b, err := os.ReadFile(filepath.Join(dir, fmt.Sprint("config-", n)))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, n := range []int{8, 9, 10, 11} {
		content := whole
		if n == 11 {
			content = nil
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("config-", n)), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.spoil(&conformancev1.Spoil{Proxy: "c-proxy", Files: "config-*"}, 0); err == nil || !strings.Contains(err.Error(), "runs") {
		t.Fatal(err)
	}
	close(gone)
	seen := make(map[string]bool)
	for round := range uint64(20) {
		if err := s.spoil(&conformancev1.Spoil{Proxy: "c-proxy", Files: "config-*", Newest: 3, Seed: 7}, round); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(read(8), whole) || len(read(11)) > 0 {
			t.Fatal("the third newest is spoilt, or the empty one")
		}
		for _, n := range []int{9, 10} {
			b := read(n)
			cut := len(b) < len(whole) && bytes.HasPrefix(whole, b)
			changed := 0
			for i := range min(len(b), len(whole)) {
				if b[i] != whole[i] {
					changed++
				}
			}
			if seen[string(b)] || cut == (changed > 0) || changed > 1 || !cut && len(b) != len(whole) {
				t.Fatalf("round %d: config-%d is %q", round, n, b)
			}
			seen[string(b)] = true
		}
	}
	if err := s.spoil(&conformancev1.Spoil{Proxy: "c-proxy", Files: "nothing*"}, 0); err == nil {
		t.Fatal("there are no such files")
	}
}

func TestACrowdLagsUntilAllOfItHaveAll(t *testing.T) {
	const url, name = "octo.resource.v1.Endpoint", environment + "/stock/s1"
	want := &resourcev1.Snapshot{Endpoints: []*resourcev1.Endpoint{{Target: "stock", Instance: "s1", MeshAddress: "h:1"}}}
	versions := map[string]*resourcev1.Endpoint{
		"old": {MeshAddress: "h:0"}, "new": {MeshAddress: "h:1"}, "left": {Standing: resourcev1.Standing_STANDING_LEFT},
	}
	c := &crowd{messages: make(map[version]proto.Message), members: []*member{
		{id: "one", stands: true, has: map[string]map[string]string{url: {name: "new"}}},
		{id: "two", stands: true, has: map[string]map[string]string{url: {name: "new", environment + "/stock/s2": "left"}}},
	}}
	for v, e := range versions {
		value, err := proto.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		for _, full := range []string{name, environment + "/stock/s2"} {
			at := version{url, full, v}
			if c.messages[at], err = decode(at, value); err != nil {
				t.Fatal(err)
			}
		}
	}
	if d := c.lags(want); d != "" {
		t.Fatal(d)
	}
	two := c.members[1]
	for what, spoil := range map[string]func(){
		"1 of 2 are behind; two has conformance/stock/s1": func() { two.has[url][name] = "old" },
		"two has conformance/stock/s2":                    func() { two.has[url][environment+"/stock/s2"] = "new" },
		"two has 0 of 1 resources":                        func() { delete(two.has[url], name) },
		"two has no stream":                               func() { two.stands = false },
	} {
		two.stands, two.has[url] = true, map[string]string{name: "new"}
		spoil()
		if d := c.lags(want); !strings.Contains(strings.ReplaceAll(d, "  ", " "), what) {
			t.Errorf("%q, want %q", d, what)
		}
	}
	if _, err := decode(version{url, "nowhere", "1"}, nil); err == nil {
		t.Error("a name of no target was taken")
	}
}

func TestBoundsCountWhatIsInFlight(t *testing.T) {
	b := &batch{Batch: &conformancev1.Batch{InFlight: 4, Outcomes: []*conformancev1.OutcomeCount{
		{}, {Code: 14, Calls: &conformancev1.Range{Max: proto.Uint32(2)}, TimesInFlight: true},
	}}}
	for n, problems := range map[int]int{0: 0, 8: 0, 9: 1} {
		b.result = &conformancev1.BatchResult{Calls: 100, Failed: []*conformancev1.BatchOutcome{
			{Status: &conformancev1.Outcome{Code: 14}, Calls: make([]uint32, n)},
		}}
		if p := b.judgeOutcomes(); len(p) != problems {
			t.Errorf("%d of at most 8: %v", n, p)
		}
	}
}

func TestValuesThatMoveAndSharesThatFallAreSeen(t *testing.T) {
	result := func(thousands, mesh, direct []uint32) *conformancev1.BatchResult {
		return &conformancev1.BatchResult{Calls: 3500, MeshByThousand: thousands, MeshValues: mesh, DirectValues: direct}
	}
	rising, keys := []uint32{0, 99, 199, 7}, []uint32{1, 2, 3}
	for name, c := range map[string]struct {
		result   *conformancev1.BatchResult
		problems int
	}{
		"as it should be":          {result(rising, keys, []uint32{4}), 0},
		"one went both ways":       {result(rising, keys, []uint32{3}), 1},
		"one that was kept moved":  {result(rising, keys[1:], []uint32{4}), 1},
		"both":                     {result(rising, keys, []uint32{1, 4}), 2},
		"the share fell":           {result([]uint32{0, 99, 98}, keys, nil), 1},
		"the share rose at once":   {result([]uint32{0, 999, 999}, keys, nil), 1},
		"the share never rose":     {result(nil, keys, nil), 1},
		"a part is no thousand":    {result([]uint32{0, 0, 99, 199}, keys, nil), 1},
		"the last part may be low": {result([]uint32{99, 199, 299, 0}, keys, nil), 0},
	} {
		b := &batch{Batch: &conformancev1.Batch{OneWay: true, Keeps: "before", Rises: 3}, kept: []uint32{1, 2}, result: c.result}
		if p := b.judgeValues(); len(p) != c.problems {
			t.Errorf("%s: %v, want %d problems", name, p, c.problems)
		}
	}
}

func TestAChangeHasItsTime(t *testing.T) {
	s := &stage{}
	c := &conformancev1.Batch{Name: "b", AfterMs: 1000, WithinMs: 2000}
	for took, ok := range map[time.Duration]bool{999 * time.Millisecond: false, time.Second: true, 2 * time.Second: true, 3 * time.Second: true} {
		if err := s.timely(c, took); (err == nil) != ok {
			t.Errorf("%v: %v", took, err)
		}
	}
	if s.inTime != 2 || len(s.late) != 1 {
		t.Errorf("%d in time, late %v", s.inTime, s.late)
	}
}

func TestAKillSwitchIsWrittenWhole(t *testing.T) {
	s := &stage{dir: t.TempDir(), ends: map[string]*actor{
		"c": {End: &conformancev1.End{Name: "c", Ways: &conformancev1.Ways{SwitchFile: "kill"}}}, "other": {End: &conformancev1.End{Name: "other"}},
	}}
	if err := s.kill(&conformancev1.SwitchFile{End: "other", Text: proto.String("* off")}); err == nil {
		t.Error("an end without a file has one")
	}
	if err := s.kill(&conformancev1.SwitchFile{End: "c", Text: proto.String("* off")}); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(filepath.Join(s.dir, "kill")); err != nil || string(b) != "* off" {
		t.Fatal(string(b), err)
	}
	for range 2 {
		if err := s.kill(&conformancev1.SwitchFile{End: "c"}); err != nil {
			t.Fatal(err)
		}
	}
	if left, _ := os.ReadDir(s.dir); len(left) > 0 {
		t.Error("something is left: ", left)
	}
}

func TestWhatTheMachineForbidsIsToldFromWhatFails(t *testing.T) {
	for err, want := range map[error]bool{
		errors.ErrUnsupported: true, os.ErrPermission: true, os.ErrNotExist: false,
	} {
		if got := errors.Is(unable(err), errUnable); got != want {
			t.Errorf("%v: %v", err, got)
		}
	}
	if unable(nil) != nil {
		t.Error("nothing is an error")
	}
}
