package control

import (
	"encoding/json"
	"errors"
	"io"
	"time"
)

// setup is what a side is told at its start. Which fields count depends on its kind.
type setup struct {
	Kind    string
	Profile string   `json:",omitempty"` // file for a CPU profile
	Address string   `json:",omitempty"` // of the server to go to; of a server: where it listens, if not anywhere
	Topics  []follow `json:",omitempty"` // what a client's streams follow; what a server has
	// Streams of a client, from number First on, over how many connections.
	Streams, First, Connections int  `json:",omitempty"`
	Count                       bool `json:",omitempty"` // a client counts bytes
	Targets, Total              int  `json:",omitempty"`
	StartsPerSecond             float64
}

// follow is a target and how many streams follow its endpoints: those whose numbers are below.
type follow struct {
	Target    string
	Streams   int
	Instances int `json:",omitempty"` // that a server has of it at the start
}

// order is what the runner tells a side to do.
type order struct {
	Do     string
	Target string `json:",omitempty"`
	Times  int    `json:",omitempty"`
	Wait   int    `json:",omitempty"` // for how many acknowledgements a change waits
	Size   int    `json:",omitempty"` // of what is changed, in bytes
	At     int64  `json:",omitempty"` // when what is waited for began, in nanoseconds since 1970
}

// report is what a side says when it has done what it was told.
type report struct {
	Address            string        `json:",omitempty"`
	CPU, Elapsed       time.Duration `json:",omitempty"`
	Memory             memory        `json:",omitzero"`
	Times              int           `json:",omitempty"` // how many latencies were taken
	P50, P90, P99, Max time.Duration `json:",omitempty"`
	Each               latencies     `json:",omitempty"` // all of them, if they were asked for
	// Counts are whatever a side counts, by name.
	Counts  map[string]int `json:",omitempty"`
	Failure string         `json:",omitempty"`
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
