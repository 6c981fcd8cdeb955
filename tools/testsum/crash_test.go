package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// dump is what a package says whose time is over, with goroutines of all kinds.
const dump = `panic: test timed out after 4m0s
	running tests:
		TestHangs/inner (3m59s)

goroutine 9 [running]:
testing.(*M).startAlarm.func1()
	/go/src/testing/testing.go:2802 +0x354
created by time.goFunc
	/go/src/time/sleep.go:215 +0x2d

goroutine 1 [chan receive, 3 minutes]:
testing.(*M).Run(0x3433875e280)
	/go/src/testing/testing.go:2443 +0x6ac
main.main()
	_testmain.go:50 +0x9b

goroutine 27 [chan send, 3 minutes]:
example.net/them/library.(*Conn).flush(0xc000001, {0x1, 0x2})
	/mod/library/conn.go:20 +0x10
created by example.net/them/library.Connect in goroutine 30
	/mod/library/conn.go:10 +0x11

goroutine 30 [sync.WaitGroup.Wait, 3 minutes]:
sync.(*WaitGroup).Wait(0xc000010)
	/go/src/sync/waitgroup.go:10 +0x10
host.org/us/mesh/registry.(*Source).Close(0xc000020)
	/us/mesh/registry.go:30 +0x12

goroutine 31 [select, 3 minutes]:
host.org/us/mesh/registry.(*Source).watch(0xc000020, {0xc0001, 0x7})
	/us/mesh/registry.go:70 +0x12
created by host.org/us/mesh/registry.New in goroutine 30
	/us/mesh/registry.go:60 +0x13

goroutine 32 [select, 2 minutes]:
host.org/us/mesh/registry.(*Source).watch(0xc000040, {0xc0009, 0x9})
	/us/mesh/registry.go:70 +0x12
created by host.org/us/mesh/registry.New in goroutine 31
	/us/mesh/registry.go:60 +0x13`

func TestCrashReportShowsWhoWaitsInOurPackagesFirst(t *testing.T) {
	got := strings.Join(crashReport("host.org/us/mesh/registry", strings.Split(dump, "\n")), "\n")
	rest := got
	for _, want := range []string{
		"panic: test timed out after 4m0s\n", "TestHangs/inner (3m59s)\n",
		"goroutine 30 [sync.WaitGroup.Wait, 3 minutes]:\n", "(*Source).Close",
		"goroutine 31 [select, 3 minutes]: (and 1 more at the same place)\n", "(*Source).watch",
		"goroutine 27 [chan send, 3 minutes]:\n", "(*Conn).flush",
		"2 more goroutines are left out",
	} {
		_, after, found := strings.Cut(rest, want)
		if !found {
			t.Fatalf("%q is missing, or not in its place, in:\n%s", want, got)
		}
		rest = after
	}
	for _, not := range []string{"startAlarm", "main.main", "goroutine 32"} {
		if strings.Contains(got, not) {
			t.Errorf("%q should not be in:\n%s", not, got)
		}
	}
}

func TestCrashReportIsBounded(t *testing.T) {
	lines := []string{"panic: boom"}
	for i := range 2000 {
		place := strings.Repeat("x", i%1000+1) // two goroutines at each place
		lines = append(lines, "", "goroutine 7 [running]:", "host.org/us/mesh."+place+"()", "\t/us/mesh.go:1 +0x1")
	}
	got := crashReport("host.org/us/mesh", lines)
	if len(got) > 2*maxStackLines || len(got) < maxStackLines {
		t.Errorf("%d lines", len(got))
	}
	if last := got[len(got)-1]; last != "1734 more goroutines are left out" {
		t.Error(last)
	}
}

// TestTimedOutPackageIsExplained is on what go really says: it gives the dump to the test that spoke last, which has passed.
func TestTimedOutPackageIsExplained(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module host.org/us/mesh\n\ngo 1.24\n",
		"mesh_test.go": `package mesh

import "testing"

func waitsForEver() { <-make(chan int) }

func TestHangs(t *testing.T) {
	t.Parallel()
	t.Run("inner", func(t *testing.T) { t.Parallel(); waitsForEver() })
}

func TestPasses(t *testing.T) { t.Parallel() }
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.Command("go", "test", "-json", "-timeout", "2s", ".")
	command.Dir = dir
	command.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
	events, _ := command.Output() // it fails, as it should
	s, out := summarize(t, string(events))
	if s.ok() {
		t.Error("it is good")
	}
	for _, want := range []string{
		"--- NOT ENDED: host.org/us/mesh TestHangs/inner\n", "--- CRASHED: host.org/us/mesh\npanic: test timed out after 2s\n",
		"\tTestHangs/inner (", "host.org/us/mesh.waitsForEver", "\n1 passed, 1 failed, 0 skipped\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
	if strings.Contains(out, "startAlarm") {
		t.Errorf("the alarm itself explains nothing:\n%s", out)
	}
}

func TestCrashOfAPackageThatPassedIsNoNews(t *testing.T) {
	said, err := json.Marshal(event{Action: "output", Package: "p", Test: "TestA", Output: "panic: of a child that should\n"})
	if err != nil {
		t.Fatal(err)
	}
	s, out := summarize(t, string(said)+`
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p"}`)
	if !s.ok() || strings.Contains(out, "panic") {
		t.Errorf("it is told: %s", out)
	}
}
