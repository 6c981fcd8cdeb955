package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// child is a side that runs.
type child struct {
	what    string
	cmd     *exec.Cmd
	in      io.WriteCloser
	orders  *json.Encoder
	reports *json.Decoder
}

// start starts a side, without waiting for its first report.
func (o *options) start(s setup, what string) (*child, error) {
	if o.profiles != "" && s.Kind != "client" && s.Kind != "sessions" {
		s.Profile = filepath.Join(o.profiles, fmt.Sprintf("%s-%d.pprof", what, time.Now().UnixMilli()))
	}
	text, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	c := &child{what: what, cmd: exec.Command(o.self, Command, string(text))}
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	c.orders, c.reports = json.NewEncoder(c.in), json.NewDecoder(out)
	return c, nil
}

// started is start and the first report.
func (o *options) started(s setup, what string) (*child, report, error) {
	c, err := o.start(s, what)
	if err != nil {
		return nil, report{}, err
	}
	first, err := c.read()
	if err != nil {
		c.stop()
		return nil, report{}, err
	}
	return c, first, nil
}

func (c *child) read() (report, error) {
	var r report
	if err := c.reports.Decode(&r); err != nil {
		return r, fmt.Errorf("%s: %w", c.what, err)
	}
	if r.Failure != "" {
		return r, errors.New(c.what + ": " + r.Failure)
	}
	return r, nil
}

func (c *child) tell(o order) error { return c.orders.Encode(o) }

func (c *child) do(o order) (report, error) {
	if err := c.tell(o); err != nil {
		return report{}, fmt.Errorf("%s: %w", c.what, err)
	}
	return c.read()
}

// stop has the side end, and waits.
func (c *child) stop() {
	_ = c.in.Close()
	_ = c.cmd.Wait()
}

// kill ends it at once, as a crash does.
func (c *child) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.in.Close()
	_ = c.cmd.Wait()
}
