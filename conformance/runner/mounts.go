package main

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"

	faults "github.com/octomesh/octomesh/conformance/faults/process"
	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
)

// ownMounts is in the environment of a runner that has mounts of its own.
const ownMounts = "CONFORMANCE_OWN_MOUNTS=1"

// needsDisk tells whether a job is a scenario in which somebody has a disk of its own.
func (j *job) needsDisk() bool {
	return slices.ContainsFunc(j.scenario.GetEnds(), func(e *conformancev1.End) bool { return e.DiskBytes > 0 })
}

// withOwnMounts has this program run as a child that has mounts of its own, and ends as the child does: what scenarios mount
// is then seen by nobody else, is gone with the run whatever becomes of it, and mostly takes no administrator. It returns in
// the child, and where there can be none.
func withOwnMounts() error {
	if slices.Contains(os.Environ(), ownMounts) {
		return faults.KeepMounts()
	}
	var errs []error
	for _, asUser := range []bool{false, true} {
		child := exec.Command("/proc/self/exe", os.Args[1:]...)
		child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
		child.Env = append(os.Environ(), ownMounts)
		child.SysProcAttr = ownGroup()
		faults.OwnMounts(child, asUser)
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
		if err := child.Start(); err != nil {
			signal.Stop(stop)
			errs = append(errs, err)
			continue
		}
		go func() {
			for s := range stop {
				_ = child.Process.Signal(s)
			}
		}()
		if err := child.Wait(); err != nil && child.ProcessState == nil {
			return err
		}
		os.Exit(max(child.ProcessState.ExitCode(), -child.ProcessState.ExitCode())) // -1: by a signal
	}
	return errors.Join(errs...)
}
