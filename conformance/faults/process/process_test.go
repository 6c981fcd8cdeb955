//go:build linux

package process_test

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
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/octomesh/octomesh/conformance/faults/process"
)

// child is this test's binary: it answers each line with what was asked for. Opening a file burns some time.
func TestMain(m *testing.M) {
	if os.Getenv("FAULTS_CHILD") == "" {
		os.Exit(m.Run())
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		switch what := lines.Text(); what {
		case "clock":
			_, _ = fmt.Println(time.Now().Unix(), time.Since(begun).Seconds() < 3600)
			continue
		case "mounts":
			dir := filepath.Join(os.TempDir(), "disk")
			err := process.KeepMounts()
			if err == nil {
				_, err = process.SmallDisk(dir, 64<<10)
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, "file"), nil, 0o600)
			}
			_, _ = fmt.Println(os.Getuid(), err)
			continue
		case "memory":
			held = bytes.Repeat([]byte("x"), held20)
			_, _ = fmt.Println(len(held))
			continue
		}
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

const held20 = 20 << 20

var (
	begun = time.Now() // with a monotonic reading
	held  []byte
)

type child struct {
	*exec.Cmd
	in  io.Writer
	out *bufio.Reader
}

func start(t *testing.T) *child { return startWith(t, func(*exec.Cmd) {}) }

func startWith(t *testing.T, prepare func(*exec.Cmd)) *child {
	t.Helper()
	c := &child{Cmd: exec.Command(os.Args[0])}
	c.Env = append(os.Environ(), "FAULTS_CHILD=1")
	prepare(c.Cmd)
	var err error
	if c.in, err = c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewReader(out)
	if err := c.Start(); errors.Is(err, fs.ErrPermission) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = process.Kill(c.Process.Pid), c.Wait() })
	return c
}

func (c *child) ask(t *testing.T, want string) {
	t.Helper()
	if got := c.told(t, "open"); got != want+"\n" {
		t.Fatalf("%q, want %q", got, want)
	}
}

// told is what the child says to a word.
func (c *child) told(t *testing.T, word string) string {
	t.Helper()
	if _, err := io.WriteString(c.in, word+"\n"); err != nil {
		t.Fatal(err)
	}
	got, err := c.out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return got
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

func TestMemoryIsMeasured(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.ask(t, "opened")
	before, _, err := process.Memory(c.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	c.told(t, "memory")
	after, peak, err := process.Memory(c.Process.Pid)
	if err != nil || after < before+held20*9/10 || peak < after {
		t.Fatal(before, after, peak, err)
	}
	if err := process.ForgetPeak(c.Process.Pid); err != nil {
		t.Fatal(err)
	}
	if _, _, err := process.Memory(1 << 30); err == nil {
		t.Fatal("a process that is not there has memory")
	}
}

// TestOneProcessHasAnotherClock jumps while the child reads its clock, and many others do.
func TestOneProcessHasAnotherClock(t *testing.T) {
	t.Parallel()
	c, other := start(t), start(t)
	clock := func(c *child) time.Time {
		var at int64
		var steady bool
		if _, err := fmt.Sscan(c.told(t, "clock"), &at, &steady); err != nil || !steady {
			t.Fatal("the monotonic clock jumps, too", err)
		}
		return time.Unix(at, 0)
	}
	const hour, year = time.Hour, 365 * 24 * time.Hour
	for _, by := range []time.Duration{0, hour, -hour, 10 * year, -10 * year, 0} {
		if err := process.ShiftClock(c.Process.Pid, by); errors.Is(err, errors.ErrUnsupported) {
			t.Skip(err)
		} else if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if off := clock(c).Sub(time.Now().Add(by)).Abs(); off > time.Minute {
				t.Fatalf("by %v: it is %v off", by, off)
			}
		}
		if off := time.Since(clock(other)).Abs(); off > time.Minute {
			t.Fatalf("another process is %v off", off)
		}
	}
	if err := process.ShiftClock(1<<30, hour); err == nil {
		t.Fatal("a process that is not there has a clock")
	}
}

// TestMountsAreTheProgramsOwn has a child mount that need not be an administrator, where the host allows it.
func TestMountsAreTheProgramsOwn(t *testing.T) {
	dir := t.TempDir()
	c := startWith(t, func(cmd *exec.Cmd) {
		process.OwnMounts(cmd, true)
		cmd.Env = append(cmd.Env, "TMPDIR="+dir)
	})
	switch said := c.told(t, "mounts"); {
	case strings.Contains(said, "permission denied") || strings.Contains(said, "not permitted"):
		t.Skip("a user namespace without rights: " + said)
	case said != fmt.Sprintln(os.Getuid(), nil):
		t.Fatal(said)
	}
	if _, err := os.Stat(filepath.Join(dir, "disk", "file")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal("others see what it has mounted", err)
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
	open, err := os.Create(filepath.Join(dir, "open")) // which does not prevent it
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = open.Close() }()
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
