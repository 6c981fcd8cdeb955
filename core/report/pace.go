package report

import (
	"math/rand/v2"
	"sync"
	"time"

	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
)

// maxInterval is the longest that somebody is told to wait between two reports.
const maxInterval = 10 * time.Minute

// paceWindow is how long reports are counted before the interval is decided anew.
const paceWindow = 5 * time.Second

// Pace decides how often others report, so that not more reports come than are wanted. How many reporters there are it infers
// from how many reports come at the interval that they were told. It is safe for concurrent use.
type Pace struct {
	interval  time.Duration // while the load is low
	perSecond float64

	mu      sync.Mutex
	current time.Duration
	begun   time.Time
	seen    int
}

// Defaults of a pace.
const (
	DefaultInterval  = 10 * time.Second
	DefaultPerSecond = 2000
)

// NewPace makes one of the interval at low load, and of how many reports a second are wanted at most.
func NewPace(interval time.Duration, perSecond int) *Pace {
	return &Pace{interval: interval, perSecond: float64(perSecond)}
}

// Next is the interval for whoever has just reported, ±10 %.
func (p *Pace) Next(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.begun.IsZero() {
		p.begun, p.current = now, p.interval
	}
	p.seen++
	if passed := now.Sub(p.begun); passed >= paceWindow {
		reporters := float64(p.seen) / passed.Seconds() * p.current.Seconds()
		wanted := time.Duration(reporters / p.perSecond * float64(time.Second))
		p.current = min(max(p.interval, wanted), maxInterval)
		p.begun, p.seen = now, 0
	}
	return time.Duration(float64(p.current) * (0.9 + 0.2*rand.Float64()))
}

// Answer is what whoever has just reported is told.
func (p *Pace) Answer() *directoryv1.ReportResponse {
	return &directoryv1.ReportResponse{IntervalMs: uint32(p.Next(time.Now()).Milliseconds())}
}
