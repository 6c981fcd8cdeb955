package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/octomesh/octomesh/tools/octobench/side"
)

// row is a line of the table: some processes in a chain from a client to a server.
type row struct {
	name, what string
	needs      string // a peer program that may not be installed; empty: none
	reach      reach
	// start starts all but the client and returns what the client is to be.
	start func(c *cell) (side.Spec, error)
}

// reach is the loads that a row is measured under.
type reach int

const (
	everything reach = iota
	everyUnary       // all that are unary
	basic            // in a whole table only closed loops of unary calls of 1 KiB, to save time
)

// takes tells whether a row is measured under a load. Who names rows gets all that they can.
func (r *row) takes(l side.Load, named bool) bool {
	switch r.reach {
	case everyUnary:
		return l.Kind == side.Unary
	case basic:
		return named || isBasic(l)
	}
	return true
}

// isBasic tells the loads that the gates are about.
func isBasic(l side.Load) bool { return l.Kind == side.Unary && l.Size == 1024 && l.Rate == 0 }

// callTimeout is the deadline of each call in the rows that have one.
const callTimeout = 10 * time.Second

// anyPort lets the system choose.
const anyPort = "tcp:127.0.0.1:0"

// raw is a client of the raw kind.
func raw(dial string) side.Spec { return side.Spec{Kind: "raw-client", Dial: dial} }

// rows are all there are: ours, what they are compared with, and the peers.
func rows() []row {
	return slices.Concat(directRows, meshRows, bridgeRows, kitexRows, peerRows, pythonRows)
}

var directRows = []row{
	{name: "raw-uds", what: "raw ends over a Unix socket", start: func(c *cell) (side.Spec, error) {
		return raw(c.server("raw-server", c.socket("srv"))), nil
	}},
	{name: "raw-tcp", what: "raw ends over TCP", reach: basic, start: func(c *cell) (side.Spec, error) {
		return raw(c.server("raw-server", anyPort)), nil
	}},
	{name: "sdk-uds", what: "Go SDK ends in direct mode over a Unix socket", start: func(c *cell) (side.Spec, error) {
		return side.Spec{Kind: "sdk-direct-client", Dial: c.server("sdk-server", c.socket("srv"))}, nil
	}},
	{name: "sdk-tcp", what: "Go SDK ends in direct mode over TCP", reach: basic, start: func(c *cell) (side.Spec, error) {
		return side.Spec{Kind: "sdk-direct-client", Dial: c.server("sdk-server", anyPort)}, nil
	}},
	{name: "grpc-uds", what: "grpc-go ends over a Unix socket", start: func(c *cell) (side.Spec, error) {
		return side.Spec{Kind: "grpc-client", Dial: c.server("grpc-server", c.socket("srv"))}, nil
	}},
}

var meshRows = []row{
	{name: "copy-uds-uds", what: "raw ends, a byte copy between them: Unix socket in, Unix socket out", reach: basic, start: func(c *cell) (side.Spec, error) {
		return raw(c.byteCopy(c.server("raw-server", c.socket("srv")))), nil
	}},
	{name: "copy-uds-tcp", what: "raw ends, a byte copy between them: Unix socket in, TCP out", start: func(c *cell) (side.Spec, error) {
		return raw(c.byteCopy(c.server("raw-server", anyPort))), nil
	}},
	{name: "mesh-1", what: "raw ends, one proxy: Unix socket in, TCP out to a server that stands for the next proxy", start: func(c *cell) (side.Spec, error) {
		return raw(c.proxy("proxy", behind{mesh: c.server("raw-server", anyPort)}).socket), nil
	}},
	{name: "mesh-1-deadline", what: "mesh-1 with a deadline on each call", reach: basic, start: func(c *cell) (side.Spec, error) {
		return deadline(raw(c.proxy("proxy", behind{mesh: c.server("raw-server", anyPort)}).socket)), nil
	}},
	{name: "mesh-1-sdk", what: "Go SDK ends, one proxy", start: func(c *cell) (side.Spec, error) {
		return side.Spec{Kind: "sdk-client", Dial: c.proxy("proxy", behind{mesh: c.server("sdk-server", anyPort)}).socket}, nil
	}},
	{name: "mesh-2", what: "raw ends, two proxies: Unix socket, TCP, Unix socket on which the server has attached", start: func(c *cell) (side.Spec, error) {
		return raw(c.twoProxies("raw-attached")), nil
	}},
	{name: "mesh-2-deadline", what: "mesh-2 with a deadline on each call", reach: basic, start: func(c *cell) (side.Spec, error) {
		return deadline(raw(c.twoProxies("raw-attached"))), nil
	}},
	{name: "mesh-2-sdk", what: "Go SDK ends, two proxies", start: func(c *cell) (side.Spec, error) {
		return side.Spec{Kind: "sdk-client", Dial: c.twoProxies("sdk-server")}, nil
	}},
}

// gRPC on both sides of ours, and what it is compared with: grpc-go's own relay. What comes out of one proxy goes by TCP, as it
// would to a server on another host.
var bridgeRows = []row{
	{name: "bridge-1", what: "grpc-go ends, one proxy: Unix socket in, TCP out to gRPC's server", start: func(c *cell) (side.Spec, error) {
		return side.Spec{Kind: "grpc-client", Dial: c.proxy("proxy", behind{direct: c.server("grpc-server", anyPort), grpc: true}).socket}, nil
	}},
	{name: "bridge-2", what: "grpc-go ends, two proxies: Unix socket, TCP, Unix socket of gRPC's server", start: func(c *cell) (side.Spec, error) {
		return side.Spec{Kind: "grpc-client", Dial: c.bridgeOfTwo()}, nil
	}},
	{name: "grpc-copy", what: "grpc-go ends, a byte copy between them: Unix socket in, TCP out", start: func(c *cell) (side.Spec, error) {
		return side.Spec{Kind: "grpc-client", Dial: c.byteCopy(c.server("grpc-server", anyPort))}, nil
	}},
	{name: "grpc-relay", what: "grpc-go ends, a relay by grpc-go with a raw codec: Unix socket in, TCP out", start: func(c *cell) (side.Spec, error) {
		relay := side.Spec{Kind: "grpc-relay", Listen: c.socket("relay"), Dial: c.server("grpc-server", anyPort)}
		return side.Spec{Kind: "grpc-client", Dial: c.side("relay", relay)}, nil
	}},
}

// Kitex on both sides of ours. Each head says whom it is for, which a client without a proxy spares: these rows are compared with each other,
// not with kitex-uds.
var kitexRows = []row{
	{name: "kitex-1", what: "Kitex ends, one proxy: Unix socket in, TCP out to Kitex' server", needs: kitex, reach: basic, start: func(c *cell) (side.Spec, error) {
		return side.Spec{Kind: "kitex-named-client", Dial: c.proxy("proxy", behind{direct: c.server("kitex-server", anyPort), kitex: true}).socket}, nil
	}},
	{name: "kitex-copy", what: "Kitex ends, a byte copy between them: Unix socket in, TCP out", needs: kitex, reach: basic, start: func(c *cell) (side.Spec, error) {
		return side.Spec{Kind: "kitex-named-client", Dial: c.byteCopy(c.server("kitex-server", anyPort))}, nil
	}},
}

// Peers relay between Unix sockets on both sides.
var peerRows = []row{
	{name: "envoy-grpc", what: "grpc-go ends, Envoy relays HTTP/2", needs: envoy, start: grpcThrough(envoy, "envoy-grpc.yaml")},
	{name: "haproxy-h2", what: "grpc-go ends, HAProxy relays HTTP/2", needs: haproxy, start: grpcThrough(haproxy, "haproxy-h2.cfg")},
	{name: "nginx-grpc", what: "grpc-go ends, nginx relays by grpc_pass", needs: nginx, start: grpcThrough(nginx, "nginx-grpc.conf")},
	{name: "envoy-tcp", what: "raw ends, Envoy copies bytes", needs: envoy, reach: basic, start: rawThrough(envoy, "envoy-tcp.yaml")},
	{name: "haproxy-tcp", what: "raw ends, HAProxy copies bytes", needs: haproxy, reach: basic, start: rawThrough(haproxy, "haproxy-tcp.cfg")},
	{name: "kitex-uds", what: "Kitex ends over a Unix socket, multiplexed", needs: kitex, reach: everyUnary, start: func(c *cell) (side.Spec, error) {
		return side.Spec{Kind: "kitex-client", Dial: c.server("kitex-server", c.socket("srv"))}, nil
	}},
}

// Each end of Python's is also measured with the other by Go, which is the faster: what it can do by itself.
var pythonRows = []row{
	{name: "python-uds", what: "Python SDK ends in direct mode over a Unix socket", needs: python, reach: basic, start: pythonEnds("python-sdk-direct-client", "python-sdk-server")},
	{name: "python-client", what: "a Python SDK client, a Go SDK server", needs: python, reach: basic, start: pythonEnds("python-sdk-direct-client", "sdk-server")},
	{name: "python-server", what: "a Go SDK client, a Python SDK server", needs: python, reach: basic, start: pythonEnds("sdk-direct-client", "python-sdk-server")},
	{name: "grpcio-uds", what: "grpcio ends (asyncio) over a Unix socket", needs: python, reach: basic, start: pythonEnds("python-grpcio-client", "python-grpcio-server")},
	{name: "grpcio-client", what: "a grpcio client (asyncio), a grpc-go server", needs: python, reach: basic, start: pythonEnds("python-grpcio-client", "grpc-server")},
	{name: "grpcio-server", what: "a grpc-go client, a grpcio server (asyncio)", needs: python, reach: basic, start: pythonEnds("grpc-client", "python-grpcio-server")},
	{name: "python-mesh-2", what: "Python SDK ends, two proxies", needs: python, reach: basic, start: func(c *cell) (side.Spec, error) {
		return side.Spec{Kind: "python-sdk-client", Dial: c.twoProxies("python-sdk-server")}, nil
	}},
}

func pythonEnds(client, server string) func(*cell) (side.Spec, error) {
	return func(c *cell) (side.Spec, error) {
		return side.Spec{Kind: client, Dial: c.server(server, c.socket("srv"))}, nil
	}
}

func grpcThrough(peer, template string) func(*cell) (side.Spec, error) {
	return func(c *cell) (side.Spec, error) {
		return side.Spec{Kind: "grpc-client", Dial: c.peer(peer, template, c.server("grpc-server", c.socket("srv")))}, nil
	}
}

func rawThrough(peer, template string) func(*cell) (side.Spec, error) {
	return func(c *cell) (side.Spec, error) {
		return raw(c.peer(peer, template, c.server("raw-server", c.socket("srv")))), nil
	}
}

func deadline(s side.Spec) side.Spec {
	s.Load.Timeout = callTimeout
	return s
}

// find returns the rows of the given names, in the table's order; all without any.
func find(names []string) ([]row, error) {
	all := rows()
	if len(names) == 0 {
		return all, nil
	}
	out := slices.DeleteFunc(slices.Clone(all), func(r row) bool { return !slices.Contains(names, r.name) })
	unknown := slices.DeleteFunc(slices.Clone(names), func(n string) bool {
		return slices.ContainsFunc(all, func(r row) bool { return r.name == n })
	})
	if len(unknown) > 0 {
		return nil, fmt.Errorf("no such row: %s", strings.Join(unknown, ", "))
	}
	return out, nil
}

func parseLoads(texts []string) ([]side.Load, error) {
	var out []side.Load
	for _, text := range texts {
		l, err := side.ParseLoad(text)
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no load is given")
	}
	return out, nil
}
