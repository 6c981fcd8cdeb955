package octomesh

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/octomesh/octomesh/sdks/go/internal/meshswitch"
)

// switchFile follows a kill switch's file for all channels of the process that name it.
type switchFile struct {
	path    string
	log     *slog.Logger
	current atomic.Pointer[meshswitch.File]

	users int // guarded by the process's lock
	stop  chan struct{}
	done  sync.WaitGroup

	// Of whoever looks.
	seen fileState
	bad  string // what was logged last
}

// fileState tells whether a file is another one than before, or was written.
type fileState struct {
	info os.FileInfo
	size int64
	time time.Time
}

// lookEvery is how often the file is looked at: a change is to hold within a second.
const lookEvery = 250 * time.Millisecond

// follow returns the file that a configuration names.
func (p *processState) follow(cfg *config) *switchFile {
	p.mu.Lock()
	defer p.mu.Unlock()
	f := p.files[cfg.switchFile]
	if f == nil {
		f = &switchFile{path: cfg.switchFile, log: cfg.log, stop: make(chan struct{})}
		f.look()
		f.done.Go(f.run)
		p.files[f.path] = f
	}
	f.users++
	return f
}

func (p *processState) unfollow(f *switchFile) {
	p.mu.Lock()
	f.users--
	last := f.users == 0
	if last {
		delete(p.files, f.path)
	}
	p.mu.Unlock()
	if last {
		close(f.stop)
		f.done.Wait()
	}
}

func (f *switchFile) run() {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		select {
		case <-f.stop:
			return
		case <-t.C:
			f.look()
		}
	}
}

// look reads the file if it has changed. What cannot be read, or is bad, changes nothing.
func (f *switchFile) look() {
	info, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		f.seen, f.bad = fileState{}, ""
		if f.current.Swap(nil) != nil {
			f.log.Info("octomesh: the kill switch's file is gone, and says nothing any more", "file", f.path)
		}
		return
	}
	if err == nil {
		now := fileState{info, info.Size(), info.ModTime()}
		if f.seen.info != nil && os.SameFile(f.seen.info, info) && f.seen.size == now.size && f.seen.time.Equal(now.time) {
			return
		}
		f.seen = now
		err = f.read()
	}
	if err == nil {
		f.bad = ""
		return
	}
	if text := err.Error(); text != f.bad {
		f.bad = text
		f.log.Error("octomesh: the kill switch's file is bad; what it said before holds", "file", f.path, "error", err)
	}
}

func (f *switchFile) read() error {
	in, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // it was read only
	b, err := io.ReadAll(io.LimitReader(in, meshswitch.MaxFile+1))
	if err != nil {
		return err
	}
	parsed, err := meshswitch.ParseFile(b)
	if err != nil {
		return err
	}
	f.current.Store(&parsed)
	f.log.Info("octomesh: the kill switch's file was read", "file", f.path, "lines", fmt.Sprint(len(parsed)))
	return nil
}
