package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/octomesh/octomesh/conformance/control"
	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
)

const (
	startTimeout = 20 * time.Second
	stopTimeout  = 10 * time.Second
)

// program is what can be started: a testee, under a name for reports.
type program struct {
	name    string
	command []string
	hello   *conformancev1.Hello // of the first that was started
	profile *conformancev1.Profile
}

// process is a child that runs.
type process struct {
	name string
	cmd  *exec.Cmd
	gone chan struct{}
	err  error // how it ended; after gone
	log  string

	killed      bool   // by a scenario
	descriptors uint64 // its limit before a scenario took it away
}

// start starts a child. Its standard error goes to a file.
func start(dir, name string, command []string, attach func(*exec.Cmd) error) (*process, error) {
	p := &process{name: name, gone: make(chan struct{}), log: filepath.Join(dir, name+".log")}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }() // the child has its own
	p.cmd = exec.Command(command[0], command[1:]...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "OCTO_") { // a run depends on its arguments only
			p.cmd.Env = append(p.cmd.Env, v)
		}
	}
	p.cmd.Stderr = log
	p.cmd.SysProcAttr = ownGroup()
	if attach != nil {
		if err := attach(p.cmd); err != nil {
			return nil, err
		}
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	return p, nil
}

// wait reaps the child; its pipes must have been read to their end.
func (p *process) wait() {
	p.err = p.cmd.Wait()
	close(p.gone)
}

// await waits until the child has ended, and kills it if it does not.
func (p *process) await() error {
	select {
	case <-p.gone:
		if p.err != nil {
			return fmt.Errorf("%s ended with %w, see %s", p.name, p.err, p.log)
		}
		return nil
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.gone
		return fmt.Errorf("%s did not end within %v, see %s", p.name, stopTimeout, p.log)
	}
}

// testee is a program under test that runs.
type testee struct {
	*process
	in io.WriteCloser

	writing sync.Mutex // guards in
	mu      sync.Mutex // guards what follows
	next    uint64
	waiting map[uint64]chan *conformancev1.Report
	hello   *conformancev1.Hello
}

func startTestee(dir, name string, p *program) (*testee, error) {
	t := &testee{waiting: make(map[uint64]chan *conformancev1.Report)}
	var out io.Reader
	var err error
	t.process, err = start(dir, name, p.command, func(cmd *exec.Cmd) (err error) {
		if t.in, err = cmd.StdinPipe(); err == nil {
			out, err = cmd.StdoutPipe()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	hello := t.expect(0)
	go func() {
		err := t.read(bufio.NewReader(out))
		_, _ = io.Copy(io.Discard, out)
		t.process.wait()
		t.fail(fmt.Errorf("%s is gone: %w", name, errors.Join(err, t.err)))
	}()
	select {
	case r := <-hello:
		if t.hello = r.GetHello(); t.hello == nil || t.hello.ControlVersion != 1 {
			_ = t.stop()
			return nil, fmt.Errorf("%s: the first report is not Hello of control version 1: %v; see %s", name, r, t.log)
		}
		return t, nil
	case <-time.After(startTimeout):
		_ = t.cmd.Process.Kill()
		return nil, fmt.Errorf("%s says no Hello within %v, see %s", name, startTimeout, t.log)
	}
}

// expect registers for the report with an id.
func (t *testee) expect(id uint64) <-chan *conformancev1.Report {
	answer := make(chan *conformancev1.Report, 1)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting[id] = answer
	return answer
}

// read hands reports to whoever waits for them.
func (t *testee) read(in io.Reader) error {
	for {
		r := &conformancev1.Report{}
		if err := control.Read(in, r); err != nil {
			return err
		}
		t.mu.Lock()
		answer := t.waiting[r.Id]
		delete(t.waiting, r.Id)
		t.mu.Unlock()
		if answer == nil {
			return fmt.Errorf("a report of id %d, which nobody waits for", r.Id)
		}
		answer <- r
	}
}

// fail answers all who wait once the testee has gone.
func (t *testee) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, answer := range t.waiting {
		answer <- &conformancev1.Report{Id: id, Report: &conformancev1.Report_Failure{Failure: err.Error()}}
	}
	t.waiting = nil
}

// send gives a command; its report comes on the channel. While it waits for room in the pipe, reports are read: a testee may
// have to be rid of one before it reads on.
func (t *testee) send(c *conformancev1.Command) <-chan *conformancev1.Report {
	answer := make(chan *conformancev1.Report, 1)
	t.mu.Lock()
	t.next++
	c.Id = t.next
	gone := t.waiting == nil
	if !gone {
		t.waiting[c.Id] = answer
	}
	t.mu.Unlock()
	if gone {
		answer <- &conformancev1.Report{Report: &conformancev1.Report_Failure{Failure: t.name + " is gone"}}
		return answer
	}
	t.writing.Lock()
	err := control.Write(t.in, c)
	t.writing.Unlock()
	if err == nil {
		return answer
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waiting[c.Id] == answer { // else it was told that the testee has gone
		delete(t.waiting, c.Id)
		answer <- &conformancev1.Report{Report: &conformancev1.Report_Failure{Failure: err.Error()}}
	}
	return answer
}

// do gives a command and waits for its report.
func (t *testee) do(c *conformancev1.Command) (*conformancev1.Report, error) {
	return await(t.send(c), startTimeout)
}

func await(answer <-chan *conformancev1.Report, within time.Duration) (*conformancev1.Report, error) {
	select {
	case r := <-answer:
		if f := r.GetFailure(); f != "" {
			return nil, errors.New(f)
		}
		return r, nil
	case <-time.After(within):
		return nil, fmt.Errorf("no report within %v", within)
	}
}

// stop closes the testee's input, at which it ends.
func (t *testee) stop() error {
	_ = t.in.Close()
	return t.await()
}

func (t *testee) kill() {
	_ = t.cmd.Process.Signal(syscall.SIGKILL)
	<-t.gone
}
