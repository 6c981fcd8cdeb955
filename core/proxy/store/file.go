package store

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"os"
	"time"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"

	"github.com/octomesh/octomesh/core/resource"
)

// DefaultPoll is how often a File is looked at.
const DefaultPoll = time.Second

// File is the source that reads one YAML file with a Snapshot: at once, whenever its content changes, and
// when it is told to.
type File struct {
	Path string
	// Every is how often the file is looked at. 0: one second.
	Every time.Duration
	// Reload makes it read at once; a receive on SIGHUP is meant. Nil: never.
	Reload <-chan os.Signal
	// Refused is told of content that could not even be read as a snapshot, so that apply never saw it;
	// [Store.Refused] is meant. Nil: nobody.
	Refused func(source string, err error)
	// Log gets what was loaded and what was refused. Nil: nothing.
	Log *slog.Logger

	document *resource.Document // of the snapshot that was applied last; Run's goroutine alone
}

// Locate implements [Locator].
func (f *File) Locate(problems []resource.Problem) { f.document.Locate(problems) }

// Name implements [Source].
func (f *File) Name() string { return "file " + f.Path }

// Run implements [Source]. A file that is bad or gone is logged and looked at again: it never ends the
// source.
func (f *File) Run(ctx context.Context, apply func(Update) error) error {
	every := f.Every
	if every <= 0 {
		every = DefaultPoll
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	w := watched{file: f, apply: apply}
	w.look(true)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			w.look(false)
		case <-f.Reload:
			w.look(true)
		}
	}
}

// watched is what Run knows of the file.
type watched struct {
	file  *File
	apply func(Update) error
	seen  [sha256.Size]byte // at the look before
	done  [sha256.Size]byte // what was applied or refused last
	lost  string            // the error of the look before
}

// look reads the file, and applies it if it changed. Unless told to, it first waits until two looks have
// seen the same: an editor may be half-way through writing it.
func (w *watched) look(now bool) {
	data, err := resource.ReadBytes(w.file.Path)
	if err != nil {
		if err.Error() != w.lost {
			w.lost = err.Error()
			w.log(slog.LevelError, "resources cannot be read", "file", w.file.Path, "error", w.lost)
		}
		return
	}
	w.lost = ""
	sum := sha256.Sum256(data)
	settled := sum == w.seen
	w.seen = sum
	if sum == w.done || !settled && !now {
		return
	}
	w.done = sum
	if err := w.load(data); err != nil {
		w.log(slog.LevelError, "resources refused, the last good ones stay", "file", w.file.Path, "error", err.Error())
		return
	}
	w.log(slog.LevelInfo, "resources loaded", "file", w.file.Path)
}

func (w *watched) load(data []byte) error {
	snapshot := &resourcev1.Snapshot{}
	doc, err := resource.Parse(w.file.Path, data, snapshot)
	if err != nil {
		if w.file.Refused != nil {
			w.file.Refused(w.file.Name(), err)
		}
		return err
	}
	w.file.document = doc
	defer func() { w.file.document = nil }() // the tree is as large as the file
	return w.apply(Whole(snapshot))
}

func (w *watched) log(level slog.Level, text string, args ...any) {
	if w.file.Log != nil {
		w.file.Log.Log(context.Background(), level, text, args...)
	}
}
