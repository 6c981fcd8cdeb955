package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/octomesh/octomesh/conformance/reference"
)

const (
	// maxTraces is of how many failed cases of a world frames are shown: the others fail alike, mostly.
	maxTraces = 3
	// maxTraceLines bounds what a case with many frames leaves, and maxTraceLine one with large heads.
	maxTraceLines = 200
	maxTraceLine  = 400
)

// taps stand on all connections of a world, to tell of their frames.
type taps struct {
	begin time.Time
	mu    sync.Mutex
	lines []string
	more  int
	all   []*reference.Tap
	err   error
}

func (t *taps) note(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == maxTraceLines {
		t.more++
		return
	}
	if len(line) > maxTraceLine {
		line = line[:maxTraceLine] + "…"
	}
	t.lines = append(t.lines, fmt.Sprintf("%7.3f s %s", time.Since(t.begin).Seconds(), line))
}

// tap returns an address that leads to another one, of which it tells; that itself where nobody wants to know.
func (w *world) tap(address, label string) string {
	if w.taps == nil || address == "" {
		return address
	}
	network, at, prefix := "tcp", "127.0.0.1:0", ""
	target := address
	switch path, direct := strings.CutPrefix(address, "unix:"); {
	case direct:
		network, target, prefix = "unix", path, "unix:"
	case strings.HasPrefix(address, "/"):
		network = "unix"
	case w.ca != nil:
		return address // TLS tells nothing
	}
	w.taps.mu.Lock()
	defer w.taps.mu.Unlock()
	if network == "unix" {
		at = filepath.Join(w.dir, fmt.Sprintf("t%d", len(w.taps.all)))
	}
	t, err := reference.NewTap(network, at, target, label, w.taps.note)
	if err != nil {
		w.taps.err = err
		return address
	}
	w.taps.all = append(w.taps.all, t)
	return prefix + t.Address()
}

// traced runs a case that has failed once more, alone and with taps on all connections, and says what passed.
func (r *run) traced(j *job) []string {
	w, err := r.newTappedWorld([]*job{j}, &taps{begin: time.Now()})
	if err != nil {
		return []string{"no second run: " + err.Error()}
	}
	again := w.runCase(j.c)
	if err := w.stop(); err != nil {
		again = append(again, err.Error())
	}
	for _, t := range w.taps.all {
		t.Close()
	}
	verdict := "which passed, so load or time decide"
	if len(again) > 0 {
		verdict = "which failed: " + again[0]
	}
	lines := append([]string{"frames of a second run, alone, " + verdict}, w.taps.lines...)
	if w.taps.more > 0 {
		lines = append(lines, fmt.Sprintf("and %d frames more", w.taps.more))
	}
	if w.ca != nil {
		lines = append(lines, "what goes by TLS is not shown")
	}
	if w.taps.err != nil {
		lines = append(lines, "not all is shown: "+w.taps.err.Error())
	}
	return lines
}
