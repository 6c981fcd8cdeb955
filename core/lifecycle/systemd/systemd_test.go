package systemd_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/octomesh/octomesh/core/lifecycle/systemd"
)

func TestInboxHearsWhoSaysWhat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	t.Setenv("NOTIFY_SOCKET", path)
	systemd.Notify(systemd.Ready) // to nobody
	in, err := systemd.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	heard, ended := make(chan systemd.Message, 10), make(chan error, 1)
	go func() { ended <- in.Hear(ctx, func(m systemd.Message) { heard <- m }) }()

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	before, _ := os.ReadDir("/proc/self/fd")
	systemd.Notify(systemd.Main(7), systemd.Ready, systemd.Status("one\n two=%d", 2))
	for range 3 { // what is sent to be kept is not: nobody here gives it back
		if err := systemd.Keep("inbound", l.(*net.TCPListener)); err != nil {
			t.Fatal(err)
		}
	}
	if err := systemd.Tell(path, "STATUS="+strings.Repeat("x", 5000), systemd.Ready); err != nil { // longer than any may be
		t.Fatal(err)
	}
	systemd.Notify(systemd.Stopping)
	want := []systemd.Message{{PID: os.Getpid(), Ready: true, Status: "one;  two=2"}, {PID: os.Getpid()}, {PID: os.Getpid()}, {PID: os.Getpid()}, {PID: os.Getpid()}}
	for n := range want {
		if got := <-heard; got != want[n] {
			t.Errorf("message %d is %+v, want %+v", n, got, want[n])
		}
	}
	if after, _ := os.ReadDir("/proc/self/fd"); len(after) > len(before) {
		t.Errorf("%d descriptors, before %d", len(after), len(before))
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestNobodySupervises(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	systemd.Notify(systemd.Ready)
	systemd.Reloading()
	systemd.Watch(t.Context()) // returns
	if given, err := systemd.Sockets(); err != nil || given != nil {
		t.Error(given, err)
	}
}

func TestSuccessorHasAnEnvironmentOfItsOwn(t *testing.T) {
	all := []string{"A=1", "NOTIFY_SOCKET=/run/n", "WATCHDOG_USEC=5", "WATCHDOG_PID=7", "LISTEN_PID=7", "LISTEN_FDS=1", "LISTEN_FDNAMES=x"}
	if got, want := systemd.Successor(all, ""), []string{"A=1", "NOTIFY_SOCKET=/run/n", "WATCHDOG_USEC=5"}; !slices.Equal(got, want) {
		t.Errorf("in this one's place: %q, want %q", got, want)
	}
	if got, want := systemd.Successor(all, "/run/a"), []string{"A=1", "NOTIFY_SOCKET=/run/a"}; !slices.Equal(got, want) {
		t.Errorf("of this one: %q, want %q", got, want)
	}
}
