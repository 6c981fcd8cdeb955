package pidfd_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/octomesh/octomesh/core/lifecycle/pidfd"
)

func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

func TestProcessIsKnownByItsStart(t *testing.T) {
	cmd := sleeper(t)
	p, err := pidfd.Open(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	same, err := pidfd.Open(p.PID, p.Start)
	if err != nil {
		t.Fatal(err)
	}
	same.Close()
	if _, err := pidfd.Open(p.PID, p.Start+1); !errors.Is(err, pidfd.ErrGone) {
		t.Errorf("a process that started at another time was taken for it: %v", err)
	}
	if _, err := pidfd.Open(-1, 0); err == nil {
		t.Error("-1 is a process")
	}
	if uid, err := p.User(); err != nil || uid != uint32(os.Geteuid()) {
		t.Error(uid, err)
	}
	if p.Binary() == "" || pidfd.Boot() == "" {
		t.Error(p.Binary(), pidfd.Boot())
	}
	if age := pidfd.Age(p.Start); age < 0 || age > time.Hour {
		t.Error(age)
	}
}

func TestWaitEndsWithTheProcessOrTheContext(t *testing.T) {
	cmd := sleeper(t)
	p, err := pidfd.Open(cmd.Process.Pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	waited := make(chan error, 1)
	go func() { waited <- p.Wait(ctx) }()
	cancel(cause)
	if err := <-waited; !errors.Is(err, cause) {
		t.Fatal(err)
	}
	if p.Ended() {
		t.Fatal("it has ended")
	}
	go func() { waited <- p.Wait(t.Context()) }()
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil || !p.Ended() {
		t.Fatal(err)
	}
	p.Reap()
	if err := cmd.Wait(); !errors.Is(err, syscall.ECHILD) {
		t.Errorf("it was left to be waited for: %v", err)
	}
	p.Reap()
	if err := p.Signal(syscall.SIGTERM); !errors.Is(err, pidfd.ErrGone) {
		t.Errorf("a process that has gone was signalled: %v", err)
	}
	if _, err := p.User(); !errors.Is(err, pidfd.ErrGone) || p.Binary() != "" {
		t.Error(err, p.Binary())
	}
	p.Close()
	if err := p.Signal(syscall.SIGTERM); !errors.Is(err, pidfd.ErrGone) { // who waits for its end may have closed it already
		t.Errorf("a process that is known no more was signalled: %v", err)
	}
}
