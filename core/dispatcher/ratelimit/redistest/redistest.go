// Package redistest starts Debian's Redis for tests.
package redistest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Server is a Redis in a process of its own, on a Unix socket. It keeps nothing on disk.
type Server struct {
	t      testing.TB
	socket string
	cmd    *exec.Cmd
	ended  chan struct{}
}

// Start starts one that ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "octo-redis") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &Server{t: t, socket: filepath.Join(dir, "r.sock")}
	s.Restart()
	t.Cleanup(s.Kill)
	return s
}

// Address is where it listens, for [ratelimit.RedisConfig].
func (s *Server) Address() string { return "unix:" + s.socket }

// Restart starts it anew, empty.
func (s *Server) Restart() {
	s.t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		s.t.Fatal("there is no Redis to test with: run `make bootstrap-test`, or install Debian's package redis-server")
	}
	_ = os.Remove(s.socket)
	s.cmd = exec.Command(program, "--port", "0", "--unixsocket", s.socket, "--save", "", "--appendonly", "no", "--dir", filepath.Dir(s.socket))
	ended := make(chan struct{})
	s.ended = ended
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func(cmd *exec.Cmd) { _ = cmd.Wait(); close(ended) }(s.cmd)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for !s.answers(ctx) {
		select {
		case <-ended:
			s.t.Fatal("redis-server has ended at once")
		case <-ctx.Done():
			s.t.Fatal("redis-server does not answer")
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// answers tells whether it says PONG.
func (s *Server) answers(ctx context.Context) bool {
	c, err := new(net.Dialer).DialContext(ctx, "unix", s.socket)
	if err != nil {
		return false
	}
	defer c.Close()
	fmt.Fprint(c, "PING\r\n")
	answer := make([]byte, 7)
	_, err = c.Read(answer)
	return err == nil && string(answer) == "+PONG\r\n"
}

// Kill ends it at once.
func (s *Server) Kill() {
	_ = s.cmd.Process.Kill()
	<-s.ended
}
