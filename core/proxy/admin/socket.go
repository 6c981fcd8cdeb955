package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Listen makes the socket, which only the process' own user may open. One that a dead process left is
// replaced; one that a living process answers on is an error.
//
// The socket is made beside its place, restricted, and then moved, so that nobody can connect in between.
func Listen(path string) (*net.UnixListener, error) {
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("admin socket %s: a living process listens on it", path)
	} else if errors.Is(err, syscall.EAGAIN) { // its backlog is full: it lives
		return nil, fmt.Errorf("admin socket %s: a busy process listens on it", path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, err
	}
	made := path + ".new"
	if err := os.Remove(made); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: made, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err = os.Chmod(made, 0o600); err == nil {
		err = os.Rename(made, path)
	}
	if err != nil {
		l.Close()
		os.Remove(made)
		return nil, err
	}
	return l, nil
}

// shutdown is how long Serve lets requests finish.
const shutdown = time.Second

// Serve answers on the listener until ctx is done; then it lets requests finish for a second. The socket's
// file stays, since a successor may have put its own there.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.Background(), shutdown)
	defer cancel()
	if err := s.Shutdown(end); err != nil {
		s.Close()
	}
	<-served
	return nil
}
