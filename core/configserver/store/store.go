// Package store is what the control plane keeps: keys with values, each change a revision of the whole store, changed by
// compare-and-swap and watched from any revision that is still known.
//
// [Memory] keeps all in the process; core/configserver/store/etcd keeps it in etcd. Both pass the same contract test,
// storetest.Contract.
package store

import (
	"context"
	"errors"
	"fmt"
)

// Bounds of a store, which are etcd's defaults. Memory holds them too, so that nothing works only in a test.
const (
	// MaxOps is how many keys one commit may name, those that it only compares included.
	MaxOps = 128
	// MaxBytes is how large the keys and values of one commit may be together.
	MaxBytes = 1 << 20
)

// Entry is one key as it stood at a time.
type Entry struct {
	Key   string
	Value []byte
	// Revision of the store at which the value was written, from 1.
	Revision int64
}

// Op is one key's part in a commit.
type Op struct {
	Key string
	// Expect is the revision that the key must have for the commit to happen: 0: it is not there; [Any]: it does not matter.
	Expect int64
	Value  []byte
	// Delete removes the key in place of writing Value; that it is not there is no error. Keep leaves it as it is, so that
	// it is only compared.
	Delete, Keep bool
}

// Any is an expectation that always holds.
const Any int64 = -1

// Event is a change of one key.
type Event struct {
	Entry        // of a deletion without value, and with the revision of the deletion
	Deleted bool // the key is gone
}

// Batch is what one commit changed, or several in a row.
type Batch struct {
	// Revision of the last of them: a watch that goes on after it misses nothing.
	Revision int64
	// Events in the order of their revisions; a key stands once for each commit.
	Events []Event
}

// Store keeps keys. Its methods are safe for concurrent use. Values that come from it or go to it are not to be changed.
type Store interface {
	// Get reads a key; [ErrNotFound]: it is not there.
	Get(ctx context.Context, key string) (Entry, error)
	// List reads all keys that begin with the prefix, in their order, as they stood at one revision, which it returns.
	List(ctx context.Context, prefix string) (entries []Entry, revision int64, err error)
	// Newest reads the keys that begin with the prefix and were written last, the newest first; of one commit, by key. At
	// most limit.
	Newest(ctx context.Context, prefix string, limit int) ([]Entry, error)
	// Commit does all of ops or, if an expectation does not hold, nothing; then the error is a [*ConflictError]. A key may
	// stand once. It returns the store's revision afterwards, which all keys that it wrote have.
	Commit(ctx context.Context, ops ...Op) (revision int64, err error)
	// Watch calls yield with the changes below a prefix after a revision, in order and without a gap, until ctx is done or
	// yield returns an error, which it returns. [ErrCompacted]: the store does not know so old changes any more: list, and
	// watch from there.
	Watch(ctx context.Context, prefix string, after int64, yield func(Batch) error) error
}

// Errors that a caller may want to tell apart.
var (
	ErrNotFound  = errors.New("the key is not there")
	ErrCompacted = errors.New("the store does not know changes so old any more: list, and watch from there")
	// ErrInvalid is a commit that no store takes: too many keys, too large, or one key twice.
	ErrInvalid = errors.New("the commit is not valid")
)

// ConflictError says which expectation of a commit did not hold.
type ConflictError struct {
	Key string
	// Expected and Actual revisions of the key; 0: not there.
	Expected, Actual int64
}

// Error says what was expected and found.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("key %q has revision %d, not %d: somebody has changed it meanwhile", e.Key, e.Actual, e.Expected)
}

// Check tells whether a commit is one that stores take. The error wraps [ErrInvalid].
func Check(ops []Op) error {
	if len(ops) == 0 || len(ops) > MaxOps {
		return fmt.Errorf("%w: it names %d keys, not 1 to %d", ErrInvalid, len(ops), MaxOps)
	}
	bytes, seen := 0, make(map[string]bool, len(ops))
	for _, op := range ops {
		switch {
		case op.Key == "":
			return fmt.Errorf("%w: a key is empty", ErrInvalid)
		case seen[op.Key]:
			return fmt.Errorf("%w: key %q stands twice", ErrInvalid, op.Key)
		case op.Delete && op.Keep:
			return fmt.Errorf("%w: key %q is to be deleted and kept", ErrInvalid, op.Key)
		}
		seen[op.Key] = true
		bytes += len(op.Key) + len(op.Value)
	}
	if bytes > MaxBytes {
		return fmt.Errorf("%w: keys and values have %d bytes, at most %d", ErrInvalid, bytes, MaxBytes)
	}
	return nil
}
