package main

import (
	"fmt"
	"time"

	faults "github.com/octomesh/octomesh/conformance/faults/process"
	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
)

// metricsOf is who tells a process's metrics.
func (s *stage) metricsOf(name string) (func() ([]byte, error), error) {
	_, p, err := s.named(name)
	switch {
	case err != nil:
		return nil, err
	case p != nil:
		return p.metrics, nil
	case s.plane != nil && s.plane.parts[name] != nil:
		return s.plane.parts[name].metrics, nil
	}
	return nil, fmt.Errorf("%q is no proxy and no part of a control plane", name)
}

// metric waits until a metric is where it is expected.
func (s *stage) metric(m *conformancev1.Metric) error {
	from, err := s.metricsOf(m.Process)
	if err != nil {
		return err
	}
	for late := time.Now().Add(s.patience); ; {
		sum, lines, err := sumOf(from, m.Name, m.Labels)
		text := outside(int(sum), 0, m.Value, false)
		if err == nil && text == "" && (lines > 0 || m.Value.GetMin() == 0) {
			return nil
		}
		if time.Now().After(late) {
			return fmt.Errorf("%s of %s with %v is %v in %d lines, expected %s (%v)", m.Name, m.Process, m.Labels, sum, lines, text, err)
		}
		time.Sleep(poll)
	}
}

// sumOf adds up the values of a metric's lines that have some labels.
func sumOf(from func() ([]byte, error), name string, labels map[string]string) (sum float64, lines int, err error) {
	body, err := from()
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

// memory notes how much a process has, or holds it to what was noted.
func (s *stage) memory(c *conformancev1.Memory) error {
	p, _, err := s.named(c.Process)
	if err != nil {
		return err
	}
	pid := p.cmd.Process.Pid
	resident, peak, err := faults.Memory(pid)
	if err != nil {
		return err
	}
	if c.MaxMib > 0 {
		if s.slow || peak <= int64(c.MaxMib)<<20 {
			return nil
		}
		return fmt.Errorf("%s had %d MiB at its peak, expected at most %d", c.Process, peak>>20, c.MaxMib)
	}
	if c.Mark {
		s.marks[c.Process] = resident
		return faults.ForgetPeak(pid)
	}
	mark := s.marks[c.Process]
	if mark == 0 {
		return fmt.Errorf("the memory of %s was not marked", c.Process)
	}
	limit := int64(c.MaxPermille)
	if s.slow {
		limit = limit * 3 / 2 // the collector comes later
	}
	if peak*1000 > mark*limit {
		return fmt.Errorf("%s had %d MiB at its peak, and %d MiB at the mark: expected at most %d ‰ of that", c.Process, peak>>20, mark>>20, limit)
	}
	return nil
}
