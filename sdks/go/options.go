package octomesh

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/octomesh/octomesh/core/transport"
	"github.com/octomesh/octomesh/core/wire"
)

// Limits is what one side accepts. Zeros mean the defaults.
type Limits struct {
	// MaxReceive is the largest message in bytes, uncompressed. Default 4 MiB.
	MaxReceive int
	// MaxStreams is how many calls a peer may hold open on one connection. Default 1024.
	MaxStreams int
	// StreamWindow is how many bytes a peer may send ahead on one call. Default 256 KiB, at least 128 KiB.
	StreamWindow int
	// MaxMetadata bounds the metadata that this side sends with a call: keys, values and 32 bytes for each
	// entry. Default 16 KiB.
	MaxMetadata int
	// MaxBaggage bounds the keys and values of the baggage that this side sends. Default 512 bytes.
	MaxBaggage int
}

const (
	defaultMaxReceive  = 4 << 20
	defaultMaxMetadata = 16 << 10
	defaultMaxBaggage  = 512
)

func (l Limits) withDefaults() Limits {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&l.MaxReceive, defaultMaxReceive)
	set(&l.MaxStreams, wire.DefaultMaxStreams)
	set(&l.StreamWindow, wire.DefaultStreamWindow)
	set(&l.MaxMetadata, defaultMaxMetadata)
	set(&l.MaxBaggage, defaultMaxBaggage)
	return l
}

func (l Limits) wire() wire.Limits {
	return wire.Limits{MaxStreams: uint32(l.MaxStreams), StreamWindow: uint32(min(l.StreamWindow, wire.MaxCredit))}
}

// DialOption configures a [Channel].
type DialOption interface{ applyDial(*config) }

// ServerOption configures a [Server].
type ServerOption interface{ applyServer(*config) }

// Option configures a [Channel] or a [Server].
type Option interface {
	DialOption
	ServerOption
}

type (
	bothOption   func(*config)
	dialOption   func(*config)
	serverOption func(*config)
)

func (o bothOption) applyDial(c *config)     { o(c) }
func (o bothOption) applyServer(c *config)   { o(c) }
func (o dialOption) applyDial(c *config)     { o(c) }
func (o serverOption) applyServer(c *config) { o(c) }

// config is what options and environment add up to, for both sides.
type config struct {
	mode         string
	socket       string
	application  string
	environment  string
	instance     string
	direct       []Endpoint
	listen       []string
	listeners    []net.Listener
	drain        time.Duration
	interceptors []Interceptor
	limits       Limits
	log          *slog.Logger
	tls          *TLS
	server       string // the SPIFFE id that servers must have
	secure       *security
	directory    []string // addresses of Directories
	registration Registration
	err          error
}

// The values of OCTO_MODE.
const (
	modeAuto = "auto"
	modeOn   = "on"
	modeOff  = "off"
)

// newConfig reads the environment; options come after it and win.
func newConfig() *config {
	return &config{
		mode:        os.Getenv("OCTO_MODE"),
		socket:      os.Getenv("OCTO_SOCKET"),
		application: os.Getenv("OCTO_APPLICATION"),
		environment: os.Getenv("OCTO_ENVIRONMENT"),
		directory:   directories(),
		drain:       30 * time.Second,
		log:         slog.Default(),
	}
}

func (c *config) finish() error {
	if c.err != nil {
		return c.err
	}
	switch c.mode {
	case "":
		c.mode = modeAuto
	case modeAuto, modeOn, modeOff:
	default:
		return fmt.Errorf("octomesh: mode %q (from OCTO_MODE): want auto, on or off", c.mode)
	}
	if c.application == "" {
		c.application = filepath.Base(os.Args[0])
	}
	if c.environment == "" {
		c.environment = "default"
	}
	if c.instance == "" {
		c.instance = process.instance(c.application)
	}
	c.limits = c.limits.withDefaults()
	if c.mode == modeOff {
		c.socket = ""
	}
	if c.mode == modeOn && c.socket == "" {
		return errors.New("octomesh: mode is on, but no proxy's socket is given: set OCTO_SOCKET or use WithSocket")
	}
	return errors.Join(transport.CheckSocketPath(c.socket), c.checkRegistration(), c.finishTLS())
}

// WithSocket sets the path of the local proxy's Unix socket, at most 107 bytes. Default: OCTO_SOCKET.
func WithSocket(path string) Option { return bothOption(func(c *config) { c.socket = path }) }

// WithMode sets how calls go: "auto" through the proxy where its socket is known and else direct, "on"
// through the proxy, "off" direct. Default: OCTO_MODE, else "auto".
func WithMode(mode string) Option { return bothOption(func(c *config) { c.mode = mode }) }

// WithApplication names the program that calls or serves. Default: OCTO_APPLICATION, else the name of the
// program's file.
func WithApplication(name string) Option { return bothOption(func(c *config) { c.application = name }) }

// WithEnvironment names the environment; environments never mix. Default: OCTO_ENVIRONMENT, else "default".
func WithEnvironment(name string) Option { return bothOption(func(c *config) { c.environment = name }) }

// WithInstance names this process among those of its application. Default: application, host and process id.
func WithInstance(name string) Option { return bothOption(func(c *config) { c.instance = name }) }

// WithLimits sets what this side accepts.
func WithLimits(l Limits) Option { return bothOption(func(c *config) { c.limits = l }) }

// WithInterceptors adds interceptors, the first outermost, behind those of earlier options.
func WithInterceptors(i ...Interceptor) Option {
	return bothOption(func(c *config) { c.interceptors = append(c.interceptors, i...) })
}

// WithLogger sets where the SDK writes what no caller learns: crashes of handlers, lost connections.
// Default: slog.Default().
func WithLogger(l *slog.Logger) Option { return bothOption(func(c *config) { c.log = l }) }

// Endpoint is a server that is called direct.
type Endpoint struct {
	// Address is "host:port" for TCP, or "unix:" and a path.
	Address string
	// Weight is this endpoint's share relative to the others'; 0 gets no calls.
	Weight int
}

// WithDirect gives the servers that are called where no proxy is used, with equal weights. An address is
// "host:port", or "unix:" and a path.
func WithDirect(addresses ...string) DialOption {
	return dialOption(func(c *config) {
		for _, a := range addresses {
			c.addDirect(Endpoint{a, 1})
		}
	})
}

// WithDirectEndpoints is [WithDirect] with weights.
func WithDirectEndpoints(endpoints ...Endpoint) DialOption {
	return dialOption(func(c *config) {
		for _, e := range endpoints {
			c.addDirect(e)
		}
	})
}

func (c *config) addDirect(e Endpoint) {
	if _, _, err := splitAddress(e.Address); err != nil {
		c.err = errors.Join(c.err, err)
	}
	if e.Weight < 0 {
		c.err = errors.Join(c.err, fmt.Errorf("octomesh: endpoint %s: weight %d is negative", e.Address, e.Weight))
	}
	c.direct = append(c.direct, e)
}

// splitAddress turns an address into what package net dials or listens on.
func splitAddress(address string) (network, at string, err error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return "unix", path, transport.CheckSocketPath(path)
	}
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return "", "", fmt.Errorf("octomesh: address %q: want host:port or unix:path", address)
	}
	return "tcp", address, nil
}

// WithListen makes the server take direct calls at address: "host:port", where port 0 lets the system
// choose (see [Server.Addresses]), or "unix:" and a path. It may be given several times.
func WithListen(address string) ServerOption {
	return serverOption(func(c *config) {
		if _, _, err := splitAddress(address); err != nil {
			c.err = errors.Join(c.err, err)
		}
		c.listen = append(c.listen, address)
	})
}

// WithListener makes the server take direct calls from l, which it closes.
func WithListener(l net.Listener) ServerOption {
	return serverOption(func(c *config) { c.listeners = append(c.listeners, l) })
}

// WithDrainTimeout sets how long a server that stops waits for open calls once the context of
// [Server.Serve] is done. Default 30 s.
func WithDrainTimeout(d time.Duration) ServerOption {
	return serverOption(func(c *config) { c.drain = d })
}

// hello is what this side says first on a connection that it dials.
func (c *config) hello(role wire.Role, targets ...string) wire.Hello {
	return wire.Hello{
		Role: role, Kind: wire.PeerSDK, SDK: "go", SDKVersion: Version,
		Environment: c.environment, Application: c.application,
		Instance: c.instance, Incarnation: process.incarnation, Targets: targets,
	}
}
