package transport

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// MaxSocketPath is the longest path of a Unix socket in bytes: the kernel's sun_path less its end mark.
const MaxSocketPath = 107

// CheckSocketPath refuses a path that the kernel would refuse, or that some languages would cut.
func CheckSocketPath(path string) error {
	if len(path) > MaxSocketPath {
		return fmt.Errorf("octo: socket path has %d bytes, the limit is %d: choose a shorter directory: %s",
			len(path), MaxSocketPath, path)
	}
	return nil
}

// PeerCredentials returns who is at the other end of a Unix socket, as the kernel knows it.
func PeerCredentials(nc net.Conn) (*syscall.Ucred, error) {
	uc, ok := nc.(*net.UnixConn)
	if !ok {
		return nil, errors.New("octo: peer credentials exist on Unix sockets only")
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *syscall.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil {
		return nil, err
	}
	return cred, credErr
}
