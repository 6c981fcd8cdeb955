package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// family returns a process and those that it started and that live, like a server's workers.
func family(pid int) []int {
	out := []int{pid}
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for child := range strings.FieldsSeq(string(text)) {
			if n, err := strconv.Atoi(child); err == nil {
				out = append(out, family(n)...)
			}
		}
	}
	return out
}

// cpuTime returns how long a process and its children have run on a CPU, user and system together.
func cpuTime(pid int) (time.Duration, error) {
	var sum time.Duration
	for _, p := range family(pid) {
		d, err := clockOf(p)
		if err != nil {
			return 0, err
		}
		sum += d
	}
	return sum, nil
}

// clockOf reads a process' CPU clock, in nanoseconds' precision: /proc/<pid>/stat counts the same in ticks of
// 10 ms, too coarse for a round of a second.
func clockOf(pid int) (time.Duration, error) {
	// The clock of another process, as clock_getcpuclockid(3) makes it: the pid inverted, above the kind.
	const scheduled = 2
	clock := uintptr(int32(^pid)<<3 | scheduled)
	var ts syscall.Timespec
	if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&ts)), 0); errno != 0 {
		return 0, fmt.Errorf("CPU clock of process %d: %w", pid, errno)
	}
	return time.Duration(ts.Nano()), nil
}

// residentMB returns the resident memory of a process and its children in MB.
func residentMB(pid int) (float64, error) {
	sum := 0.0
	for _, p := range family(pid) {
		mb, err := residentOf(p)
		if err != nil {
			return 0, err
		}
		sum += mb
	}
	return sum, nil
}

func residentOf(pid int) (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
			return kb / 1024, err
		}
	}
	return 0, fmt.Errorf("process %d tells no VmRSS", pid)
}

// countingTime is how long system calls are counted, in a round of their own: counting costs some CPU.
const countingTime = 300 * time.Millisecond

const syscallEvent = "raw_syscalls:sys_enter"

// syscallsPerSecond counts the system calls of a process and its children by perf.
func syscallsPerSecond(pid int, d time.Duration) (float64, error) {
	var pids []string
	for _, p := range family(pid) {
		pids = append(pids, strconv.Itoa(p))
	}
	// perf counts while the command that it is given runs.
	cmd := exec.Command("perf", "stat", "-x", ",", "-e", syscallEvent, "-p", strings.Join(pids, ","), "sleep", fmt.Sprint(d.Seconds()))
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		return 0, fmt.Errorf("perf: %w\n%s", err, &said)
	}
	n, err := countIn(said.String())
	return n / d.Seconds(), err
}

// countIn finds the count in perf's line of separated fields.
func countIn(said string) (float64, error) {
	for line := range strings.Lines(said) {
		fields := strings.Split(line, ",")
		if slices.Contains(fields, syscallEvent) {
			return strconv.ParseFloat(fields[0], 64)
		}
	}
	return 0, fmt.Errorf("perf counted nothing: %s", said)
}

// countsSyscalls tells whether perf may count system calls here: it needs the kernel's trace points, and
// rights.
func countsSyscalls() bool {
	cmd := exec.Command("perf", "stat", "-x", ",", "-e", syscallEvent, "true")
	var said bytes.Buffer
	cmd.Stderr = &said
	if cmd.Run() != nil {
		return false
	}
	n, err := countIn(said.String())
	return err == nil && n > 0
}
