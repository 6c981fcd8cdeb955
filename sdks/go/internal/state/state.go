// Package state keeps on disk what a Directory has said of targets, to start from when nobody answers (D-WATCH-11). A directory may be
// shared by processes: each file is written beside its place, synced and renamed, and one that is not whole is never read.
package state

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	directoryv1 "github.com/octomesh/octomesh/gen/go/octo/directory/v1"
)

const (
	// magic begins each file, and names its format.
	magic = "octo-target-1\n"
	// generations is how many files are kept of a target.
	generations = 3
	// looks is how often files are listed that are gone when they are to be read, since others write newer ones.
	looks = 10
	// maxSize bounds a file, in bytes: about a hundred thousand instances.
	maxSize = 16 << 20
	// leftAfter is when a file that was begun and not finished is somebody's who is dead.
	leftAfter = time.Minute
)

// place is the folder of a target's files. Names become parts of paths that mean nothing to the file system.
func place(dir, environment, application, target string) string {
	return filepath.Join(dir, "env-"+url.QueryEscape(environment), "app-"+url.QueryEscape(application), "target-"+url.QueryEscape(target))
}

// files are the numbers of the generations in a folder, the newest first.
func files(folder string) ([]uint64, error) {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var numbers []uint64
	for _, e := range entries {
		if n, err := strconv.ParseUint(e.Name(), 10, 64); err == nil {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	slices.Reverse(numbers)
	return numbers, err
}

func name(folder string, n uint64) string { return filepath.Join(folder, strconv.FormatUint(n, 10)) }

// Load returns the newest that is whole of what was kept of a target, as from the disk and with its age; nil if there is none. problems
// are files that were passed over.
func Load(dir, environment, application, target string, now time.Time) (m *directoryv1.WatchResponse, problems []error) {
	folder := place(dir, environment, application, target)
	for range looks {
		gone := false
		if m, problems, gone = load(folder, environment, application, target, now); m != nil || !gone {
			break
		}
	}
	return m, problems
}

// load looks once. gone: some files were listed, and not there any more.
func load(folder, environment, application, target string, now time.Time) (m *directoryv1.WatchResponse, problems []error, gone bool) {
	numbers, err := files(folder)
	if err != nil {
		return nil, []error{err}, false
	}
	for _, n := range numbers {
		saved, err := read(name(folder, n))
		if errors.Is(err, fs.ErrNotExist) { // another process has newer ones
			gone = true
			continue
		}
		if err == nil && (saved.GetSnapshot().GetEnvironment() != environment || saved.GetSnapshot().GetTarget() != target || saved.GetApplication() != application) {
			err = errors.New("it is of another target, application or environment")
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", name(folder, n), err))
			continue
		}
		m := saved.GetSnapshot()
		m.Source = directoryv1.WatchResponse_SOURCE_DISK
		if since := now.UnixMilli() - saved.GetWrittenUnixMs(); since > 0 { // else the clock was set back
			m.AgeMs += uint64(since)
		}
		return m, problems, false
	}
	return nil, problems, gone
}

func read(path string) (*directoryv1.Saved, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxSize {
		return nil, fmt.Errorf("%d bytes, at most %d", info.Size(), maxSize)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	rest, ok := bytes.CutPrefix(b, []byte(magic))
	if !ok || len(rest) < sha256.Size {
		return nil, errors.New("not what is known of a target, or cut off")
	}
	sum, content := rest[:sha256.Size], rest[sha256.Size:]
	if got := sha256.Sum256(content); !bytes.Equal(got[:], sum) {
		return nil, errors.New("its content is not what was written: the checksum differs")
	}
	saved := &directoryv1.Saved{}
	return saved, proto.Unmarshal(content, saved)
}

// Save keeps what is known of the target that m names, and removes generations that are too old.
func Save(dir, application string, m *directoryv1.WatchResponse, now time.Time) error {
	content, err := proto.Marshal(&directoryv1.Saved{WrittenUnixMs: now.UnixMilli(), Application: application, Snapshot: m})
	if err != nil {
		return err
	}
	if size := len(magic) + sha256.Size + len(content); size > maxSize {
		return fmt.Errorf("it has %d bytes, at most %d are kept", size, maxSize)
	}
	folder := place(dir, m.GetEnvironment(), application, m.GetTarget())
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return err
	}
	numbers, err := files(folder)
	if err != nil {
		return err
	}
	next := uint64(1)
	if len(numbers) > 0 {
		next = numbers[0] + 1
	}
	sum := sha256.Sum256(content)
	if err := write(folder, name(folder, next), slices.Concat([]byte(magic), sum[:], content)); err != nil {
		return err
	}
	for i, n := range numbers {
		if i >= generations-1 {
			if e := os.Remove(name(folder, n)); !errors.Is(e, fs.ErrNotExist) { // another process may have been first
				err = errors.Join(err, e)
			}
		}
	}
	sweep(folder, now)
	return err
}

// write writes beside the place, syncs, and renames.
func write(folder, path string, b []byte) error {
	f, err := os.CreateTemp(folder, "new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if d, err := os.Open(folder); err == nil { // the rename, too, survives a crash of the host
		_ = d.Sync()
		_ = d.Close()
	}
	return nil
}

// sweep removes what a process that ended while it wrote has left.
func sweep(folder string, now time.Time) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && strings.HasPrefix(e.Name(), "new-") && now.Sub(info.ModTime()) > leftAfter {
			_ = os.Remove(filepath.Join(folder, e.Name()))
		}
	}
}
