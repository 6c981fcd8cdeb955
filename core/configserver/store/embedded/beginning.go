package embedded

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// The first start of a server ends halfway when its process does. etcd may then have a log in which the cluster has no
// members yet: it would never elect a leader, and no later start would serve. So a file says from before the first data
// until the server serves that they are worth nothing, since nobody can have written before.
const (
	beginning = "beginning"
	data      = "member" // where etcd keeps its data
)

// begin marks a directory without data, and takes away what a start left that never served.
func begin(dir string) error {
	member := filepath.Join(dir, data)
	_, err := os.Stat(filepath.Join(dir, beginning))
	switch {
	case err == nil:
		return os.RemoveAll(member)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if _, err = os.Stat(member); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, beginning), nil, 0o600); err != nil {
		return err
	}
	return syncDir(dir)
}

// begun takes the mark away, once the server serves and before anybody can write. It is on the disk when begun returns:
// a mark that came back with the power would cost the data.
func begun(dir string) error {
	err := os.Remove(filepath.Join(dir, beginning))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
