//go:build linux

// Package process does to processes what happens to them: they stop, die, run out of descriptors, or of disk. And
// it measures what they use, from outside. It knows them by their pid. Linux only.
package process

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Kill ends a process at once (SIGKILL).
func Kill(pid int) error { return signal(pid, syscall.SIGKILL) }

// Stop freezes a process (SIGSTOP): its connections stay, and nobody answers.
func Stop(pid int) error { return signal(pid, syscall.SIGSTOP) }

// Continue thaws a process that was stopped (SIGCONT).
func Continue(pid int) error { return signal(pid, syscall.SIGCONT) }

func signal(pid int, s syscall.Signal) error {
	if pid <= 1 {
		return fmt.Errorf("process %d is none of ours", pid)
	}
	if err := syscall.Kill(pid, s); err != nil {
		return fmt.Errorf("signal %v to process %d: %w", s, pid, err)
	}
	return nil
}

// LimitDescriptors sets how many descriptors a process may have open, without changing its hard limit, and returns
// the limit before it. A limit below what is open takes away nothing: the process opens no more.
func LimitDescriptors(pid int, n uint64) (before uint64, err error) {
	var old unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &old); err != nil {
		return 0, fmt.Errorf("descriptors of process %d: %w", pid, err)
	}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: old.Max}, nil); err != nil {
		return 0, fmt.Errorf("limiting process %d to %d descriptors: %w", pid, n, err)
	}
	return old.Cur, nil
}

// Descriptors is how many a process has open, and the number of the next one that it would open. A limit of this
// number lets it open none.
func Descriptors(pid int) (open int, next uint64, err error) {
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	used := make(map[string]bool, len(all))
	for _, e := range all {
		used[e.Name()] = true
	}
	for used[strconv.FormatUint(next, 10)] {
		next++
	}
	return len(all), next, err
}

// ticksPerSecond is the unit of times in /proc, the same on all architectures that Go knows.
const ticksPerSecond = 100

// CPU is the processor time that a process has used, user and system.
func CPU(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // from the state on, field 3
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %q", pid, b)
	}
	ticks := 0
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			return 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / ticksPerSecond, nil
}

// Memory is how many bytes of a process are resident, and the most that were since it began, or since [ForgetPeak].
func Memory(pid int) (resident, peak int64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(b)) {
		name, text, _ := strings.Cut(line, ":")
		into := map[string]*int64{"VmRSS": &resident, "VmHWM": &peak}[name]
		if into == nil {
			continue
		}
		if _, err := fmt.Sscanf(text, "%d kB", into); err != nil {
			return 0, 0, fmt.Errorf("/proc/%d/status: %q: %w", pid, line, err)
		}
		*into *= 1024
	}
	if resident == 0 || peak == 0 {
		return 0, 0, fmt.Errorf("process %d has no memory: %w", pid, os.ErrProcessDone)
	}
	return resident, peak, nil
}

// ForgetPeak has the peak of a process's memory begin anew.
func ForgetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}
