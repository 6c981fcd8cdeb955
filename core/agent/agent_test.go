package agent_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/octomesh/octomesh/core/lifecycle/pidfd"
	agentv1 "github.com/octomesh/octomesh/gen/control/octo/agent/v1"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

func dialer(path string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
}

func TestCrashedProxyIsStartedAgain(t *testing.T) {
	t.Parallel()
	h := newHost(t, "", "front", "one", "two")
	h.run()
	l := h.load(8)
	before := h.list()["front"]
	for n := range 3 {
		if err := syscall.Kill(int(h.list()["front"].GetPid()), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		got := h.until("front", func(p *agentv1.Proxy) bool {
			return p.GetRestarts() == uint32(n+1) && p.GetState() == agentv1.Proxy_STATE_SERVING
		})
		if got.GetPid() == before.GetPid() || !strings.Contains(got.GetWhy(), "killed") {
			t.Errorf("after the crash: %v", got)
		}
		l.progress(200)
	}
	for _, o := range l.end() {
		if octomesh.Code(o.Status.GetCode()) != octomesh.Unavailable {
			t.Errorf("call %d failed otherwise than UNAVAILABLE: %v", o.Calls, o.Status)
		}
	}
	for _, n := range []string{"one", "two"} {
		if p := h.list()[n]; p.GetRestarts() != 0 {
			t.Errorf("%s was started again, too: %v", n, p)
		}
	}
}

func TestUpgradeUnderLoadFailsNoCall(t *testing.T) {
	t.Parallel()
	h := newHost(t, "", "front", "one", "two")
	h.run()
	l := h.load(16)
	copied := h.path("octo-proxy-2")
	if out, err := exec.Command("cp", octoProxy, copied).CombinedOutput(); err != nil {
		t.Fatal(string(out), err)
	}
	for round, args := range [][]string{{"--all"}, {"--all", "--binary", copied}, {"--all"}, {"--binary", copied, "one", "two", "front"}} {
		before := h.pids()
		out := h.must(append([]string{"upgrade"}, args...)...)
		if !strings.Contains(out, "3 upgraded") || strings.Count(out, ": done (pid ") != 3 {
			t.Errorf("round %d:\n%s", round, out)
		}
		want := octoProxy
		if round%2 == 1 {
			want = copied
		}
		for name, p := range h.list() {
			if p.GetPid() == before[name] || p.GetRestarts() != 0 || p.GetBinary() != want {
				t.Errorf("round %d: %v, before it was process %d", round, p, before[name])
			}
			if old, err := pidfd.Open(int(before[name]), 0); err == nil && !old.Ended() {
				t.Errorf("round %d: the process before still runs", round)
			}
		}
		l.progress(200)
	}
	// What an upgrade has brought is what is started after a crash.
	l.whole()
	if err := syscall.Kill(int(h.pids()["one"]), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if p := h.until("one", func(p *agentv1.Proxy) bool { return p.GetRestarts() == 1 && p.GetPid() != 0 }); p.GetBinary() != copied {
		t.Errorf("after a crash it runs %s", p.GetBinary())
	}
}

func TestBadUpgradeLeavesTheOldOneServing(t *testing.T) {
	t.Parallel()
	h := newHost(t, ", start_deadline: 3s", "front", "one", "two")
	h.run()
	l := h.load(8)
	before := h.pids()
	h.write("crashes", "#!/bin/sh\nexit 3\n")
	h.write("hangs", "#!/bin/sh\nexec sleep 1000\n")
	h.write("none", "no program\n")
	for binary, want := range map[string]string{
		"crashes": "it has ended with 3", "hangs": "was not ready within 3s and was killed", "none": "exec format error",
	} {
		code, out, errs := h.octo("upgrade", "--all", "--binary", h.path(binary))
		if code != 1 || !strings.Contains(errs, want) || !strings.Contains(errs, fmt.Sprintf("process %d serves on", before["front"])) ||
			!strings.Contains(errs, "2 others are left as they were") || !strings.Contains(out, "front: failed") || !strings.Contains(out, "0 upgraded") {
			t.Errorf("%s: %d\n%s%s", binary, code, out, errs)
		}
		l.progress(50)
	}
	h.bootstrap("one", "drain_dedline: 1s\n")
	if code, out, errs := h.octo("upgrade", "one"); code != 1 || !strings.Contains(errs, "drain_dedline") {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
	if code, out, errs := h.octo("restart", "one"); code != 1 || !strings.Contains(errs, "serves on") {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
	h.bootstrap("one", "zone: z\n")
	h.write("one.yaml", strings.Replace(readText(t, h.path("one.yaml")), "one.sock", "other.sock", 1)) // an address that is called
	if code, out, errs := h.octo("upgrade", "one"); code != 1 || !strings.Contains(errs, "keeps the addresses that are called") {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
	if got := h.pids(); !maps.Equal(got, before) {
		t.Errorf("processes %v, before %v", got, before)
	}
	h.bootstrap("one", "zone: z\n")
	h.must("upgrade", "--all")
	l.progress(50)
	l.whole()
}

func readText(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestProxiesOutliveTheAgent(t *testing.T) {
	t.Parallel()
	h := newHost(t, "", "front", "one", "two")
	h.run()
	l := h.load(8)
	before := h.pids()
	h.agent.Kill()
	l.progress(50)
	h.run()
	if got := h.pids(); !maps.Equal(got, before) {
		t.Errorf("processes %v, before %v", got, before)
	}
	h.must("upgrade", "--all") // of processes that another agent has started
	before = h.pids()
	h.agent.Kill()
	if err := os.Remove(h.path("agent.sock.state")); err != nil { // found by where they answer
		t.Fatal(err)
	}
	h.run()
	if got := h.pids(); !maps.Equal(got, before) {
		t.Errorf("processes %v, before %v", got, before)
	}
	h.stop()
	l.progress(50)
	h.run("--stop-proxies")
	if got := h.pids(); !maps.Equal(got, before) {
		t.Errorf("processes %v, before %v", got, before)
	}
	for name, p := range h.list() {
		if p.GetRestarts() != 0 {
			t.Errorf("%s was started again: %v", name, p)
		}
	}
	l.whole()
	h.stop()
	for name, pid := range before {
		if p, err := pidfd.Open(int(pid), 0); err == nil && !p.Ended() {
			t.Errorf("%s still runs", name)
		}
	}
}

func TestCrashWhileNoAgentRunsIsSeenByTheNext(t *testing.T) {
	t.Parallel()
	h := newHost(t, "", "one", "two")
	h.run()
	before := h.pids()
	h.agent.Kill()
	if err := syscall.Kill(int(before["one"]), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	h.run()
	if got := h.pids(); got["one"] == before["one"] || got["two"] != before["two"] {
		t.Errorf("processes %v, before %v", got, before)
	}
}

func TestProxyThatWasTakenOverByHandIsKept(t *testing.T) {
	t.Parallel()
	h := newHost(t, "", "one")
	h.run()
	for _, how := range []string{"--takeover", "SIGUSR2"} {
		before := h.list()["one"]
		if how == "SIGUSR2" {
			_ = syscall.Kill(int(before.GetPid()), syscall.SIGUSR2)
		} else {
			cmd := exec.Command(octoProxy, "--config", h.path("one.yaml"), "--takeover")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		}
		after := h.until("one", func(p *agentv1.Proxy) bool {
			return p.GetPid() != before.GetPid() && p.GetState() == agentv1.Proxy_STATE_SERVING
		})
		if after.GetRestarts() != 0 {
			t.Errorf("%s: %v", how, after)
		}
	}
}

func TestWrongConfigurationWaitsForAnother(t *testing.T) {
	t.Parallel()
	h := newHost(t, "", "one", "two")
	h.write("agent.yaml", strings.Replace(readText(t, h.path("agent.yaml")), "max_backoff: 0.5s", "max_backoff: 3600s", 1))
	h.bootstrap("one", "drain_dedline: 1s\n")
	h.start()
	h.in("two", agentv1.Proxy_STATE_SERVING)
	if p := h.in("one", agentv1.Proxy_STATE_REFUSED); !strings.Contains(p.GetWhy(), "drain_dedline") || p.GetRestarts() != 0 {
		t.Error(p)
	}
	// One that only the proxy finds.
	h.bootstrap("one", "tls: {certificate_file: c, key_file: k, authorities_file: a}\n")
	h.until("one", func(p *agentv1.Proxy) bool {
		return p.GetState() == agentv1.Proxy_STATE_REFUSED && strings.Contains(p.GetWhy(), "its configuration is wrong: ") && strings.Contains(p.GetWhy(), "no such file")
	})
	h.bootstrap("one", "")
	h.in("one", agentv1.Proxy_STATE_SERVING)
	h.bootstrap("one", "drain_dedline: 1s\n")
	if code := h.proxy("one", "/ready"); code != 200 {
		t.Errorf("a bad file has changed a proxy that runs: %d", code)
	}
}

func TestCrashLoopIsSaidAndTriedOn(t *testing.T) {
	t.Parallel()
	h := newHost(t, "", "one")
	h.write("octo-proxy", "#!/bin/sh\nexit 3\n")
	h.write("agent.yaml", strings.Replace(readText(t, h.path("agent.yaml")), "binary: "+octoProxy, "binary: ./octo-proxy", 1))
	h.start()
	p := h.in("one", agentv1.Proxy_STATE_CRASH_LOOP)
	if p.GetRestarts() < 5 || !strings.Contains(p.GetWhy(), "ended with 3") {
		t.Error(p)
	}
	if code, _, errs := h.octo("list", "--serving"); code != 1 || !strings.Contains(errs, "1 of 1 proxies do not serve") {
		t.Error(code, errs)
	}
	if out := h.must("list"); !strings.Contains(out, "crash loop") || !strings.Contains(out, "ended with 3") {
		t.Error(out)
	}
	if code, _, errs := h.octo("restart", "one"); code != 1 || !strings.Contains(errs, "ended with 3") {
		t.Error(code, errs)
	}
	h.write("octo-proxy", "#!/bin/sh\nexec "+octoProxy+" \"$@\"\n")
	h.in("one", agentv1.Proxy_STATE_SERVING)
	h.must("list", "--serving")
}

func TestProxyThatHangsIsKilled(t *testing.T) {
	t.Parallel()
	h := newHost(t, ", silence: 1s", "one")
	h.run()
	before := h.list()["one"]
	if err := syscall.Kill(int(before.GetPid()), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p := h.until("one", func(p *agentv1.Proxy) bool {
		return p.GetPid() != before.GetPid() && p.GetState() == agentv1.Proxy_STATE_SERVING
	})
	if p.GetRestarts() != 1 || !strings.Contains(p.GetWhy(), "it did not answer for 1s and was killed") {
		t.Error(p)
	}
}

func TestProxyThatHangsIsOnlyReportedIfSo(t *testing.T) {
	t.Parallel()
	h := newHost(t, ", silence: 0.2s, on_silence: ON_SILENCE_REPORT", "one")
	h.run()
	before := h.list()["one"]
	_ = syscall.Kill(int(before.GetPid()), syscall.SIGSTOP)
	h.in("one", agentv1.Proxy_STATE_SILENT)
	_ = syscall.Kill(int(before.GetPid()), syscall.SIGCONT)
	if p := h.in("one", agentv1.Proxy_STATE_SERVING); p.GetPid() != before.GetPid() || p.GetRestarts() != 0 {
		t.Error(p)
	}
}

func TestRestartStartsAnew(t *testing.T) {
	t.Parallel()
	h := newHost(t, "", "one", "two")
	h.run()
	before := h.pids()
	h.write("one.yaml", strings.Replace(readText(t, h.path("one.yaml")), "one.sock", "other.sock", 1))
	h.must("restart", "one")
	if got := h.pids(); got["one"] == before["one"] || got["two"] != before["two"] {
		t.Errorf("processes %v, before %v", got, before)
	}
	if _, err := os.Stat(h.path("other.sock")); err != nil {
		t.Error(err)
	}
	if p := h.list()["one"]; p.GetRestarts() != 0 {
		t.Error(p)
	}
}

func TestCommandLines(t *testing.T) {
	t.Parallel()
	h := newHost(t, "", "one")
	if code, _, errs := h.octo("list"); code != 1 || !strings.Contains(errs, "no agent answers at") {
		t.Error(code, errs)
	}
	h.run()
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"upgrade", 2, "--all"}, {"upgrade --all one", 2, "--all"}, {"restart --binary /bin/true one", 2, "--binary is for upgrade"},
		{"upgrade other", 5, "octo proxy list"}, {"upgrade one other", 5, "other"}, {"upgrade --all --binary /no/such", 3, "/no/such"},
		{"", 2, "octo proxy list"}, {"list one", 2, "octo proxy list"}, {"lst", 2, "octo proxy list"},
	} {
		if code, _, errs := h.octo(strings.Fields(c.args)...); code != c.code || !strings.Contains(errs, c.want) {
			t.Errorf("octo proxy %s: %d %s", c.args, code, errs)
		}
	}
	cmd := exec.Command(octo, "agent", "--config", h.path("agent.yaml"))
	if out, err := cmd.CombinedOutput(); err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "an agent running already") {
		t.Errorf("%v %s", err, out)
	}
	h.write("bad.yaml", "proxies:\n- {name: one}\n")
	cmd = exec.Command(octo, "agent", "--config", h.path("bad.yaml"))
	if out, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 3 || !strings.Contains(string(out), "bad.yaml:2: proxies[0].bootstrap_file: is missing") {
		t.Errorf("%d %s", cmd.ProcessState.ExitCode(), out)
	}
}
