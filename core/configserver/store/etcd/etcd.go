// Package etcd keeps a store in etcd, below a prefix of its keys.
package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/octomesh/octomesh/core/configserver/store"
)

// page is how many keys are read at once: an answer stays far below gRPC's bound for small values, and its share of
// etcd's time is bounded.
const page = 500

// Store implements [store.Store].
type Store struct {
	client *clientv3.Client
	prefix string // of all keys; "": none
}

// New makes a store of the keys that begin with a prefix, such as "/octomesh/". The client stays the caller's.
func New(client *clientv3.Client, prefix string) *Store { return &Store{client, prefix} }

// Get implements [store.Store].
func (s *Store) Get(ctx context.Context, key string) (store.Entry, error) {
	r, err := s.client.Get(ctx, s.prefix+key)
	if err != nil {
		return store.Entry{}, fmt.Errorf("etcd: %w", err)
	}
	if len(r.Kvs) == 0 {
		return store.Entry{}, store.ErrNotFound
	}
	return store.Entry{Key: key, Value: r.Kvs[0].Value, Revision: r.Kvs[0].ModRevision}, nil
}

// List implements [store.Store]. It reads in pages, all at the revision of the first.
func (s *Store) List(ctx context.Context, prefix string) (entries []store.Entry, revision int64, err error) {
	begin := s.prefix + prefix
	end := clientv3.GetPrefixRangeEnd(begin)
	if begin == "" {
		begin, end = "\x00", "\x00"
	}
	for {
		r, err := s.client.Get(ctx, begin, clientv3.WithRange(end), clientv3.WithLimit(page), clientv3.WithRev(revision))
		if err != nil {
			return nil, 0, fmt.Errorf("etcd: %w", err)
		}
		if revision == 0 {
			revision = r.Header.Revision
		}
		for _, kv := range r.Kvs {
			entries = append(entries, store.Entry{Key: s.own(kv.Key), Value: kv.Value, Revision: kv.ModRevision})
		}
		if !r.More {
			return entries, revision, nil
		}
		begin = string(r.Kvs[len(r.Kvs)-1].Key) + "\x00"
	}
}

// Newest implements [store.Store]. Keys of one commit that the limit cuts are any of them.
func (s *Store) Newest(ctx context.Context, prefix string, limit int) ([]store.Entry, error) {
	if limit <= 0 {
		return nil, nil // to etcd it would be no limit
	}
	var out []store.Entry
	r, err := s.client.Get(ctx, s.prefix+prefix, clientv3.WithPrefix(), clientv3.WithLimit(int64(limit)),
		clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortDescend))
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	for _, kv := range r.Kvs {
		out = append(out, store.Entry{Key: s.own(kv.Key), Value: kv.Value, Revision: kv.ModRevision})
	}
	slices.SortFunc(out, func(a, b store.Entry) int {
		return cmp.Or(cmp.Compare(b.Revision, a.Revision), cmp.Compare(a.Key, b.Key))
	})
	return out, nil
}

func (s *Store) own(key []byte) string { return strings.TrimPrefix(string(key), s.prefix) }

// Commit implements [store.Store]: one transaction. If it does not happen, the same one reads what the keys have.
func (s *Store) Commit(ctx context.Context, ops ...store.Op) (int64, error) {
	if err := store.Check(ops); err != nil {
		return 0, err
	}
	var compare []clientv3.Cmp
	var do, read []clientv3.Op
	var compared []store.Op
	for _, op := range ops {
		key := s.prefix + op.Key
		if op.Expect != store.Any {
			compare = append(compare, clientv3.Compare(clientv3.ModRevision(key), "=", op.Expect))
			read = append(read, clientv3.OpGet(key, clientv3.WithKeysOnly()))
			compared = append(compared, op)
		}
		switch {
		case op.Delete:
			do = append(do, clientv3.OpDelete(key))
		case !op.Keep:
			do = append(do, clientv3.OpPut(key, string(op.Value)))
		}
	}
	r, err := s.client.Txn(ctx).If(compare...).Then(do...).Else(read...).Commit()
	if err != nil {
		return 0, fmt.Errorf("etcd: %w", err)
	}
	if r.Succeeded {
		return r.Header.Revision, nil
	}
	for i, op := range compared {
		have := int64(0)
		if kvs := r.Responses[i].GetResponseRange().GetKvs(); len(kvs) > 0 {
			have = kvs[0].ModRevision
		}
		if have != op.Expect {
			return 0, &store.ConflictError{Key: op.Key, Expected: op.Expect, Actual: have}
		}
	}
	return 0, errors.New("etcd: a transaction failed although each of its comparisons holds")
}

// Watch implements [store.Store]. It goes on through lost connections to etcd: the client does, from where it was.
func (s *Store) Watch(ctx context.Context, prefix string, after int64, yield func(store.Batch) error) error {
	// With a leader required a member that is cut off from the others ends the watch, and the client finds another one.
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	for {
		err := s.watch(ctx, prefix, &after, yield)
		if !errors.Is(err, rpctypes.ErrNoLeader) {
			return err
		}
	}
}

func (s *Store) watch(ctx context.Context, prefix string, after *int64, yield func(store.Batch) error) error {
	for r := range s.client.Watch(ctx, s.prefix+prefix, clientv3.WithPrefix(), clientv3.WithRev(*after+1)) {
		if r.CompactRevision > 0 {
			return store.ErrCompacted
		}
		if err := r.Err(); err != nil {
			return fmt.Errorf("etcd: watch: %w", err)
		}
		if len(r.Events) == 0 {
			continue
		}
		var b store.Batch
		for _, e := range r.Events {
			entry := store.Entry{Key: s.own(e.Kv.Key), Value: e.Kv.Value, Revision: e.Kv.ModRevision}
			b.Events = append(b.Events, store.Event{Entry: entry, Deleted: e.Type == clientv3.EventTypeDelete})
		}
		// Not the header's: it may be ahead of what this response holds while the watch catches up.
		b.Revision = b.Events[len(b.Events)-1].Revision
		*after = b.Revision
		if err := yield(b); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return errors.New("etcd: the watch has ended: the client is closed")
}

// Compact has etcd forget the history up to a revision. etcd's own auto-compaction does it where it is configured.
func (s *Store) Compact(ctx context.Context, revision int64) error {
	if _, err := s.client.Compact(ctx, revision, clientv3.WithCompactPhysical()); err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	return nil
}
