package embedded

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// lock is held on a data directory by the process that uses it, and goes with the process.
type lock struct{ file *os.File }

// lockDir takes the lock, or says who has it. etcd itself would wait for the other's end.
func lockDir(dir string) (*lock, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		who, _ := io.ReadAll(io.LimitReader(f, 20))
		_ = f.Close()
		return nil, fmt.Errorf("process %s uses this directory: end it, or use another directory", bytes.TrimSpace(who))
	}
	if err == nil {
		if err = f.Truncate(0); err == nil {
			_, err = fmt.Fprintf(f, "%d\n", os.Getpid())
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &lock{f}, nil
}

// release gives the lock up.
func (l *lock) release() {
	if l != nil {
		_ = l.file.Close()
	}
}
