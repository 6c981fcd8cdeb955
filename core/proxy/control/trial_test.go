package control_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/octomesh/octomesh/core/proxy/control"
	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

const report = "panic: runtime error: index out of range [1] with length 0\n\ngoroutine 1 [running]:\n"

// crash makes of a directory whose proxy runs one whose proxy has crashed, if there is a report.
func (p *proxy) crash(t testing.TB, dir, report string) {
	t.Helper()
	trial, err := os.ReadFile(filepath.Join(dir, "trial"))
	p.stop() // gracefully: so what it removes is put back
	if left, _ := os.ReadFile(filepath.Join(dir, "trial")); len(left) > 0 {
		t.Fatal("a graceful end leaves a trial behind")
	}
	for name, content := range map[string][]byte{"trial": trial, "crash": []byte(report)} {
		if werr := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil || werr != nil {
			t.Fatal(err, werr)
		}
	}
}

func policyOf(seconds int64) *resourcev1.ServicePolicy {
	return &resourcev1.ServicePolicy{DefaultTimeout: &durationpb.Duration{Seconds: seconds}}
}

// timeout is that of stock's policy, in seconds; -1: there is none.
func (p *proxy) timeout() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.current.GetPolicies() {
		if s.Target == "stock" {
			return s.GetDefaultTimeout().GetSeconds()
		}
	}
	return -1
}

func (p *proxy) awaitTimeout(t testing.TB, want int64) {
	t.Helper()
	ctx := within(t)
	for p.timeout() != want {
		select {
		case <-p.applied:
		case <-ctx.Done():
			t.Fatalf("the timeout is %d, want %d", p.timeout(), want)
		}
	}
}

func TestAVersionThatCrashesTheProxyTwiceIsRefused(t *testing.T) {
	dir := t.TempDir()
	pilot := startPilot(t)
	pilot.endpoint("stock", "s1", "h:1")
	pilot.Set(resource.KindServicePolicy, "stock", "", policyOf(1))
	start := func() *proxy {
		p := startProxy(t, dir, nil, pilot.Conn)
		if err := p.Await(within(t), "stock"); err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := start()
	p.awaitTimeout(t, 1)
	p.stop()
	p = start()
	bad := pilot.Set(resource.KindServicePolicy, "stock", "", policyOf(13))
	p.awaitTimeout(t, 13)
	p.crash(t, dir, report)
	p = start()
	p.awaitTimeout(t, 13) // once may be an accident
	suspects := p.Quarantined()
	if len(suspects) != 1 || suspects[0].Version != bad || suspects[0].Crashes != 1 || suspects[0].Refused {
		t.Fatalf("%+v", suspects)
	}
	p.crash(t, dir, report)
	p = start()
	p.awaitTimeout(t, 1) // the last good one
	select {
	case why := <-pilot.refused:
		if !strings.Contains(why, "crashed 2 times") || !strings.Contains(why, "index out of range") || !strings.Contains(why, bad) {
			t.Fatal(why)
		}
	case <-time.After(long):
		t.Fatal("nobody refused it")
	}
	if s := p.Suspects(); len(s) != 1 || !s[0].Quarantined || s[0].Crashes != 2 || s[0].Name != "prod/stock" {
		t.Fatal(s)
	}
	p.stop()
	p = start()
	p.awaitTimeout(t, 1) // also after a restart
	p.stop()
	states, err := filepath.Glob(filepath.Join(dir, "config-*"))
	if err != nil || len(states) == 0 {
		t.Fatal(states, err)
	}
	for _, path := range states { // as if the good one had not come to the disk before the crash
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	p = start()
	p.awaitTimeout(t, 1)
	pilot.Set(resource.KindServicePolicy, "stock", "", policyOf(2))
	p.awaitTimeout(t, 2)
	pilot.Set(resource.KindServicePolicy, "stock", "", policyOf(13))
	select {
	case <-pilot.refused:
	case <-time.After(long):
		t.Fatal("it is refused for good")
	}
	if n := p.Pardon("prod/stock"); n != 1 {
		t.Fatalf("%d pardoned", n)
	}
	p.awaitTimeout(t, 13)
}

func TestOnlyACrashSpeaksAgainstAVersion(t *testing.T) {
	for _, c := range []struct{ what, report string }{
		{"a kill, or the loss of power", ""},
		{"somebody who wants to see the goroutines", "SIGQUIT: quit\nPC=0x1\n"},
	} {
		t.Run(c.what, func(t *testing.T) {
			dir := t.TempDir()
			pilot := startPilot(t)
			for i := range int64(3) {
				p := startProxy(t, dir, nil, pilot.Conn)
				if err := p.Await(within(t), "stock"); err != nil {
					t.Fatal(err)
				}
				pilot.Set(resource.KindServicePolicy, "stock", "", policyOf(13+i))
				p.awaitTimeout(t, 13+i)
				p.crash(t, dir, c.report)
			}
			if s := control.New(control.Config{Environment: "prod", Dir: dir, Log: quiet}).Quarantined(); len(s) > 0 {
				t.Fatal(s)
			}
		})
	}
}

func TestAnotherVersionOfTheProxyBeginsAnew(t *testing.T) {
	dir := t.TempDir()
	pilot := startPilot(t)
	p := startProxy(t, dir, nil, pilot.Conn)
	if err := p.Await(within(t), "stock"); err != nil {
		t.Fatal(err)
	}
	pilot.Set(resource.KindServicePolicy, "stock", "", policyOf(13))
	p.awaitTimeout(t, 13)
	p.crash(t, dir, report)
	with := func(software string) int {
		return len(control.New(control.Config{Environment: "prod", Dir: dir, Software: software, Log: quiet}).Quarantined())
	}
	if first := with(""); first != 1 || with("") != 1 || with("2") != 0 {
		t.Fatal("a crash is to be remembered by the version that crashed")
	}
}

// TestSpoiledTrialsHarmNobody cuts and changes the files of the quarantine at every offset.
func TestSpoiledTrialsHarmNobody(t *testing.T) {
	dir := t.TempDir()
	pilot := startPilot(t)
	p := startProxy(t, dir, nil, pilot.Conn)
	if err := p.Await(within(t), "stock"); err != nil {
		t.Fatal(err)
	}
	version := pilot.Set(resource.KindServicePolicy, "stock", "", policyOf(13))
	p.awaitTimeout(t, 13)
	p.crash(t, dir, report)
	files := make(map[string][]byte)
	read := func(name string) {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = content
	}
	read("trial")
	read("crash")
	suspects := func(trial, suspects []byte) []control.Quarantine {
		d := t.TempDir()
		for name, content := range map[string][]byte{"trial": trial, "suspects": suspects, "crash": files["crash"]} {
			if content == nil {
				continue
			}
			if err := os.WriteFile(filepath.Join(d, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return control.New(control.Config{Environment: "prod", Dir: d, Log: quiet}).Quarantined()
	}
	whole := suspects(files["trial"], nil)
	if len(whole) != 1 || whole[0].Version != version {
		t.Fatalf("%+v", whole)
	}
	control.New(control.Config{Environment: "prod", Dir: dir, Log: quiet})
	read("suspects")
	invented := func(found []control.Quarantine) bool {
		return slices.ContainsFunc(found, func(q control.Quarantine) bool {
			return q.Version != version || q.Crashes > 2 || q.Name != "prod/stock"
		})
	}
	for i := range files["trial"] {
		bad := slices.Clone(files["trial"])
		bad[i] ^= 1
		if invented(suspects(files["trial"][:i], nil)) || invented(suspects(bad, nil)) {
			t.Fatalf("a trial that is spoiled at %d invents suspects", i)
		}
	}
	for i := range files["suspects"] {
		bad := slices.Clone(files["suspects"])
		bad[i] ^= 1
		for _, content := range [][]byte{files["suspects"][:i], bad} {
			if len(suspects(nil, content)) > 0 {
				t.Fatalf("suspects that are spoiled at %d are believed", i)
			}
		}
	}
}
