package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/octomesh/octomesh/tools/octobench/side"
)

// measure interleaves the rounds, so that whatever disturbs the machine disturbs all rows alike.
func (b *bench) measure(dir string) ([]Row, error) {
	rounds := make(map[[2]int][]*round)
	for n := range b.rounds {
		err := b.each(func(l, i int, load side.Load, r row) error {
			got, err := b.round(dir, n, r, load)
			if err != nil {
				return err
			}
			rounds[[2]int{i, l}] = append(rounds[[2]int{i, l}], got)
			fmt.Fprintf(b.progress, "round %d/%d %-20s %-16s %8.0f calls/s\n", n+1, b.rounds, load.Column(), r.name, got.callsPerSecond)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	var out []Row
	err := b.each(func(l, i int, load side.Load, r row) error {
		out = append(out, summarize(r.name, load, rounds[[2]int{i, l}]))
		if !b.syscalls {
			return nil
		}
		var err error
		out[len(out)-1].Syscalls, err = b.countSyscalls(dir, r, load)
		fmt.Fprintf(b.progress, "system calls %-20s %-16s\n", load.Column(), r.name)
		return err
	})
	if err == nil && len(out) == 0 {
		err = errors.New("no row can be measured under any of these loads here")
	}
	return out, err
}

// each visits the cells of the table, load by load.
func (b *bench) each(f func(l, i int, load side.Load, r row) error) error {
	for l, load := range b.loads {
		for i, r := range b.rows {
			if !r.takes(load, b.named) {
				continue
			}
			if err := f(l, i, load, r); err != nil {
				return fmt.Errorf("row %s at %s: %w", r.name, load.Column(), err)
			}
		}
	}
	return nil
}

func (b *bench) round(dir string, n int, r row, load side.Load) (*round, error) {
	c, err := b.cell(dir, fmt.Sprint(n), r, load)
	if err != nil {
		return nil, err
	}
	defer c.end()
	return c.measure(r)
}

func (b *bench) countSyscalls(dir string, r row, load side.Load) (map[string]float64, error) {
	c, err := b.cell(dir, "syscalls", r, load)
	if err != nil {
		return nil, err
	}
	defer c.end()
	return c.countSyscalls(r)
}

// cell makes one with a folder of its own. The caller ends it.
func (b *bench) cell(dir, n string, r row, load side.Load) (*cell, error) {
	dir, err := os.MkdirTemp(dir, "c")
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("%s-%s-%s", r.name, fileName(load.Column()), n)
	return &cell{bench: b, load: load, dir: dir, name: name}, nil
}

// fileName makes a load's name one that may stand in a file's.
func fileName(column string) string {
	out := []byte(column)
	for i, c := range out {
		switch c {
		case ':':
			out[i] = 'x'
		case '/', '@':
			out[i] = '-'
		}
	}
	return string(out)
}
