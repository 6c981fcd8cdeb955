package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	agentv1 "github.com/octomesh/octomesh/gen/control/octo/agent/v1"

	"github.com/octomesh/octomesh/core/lifecycle/pidfd"
	"github.com/octomesh/octomesh/core/lifecycle/systemd"
)

// exitConfig is what octo-proxy ends with when its configuration is wrong.
const exitConfig = 78

// child is a process of a proxy: one that this agent has started, or one that it has found.
type child struct {
	*pidfd.Process
	binary string
	admin  string // where it answers

	cmd *exec.Cmd // nil: it was found

	serves sync.Once
	served chan struct{} // closed when it serves
	at     time.Time     // when it did, if it did

	said   atomic.Pointer[string] // the last it has said of itself
	killed atomic.Pointer[string] // why the agent has killed it

	ended chan struct{} // closed when it has ended
}

// launch starts a process. What it says and its end are heard until the agent ends.
func (a *Agent) launch(p *agentv1.ProxyConfig, binary, admin string, args ...string) (*child, error) {
	if err := checkBinary(binary); err != nil {
		return nil, err
	}
	cmd := exec.Command(binary, append([]string{"--config", p.GetBootstrapFile()}, args...)...)
	cmd.Env = systemd.Successor(os.Environ(), a.inboxPath)
	for name, value := range p.GetEnvironment() {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	// Files, not pipes: the process lives on when the agent does not. A session of its own: what ends the agent's terminal is none of its
	// concern.
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if path := p.GetLogFile(); path != "" {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
		if err != nil {
			return nil, fmt.Errorf("log_file: %w", err)
		}
		defer func() { _ = f.Close() }()
		cmd.Stdout, cmd.Stderr = f, f
	}
	c := &child{binary: binary, admin: admin, cmd: cmd, served: make(chan struct{}), ended: make(chan struct{})}
	a.mu.Lock() // what it says is looked for when it is known
	defer a.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var err error
	if c.Process, err = pidfd.Open(cmd.Process.Pid, 0); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, err
	}
	a.children[c.PID] = c
	a.await(c)
	return c, nil
}

// found makes a child of a process that another agent, or somebody else, has started, and that serves.
func (a *Agent) found(p *pidfd.Process, admin string) *child {
	c := &child{Process: p, binary: p.Binary(), admin: admin, served: make(chan struct{}), ended: make(chan struct{})}
	c.serve()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.children[c.PID] = c
	a.await(c)
	return c
}

// await hears of a child's end.
func (a *Agent) await(c *child) {
	a.ears.Go(func(ctx context.Context) {
		defer c.Close()
		if c.Wait(ctx) != nil {
			return // the agent ends, and the process does not
		}
		if c.cmd != nil {
			_ = c.cmd.Wait()
		} else {
			c.Reap()
		}
		a.flush() // what it has said before may not be heard yet
		a.mu.Lock()
		if a.children[c.PID] == c {
			delete(a.children, c.PID)
		}
		a.mu.Unlock()
		close(c.ended)
	})
}

// serve notes that it serves.
func (c *child) serve() {
	c.serves.Do(func() {
		c.at = time.Now()
		close(c.served)
	})
}

// hear takes what it says of itself.
func (c *child) hear(m systemd.Message) {
	if m.Status != "" {
		c.said.Store(&m.Status)
	}
	if m.Ready {
		c.serve()
	}
}

// since is how long it has served; 0: it never did.
func (c *child) since() time.Duration {
	select {
	case <-c.served:
		return time.Since(c.at)
	default:
		return 0
	}
}

// age is how long it is there.
func (c *child) age() time.Duration { return pidfd.Age(c.Start) }

// alive tells whether its end is not known.
func (c *child) alive() bool {
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

// kill ends it at once.
func (c *child) kill(why string) {
	c.killed.Store(&why)
	_ = c.Signal(syscall.SIGKILL)
}

// refused tells whether it has ended because its configuration is wrong.
func (c *child) refused() bool {
	return !c.alive() && c.cmd != nil && c.cmd.ProcessState.ExitCode() == exitConfig
}

// why says how it has ended, and in its own words why.
func (c *child) why() string {
	text := "it has ended; how is not known, since this agent had not started it"
	if why := c.killed.Load(); why != nil {
		return *why
	}
	if c.cmd != nil && c.cmd.ProcessState != nil {
		text = describe(c.cmd.ProcessState)
	}
	if said := c.said.Load(); said != nil && c.since() == 0 {
		text += ": " + *said
	}
	return text
}

func describe(s *os.ProcessState) string {
	w, ok := s.Sys().(syscall.WaitStatus)
	switch {
	case ok && w.Signaled():
		return fmt.Sprintf("it was ended by the signal %v", w.Signal())
	case s.ExitCode() == 0:
		return "it has left, as somebody asked it to"
	case s.ExitCode() == exitConfig:
		return "its configuration is wrong"
	}
	return fmt.Sprintf("it has ended with %d", s.ExitCode())
}

// end asks it to leave, and waits until it has. One that does not within the time it has is killed.
func (c *child) end(ctx context.Context, within time.Duration) error {
	if err := c.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, pidfd.ErrGone) {
		return err
	}
	if err := c.gone(ctx, within); err == nil || ctx.Err() != nil {
		return err
	}
	c.kill(fmt.Sprintf("it did not leave within %v and was killed", within))
	return c.gone(ctx, killTimeout)
}

// gone waits until it has ended.
func (c *child) gone(ctx context.Context, within time.Duration) error {
	late := time.NewTimer(within)
	defer late.Stop()
	select {
	case <-c.ended:
		return nil
	case <-late.C:
		return fmt.Errorf("process %d has not ended within %v", c.PID, within)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
