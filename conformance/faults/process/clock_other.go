//go:build linux && !amd64

package process

import (
	"errors"
	"fmt"
	"runtime"
	"time"
)

// ShiftClock puts the wall clock of one process away from the host's: not on this architecture.
func ShiftClock(pid int, _ time.Duration) error {
	return fmt.Errorf("clock of process %d on %s: %w", pid, runtime.GOARCH, errors.ErrUnsupported)
}
