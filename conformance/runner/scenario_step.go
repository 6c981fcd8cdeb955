package main

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/octomesh/octomesh/conformance/faults/link"
	faults "github.com/octomesh/octomesh/conformance/faults/process"
	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
)

// step does what a step says, and waits for what it says.
func (s *stage) step(step *conformancev1.ScenarioStep) error {
	switch v := step.Step.(type) {
	case *conformancev1.ScenarioStep_Batch:
		return s.batch(v.Batch)
	case *conformancev1.ScenarioStep_Begin:
		_, err := s.begin(v.Begin)
		return err
	case *conformancev1.ScenarioStep_End:
		b := s.batches[v.End]
		for late := time.Now().Add(s.patience); ; { // it may not have begun
			if err := b.finish(); err == nil || len(b.report) > 0 {
				return s.end(b)
			} else if time.Now().After(late) {
				return err
			}
			time.Sleep(poll)
		}
	case *conformancev1.ScenarioStep_Resources:
		return s.configure(v.Resources)
	case *conformancev1.ScenarioStep_Process:
		return s.process(v.Process)
	case *conformancev1.ScenarioStep_Link:
		return s.fault(v.Link)
	case *conformancev1.ScenarioStep_Metric:
		return s.metric(v.Metric)
	case *conformancev1.ScenarioStep_Progress:
		b := s.batches[v.Progress.Batch]
		if b == nil {
			return fmt.Errorf("batch %q does not run", v.Progress.Batch)
		}
		b.marked = b.book.Handlers().All + int(v.Progress.Calls)
		return b.book.Await(b.marked, s.patience)
	case *conformancev1.ScenarioStep_Strangers:
		return s.strangers(v.Strangers)
	case *conformancev1.ScenarioStep_Quiet:
		return s.quiet(v.Quiet)
	case *conformancev1.ScenarioStep_Octo:
		return s.command(v.Octo)
	case *conformancev1.ScenarioStep_Synced:
		return s.synced(v.Synced)
	case *conformancev1.ScenarioStep_Unheard:
		return s.give(v.Unheard)
	case *conformancev1.ScenarioStep_Churn:
		return s.plane.churn(v.Churn, s.want, s.round)
	case *conformancev1.ScenarioStep_Repeat:
		return s.repeat(v.Repeat)
	case *conformancev1.ScenarioStep_MadeUp:
		return s.plane.makeUp(v.MadeUp, s.want)
	case *conformancev1.ScenarioStep_Crowd:
		return s.gather(v.Crowd)
	case *conformancev1.ScenarioStep_Memory:
		return s.memory(v.Memory)
	case *conformancev1.ScenarioStep_Spoil:
		return s.spoil(v.Spoil, s.round)
	case *conformancev1.ScenarioStep_Disk:
		return s.disk(v.Disk)
	case *conformancev1.ScenarioStep_Clock:
		return s.clock(v.Clock)
	case *conformancev1.ScenarioStep_SwitchFile:
		return s.kill(v.SwitchFile)
	case *conformancev1.ScenarioStep_PauseMs:
		time.Sleep(time.Duration(v.PauseMs) * time.Millisecond)
		return nil
	}
	return errors.New("nothing to do")
}

// repeat takes steps again and again, up to the first that fails.
func (s *stage) repeat(c *conformancev1.Repeat) error {
	defer func(outer uint64) { s.round = outer }(s.round)
	for n := range c.Times {
		s.round = uint64(n)
		for i, step := range c.Steps {
			before := len(s.problems)
			if err := s.step(step); err != nil || len(s.problems) > before {
				return fmt.Errorf("round %d, step %d: %w", n+1, i+1, orNone(err))
			}
		}
	}
	return nil
}

// clock has processes see another time.
func (s *stage) clock(c *conformancev1.Clock) error {
	names := c.Processes
	if len(names) == 0 {
		names = s.running()
	}
	for _, name := range names {
		p, _, err := s.named(name)
		if err == nil {
			err = unable(faults.ShiftClock(p.cmd.Process.Pid, time.Duration(c.ByS)*time.Second))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// running are the names of all processes that run.
func (s *stage) running() (all []string) {
	add := func(name string, p *process) {
		if p != nil && !over(p) {
			all = append(all, name)
		}
	}
	for name, a := range s.ends {
		add(name, a.processOf())
		add(name+"-proxy", a.proxyProcess())
	}
	if s.plane != nil {
		for name, part := range s.plane.parts {
			add(name, part.process)
		}
	}
	return all
}

// named is the process of a name: a proxy, or a testee.
func (s *stage) named(name string) (*process, *proxy, error) {
	if owner, ok := strings.CutSuffix(name, "-proxy"); ok && s.ends[owner] != nil && s.ends[owner].proxy != nil {
		return s.ends[owner].proxy.process, s.ends[owner].proxy, nil
	}
	if a := s.ends[name]; a != nil {
		return a.testee.process, nil, nil
	}
	if s.plane != nil && s.plane.parts[name] != nil {
		return s.plane.parts[name].process, nil, nil
	}
	return nil, nil, fmt.Errorf("no process is called %q", name)
}

func (s *stage) process(f *conformancev1.ProcessFault) error {
	if name, ok := strings.CutSuffix(f.Process, "-successor"); ok && f.Kind == conformancev1.ProcessFault_KIND_KILL {
		_, p, err := s.named(name + "-proxy")
		if err != nil {
			return err
		}
		return p.endSuccessor(s.patience)
	}
	p, proxy, err := s.named(f.Process)
	if err != nil {
		return err
	}
	pid := p.cmd.Process.Pid
	switch f.Kind {
	case conformancev1.ProcessFault_KIND_LEAVE:
		return s.leave(f.Process)
	case conformancev1.ProcessFault_KIND_KILL:
		p.killed = true
		s.ledger.Kill(f.Process) // an end's server has the end's name
		err = faults.Kill(pid)
		<-p.gone
	case conformancev1.ProcessFault_KIND_STOP:
		s.cleanup = append(s.cleanup, func() { // or it could not be ended
			if !over(p) {
				_ = faults.Continue(pid)
			}
		})
		err = faults.Stop(pid)
	case conformancev1.ProcessFault_KIND_CONTINUE:
		err = faults.Continue(pid)
	case conformancev1.ProcessFault_KIND_START:
		if !over(p) {
			return fmt.Errorf("%s runs", f.Process)
		}
		return s.again(f.Process, proxy)
	case conformancev1.ProcessFault_KIND_TAKEOVER:
		if proxy == nil {
			return fmt.Errorf("%s is no proxy", f.Process)
		}
		for n := range max(1, f.Times) {
			if err := proxy.takeover(); err != nil {
				return fmt.Errorf("successor %d: %w", n+1, err)
			}
		}
	case conformancev1.ProcessFault_KIND_PANICS:
		if proxy == nil {
			return fmt.Errorf("%s is no proxy", f.Process)
		}
		return proxy.panics(int(max(1, f.Times)), s.patience)
	case conformancev1.ProcessFault_KIND_BAD_TAKEOVER:
		if proxy == nil {
			return fmt.Errorf("%s is no proxy", f.Process)
		}
		return proxy.badTakeover(f.Successor, s.patience)
	case conformancev1.ProcessFault_KIND_NO_DESCRIPTORS:
		var next uint64
		if _, next, err = faults.Descriptors(pid); err == nil {
			p.descriptors, err = faults.LimitDescriptors(pid, next)
		}
	case conformancev1.ProcessFault_KIND_DESCRIPTORS:
		_, err = faults.LimitDescriptors(pid, p.descriptors)
	default:
		err = errors.New("no kind of fault")
	}
	return err
}

// again starts what was killed.
func (s *stage) again(name string, p *proxy) error {
	if p != nil {
		return p.run()
	}
	if s.plane != nil && s.plane.parts[name] != nil {
		return s.plane.parts[name].run(name)
	}
	return fmt.Errorf("%s is no proxy and no part of a control plane", name)
}

func (s *stage) fault(f *conformancev1.LinkFaults) error {
	l := s.links[f.Link]
	if l == nil {
		return fmt.Errorf("no link is called %q", f.Link)
	}
	set := link.Faults{
		Delay: time.Duration(f.DelayMs) * time.Millisecond, Rate: int(f.BytesPerS), Chunk: int(f.Chunk),
		HoldUp: f.HoldUp, HoldDown: f.HoldDown, Refuse: f.Refuse, CutAfter: int64(f.CutAfter),
	}
	for _, c := range f.Corrupt {
		set.Corrupt = append(set.Corrupt, link.Corruption{Up: c.Up, Offset: int64(c.Offset), Xor: byte(c.Xor)})
	}
	l.Set(set)
	if f.Cut {
		l.Cut()
	}
	return nil
}

// strangers connects to a proxy, as somebody who does not speak the protocol.
func (s *stage) strangers(c *conformancev1.Strangers) error {
	_, p, err := s.named(c.Proxy)
	if err != nil || p == nil {
		return fmt.Errorf("%q is no proxy: %w", c.Proxy, err)
	}
	network, at := "unix", p.socket
	switch {
	case c.Inbound:
		network, at = "tcp", p.inbound
	case c.Takeover:
		at = p.takeoverSocket()
	}
	ended := make(chan struct{}, 1<<16)
	n := 0
	for ; c.FillQueue || n < int(c.Connections); n++ {
		nc, err := net.DialTimeout(network, at, s.patience)
		if c.FillQueue && errors.Is(err, syscall.EAGAIN) {
			break
		} else if err != nil {
			return fmt.Errorf("stranger %d: %w", n+1, err)
		}
		s.cleanup = append(s.cleanup, func() { _ = nc.Close() })
		go stranger(nc, c, ended)
	}
	if !c.Ended {
		return nil
	}
	late := time.After(s.patience)
	for i := range n {
		select {
		case <-ended:
		case <-late:
			return fmt.Errorf("of %d strangers %d were sent away within %v", n, i, s.patience)
		}
	}
	return nil
}

// stranger sends what it is to send until the other side ends the connection.
func stranger(nc net.Conn, c *conformancev1.Strangers, ended chan<- struct{}) {
	gone := make(chan struct{})
	go func() {
		b := make([]byte, 4096)
		for {
			if _, err := nc.Read(b); err != nil {
				close(gone)
				ended <- struct{}{}
				_ = nc.Close()
				return
			}
		}
	}()
	_, err := nc.Write(c.Bytes)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for i := 0; err == nil && len(c.Trickle) > 0; i++ {
		select {
		case <-gone:
			return
		case <-tick.C:
			_, err = nc.Write(c.Trickle[i%len(c.Trickle):][:1])
		}
	}
}
