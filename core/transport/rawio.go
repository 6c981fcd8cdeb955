//go:build !race

package transport

import (
	"syscall"
	"unsafe"
)

// rawRead and rawWrite are read(2) and write(2) on a descriptor that never blocks. They do not tell the
// scheduler of the call, as syscall.Read does: that pays only where a call may wait, and costs a good
// part of a microsecond on a path that makes little else than system calls.

func rawRead(fd uintptr, b []byte) (int, syscall.Errno) {
	return rawIO(syscall.SYS_READ, fd, b)
}

func rawWrite(fd uintptr, b []byte) (int, syscall.Errno) {
	return rawIO(syscall.SYS_WRITE, fd, b)
}

func rawIO(call, fd uintptr, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
