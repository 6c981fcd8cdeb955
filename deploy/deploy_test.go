// Package deploy checks what others run us by: systemd's units.
package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var program = regexp.MustCompile(`/usr/bin/octo(-proxy|-gateway)?\b`)

// TestUnitsAreSound has systemd read the units, and say what a process of each could still do. Without systemd-analyze, which is in
// Debian's package systemd, it can say nothing.
func TestUnitsAreSound(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed: the units are not checked")
	}
	units, err := filepath.Glob("systemd/octo*.s*")
	if err != nil || len(units) < 5 {
		t.Fatal(units, err)
	}
	dir := t.TempDir()
	var all []string
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		copied := filepath.Join(dir, filepath.Base(unit))
		// systemd looks whether the programs are there.
		if err := os.WriteFile(copied, program.ReplaceAll(text, []byte("/bin/true")), 0o600); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(unit, ".conf") {
			continue
		}
		all = append(all, copied)
	}
	cmd := exec.Command(analyze, append([]string{"verify", "--man=no"}, all...)...)
	cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":")
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	for _, unit := range all {
		if !strings.HasSuffix(unit, ".service") {
			continue
		}
		if out, err := exec.Command(analyze, "security", "--offline=yes", "--threshold=20", unit).CombinedOutput(); err != nil {
			t.Errorf("%s is exposed beyond 2.0 of 10: %v\n%s", filepath.Base(unit), err, out)
		}
	}
}

// TestUnitsAgreeWithTheProgram: on exit codes, signals and places.
func TestUnitsAgreeWithTheProgram(t *testing.T) {
	for unit, wants := range map[string][]string{
		"octo-proxy.service":   {"Type=notify", "NotifyAccess=all", "kill -USR2 $MAINPID", "RestartPreventExitStatus=78", "FileDescriptorStoreMax=", "ReadWritePaths=/run/octo"},
		"octo-gateway.service": {"Type=notify", "NotifyAccess=all", "kill -USR2 $MAINPID", "RestartPreventExitStatus=78", "FileDescriptorStoreMax=", "ReadWritePaths=/run/octo"},
		"octo-proxy.socket":    {"ListenStream=/run/octo/octo.sock", "SocketMode=0660"},
		"octo-agent.service":   {"Type=notify", "KillMode=process", "RestartPreventExitStatus=3"},
		"octo.tmpfiles.conf":   {"d /run/octo 0750 octo octo"},
	} {
		text, err := os.ReadFile(filepath.Join("systemd", unit))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s lacks %s", unit, want)
			}
		}
	}
}
