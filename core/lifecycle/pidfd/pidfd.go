// Package pidfd knows processes by more than their number: a pid is given again, and who holds nothing but that may
// signal a stranger, or wait for one. Linux only.
package pidfd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrGone says that the process has ended, or that its number is another one's by now.
var ErrGone = errors.New("the process has ended")

// Process is a process that lives or has ended, and never another one.
type Process struct {
	// PID is its number.
	PID int
	// Start is when it started, in ticks of the kernel since the host did: with PID it names one process of one boot.
	Start uint64

	pidfd *os.File
}

// Open finds a process. start 0 stands for whoever has the number now: that is certain for a child that was not waited for.
func Open(pid int, start uint64) (*Process, error) {
	if pid <= 0 {
		return nil, fmt.Errorf("%d is no process", pid)
	}
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	switch {
	case errors.Is(err, unix.ESRCH):
		return nil, ErrGone
	case err != nil:
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	p := &Process{PID: pid, pidfd: os.NewFile(uintptr(fd), "pidfd")}
	// What is read after the descriptor was opened is of the process that it stands for, or of nobody.
	if p.Start, err = StartOf(pid); err != nil || start != 0 && p.Start != start {
		p.Close()
		return nil, errors.Join(ErrGone, err)
	}
	return p, nil
}

// StartOf is when a process started, in ticks since the host did.
func StartOf(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	const startField = 22
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // the name before may hold anything; then field 3 comes
	if len(fields) <= startField-3 {
		return 0, fmt.Errorf("/proc/%d/stat: %q", pid, b)
	}
	return strconv.ParseUint(fields[startField-3], 10, 64)
}

// ticks is the kernel's unit in /proc, the same on all architectures that Go knows.
const ticks = time.Second / 100

// Age is how long a process runs that started then, in ticks since the host did.
func Age(start uint64) time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0
	}
	return max(0, time.Duration(now.Nano())-time.Duration(start)*ticks)
}

// Boot names the time since the host started.
func Boot() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// Binary is the file that the process runs; empty: it cannot be known.
func (p *Process) Binary() string {
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.PID))
	if err != nil || p.Ended() {
		return ""
	}
	return strings.TrimSuffix(path, " (deleted)")
}

// User is whose the process is.
func (p *Process) User() (uint32, error) {
	info, err := os.Stat(fmt.Sprintf("/proc/%d", p.PID))
	if err != nil || p.Ended() {
		return 0, ErrGone
	}
	return info.Sys().(*syscall.Stat_t).Uid, nil
}

// Signal signals the process. [ErrGone]: it has ended, or the Process is closed.
func (p *Process) Signal(s syscall.Signal) error {
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if raw.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), s, nil, 0) }) != nil { // it is closed
		return ErrGone
	}
	if errors.Is(sent, unix.ESRCH) {
		return ErrGone
	}
	return sent
}

// Ended tells whether it has ended.
func (p *Process) Ended() (ended bool) {
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return true
	}
	err = raw.Control(func(fd uintptr) { ended = readable(fd) })
	return ended || err != nil
}

// Wait returns when the process has ended; an error is ctx's. One goroutine waits at a time.
func (p *Process) Wait(ctx context.Context) error {
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return err
	}
	if err := p.pidfd.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = p.pidfd.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := raw.Read(readable); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	return nil
}

// Reap takes what a process leaves that has ended and that nobody else waits for: it may have become this process' child,
// such as in a container. For one that an exec.Cmd waits for it is not to be called.
func (p *Process) Reap() {
	if start, err := StartOf(p.PID); err == nil && start == p.Start {
		_, _ = unix.Wait4(p.PID, nil, unix.WNOHANG, nil)
	}
}

// readable tells whether a pidfd is: then its process has ended.
func readable(fd uintptr) bool {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		if !errors.Is(err, unix.EINTR) {
			return n > 0 || err != nil
		}
	}
}

// Close forgets the process, and leaves it alone.
func (p *Process) Close() { _ = p.pidfd.Close() }
