package proxyd

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/octomesh/octomesh/core/meshtest"
	"github.com/octomesh/octomesh/core/telemetry/otlp/otlptest"
	"github.com/octomesh/octomesh/core/wire"
)

// TestTelemetryOfARunningProxy: spans in a real collector, lines on the disk, exemplars in a scrape, a new
// section on SIGHUP, and what waits at the end.
func TestTelemetryOfARunningProxy(t *testing.T) {
	collector := otlptest.GRPC(t)
	section := func(more string) string {
		return fmt.Sprintf("telemetry:\n  otlp: {endpoint: %q, resource: {team: shop}}\n  sampling: {root_permille: 1000}\n%s", collector.Endpoint, more)
	}
	dir := t.TempDir()
	p := launchIn(t, dir, "{}", section("  access_log: {file: access.log, success_permille: 1000}\n"))
	write(t, p.resources, endpoint("echo", p.inbound))
	_ = p.cmd.Process.Signal(syscall.SIGHUP)
	await(t, "the endpoint", func() bool { _, b := p.get("/config"); return strings.Contains(b, `"echo"`) })
	serving, err := meshtest.Dial("unix", p.socket, wire.Hello{Role: wire.RoleServe, Environment: "test", Application: "echo", Targets: []string{"echo"}},
		wire.Limits{}, meshtest.Echo)
	if err != nil {
		t.Fatal(err)
	}
	defer serving.Close()
	c, err := meshtest.DialCaller("unix", p.socket, wire.Hello{Environment: "test", Application: "a"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	call := func() {
		t.Helper()
		got, err := c.Call(&wire.RequestHead{Target: []byte("echo"), Service: []byte("s.S"), Method: []byte("M"), Kind: wire.KindUnary}, []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		if a := <-got; a.Status.Code != wire.OK {
			t.Fatalf("got %+v", a.Status)
		}
	}
	call()
	spans := collector.Wait(t, 2) // out of the proxy and into it again
	for _, s := range spans {
		if s.Resource["service.name"] != "octo-proxy" || s.Resource["service.instance.id"] != "one" || s.Resource["team"] != "shop" {
			t.Errorf("resource %v", s.Resource)
		}
	}
	log := filepath.Join(dir, "access.log")
	count := func(file string) int { b, _ := os.ReadFile(file); return bytes.Count(b, []byte("\n")) }
	await(t, "two lines", func() bool { return count(log) == 2 })
	checkExemplars(t, p, spans)
	if err := os.Rename(log, log+".1"); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Process.Signal(syscall.SIGHUP)
	await(t, "a new file", func() bool { _, err := os.Stat(log); return err == nil })

	reconfigure(t, p, dir, section("  access_log: {file: access.log, success_permille: 2000}\n"))
	call()
	await(t, "a line in spite of a mistake in the configuration", func() bool { return count(log) == 2 && count(log+".1") == 2 })
	reconfigure(t, p, dir, section(""))
	await(t, "the access log's end", func() bool { _, b := p.get("/telemetry"); return !strings.Contains(b, "access_log") })
	call()
	p.stop(t)
	if n := len(collector.Spans()); n != 6 || count(log) != 2 {
		t.Errorf("%d spans and %d lines at the end", n, count(log))
	}
}

func reconfigure(t *testing.T, p *process, dir, telemetry string) {
	t.Helper()
	write(t, filepath.Join(dir, "p.yaml"), "environment: test\noutbound_socket: o.sock\nresources_file: r.yaml\n"+telemetry)
	_ = p.cmd.Process.Signal(syscall.SIGHUP)
}

var exemplar = regexp.MustCompile(`(?m)^octo_call_seconds_bucket\{.*\} \d+ # \{.*trace_id="([0-9a-f]{32})".*\} [0-9.e+-]+ [0-9.e+]+$`)

// checkExemplars finds the spans' traces in a scrape by OpenMetrics, and none in Prometheus' own format.
func checkExemplars(t *testing.T, p *process, spans []otlptest.Span) {
	t.Helper()
	req, err := http.NewRequest("GET", "http://proxy/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	resp, err := p.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, _ := io.ReadAll(resp.Body)
	found := exemplar.FindAllSubmatch(b, -1)
	if len(found) != 2 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/openmetrics-text; version=1.0.0") || !bytes.HasSuffix(b, []byte("# EOF\n")) {
		t.Fatalf("%d exemplars, %s:\n%s", len(found), resp.Header.Get("Content-Type"), b)
	}
	for _, f := range found {
		if string(f[1]) != spans[0].Trace() {
			t.Errorf("exemplar of trace %s, want %s", f[1], spans[0].Trace())
		}
	}
	await(t, "the count of spans", func() bool {
		_, b := p.get("/metrics")
		if strings.Contains(b, "trace_id") {
			t.Fatalf("exemplars in Prometheus' own format:\n%s", b)
		}
		return strings.Contains(b, `octo_spans_total{result="exported"} 2`)
	})
}

func TestTelemetryThatCannotBeIsRefusedAtTheStart(t *testing.T) {
	dir := t.TempDir()
	for more, want := range map[string]string{
		"telemetry: {access_log: {file: none/access.log}}\n":       "none/access.log",
		"telemetry: {otlp: {endpoint: collector}}\n":               "telemetry.otlp.endpoint",
		"telemetry: {access_log: {file: a, success_permile: 1}}\n": "success_permille",
	} {
		write(t, filepath.Join(dir, "p.yaml"), "outbound_socket: o.sock\nresources_file: r.yaml\n"+more)
		out, err := exec.Command(binary, "--config", filepath.Join(dir, "p.yaml")).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%q: %v %s", more, err, out)
		}
	}
}
