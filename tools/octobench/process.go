package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/octomesh/octomesh/tools/octobench/side"
)

// startTimeout bounds how long a process may take to be ready, and to end.
const startTimeout = 10 * time.Second

// process is one side, running.
type process struct {
	role string
	cmd  *exec.Cmd
	in   io.WriteCloser // a side ends with it
	out  *bufio.Reader
	err  tail
	done chan struct{} // closed when it has ended
	// signal: it takes no notice of its standard input and is told by SIGTERM.
	signal bool
}

// tail keeps the end of what a process says, for when something goes wrong.
type tail struct {
	sync.Mutex
	b []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.Lock()
	defer t.Unlock()
	const keep = 8 << 10
	t.b = append(t.b, b...)
	if len(t.b) > keep {
		t.b = append(t.b[:0], t.b[len(t.b)-keep:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.Lock()
	defer t.Unlock()
	return string(bytes.TrimSpace(t.b))
}

// launch starts a command. It ends with the thread that calls, whatever happens to this process.
func launch(role string, cmd *exec.Cmd) (*process, error) {
	p := &process{role: role, cmd: cmd}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	cmd.Stderr = &p.err
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if p.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p.done = make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended shows in what it has said
		close(p.done)
	}()
	return p, nil
}

// gone tells whether the process has ended.
func (p *process) gone() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// startEnd starts a side in a process of its own and returns the address that it listens on.
func startEnd(role, program string, spec side.Spec, profile string) (*process, string, error) {
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, "", err
	}
	cmd := exec.Command(program, side.Command, string(text))
	cmd.Env = append(os.Environ(), side.ProfileEnv+"="+profile)
	p, err := launch(role, cmd)
	if err != nil {
		return nil, "", err
	}
	var ready side.Ready
	if err := p.answer(&ready); err != nil {
		p.end()
		return nil, "", err
	}
	return p, ready.Address, nil
}

// sample asks a client what it has counted.
func (p *process) sample() (side.Sample, error) {
	var s side.Sample
	if _, err := io.WriteString(p.in, "sample\n"); err != nil {
		return s, p.failed(err)
	}
	return s, p.answer(&s)
}

// answer reads one line of JSON.
func (p *process) answer(into any) error {
	type line struct {
		b   []byte
		err error
	}
	got := make(chan line, 1)
	go func() {
		b, err := p.out.ReadBytes('\n')
		got <- line{b, err}
	}()
	select {
	case l := <-got:
		if l.err != nil {
			return p.failed(l.err)
		}
		return json.Unmarshal(l.b, into)
	case <-time.After(startTimeout):
		return p.failed(errors.New("says nothing"))
	}
}

func (p *process) failed(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) { // it ends: what it says last may still be on its way
		select {
		case <-p.done:
		case <-time.After(startTimeout):
		}
	}
	return fmt.Errorf("%s: %w\n%s", p.role, err, p.err.String())
}

// end ends the process, a proxy by a signal to its id, and waits for it.
func (p *process) end() {
	_ = p.in.Close()
	if p.signal {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
	}
	kill := time.AfterFunc(startTimeout, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	<-p.done
}
