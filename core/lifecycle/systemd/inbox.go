package systemd

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxMessage bounds one datagram, in bytes, as systemd does.
const maxMessage = 4096

// maxSent is how many descriptors are looked for in one datagram: the kernel lets no more pass.
const maxSent = 253

// Message is what a process says of itself.
type Message struct {
	// PID is who says it, as the kernel knows it.
	PID    int
	Ready  bool
	Status string
}

// Inbox hears what processes that have its socket in their environment say.
type Inbox struct{ c *net.UnixConn }

// Listen opens an inbox. Only the own user and root may send there.
func Listen(path string) (*Inbox, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	raw, err := c.SyscallConn()
	if err == nil {
		var set error
		err = errors.Join(raw.Control(func(fd uintptr) {
			set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1)
		}), set)
	}
	if err = errors.Join(err, os.Chmod(path, 0o600)); err != nil {
		_ = c.Close()
		return nil, err
	}
	return &Inbox{c}, nil
}

// Hear hands over each message until ctx ends, or the socket fails. What cannot be read as one is passed over. Sockets that come along are
// closed: nobody here keeps them.
func (i *Inbox) Hear(ctx context.Context, hand func(Message)) error {
	stop := context.AfterFunc(ctx, func() { _ = i.c.Close() })
	defer stop()
	text, control := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4*maxSent)+unix.CmsgSpace(unix.SizeofUcred))
	for {
		n, oobn, flags, _, err := i.c.ReadMsgUnix(text, control)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		pid := sender(control[:oobn])
		if pid > 0 && flags&unix.MSG_TRUNC == 0 {
			hand(parse(pid, string(text[:n])))
		}
	}
}

// sender is who has sent the datagram of the control messages, 0 if they do not say it. Descriptors are closed.
func sender(control []byte) (pid int) {
	messages, err := syscall.ParseSocketControlMessage(control)
	if err != nil {
		return 0
	}
	for _, m := range messages {
		switch m.Header.Type {
		case unix.SCM_CREDENTIALS:
			if cred, err := syscall.ParseUnixCredentials(&m); err == nil && (cred.Uid == 0 || cred.Uid == uint32(os.Geteuid())) {
				pid = int(cred.Pid)
			}
		case unix.SCM_RIGHTS:
			fds, _ := syscall.ParseUnixRights(&m)
			for _, fd := range fds {
				_ = syscall.Close(fd)
			}
		}
	}
	return pid
}

func parse(pid int, text string) Message {
	m := Message{PID: pid}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		switch name {
		case "READY":
			m.Ready = value == "1"
		case "STATUS":
			m.Status = value
		}
	}
	return m
}
