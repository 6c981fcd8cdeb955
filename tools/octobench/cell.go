package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/octomesh/octomesh/tools/octobench/side"
)

// cell is one round of one row under one load: its processes live for it alone.
type cell struct {
	bench     *bench
	load      side.Load
	dir       string // with a short path, for sockets
	name      string // for files of profiles
	processes []*process
	proxies   []*proxyProcess
	err       error // the first one: what follows it does nothing
}

// socket is a Unix socket of the cell.
func (c *cell) socket(name string) string { return "unix:" + filepath.Join(c.dir, name+".sock") }

// side starts one and returns its address. All are told the load.
func (c *cell) side(role string, spec side.Spec) string {
	if c.err != nil {
		return ""
	}
	timeout := spec.Load.Timeout
	spec.Load = c.load
	spec.Load.Timeout = timeout
	p, address, err := startEnd(role, c.bench.sideProgram(spec.Kind), spec, c.profileOf(role))
	if err != nil {
		c.err = err
		return ""
	}
	c.processes = append(c.processes, p)
	return address
}

func (c *cell) server(kind, listen string) string {
	return c.side("server", side.Spec{Kind: kind, Listen: listen})
}

func (c *cell) byteCopy(dial string) string {
	return c.side("copy", side.Spec{Kind: "copy", Listen: c.socket("copy"), Dial: dial})
}

// peer starts a relay by somebody else's program and returns where its clients come in.
func (c *cell) peer(name, template, dial string) string {
	if c.err != nil {
		return ""
	}
	p, address, err := startPeer(name, c.bench.peers[name], template, c.dir, dial)
	if err != nil {
		c.err = err
		return ""
	}
	c.processes = append(c.processes, p)
	return address
}

// proxy starts one with the target behind it. Addresses are those of TCP that servers tell.
func (c *cell) proxy(role string, b behind) *proxyProcess {
	if c.err != nil {
		return &proxyProcess{}
	}
	for _, address := range []*string{&b.mesh, &b.direct, &b.server} {
		*address = strings.TrimPrefix(*address, "tcp:")
	}
	p, err := startProxy(role, c.bench.proxyBinary, c.dir, b, c.bench.collector)
	if err != nil {
		c.err = err
		return &proxyProcess{}
	}
	c.processes, c.proxies = append(c.processes, p.process), append(c.proxies, p)
	return p
}

// twoProxies starts a server behind two proxies and returns where its clients come in.
func (c *cell) twoProxies(server string) string {
	inner := c.proxy("server-proxy", behind{})
	c.side("server", side.Spec{Kind: server, Dial: inner.socket})
	return c.proxy("client-proxy", behind{mesh: inner.inbound}).socket
}

// bridgeOfTwo starts a gRPC server as an instance of the second of two proxies and returns where clients of gRPC come in.
func (c *cell) bridgeOfTwo() string {
	inner := c.proxy("server-proxy", behind{server: c.server("grpc-server", c.socket("srv"))})
	return c.proxy("client-proxy", behind{mesh: inner.inbound, grpc: true}).socket
}

func (c *cell) profileOf(role string) string {
	if c.bench.profiles == "" {
		return ""
	}
	return filepath.Join(c.bench.profiles, c.name+"-"+role+".pprof")
}

func (c *cell) end() {
	for i := len(c.processes) - 1; i >= 0; i-- { // clients first, so that nobody misses his peer
		c.processes[i].end()
	}
	_ = os.RemoveAll(c.dir)
}

// start runs the row's processes, the client last, and lets them warm up.
func (c *cell) start(r row) (client *process, err error) {
	spec, err := r.start(c)
	if err == nil {
		err = c.err
	}
	if err != nil {
		return nil, err
	}
	if c.side("client", spec); c.err != nil {
		return nil, c.err
	}
	time.Sleep(c.bench.warmUp)
	return c.processes[len(c.processes)-1], nil
}

// measure watches all processes for the bench's duration.
func (c *cell) measure(r row) (*round, error) {
	client, err := c.start(r)
	if err != nil {
		return nil, err
	}
	profiled := c.profileProxies()
	before, err := c.look(client)
	if err != nil {
		return nil, err
	}
	after, err := c.lookAfter(client, before)
	if err != nil {
		return nil, err
	}
	if err := profiled(); err != nil {
		return nil, err
	}
	return newRound(before, after)
}

// countSyscalls returns the system calls a call of each process, by role.
func (c *cell) countSyscalls(r row) (map[string]float64, error) {
	client, err := c.start(r)
	if err != nil {
		return nil, err
	}
	before, err := c.look(client)
	if err != nil {
		return nil, err
	}
	perSecond := make(map[string]float64)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, p := range c.processes {
		wg.Go(func() {
			n, cerr := syscallsPerSecond(p.cmd.Process.Pid, countingTime)
			mu.Lock()
			defer mu.Unlock()
			perSecond[p.role], err = n, errors.Join(err, cerr)
		})
	}
	wg.Wait()
	if err != nil {
		return nil, err
	}
	after, err := c.look(client)
	if err != nil {
		return nil, err
	}
	round, err := newRound(before, after)
	if err != nil {
		return nil, err
	}
	for role := range perSecond {
		perSecond[role] /= round.callsPerSecond
	}
	return perSecond, nil
}

// lookAfter looks again after the bench's duration, or as soon thereafter as a call has ended.
func (c *cell) lookAfter(client *process, before *moment) (after *moment, err error) {
	began := time.Now()
	for {
		time.Sleep(c.bench.duration)
		after, err = c.look(client)
		if err != nil || after.client.Latencies.Since(before.client.Latencies).Total() > 0 || time.Since(began) > startTimeout {
			return after, err
		}
	}
}

// profileProxies begins to profile the cell's proxies, if that is wanted, and returns how to wait for it.
func (c *cell) profileProxies() (wait func() error) {
	if c.bench.profiles == "" || len(c.proxies) == 0 {
		return func() error { return nil }
	}
	var wg sync.WaitGroup
	errs := make([]error, len(c.proxies))
	for i, p := range c.proxies {
		wg.Go(func() {
			errs[i] = p.profile(max(1, int(c.bench.duration/time.Second)), c.profileOf(p.role))
		})
	}
	return func() error {
		wg.Wait()
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// moment is what all processes had done at one time.
type moment struct {
	client side.Sample
	cpu    map[string]time.Duration
	rss    map[string]float64
}

func (c *cell) look(client *process) (*moment, error) {
	m := &moment{cpu: make(map[string]time.Duration), rss: make(map[string]float64)}
	var err error
	if m.client, err = client.sample(); err != nil {
		return nil, err
	}
	if m.client.Failures > 0 {
		return nil, fmt.Errorf("%s: %d calls failed, the first: %s", c.name, m.client.Failures, m.client.Failure)
	}
	for _, p := range c.processes {
		if m.cpu[p.role], err = cpuTime(p.cmd.Process.Pid); err != nil {
			return nil, p.failed(err)
		}
	}
	for _, p := range c.processes {
		if m.rss[p.role], err = residentMB(p.cmd.Process.Pid); err != nil {
			return nil, p.failed(err)
		}
	}
	return m, nil
}
