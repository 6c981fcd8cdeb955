package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strconv"
	"syscall"
	"time"
)

// order is what the runner tells a side to do.
type order struct {
	Fanout, Pushes int
}

// report is what a side says when it has.
type report struct {
	Address       string        `json:",omitempty"`
	CPU, Elapsed  time.Duration `json:",omitempty"`
	RSS           int           `json:",omitempty"` // bytes
	Times         int           `json:",omitempty"` // how many were taken
	P50, P90, P99 time.Duration `json:",omitempty"`
	Failure       string        `json:",omitempty"`
}

// conversation is a side's with the runner: JSON values on its standard input and output.
type conversation struct {
	orders  *json.Decoder
	reports *json.Encoder
}

func newConversation(orders io.Reader, reports io.Writer) *conversation {
	return &conversation{json.NewDecoder(orders), json.NewEncoder(reports)}
}

func (c *conversation) say(r report) error { return c.reports.Encode(r) }

// each does what comes until the input ends.
func (c *conversation) each(do func(order) (report, error)) error {
	for {
		var o order
		if err := c.orders.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		r, err := do(o)
		if err != nil {
			r.Failure = err.Error()
		}
		if err := c.say(r); err != nil {
			return err
		}
	}
}

// used is the processor time of this process.
func used() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// resident is how much memory of this process is in use, in bytes; 0 where the system does not say.
func resident() int {
	b, err := os.ReadFile("/proc/self/statm")
	if fields := bytes.Fields(b); err == nil && len(fields) > 1 {
		n, _ := strconv.Atoi(string(fields[1]))
		return n * os.Getpagesize()
	}
	return 0
}
