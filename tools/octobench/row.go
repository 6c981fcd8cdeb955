package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/octomesh/octomesh/tools/octobench/end"
)

// row is a line of the table: some processes in a chain from a client to a server.
type row struct {
	name, what string
	// start starts all but the client and returns what the client is to be.
	start func(c *cell) (end.Spec, error)
}

// callTimeout is the deadline of each call in the rows that have one.
const callTimeout = 10 * time.Second

var rows = []row{
	{"raw-uds", "raw ends over a Unix socket", func(c *cell) (end.Spec, error) {
		at := c.server("raw-server", c.socket("srv"))
		return end.Spec{Kind: "raw-client", Dial: at}, nil
	}},
	{"raw-tcp", "raw ends over TCP", func(c *cell) (end.Spec, error) {
		at := c.server("raw-server", anyPort)
		return end.Spec{Kind: "raw-client", Dial: at}, nil
	}},
	{"copy-uds-uds", "raw ends, a byte copy between them: Unix socket in, Unix socket out", func(c *cell) (end.Spec, error) {
		at := c.byteCopy(c.server("raw-server", c.socket("srv")))
		return end.Spec{Kind: "raw-client", Dial: at}, nil
	}},
	{"copy-uds-tcp", "raw ends, a byte copy between them: Unix socket in, TCP out", func(c *cell) (end.Spec, error) {
		at := c.byteCopy(c.server("raw-server", anyPort))
		return end.Spec{Kind: "raw-client", Dial: at}, nil
	}},
	{"mesh-1", "raw ends, one proxy: Unix socket in, TCP out to a server that stands for the next proxy", func(c *cell) (end.Spec, error) {
		p := c.proxy("proxy", c.server("raw-server", anyPort))
		return end.Spec{Kind: "raw-client", Dial: p.socket}, nil
	}},
	{"mesh-1-deadline", "mesh-1 with a deadline on each call", func(c *cell) (end.Spec, error) {
		p := c.proxy("proxy", c.server("raw-server", anyPort))
		return end.Spec{Kind: "raw-client", Dial: p.socket, Load: end.Load{Timeout: callTimeout}}, nil
	}},
	{"mesh-2", "raw ends, two proxies: Unix socket, TCP, Unix socket on which the server has attached", func(c *cell) (end.Spec, error) {
		return end.Spec{Kind: "raw-client", Dial: c.twoProxies("raw-attached")}, nil
	}},
	{"mesh-2-deadline", "mesh-2 with a deadline on each call", func(c *cell) (end.Spec, error) {
		return end.Spec{Kind: "raw-client", Dial: c.twoProxies("raw-attached"), Load: end.Load{Timeout: callTimeout}}, nil
	}},
	{"sdk-uds", "Go SDK ends in direct mode over a Unix socket", func(c *cell) (end.Spec, error) {
		at := c.server("sdk-server", c.socket("srv"))
		return end.Spec{Kind: "sdk-direct-client", Dial: at}, nil
	}},
	{"sdk-tcp", "Go SDK ends in direct mode over TCP", func(c *cell) (end.Spec, error) {
		at := c.server("sdk-server", anyPort)
		return end.Spec{Kind: "sdk-direct-client", Dial: at}, nil
	}},
	{"mesh-2-sdk", "Go SDK ends, two proxies", func(c *cell) (end.Spec, error) {
		return end.Spec{Kind: "sdk-client", Dial: c.twoProxies("sdk-server")}, nil
	}},
	{"grpc-uds", "grpc-go ends over a Unix socket", func(c *cell) (end.Spec, error) {
		at := c.server("grpc-server", c.socket("srv"))
		return end.Spec{Kind: "grpc-client", Dial: at}, nil
	}},
}

// anyPort lets the system choose.
const anyPort = "tcp:127.0.0.1:0"

// find returns the rows of the given names, in the table's order; all without any.
func find(names []string) ([]row, error) {
	if len(names) == 0 {
		return rows, nil
	}
	var out []row
	for _, r := range rows {
		if slices.Contains(names, r.name) {
			out = append(out, r)
			names = slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == r.name })
		}
	}
	if len(names) > 0 {
		return nil, fmt.Errorf("no such row: %s", strings.Join(names, ", "))
	}
	return out, nil
}

// parseLoads reads "connections:in flight" pairs. An open loop will be written with its rate behind, as in
// 1:100@20000.
func parseLoads(texts []string, size int) ([]end.Load, error) {
	var out []end.Load
	for _, text := range texts {
		l := end.Load{Size: size}
		n, err := fmt.Sscanf(text, "%d:%d", &l.Connections, &l.InFlight)
		if err != nil || n != 2 || text != column(l) || l.Connections < 1 || l.InFlight < l.Connections {
			return nil, fmt.Errorf("load %q is not connections:calls in flight, at least one on each connection", text)
		}
		out = append(out, l)
	}
	if len(out) == 0 {
		return nil, errors.New("no load is given")
	}
	return out, nil
}

// column is a load's name.
func column(l end.Load) string { return fmt.Sprintf("%d:%d", l.Connections, l.InFlight) }
