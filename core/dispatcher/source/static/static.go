// Package static is the registry in files: one an environment, with the endpoints of a Snapshot in YAML as a proxy's
// resources file has them. A file is read again when its content changes.
package static

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	"github.com/octomesh/octomesh/core/lifecycle"
	"github.com/octomesh/octomesh/core/resource"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// DefaultPoll is how often files are looked at.
const DefaultPoll = time.Second

// Config says which files.
type Config struct {
	// Files has the path of each environment's file. An environment without a file has no targets.
	Files map[string]string
	// Every is how often files are looked at. 0: [DefaultPoll].
	Every time.Duration
	// Log gets what was loaded and what was refused. Nil: nothing.
	Log *slog.Logger
}

// Source is a set of files. Its methods are safe for concurrent use.
type Source struct {
	config Config
	group  *lifecycle.Group
	files  map[string]*file // by environment
}

// targets are the endpoints of a file, by target and instance.
type targets map[string]map[string]*resourcev1.Endpoint

// file is one environment.
type file struct {
	environment, path string
	log               *slog.Logger
	// Only the goroutine that reads has these.
	seen, done [sha256.Size]byte // at the look before, and what was loaded or refused last
	bad        string            // what was wrong at the look before

	mu      sync.Mutex
	err     error // why there is nothing yet
	targets targets
	change  chan struct{} // closed and replaced when there is other content
}

// New reads the files, and goes on to look at them until Close. A file that is bad or not there is no error: what it had
// last goes on, and as long as it had nothing watches of its environment fail.
func New(c Config) (*Source, error) {
	if c.Every <= 0 {
		c.Every = DefaultPoll
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Source{config: c, group: lifecycle.New(context.Background()), files: make(map[string]*file)}
	for environment, path := range c.Files {
		if err := (source.Key{Environment: environment, Target: "any"}).Check(); err != nil {
			return nil, err
		}
		s.files[environment] = &file{environment: environment, path: path, log: c.Log, change: make(chan struct{})}
		s.files[environment].look(true)
	}
	s.group.Go(s.run)
	return s, nil
}

// Close ends all watches.
func (s *Source) Close() { s.group.Stop() }

// Name implements [source.Source].
func (s *Source) Name() string { return "static" }

func (s *Source) run(ctx context.Context) {
	tick := time.NewTicker(s.config.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, f := range s.files {
				f.look(false)
			}
		}
	}
}

// look reads the file if it changed. Unless it is the first time, it waits until two looks have seen the same: somebody
// may be half-way through writing it.
func (f *file) look(first bool) {
	data, err := resource.ReadBytes(f.path)
	if err != nil {
		f.refuse(err)
		return
	}
	sum := sha256.Sum256(data)
	settled := sum == f.seen
	f.seen = sum
	if sum == f.done || !settled && !first {
		return
	}
	f.done = sum
	now, err := f.parse(data)
	if err != nil {
		f.refuse(err)
		return
	}
	f.bad = ""
	f.log.Info("endpoints loaded", "environment", f.environment, "file", f.path, "targets", len(now))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.targets, f.err = now, nil
	close(f.change)
	f.change = make(chan struct{})
}

// refuse notes what is wrong, once.
func (f *file) refuse(err error) {
	if f.bad != err.Error() {
		f.bad = err.Error()
		f.log.Error("endpoints refused, the last good ones stay", "environment", f.environment, "file", f.path, "error", f.bad)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.targets == nil {
		f.err = err
	}
}

func (f *file) parse(data []byte) (targets, error) {
	snapshot := &resourcev1.Snapshot{}
	doc, err := resource.Parse(f.path, data, snapshot)
	if err != nil {
		return nil, err
	}
	if err := resource.Errors(resource.Validate(snapshot, f.environment)); err != nil {
		return nil, doc.LocateError(err)
	}
	now := make(targets)
	for _, e := range snapshot.GetEndpoints() {
		if now[e.GetTarget()] == nil {
			now[e.GetTarget()] = make(map[string]*resourcev1.Endpoint)
		}
		now[e.GetTarget()][e.GetInstance()] = e
	}
	return now, nil
}

// get returns what there is, and what is closed when there is something else.
func (f *file) get() (targets, <-chan struct{}, error) {
	if f == nil {
		return nil, nil, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.targets, f.change, f.err
}

// Watch implements [source.Source]. Who takes an endpoint out of a file does so on purpose: it deregistered.
func (s *Source) Watch(ctx context.Context, key source.Key, emit func(source.Event)) error {
	if err := key.Check(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	f := s.files[key.Environment]
	all, change, err := f.get()
	if err != nil {
		return &source.Error{Kind: source.Unavailable, Source: s.Name(), Op: "watch", Key: key, Err: err}
	}
	before := all[key.Target]
	full, _ := source.Diff(nil, before)
	full.Kind = source.Full
	emit(full)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.group.Context().Done():
			return &source.Error{Kind: source.Lost, Source: s.Name(), Op: "watch", Key: key, Err: errors.New("the source was closed")}
		case <-change:
		}
		all, change, _ = f.get()
		now := all[key.Target]
		if event, changed := source.Diff(before, now); changed {
			for i := range event.Removed {
				event.Removed[i].Reason = source.Deregistered
			}
			emit(event)
		}
		before = now
	}
}

// List implements [source.Lister].
func (s *Source) List(_ context.Context, environment string) ([]source.Key, error) {
	all, _, err := s.files[environment].get()
	if err != nil {
		return nil, &source.Error{Kind: source.Unavailable, Source: s.Name(), Op: "list", Err: fmt.Errorf("there is nothing yet: %w", err)}
	}
	var keys []source.Key
	for target := range all {
		keys = append(keys, source.Key{Environment: environment, Target: target})
	}
	slices.SortFunc(keys, func(a, b source.Key) int { return strings.Compare(a.Target, b.Target) })
	return keys, nil
}
