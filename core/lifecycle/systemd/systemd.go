// Package systemd speaks with whoever supervises the process, in the words of systemd: how the process is (sd_notify), and the
// listening sockets that the supervisor opens for it and keeps over its crash (LISTEN_FDS, the descriptor store). Nobody
// supervises it: nothing is said, and no socket is given. Who supervises others hears them by [Inbox].
//
// Reading what is given and the watchdog's figures is go-systemd's. Its sd_notify takes no descriptors, which the store needs.
package systemd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// Lines of sd_notify. Each datagram has one or more.
const (
	Ready    = "READY=1"
	Stopping = "STOPPING=1"
)

const socketVariable = "NOTIFY_SOCKET"

// Notify tells the supervisor lines. One that is gone, or does not listen, is no reason to do anything else.
func Notify(lines ...string) { _ = send(os.Getenv(socketVariable), nil, lines...) }

// Tell is Notify for the inbox at the path of a socket.
func Tell(socket string, lines ...string) error { return send(socket, nil, lines...) }

// Status is the line that says in words how the process is.
func Status(format string, args ...any) string {
	text := strings.TrimSpace(fmt.Sprintf(format, args...))
	return "STATUS=" + strings.NewReplacer("\n", "; ", "\r", "").Replace(text)
}

// Main is the line that makes a process the service's, instead of the one that was.
func Main(pid int) string { return fmt.Sprint("MAINPID=", pid) }

// Reloading tells that the process changes what it goes by; [Ready] ends it.
func Reloading() { Notify("RELOADING=1", strings.TrimSpace(daemon.SdNotifyMonotonicUsec())) }

// Keep gives the supervisor a socket to keep by a name, and to give to the process after this one if this one crashes.
func Keep(name string, socket syscall.Conn) error {
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Control(func(fd uintptr) {
		sent = send(os.Getenv(socketVariable), syscall.UnixRights(int(fd)), "FDSTORE=1", "FDNAME="+name)
	})
	return errors.Join(err, sent)
}

// Forget tells that nobody wants the socket of that name back.
func Forget(name string) { Notify("FDSTOREREMOVE=1", "FDNAME="+name) }

// patience is how long a supervisor may take that does not listen at the moment.
const patience = time.Second

func send(path string, rights []byte, lines ...string) error {
	if path == "" {
		return nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0) // net's connected ones send no descriptors
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	late := unix.NsecToTimeval(patience.Nanoseconds())
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &late); err != nil {
		return err
	}
	return unix.Sendmsg(fd, []byte(strings.Join(lines, "\n")), rights, &unix.SockaddrUnix{Name: path}, 0)
}

// Socket is a listening socket that the supervisor gives.
type Socket struct {
	// Name is what the supervisor calls it.
	Name string
	net.Listener
}

// Sockets takes the listening sockets that the supervisor gives. They are given once.
func Sockets() (given []Socket, err error) {
	for _, f := range activation.Files(true) {
		l, lerr := net.FileListener(f)
		_ = f.Close()
		if lerr != nil {
			err = errors.Join(err, fmt.Errorf("the socket %q that systemd gives is not one to listen on: %w", f.Name(), lerr))
			continue
		}
		if u, ok := l.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false)
		}
		given = append(given, Socket{f.Name(), l})
	}
	if err != nil {
		for _, s := range given {
			_ = s.Close()
		}
		return nil, err
	}
	return given, nil
}

// Watch tells the supervisor that the process lives, until ctx ends, as often as it wants to hear that.
func Watch(ctx context.Context) {
	within, err := daemon.SdWatchdogEnabled(false)
	if err != nil || within == 0 {
		return
	}
	beat := time.NewTicker(within / 3)
	defer beat.Stop()
	for {
		Notify(daemon.SdNotifyWatchdog)
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
		}
	}
}

// Successor is the environment of a process that takes the place of this one, or of one with a supervisor of its own at
// the path of a socket: the watchdog waits for whoever is the service, and sockets were given to this process.
func Successor(environment []string, socket string) []string {
	var out []string
	for _, e := range environment {
		name, _, _ := strings.Cut(e, "=")
		switch name {
		case "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES":
			continue
		case socketVariable, "WATCHDOG_USEC":
			if socket != "" {
				continue
			}
		}
		out = append(out, e)
	}
	if socket != "" {
		out = append(out, socketVariable+"="+socket)
	}
	return out
}
