package control

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

const (
	// magic begins each file, and names its format.
	magic = "octo-saved-1\n"
	// generations is how many files are kept.
	generations = 3
	// maxSaved bounds a file that is read, in bytes: about a million endpoints.
	maxSaved = 256 << 20
)

// disk keeps the last few states of a proxy in a directory, as config-<number>: magic, the SHA-256 of what follows, and a
// Saved. A file is written beside its place, synced, and renamed; one that is not whole is never read.
type disk struct {
	dir  string
	next uint64
}

func (d *disk) name(n uint64) string { return filepath.Join(d.dir, fmt.Sprintf("config-%d", n)) }

// files are the numbers of files, the newest first.
func (d *disk) files() ([]uint64, error) {
	entries, err := os.ReadDir(d.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var numbers []uint64
	for _, e := range entries {
		text, ok := strings.CutPrefix(e.Name(), "config-")
		if n, perr := strconv.ParseUint(text, 10, 64); ok && perr == nil {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	slices.Reverse(numbers)
	return numbers, err
}

// load returns the newest state that is whole and when it was written, nil if there is none. problems are those that were passed over.
func (d *disk) load(environment string, instead instead) (s *state, written time.Time, problems []error) {
	numbers, err := d.files()
	if err != nil {
		return nil, written, []error{err}
	}
	if len(numbers) > 0 {
		d.next = numbers[0] + 1
	}
	for _, n := range numbers {
		saved := &resourcev1.Saved{}
		err := readFile(d.name(n), saved)
		if err == nil {
			if s, err = restore(environment, saved, instead); err == nil {
				return s, time.UnixMilli(saved.WrittenUnixMs), problems
			}
		}
		problems = append(problems, fmt.Errorf("%s: %w", d.name(n), err))
	}
	return nil, written, problems
}

// readFile reads what writeFile has written, if it is whole.
func readFile(path string, m proto.Message) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() > maxSaved {
		return fmt.Errorf("%d bytes, at most %d", info.Size(), maxSaved)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	rest, ok := bytes.CutPrefix(b, []byte(magic))
	if !ok || len(rest) < sha256.Size {
		return errors.New("not a saved configuration, or cut off")
	}
	sum, content := rest[:sha256.Size], rest[sha256.Size:]
	if got := sha256.Sum256(content); !bytes.Equal(got[:], sum) {
		return errors.New("its content is not what was written: the checksum differs")
	}
	return proto.Unmarshal(content, m)
}

// writeFile writes a message beside its place, syncs it, and renames it.
func writeFile(path string, m proto.Message) error {
	content, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	sum := sha256.Sum256(content)
	f, err := os.CreateTemp(dir, "new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(slices.Concat([]byte(magic), sum[:], content))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if d, err := os.Open(dir); err == nil { // the rename, too, survives a crash of the host
		_ = d.Sync()
		_ = d.Close()
	}
	return nil
}

// save writes a state, and removes the files that are too old.
func (d *disk) save(saved *resourcev1.Saved) error {
	if err := writeFile(d.name(d.next), saved); err != nil {
		return err
	}
	d.next++
	numbers, err := d.files()
	for i, n := range numbers {
		if i >= generations {
			err = errors.Join(err, os.Remove(d.name(n)))
		}
	}
	return err
}

// sweep removes what a process that ended while it wrote has left.
func (d *disk) sweep() {
	left, _ := filepath.Glob(filepath.Join(d.dir, "new-*"))
	for _, path := range left {
		_ = os.Remove(path)
	}
}
