// Package accesslog writes one line of JSON for each call that was chosen: a share of those that succeeded and
// those that failed, up to a number a second. Lines are made and written in one goroutine that nobody waits
// for; while the disk is slow or full they wait in a bounded queue and are dropped beyond it.
package accesslog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/octomesh/octomesh/core/lifecycle"
	"github.com/octomesh/octomesh/core/telemetry/record"
	"github.com/octomesh/octomesh/core/telemetry/trace"
)

// Config says what is written where.
type Config struct {
	// File that lines are appended to; "-": standard output.
	File string
	// SuccessPermille of the calls that succeeded are written.
	SuccessPermille uint32
	// MaxFailuresPerSecond bounds the calls that failed and are written.
	MaxFailuresPerSecond uint32
	// Metadata keys whose values are written, record.MaxKeys at most.
	Metadata []string
	// MaxQueued bounds the lines that wait. 0: 8192.
	MaxQueued int
	// Now is the monotonic clock of the records.
	Now func() int64
	Log *slog.Logger
}

// Defaults of an access log's configuration.
const (
	DefaultSuccessPermille      = 10
	DefaultMaxFailuresPerSecond = 100
	DefaultMaxQueued            = 8192
)

// StandardOutput is the name of a file that is none.
const StandardOutput = "-"

// Log is an open access log.
type Log struct {
	cfg   Config
	share trace.Share
	queue *record.Queue
	group *lifecycle.Group
	file  atomic.Pointer[os.File]

	second   atomic.Int64  // in which failures are counted
	failures atomic.Uint32 // in it

	written, lost, suppressed atomic.Uint64
	last                      atomic.Pointer[string] // the last write's error; nil: it went well

	// Of the goroutine.
	buf   bytes.Buffer
	torn  bool      // the file ends within a line
	quiet time.Time // no more complaints until then
}

// Open opens the log, or says why it cannot be written.
func Open(cfg Config) (*Log, error) {
	if cfg.MaxQueued == 0 {
		cfg.MaxQueued = DefaultMaxQueued
	}
	f, err := open(cfg.File)
	if err != nil {
		return nil, err
	}
	l := &Log{cfg: cfg, share: trace.Permille(cfg.SuccessPermille), queue: record.NewQueue(cfg.MaxQueued), group: lifecycle.New(context.Background())}
	l.file.Store(f)
	l.group.Go(func(ctx context.Context) { l.queue.Run(ctx, l.write) })
	return l, nil
}

func open(name string) (*os.File, error) {
	if name == StandardOutput {
		return os.Stdout, nil
	}
	// Not blocking: a pipe that nobody reads is an error here, and can be closed while it is full.
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, 0o640)
	if err != nil {
		return nil, fmt.Errorf("the access log: %w", err)
	}
	return f, nil
}

// Reopen opens the file anew: after whoever rotates logs has renamed it. If that fails the open one goes on.
func (l *Log) Reopen() error {
	if l.cfg.File == StandardOutput {
		return nil
	}
	f, err := open(l.cfg.File)
	if err != nil {
		return err
	}
	return l.file.Swap(f).Close()
}

// Keys are the keys of metadata that are to be kept of a call. They must not be changed.
func (l *Log) Keys() []string { return l.cfg.Metadata }

// Wants tells whether a call that has ended at the given time, of the monotonic clock, shall be written. A
// yes counts as one of the second's failures.
func (l *Log) Wants(failed bool, now int64) bool {
	if !failed {
		return l.share.Draw()
	}
	second := now / int64(time.Second)
	if old := l.second.Load(); old != second && l.second.CompareAndSwap(old, second) {
		l.failures.Store(0)
	}
	if l.failures.Add(1) > l.cfg.MaxFailuresPerSecond {
		l.suppressed.Add(1)
		return false
	}
	return true
}

// Put takes the record of a call that Wants said yes to. It never waits.
func (l *Log) Put(r *record.Record) { l.queue.Put(r) }

// maxWrite is about how much one write carries.
const maxWrite = 64 << 10

// write writes the lines of records.
func (l *Log) write(records []*record.Record) {
	now, wall := l.cfg.Now(), time.Now()
	for _, r := range records {
		appendLine(&l.buf, r, wall.Add(time.Duration(r.Arrived-now)))
		r.Drop()
		if l.buf.Len() >= maxWrite {
			l.flush()
		}
	}
	l.flush()
}

// flush writes what is in the buffer. What cannot be written is given up: the next lines may find room.
func (l *Log) flush() {
	b := l.buf.Bytes()
	defer l.buf.Reset()
	for len(b) > 0 {
		ends := l.torn // a line that counts as lost
		if ends {
			b = append([]byte("\n"), b...)
		}
		f := l.file.Load()
		n, err := f.Write(b)
		lines := bytes.Count(b[:n], []byte("\n"))
		if n > 0 {
			l.torn = b[n-1] != '\n'
			if ends {
				lines--
			}
		} else if ends {
			n = 1
		}
		l.written.Add(uint64(lines))
		b = b[n:]
		switch {
		case err == nil:
			l.last.Store(nil)
			return
		case errors.Is(err, os.ErrClosed) && l.file.Load() != f: // reopened meanwhile
			if l.torn {
				l.skipLine(&b)
			}
			continue
		}
		l.lost.Add(uint64(bytes.Count(b, []byte("\n"))))
		text := err.Error()
		l.last.Store(&text)
		if now := time.Now(); now.After(l.quiet) {
			l.quiet = now.Add(time.Minute)
			l.cfg.Log.Warn("the access log is not written", "file", l.cfg.File, "error", err)
		}
		return
	}
}

// skipLine leaves out the rest of a line whose begin stands in another file.
func (l *Log) skipLine(b *[]byte) {
	l.torn = false
	if i := bytes.IndexByte(*b, '\n'); i >= 0 {
		*b = (*b)[i+1:]
		l.lost.Add(1)
	}
}

// Status is what an access log has done.
type Status struct {
	File    string `json:"file"`
	Written uint64 `json:"written"` // lines
	// Lost lines could not be written, Dropped ones found no room in the queue, and Suppressed ones were
	// failures beyond the number a second.
	Lost       uint64 `json:"lost"`
	Dropped    uint64 `json:"dropped"`
	Suppressed uint64 `json:"suppressed"`
	Queued     int    `json:"queued"`
	LastError  string `json:"last_error,omitempty"` // of the last write; "": it went well
}

// Status returns what the log has done so far.
func (l *Log) Status() Status {
	s := Status{File: l.cfg.File, Written: l.written.Load(), Lost: l.lost.Load(), Dropped: l.queue.Dropped(), Suppressed: l.suppressed.Load(), Queued: l.queue.Len()}
	if text := l.last.Load(); text != nil {
		s.LastError = *text
	}
	return s
}

// Close writes what waits, until ctx ends at the latest, and closes the file. Nothing may be put any more.
func (l *Log) Close(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		l.group.Stop()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done(): // closing ends a write to a pipe; one to a disk that hangs ends with the process
	}
	if l.cfg.File != StandardOutput {
		_ = l.file.Load().Close()
	}
}
