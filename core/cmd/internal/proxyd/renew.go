package proxyd

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/octomesh/octomesh/core/lifecycle/pidfd"
	"github.com/octomesh/octomesh/core/lifecycle/systemd"
)

// renewal bounds how long a successor that this process has started may take until it serves: as long as it would be waited for.
const renewal = 2 * time.Minute

// self is the command that this process was started by. Its path is not followed to where it leads: an upgrade may lead it elsewhere.
var self = func() []string {
	path, err := exec.LookPath(os.Args[0])
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return nil
	}
	return append([]string{path}, os.Args[1:]...)
}()

// renew starts a successor with the arguments that this process has. Until it serves nothing changes; systemd is told how it went.
func (r *running) renew() {
	if !r.renewing.CompareAndSwap(false, true) {
		r.log.Warn("a successor is started already")
		return
	}
	systemd.Reloading()
	next, p, err := r.startSuccessor()
	if err != nil {
		r.stays(err)
		return
	}
	r.log.Info("a successor is started", "pid", p.PID, "binary", next.Path)
	r.ops.Go(func(ctx context.Context) {
		defer p.Close()
		waiting, cancel := context.WithTimeout(ctx, renewal)
		defer cancel()
		if p.Wait(waiting) != nil {
			if r.yields.Load() || ctx.Err() != nil {
				return // it goes on without this process
			}
			_ = p.Signal(syscall.SIGKILL)
		}
		if err := next.Wait(); !r.yields.Load() {
			r.stays(err)
		}
	})
}

func (r *running) startSuccessor() (*exec.Cmd, *pidfd.Process, error) {
	if r.heir == nil {
		return nil, nil, configError{errNoTakeover}
	}
	args := slices.Clone(self)
	if !slices.Contains(args, "--takeover") && !slices.Contains(args, "-takeover") {
		args = append(args, "--takeover")
	}
	next := exec.Command(args[0], args[1:]...)
	next.Stdout, next.Stderr = os.Stdout, os.Stderr
	next.Env = systemd.Successor(os.Environ(), "")
	if err := next.Start(); err != nil {
		return nil, nil, err
	}
	p, err := pidfd.Open(next.Process.Pid, 0)
	if err != nil {
		_ = next.Process.Kill()
		_ = next.Wait()
		return nil, nil, err
	}
	return next, p, nil
}

// stays says that this process serves on, because its successor has failed.
func (r *running) stays(err error) {
	r.renewing.Store(false)
	r.log.Error("the successor does not serve; this process serves on", "error", err)
	systemd.Notify(systemd.Ready, systemd.Status("serves on: the successor does not serve (%v); the log says why", err))
}
