//go:build linux

package process_test

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/octomesh/octomesh/conformance/faults/process"
)

// child is this test's binary: it answers each line with what opening a file gives, and then burns some time.
func TestMain(m *testing.M) {
	if os.Getenv("FAULTS_CHILD") == "" {
		os.Exit(m.Run())
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		f, err := os.Open(os.Args[0])
		if err != nil {
			_, _ = os.Stdout.WriteString("refused\n")
			continue
		}
		for begin := time.Now(); time.Since(begin) < 30*time.Millisecond; {
		}
		_ = f.Close()
		_, _ = os.Stdout.WriteString("opened\n")
	}
}

type child struct {
	*exec.Cmd
	in  io.Writer
	out *bufio.Reader
}

func start(t *testing.T) *child {
	t.Helper()
	c := &child{Cmd: exec.Command(os.Args[0])}
	c.Env = append(os.Environ(), "FAULTS_CHILD=1")
	var err error
	if c.in, err = c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewReader(out)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = process.Kill(c.Process.Pid), c.Wait() })
	return c
}

func (c *child) ask(t *testing.T, want string) {
	t.Helper()
	if _, err := io.WriteString(c.in, "open\n"); err != nil {
		t.Fatal(err)
	}
	if got, err := c.out.ReadString('\n'); err != nil || got != want+"\n" {
		t.Fatalf("%q, %v; want %q", got, err, want)
	}
}

func TestStopContinueAndKill(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.ask(t, "opened")
	if err := process.Stop(c.Process.Pid); err != nil {
		t.Fatal(err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(c.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		t.Fatal(status, err)
	}
	if err := process.Continue(c.Process.Pid); err != nil {
		t.Fatal(err)
	}
	c.ask(t, "opened")
	if err := process.Kill(c.Process.Pid); err != nil {
		t.Fatal(err)
	}
	var ended *exec.ExitError
	if err := c.Wait(); !errors.As(err, &ended) || ended.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatal(err)
	}
	if err := process.Kill(1); err == nil {
		t.Fatal("the first process was killed")
	}
}

func TestDescriptorsRunOutAndComeBack(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.ask(t, "opened")
	pid := c.Process.Pid
	open, next, err := process.Descriptors(pid)
	if err != nil || open < 3 || next < 3 {
		t.Fatal(open, next, err)
	}
	before, err := process.LimitDescriptors(pid, next)
	if err != nil {
		t.Fatal(err)
	}
	c.ask(t, "refused")
	if _, err := process.LimitDescriptors(pid, before); err != nil {
		t.Fatal(err)
	}
	c.ask(t, "opened")
}

func TestProcessorTimeIsCounted(t *testing.T) {
	t.Parallel()
	c := start(t)
	before, err := process.CPU(c.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // 30 ms each, in units of 10
		c.ask(t, "opened")
	}
	after, err := process.CPU(c.Process.Pid)
	if err != nil || after <= before {
		t.Fatal(before, after, err)
	}
}

func TestDiskIsFullAndReadOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "disk")
	remove, err := process.SmallDisk(dir, 64<<10)
	if errors.Is(err, fs.ErrPermission) {
		t.Skip("no right to mount a file system:", err)
	} else if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := remove(); err != nil {
			t.Error(err)
		}
	}()
	fill := filepath.Join(dir, "fill")
	if err := process.FillDisk(fill); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, make([]byte, 100), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, make([]byte, 100), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := process.ReadOnly(dir, true); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, nil, 0o600); !errors.Is(err, syscall.EROFS) {
		t.Fatal(err)
	}
	if err := process.ReadOnly(dir, false); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}
