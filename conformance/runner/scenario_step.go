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
		b, err := s.begin(v.Batch)
		if err != nil {
			return err
		}
		return s.end(b)
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
		return s.plane.churn(v.Churn, s.want)
	case *conformancev1.ScenarioStep_PauseMs:
		time.Sleep(time.Duration(v.PauseMs) * time.Millisecond)
		return nil
	}
	return errors.New("nothing to do")
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
	p, proxy, err := s.named(f.Process)
	if err != nil {
		return err
	}
	pid := p.cmd.Process.Pid
	switch f.Kind {
	case conformancev1.ProcessFault_KIND_KILL:
		p.killed = true
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

// metric waits until a metric is where it is expected.
func (s *stage) metric(m *conformancev1.Metric) error {
	_, p, err := s.named(m.Proxy)
	if err != nil || p == nil {
		return fmt.Errorf("%q is no proxy: %w", m.Proxy, err)
	}
	for late := time.Now().Add(s.patience); ; {
		sum, lines, err := p.sum(m.Name, m.Labels)
		text := outside(int(sum), 0, m.Value, false)
		if err == nil && text == "" && (lines > 0 || m.Value.GetMin() == 0) {
			return nil
		}
		if time.Now().After(late) {
			return fmt.Errorf("%s of %s with %v is %v in %d lines, expected %s (%v)", m.Name, m.Proxy, m.Labels, sum, lines, text, err)
		}
		time.Sleep(poll)
	}
}

// sum adds up the values of a metric's lines that have some labels.
func (p *proxy) sum(name string, labels map[string]string) (sum float64, lines int, err error) {
	body, err := p.get("/metrics")
	if err != nil {
		return 0, 0, err
	}
	err = samples(body, func(n string, have map[string]string, value float64) {
		for key, want := range labels {
			if have[key] != want {
				return
			}
		}
		if n == name {
			sum += value
			lines++
		}
	})
	return sum, lines, err
}

// strangers connects to a proxy, as somebody who does not speak the protocol.
func (s *stage) strangers(c *conformancev1.Strangers) error {
	_, p, err := s.named(c.Proxy)
	if err != nil || p == nil {
		return fmt.Errorf("%q is no proxy: %w", c.Proxy, err)
	}
	network, at := "unix", p.socket
	if c.Inbound {
		network, at = "tcp", p.inbound
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

// quiet measures the processor time of a proxy over a second.
func (s *stage) quiet(q *conformancev1.Quiet) error {
	p, _, err := s.named(q.Proxy)
	if err != nil {
		return err
	}
	const over = time.Second
	before, err := faults.CPU(p.cmd.Process.Pid)
	if err != nil {
		return err
	}
	time.Sleep(over)
	after, err := faults.CPU(p.cmd.Process.Pid)
	if used := (after - before) * 1000 / over; err == nil && int(used) > int(q.CpuPermille) {
		return fmt.Errorf("%s used %d ‰ of a processor, expected at most %d", q.Proxy, used, q.CpuPermille)
	}
	return err
}
