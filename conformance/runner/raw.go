package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/octomesh/octomesh/conformance/reference"
	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
	wirev1 "github.com/octomesh/octomesh/gen/go/octo/wire/v1"
)

// referencePeer is the name of the reference peer in results.
var referencePeer = &program{name: "reference"}

// calls tells whether a place is one that makes calls.
func calls(p conformancev1.RawPeer_Place) bool { return p <= conformancev1.RawPeer_PLACE_CLIENT_PROXY }

// rawComplete refuses what makes no sense in a case with the reference peer.
func rawComplete(c *conformancev1.Case) error {
	callers, servers := 0, 0
	for _, p := range c.Raw {
		if len(p.Places) == 0 || len(p.Conversations) == 0 {
			return errors.New("a raw peer without a place or without a conversation")
		}
		if calls(p.Places[0]) {
			callers++
		} else {
			servers++
		}
		for _, place := range p.Places {
			if place == 0 || calls(place) != calls(p.Places[0]) {
				return errors.New("the places of a raw peer are to be of one role")
			}
		}
	}
	if len(c.Raw) == 0 {
		return nil
	}
	if (c.Method != "") != (callers == 0) || callers > 1 || servers > 1 {
		return errors.New("one calls, the testee by a method or a raw peer, and at most one raw peer answers")
	}
	return nil
}

// mergedRaw are a case's raw peers with what a variant says over each.
func mergedRaw(peers, over []*conformancev1.RawPeer) []*conformancev1.RawPeer {
	var all []*conformancev1.RawPeer
	for i := range max(len(peers), len(over)) {
		p := &conformancev1.RawPeer{}
		if i < len(peers) {
			proto.Merge(p, peers[i])
		}
		if i < len(over) {
			proto.Merge(p, over[i])
		}
		all = append(all, p)
	}
	return all
}

// placed makes a case of each place of its raw peers.
func placed(c *conformancev1.Case) []*conformancev1.Case {
	all := []*conformancev1.Case{c}
	for i, p := range c.Raw {
		if len(p.Places) == 1 {
			continue
		}
		var next []*conformancev1.Case
		for _, c := range all {
			for _, place := range p.Places {
				one := proto.CloneOf(c)
				one.Raw[i].Places = []conformancev1.RawPeer_Place{place}
				one.Name += "/as-" + strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(place.String(), "PLACE_")), "_", "-")
				next = append(next, one)
			}
		}
		all = next
	}
	return all
}

// rawJobs are the jobs of a case with the reference peer: one for each testee that takes part; where none
// does, the first one's proxy is what is tested.
func rawJobs(c *conformancev1.Case, testees []*program) []*job {
	var jobs []*job
	for _, t := range testees {
		j := &job{name: c.Name, c: c, topology: conformancev1.Topology_TOPOLOGY_REFERENCE, client: t, server: t, testee: t}
		for _, p := range c.Raw {
			if calls(p.Places[0]) {
				j.client = referencePeer
			} else {
				j.server = referencePeer
			}
		}
		jobs = append(jobs, j)
		if j.client == j.server {
			break
		}
	}
	return jobs
}

// rawCase is what a world with the reference peer has for one case.
type rawCase struct {
	target   string
	listener net.Listener // of a server that is called
}

// startRaw starts one testee with the proxy beside it: it serves attached and direct, and calls itself both
// ways. For each case that has a server of the reference peer there is a target.
func (w *world) startRaw(binary string, js []*job) error {
	w.raw = make(map[*conformancev1.Case]*rawCase)
	e := &end{}
	w.ends[clientEnd] = e
	var err error
	if e.proxy, err = startProxy(w.dir, clientEnd+"-proxy", binary, proxyOptions{}); err != nil {
		return err
	}
	if e.testee, err = startTestee(w.dir, clientEnd, js[0].testee); err != nil {
		return err
	}
	js[0].testee.hello = e.hello
	if e.address, err = w.serve(clientEnd, clientEnd, e.testee, e.proxy); err != nil {
		return err
	}
	resources := fmt.Sprintf("environment: %s\nendpoints:\n- {target: %s, instance: %s, mesh_address: %q}\n", environment, clientEnd, clientEnd, e.proxy.inbound)
	for i, j := range js {
		rc := &rawCase{target: fmt.Sprintf("r%d", i)}
		w.raw[j.c] = rc
		at := e.proxy.inbound
		switch placeOfServer(j.c) {
		case conformancev1.RawPeer_PLACE_UNSPECIFIED:
			rc.target = clientEnd
			continue
		case conformancev1.RawPeer_PLACE_SERVER, conformancev1.RawPeer_PLACE_PROXIED_SERVER:
			if rc.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
				return err
			}
			at = rc.listener.Addr().String()
		}
		resources += fmt.Sprintf("- {target: %s, instance: %s-1, mesh_address: %q}\n", rc.target, rc.target, at)
	}
	if err := e.proxy.configure(resources); err != nil {
		return err
	}
	return errors.Join(w.channel("self", clientEnd, e.address), w.channel("self-proxied", clientEnd, ""))
}

func placeOfServer(c *conformancev1.Case) conformancev1.RawPeer_Place {
	for _, p := range c.Raw {
		if !calls(p.Places[0]) {
			return p.Places[0]
		}
	}
	return 0
}

// channel makes a channel of the testee, direct to an address or through its proxy.
func (w *world) channel(name, target, direct string) error {
	e := w.ends[clientEnd]
	c := &conformancev1.Connect{Channel: name, Target: target, Environment: environment, Application: "app-" + clientEnd}
	c.Path = &conformancev1.Connect_Socket{Socket: e.proxy.socket}
	if direct != "" {
		c.Path = &conformancev1.Connect_Direct{Direct: direct}
	}
	_, err := e.do(&conformancev1.Command{Command: &conformancev1.Command_Connect{Connect: c}})
	return err
}

// runRaw plays a case with the reference peer. Beside it, on other connections of the same processes, a call
// in each of the testee's ways is open before and ends well behind it, and new ones succeed.
func (w *world) runRaw(c *conformancev1.Case) (problems, trace []string) {
	before := w.memory()
	neighbours, err := w.openNeighbours()
	if err != nil {
		return []string{"before the case: " + err.Error()}, nil
	}
	problems, trace = w.play(c)
	for _, n := range neighbours {
		if err := n.finish(); err != nil {
			problems = append(problems, "a neighbour's call: "+err.Error())
		}
	}
	most := int(c.MemoryMib) * w.memoryFactor
	if grown := w.memory() - before; c.MemoryMib > 0 && grown > most {
		problems = append(problems, fmt.Sprintf("testee and proxy took %d MiB more, at most %d expected", grown, most))
	}
	return problems, trace
}

// play has all peers of a case and the testee play their parts.
func (w *world) play(c *conformancev1.Case) (problems, trace []string) {
	var mu sync.Mutex
	problem := func(who string, err error) {
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			problems = append(problems, who+": "+err.Error())
		}
	}
	over := make(chan struct{})
	var callers, servers sync.WaitGroup
	var peers []*reference.Peer
	for _, raw := range c.Raw {
		p := reference.New(w.placeOf(c, raw.Places[0]))
		peers = append(peers, p)
		if !calls(raw.Places[0]) {
			servers.Go(func() { problem("the raw server", p.Play(raw.Conversations, over)) })
			<-p.Ready()
			continue
		}
	}
	for i, raw := range c.Raw {
		if calls(raw.Places[0]) {
			callers.Go(func() { problem("the raw client", peers[i].Play(raw.Conversations, over)) })
		}
	}
	if c.Method != "" {
		callers.Go(func() {
			for _, p := range w.callRaw(c) {
				problem("the testee's call", errors.New(p))
			}
		})
	}
	callers.Wait()
	close(over)
	servers.Wait()
	for _, p := range peers {
		for _, call := range p.Calls() {
			patience := w.patience
			if len(problems) > 0 {
				patience = 0 // it failed already
			}
			problem("the ledger", w.ran(c, call, patience))
		}
	}
	if len(problems) > 0 {
		for _, p := range peers {
			trace = append(trace, p.Trace()...)
		}
	}
	return problems, trace
}

// callRaw has the testee call the reference peer.
func (w *world) callRaw(c *conformancev1.Case) []string {
	rc := w.raw[c]
	direct := ""
	if placeOfServer(c) == conformancev1.RawPeer_PLACE_SERVER {
		direct = rc.listener.Addr().String()
	}
	if err := w.channel(rc.target, rc.target, direct); err != nil {
		return []string{err.Error()}
	}
	a := &attempt{world: w, c: c, caller: clientEnd, via: rc.target, origin: w.placeOf(c, placeOfServer(c)).Origin, id: fmt.Sprintf("c%d", w.ids.Add(1))}
	a.report = w.ends[clientEnd].send(a.command())
	a.follow()
	return a.problems
}

// placeOf says where a peer of a case stands.
func (w *world) placeOf(c *conformancev1.Case, place conformancev1.RawPeer_Place) reference.Ends {
	e, rc := w.ends[clientEnd], w.raw[c]
	at := reference.Ends{
		Network: "tcp", Name: rc.target, Environment: environment, Application: "app-reference", Kind: wirev1.PeerKind_PEER_KIND_SDK,
		Calls: rc.target, Patience: w.patience,
		Await: func(call string, event conformancev1.LedgerEntry_Event) error {
			return w.ledger.Await(call, event, 1, w.patience)
		},
		Release: func(call string) error { return w.release(call) },
	}
	if calls(place) { // several clients have one target
		at.Name = fmt.Sprintf("caller%d", w.ids.Add(1))
	}
	switch place {
	case conformancev1.RawPeer_PLACE_CLIENT:
		at.Address, at.Origin = e.address, wirev1.Origin_ORIGIN_SERVER_SDK
	case conformancev1.RawPeer_PLACE_PROXIED_CLIENT:
		at.Network, at.Address, at.Origin = "unix", e.proxy.socket, wirev1.Origin_ORIGIN_CLIENT_PROXY
	case conformancev1.RawPeer_PLACE_CLIENT_PROXY:
		at.Address, at.Kind, at.Origin = e.proxy.inbound, wirev1.PeerKind_PEER_KIND_PROXY, wirev1.Origin_ORIGIN_SERVER_PROXY
	case conformancev1.RawPeer_PLACE_SERVER:
		at.Listener, at.Origin = rc.listener, wirev1.Origin_ORIGIN_CLIENT_SDK
	case conformancev1.RawPeer_PLACE_PROXIED_SERVER:
		at.Listener, at.Origin = rc.listener, wirev1.Origin_ORIGIN_CLIENT_PROXY
	case conformancev1.RawPeer_PLACE_ATTACHED_SERVER:
		at.Network, at.Address, at.Serves, at.Origin = "unix", e.proxy.socket, rc.target, wirev1.Origin_ORIGIN_SERVER_PROXY
	}
	return at
}

func (w *world) release(call string) error {
	s := &conformancev1.Signal{CallId: call, Kind: conformancev1.Signal_KIND_RELEASE}
	_, err := w.ends[clientEnd].do(&conformancev1.Command{Command: &conformancev1.Command_Signal{Signal: s}})
	return err
}

// ran compares how often handlers ran for a raw call with what was to be, also at the end of the world.
func (w *world) ran(c *conformancev1.Case, call *reference.Call, patience time.Duration) error {
	n := 1
	if call.Refused || w.raw[c].target != clientEnd {
		n = 0
	}
	w.mu.Lock()
	w.executed[call.ID] = bounds{n, n}
	w.mu.Unlock()
	return w.ledger.Await(call.ID, conformancev1.LedgerEntry_EVENT_BEGAN, n, patience)
}

// neighbour is a call of the testee to itself that is open while a raw peer does its worst.
type neighbour struct {
	world *world
	via   string
	id    string
	open  <-chan *conformancev1.Report
}

func (w *world) openNeighbours() ([]*neighbour, error) {
	var all []*neighbour
	for _, via := range []string{"self", "self-proxied"} {
		n := w.neighbour(via, conformancev1.ResponseDefinition_HOLD_BEFORE_RESPONSES)
		all = append(all, n)
		if err := w.ledger.Await(n.id, conformancev1.LedgerEntry_EVENT_HELD, 1, w.patience); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (w *world) neighbour(via string, hold conformancev1.ResponseDefinition_Hold) *neighbour {
	n := &neighbour{world: w, via: via, id: fmt.Sprintf("n%d", w.ids.Add(1))}
	do := &conformancev1.RunCall{
		Channel: via, Service: serviceName, Method: "Unary", Kind: wirev1.CallKind_CALL_KIND_UNARY, CallId: n.id,
		Response: &conformancev1.ResponseDefinition{Hold: hold}, Requests: []*conformancev1.Payload{{}},
	}
	n.open = w.ends[clientEnd].send(&conformancev1.Command{Command: &conformancev1.Command_RunCall{RunCall: do}})
	return n
}

func (n *neighbour) ended() error {
	r, err := await(n.open, n.world.patience)
	if err == nil && r.GetCallResult().GetStatus().GetCode() != 0 {
		err = fmt.Errorf("by %s it ended %v", n.via, r.GetCallResult().GetStatus())
	}
	return err
}

// finish lets the call end, and makes another one.
func (n *neighbour) finish() error {
	if err := errors.Join(n.world.release(n.id), n.ended()); err != nil {
		return err
	}
	return n.world.neighbour(n.via, 0).ended()
}

// memory is the most memory that testee and proxy together had so far, in MiB; 0 where the system does not
// tell.
func (w *world) memory() int {
	total := 0
	for _, p := range []*process{w.ends[clientEnd].process, w.ends[clientEnd].proxy.process} {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
		if err != nil {
			return 0
		}
		for line := range strings.Lines(string(status)) {
			if text, ok := strings.CutPrefix(line, "VmHWM:"); ok {
				kib, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(text), " kB"))
				total += kib >> 10
			}
		}
	}
	return total
}
