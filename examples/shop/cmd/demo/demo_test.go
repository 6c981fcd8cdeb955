package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary is the demo, built once.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "octo")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "demo")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%s\n%v\n", out, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// running is a demo that runs.
type running struct {
	cmd    *exec.Cmd
	temp   string // where it makes its directory
	lines  chan string
	exited chan error

	mu  sync.Mutex
	out bytes.Buffer
}

const limit = 2 * time.Minute // with all programs to build on a cold machine

func demo(t *testing.T, args ...string) *running {
	t.Helper()
	temp, err := os.MkdirTemp("", "octo") // that of t has too long a name for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(temp) })
	r := &running{cmd: exec.Command(binary, args...), temp: temp, lines: make(chan string, 1000), exited: make(chan error, 1)}
	r.cmd.Env = append(os.Environ(), "TMPDIR="+r.temp)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.cmd.Stdout, r.cmd.Stderr = write, write
	err = r.cmd.Start()
	_ = write.Close()
	if err != nil {
		t.Fatal(err)
	}
	go r.follow(read)
	t.Cleanup(func() {
		_ = r.cmd.Process.Signal(syscall.SIGTERM) // it ends its children; it may have ended already
		<-r.exited
	})
	return r
}

func (r *running) follow(read io.ReadCloser) {
	lines := bufio.NewScanner(read)
	for lines.Scan() {
		r.mu.Lock()
		fmt.Fprintln(&r.out, lines.Text())
		r.mu.Unlock()
		r.lines <- lines.Text()
	}
	_ = read.Close()
	r.exited <- r.cmd.Wait()
	close(r.exited)
}

func (r *running) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.String()
}

// until waits for a line with the text.
func (r *running) until(t *testing.T, text string) string {
	t.Helper()
	for {
		select {
		case l := <-r.lines:
			if strings.Contains(l, text) {
				return l
			}
		case err := <-r.exited:
			t.Fatalf("ended with %v before it said %q:\n%s", err, text, r.text())
		case <-time.After(limit):
			t.Fatalf("did not say %q:\n%s", text, r.text())
		}
	}
}

// end waits for the end and returns the exit code.
func (r *running) end(t *testing.T) int {
	t.Helper()
	select {
	case err := <-r.exited:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return r.cmd.ProcessState.ExitCode()
	case <-time.After(limit):
		t.Fatalf("does not end:\n%s", r.text())
		return 0
	}
}

var process = regexp.MustCompile(`(?:process|its proxy) (\d+)`)

// processes are those that the demo said it started.
func (r *running) processes(t *testing.T) []int {
	t.Helper()
	var all []int
	for _, m := range process.FindAllStringSubmatch(r.text(), -1) {
		pid, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, pid)
	}
	return all
}

func (r *running) wantNoneLeft(t *testing.T, atLeast int) {
	t.Helper()
	pids := r.processes(t)
	if len(pids) < atLeast {
		t.Errorf("only %d processes were named", len(pids))
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d is still there: %v", pid, err)
		}
	}
}

// behind returns the first line behind another that has the text.
func behind(text, title, part string) string {
	_, rest, _ := strings.Cut(text, title)
	for l := range strings.Lines(rest) {
		if strings.Contains(l, part) {
			return l
		}
	}
	return ""
}

func TestDemoCountsEachCallOnItsWay(t *testing.T) {
	r := demo(t)
	if code := r.end(t); code != 0 {
		t.Fatalf("exit code %d:\n%s", code, r.text())
	}
	mesh, direct, both := strings.Cut(r.text(), "Direct: the same services")
	if !both {
		t.Fatalf("no direct part:\n%s", r.text())
	}
	for _, want := range []string{
		" ms: handler ", "customer's proxy → checkout's proxy → checkout\n", "checkout's proxy → cart's proxy → cart ×2\n",
		"FAILED_PRECONDITION as expected: wanted 5 globe, 3 there", "DEADLINE_EXCEEDED as expected",
		"open in customer's proxy: outbound catalogue/WatchStock catalogue-", "checkout's proxy → catalogue-b's proxy → catalogue-b\n",
	} {
		if !strings.Contains(mesh, want) {
			t.Errorf("the mesh part lacks %q", want)
		}
	}
	for _, want := range []string{"customer → checkout\n", "checkout → cart ×2\n", "Everything was as expected."} {
		if !strings.Contains(direct, want) {
			t.Errorf("the direct part lacks %q", want)
		}
	}
	if strings.Contains(direct, "proxy →") {
		t.Error("a direct call went by a proxy")
	}
	// 6 times 300, and ImportProducts twice, List, Quote; all that went out came in.
	for row, want := range map[string]int{"customer      outbound    catalogue": 1804, "checkout      outbound    cart": 8} {
		if l := behind(mesh, "Calls by proxy", row); !strings.Contains(l, fmt.Sprintf(" %d ", want)) {
			t.Errorf("row %q is %q, want %d", row, l, want)
		}
	}
	if t.Failed() {
		t.Log(r.text())
	}
	r.wantNoneLeft(t, 11)
	if left, _ := os.ReadDir(r.temp); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func TestKeptMeshTakesAnOperatorsPoliciesUntilInterrupted(t *testing.T) {
	r := demo(t, "--keep")
	r.until(t, "The mesh keeps running")
	env := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "OCTO_") })
	bin := ""
	for range 2 { // what it tells one to export
		for _, v := range strings.Fields(strings.TrimPrefix(strings.TrimSpace(r.until(t, "export ")), "export ")) {
			if path, ok := strings.CutPrefix(v, "PATH="); ok {
				bin = strings.TrimSuffix(path, ":$PATH")
			}
			env = append(env, v)
		}
	}
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.Env = env
		said, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v: %s", name, args, err, said)
		}
		return string(said)
	}
	canary, err := os.ReadFile("../../policies/canary.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "canary.yaml")
	all := strings.NewReplacer("weight: 90", "weight: 0", "weight: 10", "weight: 1").Replace(string(canary))
	if err := os.WriteFile(file, []byte(all), 0o600); err != nil {
		t.Fatal(err)
	}
	run("octo", "apply", "-f", file, "-m", "all to version 2")
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		said := run("customer", "get", "--times", "100", "atlas")
		if strings.Contains(said, "answered by catalogue-b: 100\n") {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the policy does not hold: %s", said)
		}
	}
	if err := r.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := r.end(t); code != 0 {
		t.Errorf("exit code %d:\n%s", code, r.text())
	}
	r.wantNoneLeft(t, 11)
}

func TestDemoFailsWithALoudWordWhenAProxyDies(t *testing.T) {
	r := demo(t)
	line := r.until(t, "cart         process")
	pids := process.FindAllStringSubmatch(line, -1)
	proxy, err := strconv.Atoi(pids[len(pids)-1][1])
	if err != nil {
		t.Fatal(err)
	}
	r.until(t, " 1  ImportProducts")
	if err := syscall.Kill(proxy, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if code := r.end(t); code != 1 {
		t.Errorf("exit code %d", code)
	}
	text := r.text()
	for _, want := range []string{"demo failed: through the mesh: step ", "cart-proxy ended with signal: killed", "cart-proxy.log"} {
		if !strings.Contains(text, want) {
			t.Errorf("does not say %q", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
	r.wantNoneLeft(t, 5)
	logs := 0
	_ = filepath.WalkDir(r.temp, func(path string, _ fs.DirEntry, _ error) error {
		if strings.HasSuffix(path, ".log") {
			logs++
		}
		return nil
	})
	if logs < 9 {
		t.Errorf("%d logs are left to look at", logs)
	}
}
