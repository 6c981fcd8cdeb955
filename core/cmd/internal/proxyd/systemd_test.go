package proxyd

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/octomesh/octomesh/core/transport"
)

// supervisor plays systemd's part: it hears sd_notify, keeps sockets, and gives them to the next process.
type supervisor struct {
	t    *testing.T
	path string
	conn *net.UnixConn

	mu   sync.Mutex
	said []string
	kept map[string]*os.File
	next chan struct{} // closed, and replaced, with each message
}

func supervise(t *testing.T) *supervisor {
	t.Helper()
	s := &supervisor{t: t, path: filepath.Join(t.TempDir(), "notify"), kept: make(map[string]*os.File), next: make(chan struct{})}
	var err error
	if s.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: s.path, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); s.hear() }()
	t.Cleanup(func() {
		_ = s.conn.Close()
		<-ended
		for _, f := range s.kept {
			_ = f.Close()
		}
	})
	return s
}

func (s *supervisor) hear() {
	text, control := make([]byte, 4096), make([]byte, 4096)
	for {
		n, oobn, _, _, err := s.conn.ReadMsgUnix(text, control)
		if err != nil {
			return
		}
		s.mu.Lock()
		message := string(text[:n])
		if _, name, ok := strings.Cut(message, "FDSTORE=1\nFDNAME="); ok {
			messages, err := syscall.ParseSocketControlMessage(control[:oobn])
			if err != nil || len(messages) != 1 {
				s.t.Errorf("%q came with %d messages: %v", message, len(messages), err)
			} else if fds, err := syscall.ParseUnixRights(&messages[0]); err != nil || len(fds) != 1 {
				s.t.Errorf("%q came with descriptors %v: %v", message, fds, err)
			} else {
				s.kept[name] = os.NewFile(uintptr(fds[0]), name)
			}
		}
		if _, name, ok := strings.Cut(message, "FDSTOREREMOVE=1\nFDNAME="); ok && s.kept[name] != nil {
			_ = s.kept[name].Close()
			delete(s.kept, name)
		}
		s.said = append(s.said, strings.Split(message, "\n")...)
		close(s.next)
		s.next = make(chan struct{})
		s.mu.Unlock()
	}
}

// heard waits for a line that begins so, and forgets all before it.
func (s *supervisor) heard(begin string) string {
	s.t.Helper()
	late := time.After(20 * time.Second)
	for {
		s.mu.Lock()
		at := slices.IndexFunc(s.said, func(line string) bool { return strings.HasPrefix(line, begin) })
		if at >= 0 {
			line := s.said[at]
			s.said = s.said[at+1:]
			s.mu.Unlock()
			return line
		}
		said, next := s.said, s.next
		s.mu.Unlock()
		select {
		case <-next:
		case <-late:
			s.t.Fatalf("%q was not said, but %q", begin, said)
		}
	}
}

func (s *supervisor) silent(begin string) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.ContainsFunc(s.said, func(line string) bool { return strings.HasPrefix(line, begin) }) {
		s.t.Errorf("%q was said: %q", begin, s.said)
	}
}

// start runs a proxy of dir as the service's process, with sockets of a socket unit and all that were kept.
func (s *supervisor) start(dir string, sockets ...*os.File) *exec.Cmd {
	s.t.Helper()
	var names []string
	for _, f := range sockets {
		names = append(names, filepath.Base(f.Name()))
	}
	s.mu.Lock()
	for name, f := range s.kept {
		names, sockets = append(names, name), append(sockets, f)
	}
	s.mu.Unlock()
	// LISTEN_PID is the process' own number, which systemd knows between fork and exec.
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ WATCHDOG_PID=$$ exec "$0" "$@"`, binary, "--config", filepath.Join(dir, "p.yaml"))
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+s.path, "WATCHDOG_USEC=300000")
	if len(sockets) > 0 {
		cmd.Env = append(cmd.Env, fmt.Sprint("LISTEN_FDS=", len(sockets)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	}
	cmd.ExtraFiles = sockets
	// A file: a pipe would be waited for as long as any successor has it.
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if said, err := os.ReadFile(log.Name()); s.t.Failed() {
			s.t.Logf("%s %v", said, err)
		}
	})
	return cmd
}

// served is the line by which a proxy makes itself the service's process, once it serves.
func (s *supervisor) served() (pid int) {
	s.t.Helper()
	if _, err := fmt.Sscanf(s.heard("MAINPID="), "MAINPID=%d", &pid); err != nil {
		s.t.Fatal(err)
	}
	s.heard("READY=1")
	return pid
}

func bootstrap(t *testing.T, more string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	write(t, filepath.Join(dir, "r.yaml"), "{}")
	write(t, filepath.Join(dir, "p.yaml"), "environment: test\ninstance: one\noutbound_socket: o.sock\nadmin_socket: a.sock\nresources_file: r.yaml\n"+more)
	return dir
}

// waits dials and tells when the proxy has closed a connection that says nothing sensible: it was accepted.
func waits(t *testing.T, network, address string) (accepted func()) {
	t.Helper()
	nc, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Write(make([]byte, 1024)); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		_ = nc.SetReadDeadline(time.Now().Add(20 * time.Second))
		if _, err := io.ReadAll(nc); os.IsTimeout(err) {
			t.Errorf("nobody has accepted the connection to %s", address)
		}
		_ = nc.Close()
	}
}

func TestSystemdHearsHowTheProxyIs(t *testing.T) {
	t.Parallel()
	s := supervise(t)
	dir := bootstrap(t, "")
	cmd := s.start(dir)
	if pid := s.served(); pid != cmd.Process.Pid {
		t.Errorf("process %d serves, want %d", pid, cmd.Process.Pid)
	}
	s.heard("STATUS=version ")
	s.heard("WATCHDOG=1")
	s.heard("WATCHDOG=1")
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.heard("STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestSystemdHearsWhyTheProxyDoesNotStart(t *testing.T) {
	t.Parallel()
	s := supervise(t)
	cmd := s.start(bootstrap(t, "drain_dedline: 3s\n"))
	if line := s.heard("STATUS="); !strings.Contains(line, "drain_dedline") {
		t.Error(line)
	}
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 78 {
		t.Errorf("it ended with %v, want 78: the configuration is wrong", cmd.ProcessState)
	}
	dir := bootstrap(t, "inbound_address: 127.0.0.1:0\n")
	l, err := transport.ListenUnix(filepath.Join(dir, "o.sock"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	cmd = s.start(dir)
	if line := s.heard("STATUS="); !strings.Contains(line, "living process") {
		t.Error(line)
	}
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("it ended with %v, want 1: another start may succeed", cmd.ProcessState)
	}
}

// Who has dialed when the proxy crashes is accepted by the next one.
func TestSocketsOutliveACrash(t *testing.T) {
	t.Parallel()
	for _, from := range []string{"socket unit", "store"} {
		t.Run(from, func(t *testing.T) {
			t.Parallel()
			s := supervise(t)
			dir := bootstrap(t, "inbound_address: 127.0.0.1:0\n")
			outbound := filepath.Join(dir, "o.sock")
			var unit []*os.File
			if from == "socket unit" {
				ul, err := net.ListenUnix("unix", &net.UnixAddr{Name: outbound, Net: "unix"})
				if err != nil {
					t.Fatal(err)
				}
				ul.SetUnlinkOnClose(false)
				f, err := ul.File()
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				_ = ul.Close()
				unit = append(unit, f)
			}
			cmd := s.start(dir, unit...)
			s.served()
			if from == "store" {
				s.heard("FDNAME=outbound-kept")
			}
			s.heard("FDNAME=inbound-kept")
			s.mu.Lock()
			_, stored := s.kept["outbound-kept"]
			bound, err := unix.Getsockname(int(s.kept["inbound-kept"].Fd()))
			s.mu.Unlock()
			if err != nil || stored != (from == "store") {
				t.Fatal(err, stored)
			}
			inbound := fmt.Sprint("127.0.0.1:", bound.(*unix.SockaddrInet4).Port)
			waits(t, "unix", outbound)()
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			first, second := waits(t, "unix", outbound), waits(t, "tcp", inbound)
			next := s.start(dir, unit...)
			if pid := s.served(); pid != next.Process.Pid {
				t.Error(pid)
			}
			first()
			second()
			s.silent("FDSTOREREMOVE")
		})
	}
}

func TestSocketsOfAnotherConfigurationAreNotUsed(t *testing.T) {
	t.Parallel()
	s := supervise(t)
	dir := bootstrap(t, "")
	cmd := s.start(dir)
	s.served()
	s.heard("FDNAME=outbound-kept")
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	text, err := os.ReadFile(filepath.Join(dir, "p.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "p.yaml"), strings.Replace(string(text), "o.sock", "p.sock", 1))
	cmd = s.start(dir)
	s.heard("FDSTOREREMOVE=1")
	s.served()
	waits(t, "unix", filepath.Join(dir, "p.sock"))()
	_ = cmd.Process.Kill()
	_ = cmd.Wait()

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	cmd = s.start(dir, f)
	if line := s.heard("STATUS=systemd's socket unit"); !strings.Contains(line, l.Addr().String()) {
		t.Error(line)
	}
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 78 {
		t.Error(cmd.ProcessState)
	}
}

// SIGUSR2 is what `systemctl reload` does: the service's process becomes another one, and its callers do not notice.
func TestReloadIsAHotRestart(t *testing.T) {
	t.Parallel()
	s := supervise(t)
	dir := bootstrap(t, "drain_deadline: 5s\ninbound_address: 127.0.0.1:0\n")
	first := s.start(dir)
	s.served()
	c := &counted{}
	write(t, filepath.Join(dir, "r.yaml"), "{}")
	c.serve(t, filepath.Join(dir, "o.sock"))
	write(t, filepath.Join(dir, "r.yaml"), "endpoints: [{target: echo, instance: one, mesh_address: \"127.0.0.1:1\"}]")

	bad := filepath.Join(dir, "p.yaml")
	good, err := os.ReadFile(bad)
	if err != nil {
		t.Fatal(err)
	}
	write(t, bad, string(good)+"drain_dedline: 1s\n")
	_ = first.Process.Signal(syscall.SIGUSR2)
	s.heard("RELOADING=1")
	s.heard("MONOTONIC_USEC=")
	if line := s.heard("STATUS="); !strings.Contains(line, "drain_dedline") {
		t.Error(line) // of the successor
	}
	s.heard("READY=1")
	if line := s.heard("STATUS=serves on"); !strings.Contains(line, "exit status 78") {
		t.Error(line)
	}
	s.silent("MAINPID")

	write(t, bad, string(good))
	_ = first.Process.Signal(syscall.SIGUSR2)
	s.heard("RELOADING=1")
	pid := s.served()
	if pid == first.Process.Pid || pid <= 1 {
		t.Fatalf("process %d serves, after %d", pid, first.Process.Pid)
	}
	if err := first.Wait(); err != nil {
		t.Errorf("the first process ended with %v", err)
	}
	s.silent("STOPPING")
	s.heard("WATCHDOG=1")
	waits(t, "unix", filepath.Join(dir, "o.sock"))()
	_ = syscall.Kill(pid, syscall.SIGTERM)
	s.heard("STOPPING=1")
	await(t, "the end of the successor", func() bool {
		return syscall.Kill(pid, 0) != nil || strings.Contains(stateOf(pid), ") Z ")
	})
}

func stateOf(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return string(b)
}
