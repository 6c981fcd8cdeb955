//go:build !linux

package process

import (
	"errors"
	"os/exec"
	"time"
)

// Kill is for Linux only.
func Kill(int) error { return errors.ErrUnsupported }

// Stop is for Linux only.
func Stop(int) error { return errors.ErrUnsupported }

// Continue is for Linux only.
func Continue(int) error { return errors.ErrUnsupported }

// LimitDescriptors is for Linux only.
func LimitDescriptors(int, uint64) (uint64, error) { return 0, errors.ErrUnsupported }

// Descriptors is for Linux only.
func Descriptors(int) (int, uint64, error) { return 0, 0, errors.ErrUnsupported }

// CPU is for Linux only.
func CPU(int) (time.Duration, error) { return 0, errors.ErrUnsupported }

// Memory is for Linux only.
func Memory(int) (resident, peak int64, err error) { return 0, 0, errors.ErrUnsupported }

// ForgetPeak is for Linux only.
func ForgetPeak(int) error { return errors.ErrUnsupported }

// ShiftClock is for Linux only.
func ShiftClock(int, time.Duration) error { return errors.ErrUnsupported }

// OwnMounts is for Linux only.
func OwnMounts(*exec.Cmd, bool) {}

// KeepMounts is for Linux only.
func KeepMounts() error { return errors.ErrUnsupported }

// SmallDisk is for Linux only.
func SmallDisk(string, int) (func() error, error) { return nil, errors.ErrUnsupported }

// ReadOnly is for Linux only.
func ReadOnly(string, bool) error { return errors.ErrUnsupported }

// FillDisk is for Linux only.
func FillDisk(string) error { return errors.ErrUnsupported }
