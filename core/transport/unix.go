package transport

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
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

// beside is the ending of a socket that is made beside its place.
const beside = ".new"

// ListensAt tells whether a Unix socket was made for a path and stands there now, as far as the names tell: the kernel says
// of a socket where it was made, before it was moved. Both paths are absolute, or relative to the same directory.
func ListensAt(l net.Listener, path string) bool {
	made := l.Addr().String()
	if l.Addr().Network() != "unix" || made != path && made != path+beside {
		return false
	}
	info, err := os.Stat(path)
	return err == nil && info.Mode().Type() == os.ModeSocket
}

// ErrInUse is an error of ListenUnix: somebody listens there.
var ErrInUse = errors.New("a living process listens")

// ListenUnix makes a Unix socket with the given permissions. The socket of a dead process is replaced; one
// that a living process answers on is [ErrInUse]. It is made beside its place, restricted and then moved, so
// that nobody connects in between; its file stays when the listener is closed, since a successor may have
// put its own there.
func ListenUnix(path string, mode os.FileMode) (*net.UnixListener, error) {
	if err := CheckSocketPath(path + beside); err != nil {
		return nil, err
	}
	if c, err := net.Dial("unix", path); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("octo: %w on %s", ErrInUse, path)
	} else if errors.Is(err, syscall.EAGAIN) { // its backlog is full: it lives
		return nil, fmt.Errorf("octo: %w on %s, and is busy", ErrInUse, path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, err
	}
	if err := os.Remove(path + beside); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path + beside, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err = os.Chmod(path+beside, mode); err == nil {
		err = os.Rename(path+beside, path)
	}
	if err != nil {
		_ = l.Close()
		_ = os.Remove(path + beside)
		return nil, err
	}
	return l, nil
}
