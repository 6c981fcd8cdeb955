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

// load returns the newest state that is whole, nil if there is none. problems are those that were passed over.
func (d *disk) load(environment string) (s *state, problems []error) {
	numbers, err := d.files()
	if err != nil {
		return nil, []error{err}
	}
	if len(numbers) > 0 {
		d.next = numbers[0] + 1
	}
	for _, n := range numbers {
		saved, err := readSaved(d.name(n))
		if err == nil {
			if s, err = restore(environment, saved); err == nil {
				return s, problems
			}
		}
		problems = append(problems, fmt.Errorf("%s: %w", d.name(n), err))
	}
	return nil, problems
}

func readSaved(path string) (*resourcev1.Saved, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxSaved {
		return nil, fmt.Errorf("%d bytes, at most %d", info.Size(), maxSaved)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	rest, ok := bytes.CutPrefix(b, []byte(magic))
	if !ok || len(rest) < sha256.Size {
		return nil, errors.New("not a saved configuration, or cut off")
	}
	sum, content := rest[:sha256.Size], rest[sha256.Size:]
	if got := sha256.Sum256(content); !bytes.Equal(got[:], sum) {
		return nil, errors.New("its content is not what was written: the checksum differs")
	}
	saved := &resourcev1.Saved{}
	return saved, proto.Unmarshal(content, saved)
}

// save writes a state, and removes the files that are too old.
func (d *disk) save(saved *resourcev1.Saved) error {
	content, err := proto.Marshal(saved)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(d.dir, 0o750); err != nil {
		return err
	}
	sum := sha256.Sum256(content)
	if err := d.write(slices.Concat([]byte(magic), sum[:], content)); err != nil {
		return err
	}
	numbers, err := d.files()
	for i, n := range numbers {
		if i >= generations {
			err = errors.Join(err, os.Remove(d.name(n)))
		}
	}
	return err
}

func (d *disk) write(b []byte) error {
	f, err := os.CreateTemp(d.dir, "new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), d.name(d.next))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	d.next++
	if dir, err := os.Open(d.dir); err == nil { // the rename, too, survives a crash of the host
		_ = dir.Sync()
		_ = dir.Close()
	}
	return nil
}
