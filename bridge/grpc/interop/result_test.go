package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

func TestFailuresThatTheControlHasTooAreKnown(t *testing.T) {
	r := row{suite: "s", version: "v1", mode: "m"}
	r.compare(outcome{cases: 5, failed: map[string]string{"a": "x", "b": "y"}}, outcome{cases: 5, failed: map[string]string{"a": "x", "c": "z"}})
	if got, want := r.String(), "| s | v1 | m | 5 | 3 | 1 | 1 | 3 |"; got != want {
		t.Errorf("row %s, want %s", got, want)
	}
	if err := failures([]row{r}); err == nil || !strings.Contains(err.Error(), "b fails through the proxies alone: y") || strings.Contains(err.Error(), "a fails") {
		t.Errorf("failures: %v", err)
	}
	excused := row{excused: map[string]string{"b": "for a reason"}}
	excused.compare(outcome{cases: 5, failed: map[string]string{"b": "y"}}, outcome{cases: 5})
	if err := failures([]row{excused}); err != nil || !strings.Contains(page([]row{excused}), "- `b`: for a reason\n") {
		t.Errorf("what is excused: %v", err)
	}
	if text := page([]row{r}); !strings.Contains(text, "- `a`\n") || strings.Contains(text, "`b`") {
		t.Errorf("the page: %s", text)
	}
}

func TestFewerCasesThanWithoutProxiesAreAFailure(t *testing.T) {
	r := row{}
	r.compare(outcome{cases: 4}, outcome{cases: 5})
	if failures([]row{r}) == nil {
		t.Error("a case that did not run counts for nothing")
	}
	if failures([]row{{}}) == nil {
		t.Error("a suite without a case counts as passed")
	}
}

func TestAPageThatDriftsIsFound(t *testing.T) {
	r := row{suite: "s", version: "v1", mode: "m", cases: 1, passed: 1, control: "1"}
	file := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(file, []byte(page([]row{r})), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := inPage([]row{r}, file); err != nil {
		t.Error(err)
	}
	r.version = "v2"
	if inPage([]row{r}, file) == nil {
		t.Error("another version is not noticed")
	}
}

func TestConnectsRunnerIsRead(t *testing.T) {
	const said = "FAILED: Basic/HTTPVersion:2/unary/success:\n\treceived an unexpected error:\n\tcode:CODE_UNAVAILABLE\nFAILED: B/x:\n\tno\n\n" +
		"Total cases: 374\n372 passed, 2 failed\n"
	o, err := connectRead([]byte(said))
	if err != nil || o.cases != 374 || len(o.failed) != 2 || !strings.Contains(o.failed["Basic/HTTPVersion:2/unary/success"], "CODE_UNAVAILABLE") {
		t.Errorf("read %+v, %v", o, err)
	}
	for name, text := range map[string]string{
		"no end":                 "FAILED: a:\n\tb\n",
		"cases that did not run": said + "Another 7 could not be run due to client timing out or exiting prematurely.\n",
		"an unnamed failure":     strings.Replace(said, "2 failed", "3 failed", 1),
	} {
		if o, err := connectRead([]byte(text)); err == nil {
			t.Errorf("%s: read as %+v", name, o)
		}
	}
}

func TestH2specsReportIsRead(t *testing.T) {
	o, err := h2specRead([]byte(`<testsuites><testsuite name="5.1. States" id="5.1"><testcase package="http2/5.1" classname="one"></testcase>
<testcase package="http2/5.1" classname="two"><failure>Expected: x
 Actual: y</failure></testcase><testcase package="http2/5.1" classname="three"><skipped></skipped></testcase></testsuite></testsuites>`))
	if err != nil || o.cases != 3 || len(o.failed) != 2 || o.failed["http2/5.1: two"] != "Expected: x Actual: y" {
		t.Errorf("read %+v, %v", o, err)
	}
}

func TestAProgramUnderTestChangesTheAddressAlone(t *testing.T) {
	message := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "name")
	message = protowire.AppendString(protowire.AppendTag(message, requestHost, protowire.BytesType), "127.0.0.1")
	message = protowire.AppendVarint(protowire.AppendTag(message, requestPort, protowire.VarintType), 8080)
	message = protowire.AppendString(protowire.AppendTag(message, 300, protowire.BytesType), "what nobody knows")
	if got, err := addressIn(message, requestHost, requestPort); err != nil || got != "127.0.0.1:8080" {
		t.Fatalf("address %q, %v", got, err)
	}
	moved := withAddress(message, requestHost, requestPort, "127.0.0.2:9")
	if got, err := addressIn(moved, requestHost, requestPort); err != nil || got != "127.0.0.2:9" {
		t.Fatalf("moved to %q, %v", got, err)
	}
	if back := withAddress(moved, requestHost, requestPort, "127.0.0.1:8080"); len(back) != len(message) || !strings.Contains(string(back), "what nobody knows") {
		t.Errorf("%q became %q", message, back)
	}
	for _, bad := range [][]byte{nil, message[:7], protowire.AppendVarint(protowire.AppendTag(nil, requestPort, protowire.VarintType), 70000)} {
		if got, err := addressIn(bad, requestHost, requestPort); err == nil {
			t.Errorf("%q has the address %q", bad, got)
		}
	}
}
