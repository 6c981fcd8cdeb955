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
	"github.com/octomesh/octomesh/sdks/go/internal/meshswitch"
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
	proxy        string   // the socket that calls may go to; that of socket is a server's, too
	zone         string
	node         string
	state        string // a directory for what is known; "": none
	switchFile   string
	permille     string // of the kill switch; "": it has none
	pinned       bool   // calls do not change over because a way fails
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
		zone:        os.Getenv("OCTO_ZONE"),
		node:        os.Getenv("OCTO_NODE"),
		state:       os.Getenv("OCTO_STATE"),
		switchFile:  os.Getenv("OCTO_SWITCH_FILE"),
		permille:    os.Getenv("OCTO_PERMILLE"),
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
	if c.node == "" {
		c.node, _ = os.Hostname() // without a name no switch names this node
	}
	if !validNode(c.node) {
		c.node = ""
	}
	if _, err := c.word(); err != nil {
		return err
	}
	c.limits = c.limits.withDefaults()
	c.proxy = c.socket
	if c.mode == modeOff {
		c.socket = ""
		if c.switchFile == "" {
			c.proxy = "" // nobody can switch it on
		}
	}
	if c.mode == modeOn && c.socket == "" {
		return errors.New("octomesh: mode is on, but no proxy's socket is given: set OCTO_SOCKET or use WithSocket")
	}
	return errors.Join(transport.CheckSocketPath(c.proxy), c.checkRegistration(), c.finishTLS())
}

// WithSocket sets the path of the local proxy's Unix socket, at most 107 bytes. Default: OCTO_SOCKET.
func WithSocket(path string) Option { return bothOption(func(c *config) { c.socket = path }) }

// WithMode sets which ways calls may take: "auto" the proxy and direct, by the mesh switch and by what answers; "on" the proxy alone, with no
// fallback; "off" direct alone. In mode "on" without a switch file the SDK asks no Directory about its targets, and reports nothing: to send
// all calls through the mesh and see how they fare set the share to 1000 instead. Default: OCTO_MODE, else "auto".
func WithMode(mode string) Option { return bothOption(func(c *config) { c.mode = mode }) }

// WithPermille sets how many of 1000 calls take the mesh, in place of what the console says. Default: OCTO_PERMILLE, else as the console
// says. It counts in mode "auto" alone.
func WithPermille(n int) DialOption {
	return dialOption(func(c *config) { c.permille = strconv.Itoa(n) })
}

// WithSwitchFile names the kill switch's file, which is looked at all the time: a line for each target, or "*" for all others, with a
// permille, "on", "off", or "auto" for as the console says. It goes before [WithMode] and [WithPermille]. Put a new one in its place by renaming it.
// Default: OCTO_SWITCH_FILE, else none.
func WithSwitchFile(path string) DialOption {
	return dialOption(func(c *config) { c.switchFile = path })
}

// WithFallback turns off, or on, that calls go the other way when one fails. Without it a call whose way is not there ends UNAVAILABLE,
// PROXY_UNREACHABLE, NOT_PROCESSED. Default: on.
func WithFallback(on bool) DialOption { return dialOption(func(c *config) { c.pinned = !on }) }

// WithState names a directory where the SDK keeps what it knows of the targets it calls, to start from when neither proxy nor control
// plane answer. Processes may share it. Default: OCTO_STATE, else nothing is kept.
func WithState(dir string) DialOption { return dialOption(func(c *config) { c.state = dir }) }

// WithZone says where this process stands: direct calls go to instances of its own zone while it has some. Default: OCTO_ZONE, else
// zones do not matter.
func WithZone(zone string) DialOption { return dialOption(func(c *config) { c.zone = zone }) }

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

// WithDirect gives the servers that direct calls go to, with equal weights, in place of those that the Directory knows. An address is
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

// validNode tells whether a switch can name a node (D-WATCH-12).
func validNode(name string) bool {
	for i := range len(name) {
		b := name[i]
		if letter := b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9'; !letter && (i == 0 || !strings.ContainsRune("._:/@-", rune(b))) {
			return false
		}
	}
	return len(name) > 0 && len(name) <= 255
}

// word is what the kill switch says by the environment, or by options in its place.
func (c *config) word() (meshswitch.Word, error) {
	switch {
	case c.mode == modeOn || c.mode == modeOff:
		return meshswitch.ParseWord(c.mode)
	case c.permille == "":
		return meshswitch.Word{}, nil
	}
	w, err := meshswitch.ParseWord(c.permille)
	if err != nil || !w.HasShare {
		return w, fmt.Errorf("octomesh: share %q (from OCTO_PERMILLE or WithPermille): want a permille from 0 to 1000", c.permille)
	}
	return w, nil
}

// hello is what this side says first on a connection that it dials.
func (c *config) hello(role wire.Role, targets ...string) wire.Hello {
	return wire.Hello{
		Role: role, Kind: wire.PeerSDK, SDK: "go", SDKVersion: Version,
		Environment: c.environment, Application: c.application,
		Instance: c.instance, Incarnation: process.incarnation, Targets: targets,
	}
}
