package report

import (
	"maps"
	"sync"
	"time"

	"github.com/octomesh/octomesh/core/resource"
	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
)

// Key is what reports are added up by.
type Key struct {
	Environment, Application, Target string
	Path                             directoryv1.PathReport_Path
}

const (
	// SlotTime is the resolution of windows in time, and Reach is how far they go back.
	SlotTime = 10 * time.Second
	Reach    = time.Hour
	slots    = int64(Reach/SlotTime) + 1 // the one that is being filled, too
)

// Config is a book's.
type Config struct {
	// Windows are kept beside the sums.
	Windows bool
	// MaxSums bounds the sums that are kept: what is beyond is counted, and not kept apart. 0: 20,000.
	MaxSums int
	// MaxCells bounds the cells of all windows, of about 400 bytes each: the oldest make room. 0: 100,000.
	MaxCells int
}

// Book has what was reported. Its methods are safe for concurrent use.
type Book struct {
	cfg   Config
	begun time.Time

	mu      sync.Mutex
	all     map[Key]*Cell // since the book was made
	dropped uint64        // calls of which all has no room
	slots   [slots]slot
	cells   int   // in all slots
	whole   int64 // from which slot on nothing was thrown away
}

// slot is what was reported within a SlotTime. Slots are numbered by the monotonic clock since the book was made.
type slot struct {
	number  int64
	cells   map[Key]*Cell
	dropped uint64
}

// NewBook makes an empty one.
func NewBook(cfg Config) *Book {
	if cfg.MaxSums == 0 {
		cfg.MaxSums = 20_000
	}
	if cfg.MaxCells == 0 {
		cfg.MaxCells = 100_000
	}
	return &Book{cfg: cfg, begun: time.Now(), all: make(map[Key]*Cell)}
}

// Add takes a report of the environment. What has no name that can be is passed over.
func (b *Book) Add(environment string, r *directoryv1.ReportRequest) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !resource.IsName(r.GetApplication()) {
		return
	}
	var now *slot
	if b.cfg.Windows {
		now = b.slot(b.number(time.Now()))
	}
	for i, p := range r.GetPaths() {
		if i >= MaxPaths {
			return
		}
		if !resource.IsName(p.GetTarget()) {
			continue
		}
		k := Key{environment, r.GetApplication(), p.GetTarget(), p.GetPath()}
		if c := b.sum(k); c != nil {
			c.Add(p)
		} else {
			b.dropped += p.GetCalls()
		}
		if now == nil {
			continue
		}
		if c := b.cell(now, k); c != nil {
			c.Add(p)
		} else {
			now.dropped += p.GetCalls()
		}
	}
}

// sum finds or makes the sum of a key; nil: there is no room. The lock is held, as in what follows.
func (b *Book) sum(k Key) *Cell {
	c := b.all[k]
	if c == nil && len(b.all) < b.cfg.MaxSums {
		c = &Cell{}
		b.all[k] = c
	}
	return c
}

func (b *Book) number(now time.Time) int64 { return int64(now.Sub(b.begun) / SlotTime) }

// slot is the slot of a number, empty if it is new.
func (b *Book) slot(number int64) *slot {
	s := &b.slots[number%slots]
	if s.number != number {
		b.cells -= len(s.cells)
		*s = slot{number: number}
	}
	return s
}

// cell finds or makes the cell of a key in the newest slot; nil: there is no room, though all older ones were thrown away.
func (b *Book) cell(now *slot, k Key) *Cell {
	c := now.cells[k]
	if c != nil {
		return c
	}
	for b.cells >= b.cfg.MaxCells {
		oldest := now
		for i := range b.slots {
			if s := &b.slots[i]; len(s.cells) > 0 && s.number < oldest.number {
				oldest = s
			}
		}
		if oldest == now {
			return nil
		}
		b.cells -= len(oldest.cells)
		b.whole = max(b.whole, oldest.number+1)
		oldest.cells = nil
	}
	c = &Cell{}
	if now.cells == nil {
		now.cells = make(map[Key]*Cell)
	}
	now.cells[k] = c
	b.cells++
	return c
}

// Window is what was reported in a time before now.
type Window struct {
	Cells map[Key]*Cell
	// From when on all that was reported is in it.
	From time.Time
	// Dropped are calls that are in no cell, of any key: there was no room.
	Dropped uint64
}

// Window adds up what was reported in the last while: of an environment, and of an application or a target, unless those are
// empty. Its begin is that of a slot.
func (b *Book) Window(environment, application, target string, since time.Duration) Window {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	first := max(b.number(now.Add(-min(since, Reach))), b.whole, 0)
	w := Window{Cells: make(map[Key]*Cell), From: b.begun.Add(time.Duration(first) * SlotTime)}
	for i := range b.slots {
		s := &b.slots[i]
		if s.number < first {
			continue
		}
		w.Dropped += s.dropped
		for k, c := range s.cells {
			if k.Environment != environment || application != "" && k.Application != application || target != "" && k.Target != target {
				continue
			}
			if w.Cells[k] == nil {
				w.Cells[k] = &Cell{}
			}
			w.Cells[k].Merge(c)
		}
	}
	return w
}

// Sums are what was reported since the book was made, and how many calls are in none of them.
func (b *Book) Sums() (all map[Key]Cell, dropped uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	all = make(map[Key]Cell, len(b.all))
	for k, c := range b.all {
		one := *c
		one.Errors = append([]ErrorCount(nil), c.Errors...)
		all[k] = one
	}
	return all, b.dropped
}

// Pending is what waits to be passed on, of one environment. It is not safe for concurrent use.
type Pending struct {
	cells map[Key]*Cell
	// Dropped are calls for which there was no room.
	Dropped uint64
}

// Empty tells whether nothing waits.
func (p *Pending) Empty() bool { return len(p.cells) == 0 }

// Add takes a report.
func (p *Pending) Add(r *directoryv1.ReportRequest) {
	if p.cells == nil {
		p.cells = make(map[Key]*Cell)
	}
	for _, path := range r.GetPaths() {
		k := Key{Application: r.GetApplication(), Target: path.GetTarget(), Path: path.GetPath()}
		c := p.cells[k]
		if c == nil && len(p.cells) >= MaxPaths {
			p.Dropped += path.GetCalls()
			continue
		}
		if c == nil {
			c = &Cell{}
			p.cells[k] = c
		}
		c.Add(path)
	}
}

// Take takes what waits of at most so many applications, a report of each.
func (p *Pending) Take(environment string, applications int) []*directoryv1.ReportRequest {
	by := make(map[string]*directoryv1.ReportRequest)
	var out []*directoryv1.ReportRequest
	for k, c := range maps.Clone(p.cells) {
		r := by[k.Application]
		if r == nil && len(out) >= applications {
			continue
		}
		if r == nil {
			r = &directoryv1.ReportRequest{Environment: environment, Application: k.Application}
			by[k.Application] = r
			out = append(out, r)
		}
		r.Paths = append(r.Paths, c.Path(k.Target, k.Path))
		delete(p.cells, k)
	}
	return out
}
