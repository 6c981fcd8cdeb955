package control

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// environment is where all of a run is.
const environment = "prod"

// endpoints is the topic of a target's.
func endpoints(target string) resource.Topic {
	return resource.Topic{Kind: resource.KindEndpoint, Environment: environment, Target: target}
}

// instance is the name of a target's n-th.
func instance(n int) string { return fmt.Sprintf("s-%05d", n) }

// stamped is an endpoint that says when it was made: that stands where its incarnation would.
func stamped(n int) *resourcev1.Endpoint {
	e := endpoint(n)
	e.Incarnation = uint64(time.Now().UnixNano())
	return e
}

// endpoint is a target's n-th.
func endpoint(n int) *resourcev1.Endpoint {
	return &resourcev1.Endpoint{MeshAddress: fmt.Sprintf("10.%d.%d.%d:7000", 10+n>>16&63, n>>8&255, n&255), Zone: "z" + strconv.Itoa(n%10)}
}

// pusher is a server under measurement.
type pusher interface {
	// push makes one change, the number-th, and returns when as many have acknowledged it as the order says.
	push(o order, number int) error
	counts() map[string]int
	register(g *grpc.Server)
	options() []grpc.ServerOption
	close()
}

// acks counts acknowledgements down.
type acks struct {
	mu      sync.Mutex
	waiting int
	done    chan struct{}
}

func (a *acks) expect(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = n
}

func (a *acks) came() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting--; a.waiting == 0 {
		a.done <- struct{}{}
	}
}

func (a *acks) await() error {
	select {
	case <-a.done:
		return nil
	case <-time.After(time.Minute):
		a.mu.Lock()
		defer a.mu.Unlock()
		return fmt.Errorf("%d acknowledgements are missing after a minute", a.waiting)
	}
}

// listen serves gRPC until stop.
func listen(address string, options []grpc.ServerOption, register func(*grpc.Server)) (l *listener, stop func(), err error) {
	if address == "" {
		address = "127.0.0.1:0"
	}
	inner, err := net.Listen("tcp", address)
	if err != nil {
		return nil, nil, err
	}
	l = &listener{Listener: inner, open: make(map[net.Conn]struct{})}
	g := grpc.NewServer(append(options, grpc.MaxConcurrentStreams(1<<20))...)
	register(g)
	var wg sync.WaitGroup
	wg.Go(func() { _ = g.Serve(l) })
	return l, func() { g.Stop(); wg.Wait() }, nil
}

// servePusher runs a server, and makes the changes that the runner orders.
func servePusher(s setup, c *conversation) error {
	var p pusher
	if s.Kind == "bare" {
		p = newBare()
	} else {
		p = newPilot(s.Topics)
	}
	defer p.close()
	l, stop, err := listen(s.Address, p.options(), p.register)
	if err != nil {
		return err
	}
	defer stop()
	if err := c.say(report{Address: l.Addr().String()}); err != nil {
		return err
	}
	number := 0
	return c.each(func(o order) (report, error) {
		switch o.Do {
		case "measure":
			return report{Memory: measure(true), Counts: p.counts()}, nil
		case "settle":
			return report{}, settle(p, o.Wait)
		}
		begin, at := used(), time.Now()
		for range o.Times {
			number++
			if err := p.push(o, number); err != nil {
				return report{}, err
			}
		}
		return report{CPU: used() - begin, Elapsed: time.Since(at), Memory: measure(false), Counts: p.counts()}, nil
	})
}

// settle waits until no more than so many streams are behind.
func settle(p pusher, most int) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(patience)
	for behind := p.counts()["behind"]; behind > most; behind = p.counts()["behind"] {
		select {
		case <-tick.C:
		case <-late:
			return fmt.Errorf("%d streams are behind after %v", behind, patience)
		}
	}
	return nil
}

// listener remembers what it has accepted, so that all can be cut.
type listener struct {
	net.Listener
	mu   sync.Mutex
	open map[net.Conn]struct{}
}

type accepted struct {
	net.Conn
	of *listener
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	a := &accepted{c, l}
	l.mu.Lock()
	l.open[a] = struct{}{}
	l.mu.Unlock()
	return a, nil
}

// Close implements net.Conn.
func (a *accepted) Close() error {
	a.of.mu.Lock()
	delete(a.of.open, a)
	a.of.mu.Unlock()
	return a.Conn.Close()
}

// cut closes all connections at once, and tells how many there were.
func (l *listener) cut() int {
	l.mu.Lock()
	all := make([]net.Conn, 0, len(l.open))
	for c := range l.open {
		all = append(all, c)
	}
	l.mu.Unlock()
	for _, c := range all {
		_ = c.Close()
	}
	return len(all)
}

// running runs f until stop.
func running(f func(context.Context)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { f(ctx) })
	return func() { cancel(); wg.Wait() }
}
