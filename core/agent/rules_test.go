package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	agentv1 "github.com/octomesh/octomesh/gen/control/octo/agent/v1"

	"github.com/octomesh/octomesh/core/lifecycle/pidfd"
)

func TestBackoffDoublesUpToItsCap(t *testing.T) {
	b := &backoff{least: 200 * time.Millisecond, most: 30 * time.Second, steady: time.Minute}
	want := []time.Duration{200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000}
	for n, ms := range want {
		if got := b.crashed(time.Second, 0); got != ms*time.Millisecond {
			t.Errorf("after %d crashes: %v, want %v", n+1, got, ms*time.Millisecond)
		}
		if b.looping() != (n+1 >= loop) {
			t.Errorf("after %d crashes it is said to loop: %v", n+1, b.looping())
		}
	}
	if got := b.crashed(0, 1); got != 15*time.Second {
		t.Errorf("with all of the jitter %v, want half of the cap", got)
	}
	if got := b.crashed(time.Minute, 0); got != 200*time.Millisecond || b.looping() {
		t.Errorf("after it had served well: %v, %d crashes", got, b.crashes)
	}
	for range 1000 { // never beyond what a duration holds
		if got := b.crashed(0, 0); got <= 0 || got > 30*time.Second {
			t.Fatal(got)
		}
	}
}

// A proxy is silent if several answers are missing in a row, not if the agent itself was away for long.
func TestSilenceNeedsSeveralFailures(t *testing.T) {
	var s silence
	begun := time.Now()
	for n, want := range []time.Duration{0, 0, 3 * time.Hour, 4 * time.Hour} {
		if got := s.failed(begun.Add(time.Duration(n)*time.Hour), begun.Add(time.Duration(n+1)*time.Hour)); got != want {
			t.Errorf("failure %d: silent for %v, want %v", n+1, got, want)
		}
	}
}

func TestRecordIsKeptWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "state")
	r, err := openRecord(path)
	if err != nil {
		t.Fatal(err)
	}
	one := &agentv1.Record_Process{Proxy: "one", Pid: 12, Start: 1 << 40, Binary: "b"}
	for _, p := range []*agentv1.Record_Process{one, {Proxy: "two", Pid: 13}} {
		if err := r.note(p.GetProxy(), p); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.note("two", nil); err != nil {
		t.Fatal(err)
	}
	if r, err = openRecord(path); err != nil || len(r.names()) != 1 {
		t.Fatal(r.names(), err)
	}
	if got := r.of("one"); got.GetPid() != 12 || got.GetStart() != 1<<40 || got.GetBinary() != "b" {
		t.Error(got)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// After a reboot the number is somebody else's.
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), pidfd.Boot(), "another", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err = openRecord(path); err != nil || r.of("one").GetPid() != 0 || r.of("one").GetBinary() != "b" {
		t.Error(r.of("one"), err)
	}
	if err := os.WriteFile(path, text[:len(text)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err = openRecord(path); err == nil || r.of("one").GetPid() != 0 {
		t.Error("half a file was read", r.of("one"))
	}
}

func TestConfigSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.yaml")
	const proxy = "proxies: [{name: a, bootstrap_file: a.yaml}]\n"
	for text, want := range map[string]string{
		"socket: s\n": "proxies: is missing",
		"proxies: [{name: 'a b', bootstrap_file: a.yaml}]\n":                                  "is not a name",
		"proxies: [{name: a, bootstrap_file: a.yaml}, {name: a, bootstrap_file: b.yaml}]\n":   "stands twice",
		"proxies: [{name: a, bootstrap_file: a.yaml}, {name: b, bootstrap_file: ./a.yaml}]\n": "is another proxy's too",
		proxy + "restarts: {backoff: 2s, max_backoff: 1s}\n":                                  "restarts.max_backoff: is less than backoff",
		proxy + "health: {silence: 0.001s}\n":                                                 "health.silence: 1ms is not from",
		proxy + "health: {on_silence: ON_SILENCE_SHOUT}\n":                                    "ON_SILENCE_SHOUT",
		proxy + "socket: " + strings.Repeat("x", 120) + "\n":                                  "socket: octo: socket path has",
		proxy + "restart: {}\n":                                                               "did you mean restarts",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadConfig(path, func(string) string { return "" }); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if err := os.WriteFile(path, []byte(proxy+"restarts: {backoff: 45s}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := ReadConfig(path, func(name string) string { return map[string]string{SocketVariable: "here.sock"}[name] })
	if err != nil {
		t.Fatal(err)
	}
	if c.GetSocket() != filepath.Join(dir, "here.sock") || c.GetStateFile() != c.GetSocket()+".state" || c.GetBinary() != DefaultBinary ||
		c.GetProxies()[0].GetBootstrapFile() != filepath.Join(dir, "a.yaml") || c.GetRestarts().GetMaxBackoff().AsDuration() != 45*time.Second ||
		c.GetHealth().GetOnSilence() != agentv1.HealthConfig_ON_SILENCE_KILL {
		t.Error(c)
	}
}

// TestGuideShowsAFileThatWorks reads the YAML of docs/guides/agent.md as an agent would.
func TestGuideShowsAFileThatWorks(t *testing.T) {
	guide, err := os.ReadFile(filepath.Join("..", "..", "docs", "guides", "agent.md"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(guide), "```yaml\n")[1:]
	if len(blocks) != 1 {
		t.Fatalf("%d blocks of YAML", len(blocks))
	}
	text, _, _ := strings.Cut(blocks[0], "```")
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := ReadConfig(path, func(string) string { return "" }); err != nil || len(c.GetProxies()) != 3 || c.GetProxies()[2].GetBinary() != "/usr/bin/octo-gateway" {
		t.Fatal(c, err)
	}
}
