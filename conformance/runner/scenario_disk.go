package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	faults "github.com/octomesh/octomesh/conformance/faults/process"
	conformancev1 "github.com/octomesh/octomesh/gen/go/octo/conformance/v1"
)

// errUnable is in errors of what this machine does not let anybody do.
var errUnable = errors.New("this machine does not allow it")

// unable marks what failed for want of a right, or of a machine that has it.
func unable(err error) error {
	if errors.Is(err, errors.ErrUnsupported) || errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: %w", errUnable, err)
	}
	return err
}

// states is where an end's proxy keeps what it was told.
func (s *stage) states(a *actor) string { return filepath.Join(s.dir, a.Name+"-states") }

// insert gives an end the disk that it is to have.
func (s *stage) insert(a *actor) error {
	if a.DiskBytes == 0 {
		return nil
	}
	remove, err := faults.SmallDisk(s.states(a), int(a.DiskBytes))
	if err != nil {
		return unable(fmt.Errorf("the disk of %s: %w", a.Name, err))
	}
	a.eject = remove
	return nil
}

// disk changes how a disk is.
func (s *stage) disk(d *conformancev1.Disk) error {
	a, err := s.proxied(d.Proxy)
	if err != nil {
		return err
	}
	if a.eject == nil {
		return fmt.Errorf("%s has no disk of its own", a.Name)
	}
	full := filepath.Join(s.states(a), "full")
	if d.ReadOnly != a.readOnly {
		if err := faults.ReadOnly(s.states(a), d.ReadOnly); err != nil {
			return unable(err)
		}
		a.readOnly = d.ReadOnly
	}
	if d.Full {
		return faults.FillDisk(full)
	}
	if err := os.Remove(full); err != nil && !errors.Is(err, fs.ErrNotExist) && !d.ReadOnly {
		return err
	}
	return nil
}

// proxied is the end of a proxy's name.
func (s *stage) proxied(proxy string) (*actor, error) {
	name, ok := strings.CutSuffix(proxy, "-proxy")
	if a := s.ends[name]; ok && a != nil && a.proxy != nil {
		return a, nil
	}
	return nil, fmt.Errorf("no proxy is called %q", proxy)
}

// spoil changes files of a proxy that does not run.
func (s *stage) spoil(c *conformancev1.Spoil, round uint64) error {
	a, err := s.proxied(c.Proxy)
	if err != nil {
		return err
	}
	if !over(a.proxy.process) {
		return fmt.Errorf("%s runs", c.Proxy)
	}
	files, err := filepath.Glob(filepath.Join(s.states(a), c.Files))
	if err != nil {
		return err
	}
	slices.SortFunc(files, func(a, b string) int { return int(numberOf(b) - numberOf(a)) })
	if c.Newest > 0 {
		files = files[:min(len(files), int(c.Newest))]
	}
	if len(files) == 0 {
		return fmt.Errorf("%s has no files %q", c.Proxy, c.Files)
	}
	dice := rand.New(rand.NewPCG(c.Seed+round, 0))
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if was, ok := s.spoilt[file]; ok && string(was.now) == string(b) {
			b = was.whole
		}
		if len(b) == 0 {
			continue
		}
		now, at := slices.Clone(b), dice.IntN(len(b))
		if dice.IntN(2) == 0 {
			now = now[:at]
		} else {
			now[at] ^= byte(1 + dice.IntN(255))
		}
		s.spoilt[file] = spoilt{whole: b, now: now}
		if err := os.WriteFile(file, now, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// spoilt is a file that is not what was written.
type spoilt struct{ whole, now []byte }

// numberOf is the number at the end of a name; 0: there is none.
func numberOf(name string) int64 {
	n, _ := strconv.ParseInt(name[strings.LastIndexByte(name, '-')+1:], 10, 64)
	return n
}
