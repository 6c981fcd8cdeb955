package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/octomesh/octomesh/examples/shop/instance"
	"github.com/octomesh/octomesh/examples/shop/trace"
)

const (
	startTimeout = 20 * time.Second
	stopTimeout  = 10 * time.Second
	// maxLine bounds one line of a child's log.
	maxLine = 1 << 20
)

// child is a running service or proxy.
type child struct {
	name  string
	cmd   *exec.Cmd
	ready chan string // what it said when it was ready: its address, or ""
	gone  chan struct{}
	err   error // how it ended; after gone

	once   sync.Once
	killed bool
}

// said is what the demo understands of a line that a child wrote.
type said struct {
	instance.Ready
	Msg     string      `json:"msg"`
	Inbound string      `json:"inbound"` // a proxy's
	Call    *trace.Span `json:"call"`    // a service's
}

// start starts a program. What it writes goes to a file, and what a line says to the child and the ledger.
func (s *shop) start(name, program string, env []string, args ...string) (*child, error) {
	log, err := os.Create(filepath.Join(s.dir, name+s.suffix+".log"))
	if err != nil {
		return nil, err
	}
	read, write, err := os.Pipe()
	if err != nil {
		_ = log.Close()
		return nil, err
	}
	c := &child{name: name, ready: make(chan string, 1), gone: make(chan struct{})}
	c.cmd = exec.Command(filepath.Join(s.bin, program), args...)
	c.cmd.Env = append(os.Environ(), env...)
	c.cmd.Stdout, c.cmd.Stderr = write, write
	c.cmd.SysProcAttr = ownGroup()
	err = c.cmd.Start()
	_ = write.Close()
	if err != nil {
		_, _ = read.Close(), log.Close()
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	s.children = append(s.children, c)
	go func() {
		c.follow(s, read, log)
		_, _ = read.Close(), log.Close()
		c.err = c.cmd.Wait()
		close(c.gone)
	}()
	return c, nil
}

// follow reads what the child writes until it has ended.
func (c *child) follow(s *shop, read io.Reader, log io.Writer) {
	lines := bufio.NewScanner(read)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		_, _ = fmt.Fprintf(log, "%s\n", lines.Bytes())
		if s.verbose {
			fmt.Fprintf(os.Stderr, "%s: %s\n", c.name, lines.Bytes())
		}
		if address, ok := strings.CutPrefix(lines.Text(), "octo is ready at "); ok {
			c.ready <- address
			continue
		}
		var l said
		if json.Unmarshal(lines.Bytes(), &l) != nil {
			continue // a panic, say: the log has it
		}
		switch {
		case l.Call != nil:
			s.spans.add(l.Call)
		case l.Ready.Ready:
			c.ready <- l.Direct
		case l.Msg == "octo-proxy runs":
			c.ready <- l.Inbound
		}
	}
	_, _ = io.Copy(log, read) // a line beyond all bounds: only the file gets it
}

// await waits until the child says that it is ready, and returns its address.
func (c *child) await(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	select {
	case address := <-c.ready:
		return address, nil
	case <-c.gone:
		return "", fmt.Errorf("%s ended before it was ready: %w", c.name, c.err)
	case <-ctx.Done():
		return "", fmt.Errorf("%s did not get ready: %w", c.name, ctx.Err())
	}
}

// kill ends the child at once, without a word.
func (c *child) kill() {
	c.once.Do(func() {
		c.killed = true
		_ = c.cmd.Process.Kill()
		<-c.gone
	})
}

// rank is when it ends: 0 services, 1 proxies, 2 the control plane.
func (c *child) rank() int {
	switch {
	case c.name == "octo":
		return 2
	case strings.HasSuffix(c.name, "-proxy"):
		return 1
	}
	return 0
}

// end asks the child to end, by its own id, and waits for it.
func (c *child) end() error {
	var err error
	c.once.Do(func() {
		_ = c.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-c.gone:
		case <-time.After(stopTimeout):
			_ = c.cmd.Process.Kill()
			<-c.gone
			err = fmt.Errorf("%s did not end within %v of SIGTERM", c.name, stopTimeout)
			return
		}
		if c.err != nil {
			err = fmt.Errorf("%s ended with %w", c.name, c.err)
		}
	})
	return err
}
