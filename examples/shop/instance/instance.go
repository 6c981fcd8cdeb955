// Package instance runs one service of the shop as a process: flags, log, the word that it is ready, and a
// graceful end. Where calls go is the SDK's matter: OCTO_SOCKET, OCTO_MODE and OCTO_ENVIRONMENT say it.
package instance

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/octomesh/octomesh/examples/shop/trace"
	octomesh "github.com/octomesh/octomesh/sdks/go"
)

// drain is how long open calls may go on once the process was asked to end.
const drain = 3 * time.Second

// Process is this process, an instance of a target.
type Process struct {
	Target string
	Log    *slog.Logger

	name   string
	listen string
	direct endpoints
	weight uint
	tags   tags
}

// Ready is the line of JSON on standard output that says that calls can come. A service in another
// language says the same.
type Ready struct {
	Ready    bool   `json:"ready"`
	Target   string `json:"target"`
	Instance string `json:"instance"`
	// Direct is the address for direct calls, if there is one.
	Direct string `json:"direct,omitempty"`
}

// New declares the flags that all services have; flag.Parse is the caller's.
func New(target string) *Process {
	p := &Process{Target: target, Log: slog.New(slog.NewJSONHandler(os.Stderr, nil)), direct: endpoints{}, tags: tags{}}
	flag.StringVar(&p.name, "instance", target, "name of this instance among those of "+target)
	flag.StringVar(&p.listen, "direct-listen", "", "host:port for direct calls; port 0: any (default: none, the proxy brings all calls)")
	flag.Var(p.direct, "direct", "target=host:port@weight,... to call a target direct; for each target that is called (default: through the proxy)")
	flag.UintVar(&p.weight, "weight", 100, "share of calls, relative to other instances")
	flag.Var(p.tags, "tag", "key=value by which routes choose instances; may stand several times")
	return p
}

// Context ends when the process is asked to.
func (p *Process) Context() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
}

// Dial returns a channel to a target that this service calls.
func (p *Process) Dial(target string) (*octomesh.Channel, error) {
	return octomesh.Dial(target, octomesh.WithApplication(p.Target), octomesh.WithInstance(p.name),
		octomesh.WithLogger(p.Log), octomesh.WithDirectEndpoints(p.direct[target]...))
}

// Serve serves until ctx ends, and says on standard output when it is ready.
func (p *Process) Serve(ctx context.Context, register func(*octomesh.Server)) error {
	opts := []octomesh.ServerOption{
		octomesh.WithApplication(p.Target), octomesh.WithInstance(p.name), octomesh.WithLogger(p.Log),
		octomesh.WithDrainTimeout(drain), octomesh.WithInterceptors(trace.Interceptor(p.Target, p.name, p.Log)),
	}
	opts = append(opts, octomesh.WithRegistration(octomesh.Registration{Weight: int(p.weight), Tags: p.tags}))
	if p.listen != "" {
		opts = append(opts, octomesh.WithListen(p.listen))
	}
	server := octomesh.NewServer(p.Target, opts...)
	register(server)
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx) }()
	ready, stop := context.WithCancel(ctx)
	defer stop()
	said := make(chan struct{})
	go func() {
		defer close(said)
		if server.Ready(ready) == nil {
			p.sayReady(server)
		}
	}()
	err := <-served
	stop()
	<-said
	return err
}

func (p *Process) sayReady(server *octomesh.Server) {
	r := Ready{Ready: true, Target: p.Target, Instance: p.name}
	if a := server.Addresses(); len(a) > 0 {
		r.Direct = a[0].String()
	}
	_ = json.NewEncoder(os.Stdout).Encode(r)
}

// Exit ends the process, with code 1 and a message if there was an error.
func (p *Process) Exit(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", p.name, err)
		os.Exit(1)
	}
}

// tags is the flag --tag.
type tags map[string]string

// String implements flag.Value.
func (t tags) String() string { return "" }

// Set implements flag.Value.
func (t tags) Set(text string) error {
	key, value, ok := strings.Cut(text, "=")
	if !ok || key == "" {
		return fmt.Errorf("%q: want key=value", text)
	}
	t[key] = value
	return nil
}

// endpoints is the flag --direct, by target.
type endpoints map[string][]octomesh.Endpoint

// String implements flag.Value.
func (e endpoints) String() string { return "" }

// Set implements flag.Value.
func (e endpoints) Set(text string) error {
	target, list, ok := strings.Cut(text, "=")
	if !ok || target == "" {
		return fmt.Errorf("%q: want target=host:port@weight, more of them behind commas", text)
	}
	for at := range strings.SplitSeq(list, ",") {
		address, weight, weighted := strings.Cut(at, "@")
		endpoint := octomesh.Endpoint{Address: address, Weight: 1}
		if weighted {
			n, err := strconv.Atoi(weight)
			if err != nil {
				return fmt.Errorf("weight %q of %s is no number", weight, address)
			}
			endpoint.Weight = n
		}
		e[target] = append(e[target], endpoint)
	}
	return nil
}
