//go:build race

package transport

import (
	"errors"
	"syscall"
)

// With the race detector the calls are package syscall's, which tells it that what happened before a write
// happened before the read. Without that a user's test that sets a variable in a handler and looks at it
// after the call would be reported.

func rawRead(fd uintptr, b []byte) (int, syscall.Errno) {
	n, err := syscall.Read(int(fd), b)
	return max(n, 0), errnoOf(err)
}

func rawWrite(fd uintptr, b []byte) (int, syscall.Errno) {
	n, err := syscall.Write(int(fd), b)
	return max(n, 0), errnoOf(err)
}

func errnoOf(err error) syscall.Errno {
	var errno syscall.Errno
	if err != nil && !errors.As(err, &errno) {
		return syscall.EIO
	}
	return errno
}
