package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/octomesh/octomesh/conformance/faults/ledger"
	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
)

// The two ends of a world. Each is a client, and a server of the target that has its name.
const (
	clientEnd = "a"
	serverEnd = "b"
)

// proxyDeadlineKey is metadata for which the caller's proxy sets a deadline, if the call has none.
const proxyDeadlineKey = "x-proxy-deadline"

// end is one testee with the proxy beside it, if its topology has one.
type end struct {
	*testee
	proxy   *proxy
	address string // for direct calls
	lane    *instance
}

// instance is a second server of an end, in a lane.
type instance struct {
	proxy   *proxy
	address string
}

// world is two testees in a topology.
type world struct {
	topology conformancev1.Topology
	dir      string
	ca       *authority // of a topology with TLS
	lanes    []conformancev1.Side
	ledger   *ledger.Ledger
	ends     map[string]*end
	ids      *atomic.Int64
	patience time.Duration // bounds each wait for what must come; judges nothing

	raw  map[*conformancev1.Case]*rawCase // of a world with the reference peer
	taps *taps                            // of a world that is traced

	memoryFactor int

	mu       sync.Mutex
	expected map[side]bounds // calls that proxies count
	executed map[string]bounds
}

// bounds is a number that may not be known exactly.
type bounds struct{ low, high int }

func topologyName(t conformancev1.Topology) string {
	return strings.ToLower(strings.TrimPrefix(t.String(), "TOPOLOGY_"))
}

// meshed tells whether the end has a proxy.
func meshed(t conformancev1.Topology, name string) bool {
	switch plain(t) {
	case conformancev1.Topology_TOPOLOGY_MESH, conformancev1.Topology_TOPOLOGY_BRIDGE_IN, conformancev1.Topology_TOPOLOGY_BRIDGE_OUT:
		return true
	case conformancev1.Topology_TOPOLOGY_MIXED_C:
		return name == clientEnd
	case conformancev1.Topology_TOPOLOGY_MIXED_S:
		return name == serverEnd
	}
	return false
}

// other is the end that an end calls.
func other(name string) string {
	if name == clientEnd {
		return serverEnd
	}
	return clientEnd
}

// hops are the proxies that a call from an end passes, with the direction that they count it in.
func (w *world) hops(caller, lane string) []side {
	callee := other(caller)
	switch {
	case !meshed(w.topology, caller):
		return nil // also where the callee has a proxy: it is called direct
	case !meshed(w.topology, callee):
		return []side{{caller + "-proxy", "outbound", callee}}
	}
	return []side{{caller + "-proxy", "outbound", callee}, {w.server(caller, lane) + "-proxy", "inbound", callee}}
}

// newWorld starts all processes of a topology.
func (r *run) newWorld(js []*job) (*world, error) { return r.newTappedWorld(js, nil) }

func (r *run) newTappedWorld(js []*job, t *taps) (*world, error) {
	j := js[0]
	dir, err := os.MkdirTemp(r.dir, "w")
	if err != nil {
		return nil, err
	}
	told, err := ledger.New()
	if err != nil {
		return nil, err
	}
	w := &world{
		topology: j.topology, memoryFactor: int(r.memory), taps: t, lanes: j.c.Lanes, dir: dir, ledger: told, ends: make(map[string]*end), ids: &r.ids, patience: r.patience,
		expected: make(map[side]bounds), executed: make(map[string]bounds),
	}
	if j.testee != nil {
		err = w.startRaw(r.proxy, js)
	} else {
		err = w.start(r.proxy, map[string]*program{clientEnd: j.client, serverEnd: j.server})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting %s: %w", topologyName(j.topology), err), w.stop())
	}
	return w, nil
}

func (w *world) start(binary string, programs map[string]*program) error {
	for _, name := range []string{clientEnd, serverEnd} {
		w.ends[name] = &end{}
	}
	if err := w.certify(); err != nil {
		return err
	}
	err := w.each(func(name string, e *end) (err error) {
		if meshed(w.topology, name) {
			if e.proxy, err = startProxy(w.dir, name+"-proxy", binary, proxyOptions{bootstrap: w.proxyLines(name, name)}); err != nil {
				return err
			}
		}
		if e.testee, err = startTestee(w.dir, name, programs[name]); err != nil {
			return err
		}
		if e.address, err = w.serve(name, name, e.testee, e.proxy); err != nil {
			return err
		}
		return w.serveLane(name, e, binary)
	})
	if err != nil {
		return err
	}
	for name, p := range programs {
		p.hello = w.ends[name].hello
	}
	if err := w.plainIsRefused(); err != nil {
		return err
	}
	return w.each(func(name string, e *end) error {
		for _, p := range e.proxies() {
			if err := p.configure(w.resources()); err != nil {
				return err
			}
		}
		return w.connect(name, e)
	})
}

// each does something with both ends at once.
func (w *world) each(do func(name string, e *end) error) error {
	var wg sync.WaitGroup
	var errs [2]error
	for i, name := range []string{clientEnd, serverEnd} {
		if e := w.ends[name]; e != nil {
			wg.Go(func() { errs[i] = do(name, e) })
		}
	}
	wg.Wait()
	return errors.Join(errs[:]...)
}

// serve starts a server of an end: attached to a proxy, if there is one, and listening unless all calls
// come through proxies. It returns where it listens.
func (w *world) serve(name, target string, t *testee, p *proxy) (string, error) {
	s := &conformancev1.StartServer{Name: name, Target: target, Environment: environment, Ledger: w.ledger.Address()}
	if p != nil {
		s.Socket = w.tap(p.socket, name+" attached to "+p.name)
	}
	s.Tls = w.tls(target, "")
	switch plain(w.topology) {
	case conformancev1.Topology_TOPOLOGY_MESH, conformancev1.Topology_TOPOLOGY_BRIDGE_IN, conformancev1.Topology_TOPOLOGY_BRIDGE_OUT:
		if stock(w.topology, target) {
			s.Socket, s.Listen = "", w.stockListen(name)
		}
	case conformancev1.Topology_TOPOLOGY_DIRECT_UDS:
		s.Listen = "unix:" + filepath.Join(w.dir, name+".srv")
	default:
		s.Listen = "127.0.0.1:0"
	}
	r, err := t.do(&conformancev1.Command{Command: &conformancev1.Command_StartServer{StartServer: s}})
	if err == nil && stock(w.topology, target) {
		err = p.dialed()
	}
	return r.GetStarted().GetAddress(), err
}

// connect makes the channel of an end to the other one, under the other one's name.
func (w *world) connect(name string, e *end) error {
	callee := other(name)
	c := &conformancev1.Connect{Channel: callee, Target: callee, Environment: environment, Application: "app-" + name}
	if e.proxy != nil {
		c.Path = &conformancev1.Connect_Socket{Socket: w.tap(e.proxy.socket, name+" to "+e.proxy.name)}
	} else {
		c.Path = &conformancev1.Connect_Direct{Direct: w.tap(w.ends[callee].address, name+" to "+callee)}
		c.Tls = w.tls(name, callee)
	}
	_, err := e.do(&conformancev1.Command{Command: &conformancev1.Command_Connect{Connect: c}})
	return err
}

// resources is what proxies are told. A server without a proxy is reached at its own address.
func (w *world) resources() string {
	var b strings.Builder
	fmt.Fprintf(&b, "environment: %s\nendpoints:\n", environment)
	for _, name := range []string{clientEnd, serverEnd} {
		e := w.ends[name]
		fmt.Fprintf(&b, "- {target: %s, instance: %s, mesh_address: %q}\n", name, name, w.reachedAt(name, e.proxy, e.address))
		if e.lane != nil {
			fmt.Fprintf(&b, "- {target: %s, instance: %s, mesh_address: %q, tags: {lane: %s}}\n", name, name+inLane, w.reachedAt(name+inLane, e.lane.proxy, e.lane.address), lane)
		}
	}
	// A call may ask its own proxy for a deadline (SEM-29).
	fmt.Fprintf(&b, "policies:\n- target: %s\n  routes:\n  - name: capped\n    match: {metadata: [{key: %s, present: true}]}\n"+
		"    destinations: [{}]\n    timeout: 3s\n", serverEnd, proxyDeadlineKey)
	return b.String()
}

// stop ends all processes, the testees first. Then the ledger has all that they told.
func (w *world) stop() error {
	err := w.each(func(_ string, e *end) error {
		if e.testee == nil {
			return nil
		}
		select {
		case <-e.gone: // killed by its case
			return nil
		default:
			return e.testee.stop()
		}
	})
	err = errors.Join(err, w.each(func(_ string, e *end) error {
		var errs []error
		for _, p := range e.proxies() {
			errs = append(errs, p.stop())
		}
		return errors.Join(errs...)
	}))
	return errors.Join(err, w.ledger.Drain(w.patience))
}
