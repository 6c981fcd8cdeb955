package planetest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Process is a running program. It is killed at the end of the test at the latest, and its log is shown if the test
// failed.
type Process struct {
	Name string
	// Log is the file with what it writes, of all its runs.
	Log string

	t      testing.TB
	path   string
	args   []string
	cmd    *exec.Cmd
	ended  chan struct{}
	err    error // why it ended
	before int   // bytes of the log that are of earlier runs
}

// Start starts a program.
func Start(t testing.TB, name, path string, args ...string) *Process {
	t.Helper()
	p := &Process{Name: name, Log: filepath.Join(Dir(t), "log"), t: t, path: path, args: args}
	p.start()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			text, _ := os.ReadFile(p.Log)
			t.Logf("%s:\n%s", p.Name, tail(text, 4000))
		}
	})
	return p
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

func (p *Process) start() {
	p.t.Helper()
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	if i, err := log.Stat(); err == nil {
		p.before = int(i.Size())
	}
	p.cmd = exec.Command(p.path, p.args...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // a test that is cut off leaves nothing behind
	if err := p.cmd.Start(); err != nil {
		p.t.Fatalf("%s: %v", p.Name, err)
	}
	ended, cmd := make(chan struct{}), p.cmd
	p.ended = ended
	go func() { p.err = cmd.Wait(); close(ended) }()
}

// PID is its process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Kill ends it at once, and returns when it is gone.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// Stop asks it to leave, and returns when it is gone, with how it ended.
func (p *Process) Stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	<-p.ended
	return p.err
}

// Pause has it do nothing, until Resume.
func (p *Process) Pause() { _ = p.cmd.Process.Signal(syscall.SIGSTOP) }

// Resume lets it go on.
func (p *Process) Resume() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }

// Restart starts it again as it was, after it has ended.
func (p *Process) Restart() {
	p.t.Helper()
	<-p.ended
	p.start()
}

// Written is what the newest run has written.
func (p *Process) Written() []byte {
	text, _ := os.ReadFile(p.Log)
	return text[min(p.before, len(text)):]
}

// AwaitLog waits until the newest run has written a text.
func (p *Process) AwaitLog(text string) {
	p.t.Helper()
	Await(p.t, p.Name+": "+text, func() error {
		if bytes.Contains(p.Written(), []byte(text)) {
			return nil
		}
		select {
		case <-p.ended:
			p.t.Fatalf("%s has ended: %v\n%s", p.Name, p.err, p.Written())
		default:
		}
		return os.ErrNotExist
	})
}
