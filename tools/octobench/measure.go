package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/octomesh/octomesh/tools/octobench/side"
)

// place is a cell of the table: load and row.
type place [2]int

// measure interleaves the rounds, so that whatever disturbs the machine disturbs all rows alike.
func (b *bench) measure(dir string) ([]Row, error) {
	rounds := make(map[place][]*round)
	broken := make(map[place]bool)
	for n := range b.rounds {
		err := b.each(func(at place, load side.Load, r row) error {
			if broken[at] {
				return nil
			}
			got, err := b.round(dir, n, r, load)
			if err != nil {
				broken[at] = true
				return b.peerFailed(r, load, err)
			}
			rounds[at] = append(rounds[at], got)
			fmt.Fprintf(b.progress, "round %d/%d %-20s %-16s %8.0f calls/s\n", n+1, b.rounds, load.Column(), r.name, got.callsPerSecond)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	var out []Row
	err := b.each(func(at place, load side.Load, r row) error {
		if broken[at] {
			return nil
		}
		out = append(out, summarize(r.name, load, rounds[at]))
		if !b.syscalls {
			return nil
		}
		counts, err := b.countSyscalls(dir, r, load)
		if err != nil {
			return b.peerFailed(r, load, err)
		}
		out[len(out)-1].Syscalls = counts
		fmt.Fprintf(b.progress, "system calls %-20s %-16s\n", load.Column(), r.name)
		return nil
	})
	if err == nil && len(out) == 0 {
		err = errors.New("no row can be measured under any of these loads here")
	}
	return out, err
}

// peerFailed notes that somebody else's program cannot do a load; that of ours fails the run.
func (b *bench) peerFailed(r row, load side.Load, err error) error {
	if r.needs == "" {
		return err
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	b.absent = append(b.absent, fmt.Sprintf("row %s at %s: %s", r.name, load.Column(), text))
	return nil
}

// each visits the cells of the table, load by load.
func (b *bench) each(f func(at place, load side.Load, r row) error) error {
	for l, load := range b.loads {
		for i, r := range b.rows {
			if !r.takes(load, b.named) {
				continue
			}
			if err := f(place{l, i}, load, r); err != nil {
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
