package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	"github.com/octomesh/octomesh/core/lifecycle"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// page is how many keys are read at once.
const page = 1000

// watch is one watch of one key.
type watch struct {
	source *Source
	key    source.Key
	prefix string
	emit   func(source.Event)
	// left are instances that said that they left and whose keys are still there.
	left map[string]bool
}

// Watch implements [source.Source]. What it misses while it is cut off it gets from etcd's history; if etcd has
// forgotten that it ends as lost.
func (s *Source) Watch(ctx context.Context, key source.Key, emit func(source.Event)) error {
	if err := key.Check(); err != nil {
		return err
	}
	// All watches share one stream to etcd. A member that is cut off from the others ends it instead of keeping quiet.
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	w := &watch{source: s, key: key, prefix: s.layout.Target(key) + "/", emit: emit, left: make(map[string]bool)}
	revision, err := w.full(ctx)
	if err == nil {
		err = w.changes(ctx, revision)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return s.fail("watch", key, err)
}

// full reads all, as of one revision, and returns that.
func (w *watch) full(ctx context.Context) (revision int64, err error) {
	event := source.Event{Kind: source.Full}
	for from, more := w.prefix, true; more; {
		opts := []clientv3.OpOption{clientv3.WithRange(clientv3.GetPrefixRangeEnd(w.prefix)), clientv3.WithLimit(page)}
		if revision != 0 {
			opts = append(opts, clientv3.WithRev(revision))
		}
		r, err := w.source.client.Get(ctx, from, opts...)
		if err != nil {
			return 0, err
		}
		if revision == 0 {
			revision = r.Header.Revision
		}
		for _, kv := range r.Kvs {
			w.put(&event, string(kv.Key), kv.Value)
			from = string(kv.Key) + "\x00"
		}
		more = r.More
	}
	w.emit(event)
	return revision, nil
}

// changes tells what comes after a revision.
func (w *watch) changes(ctx context.Context, revision int64) error {
	// etcd's client does not return from Watch until the watch stands, which it may not for long.
	opened := make(chan clientv3.WatchChan, 1)
	opening := lifecycle.New(ctx)
	defer opening.Stop()
	opening.Go(func(ctx context.Context) {
		opened <- w.source.client.Watch(ctx, w.prefix, clientv3.WithPrefix(), clientv3.WithRev(revision+1), clientv3.WithPrevKV())
	})
	var events clientv3.WatchChan
	heard := true
	for {
		up, change := w.source.link.get()
		if up != heard {
			// After Resumed come the changes that were missed, soon: etcd's client asks for them by itself.
			heard = up
			kind := source.Suspended
			if up {
				kind = source.Resumed
			}
			w.emit(source.Event{Kind: kind})
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-change:
		case events = <-opened:
		case <-w.source.group.Context().Done():
			return errors.New("the source was closed")
		case r, ok := <-events:
			if !ok {
				return errors.New("etcd's client ended the watch")
			}
			if err := r.Err(); err != nil {
				return err
			}
			w.apply(r.Events)
		}
	}
}

// apply tells what several events come to: of each key the last.
func (w *watch) apply(events []*clientv3.Event) {
	last := make(map[string]*clientv3.Event, len(events))
	for _, e := range events {
		last[string(e.Kv.Key)] = e
	}
	event := source.Event{Kind: source.Change}
	for _, e := range events {
		if path := string(e.Kv.Key); last[path] == e {
			if e.Type == clientv3.EventTypePut {
				w.put(&event, path, e.Kv.Value)
			} else {
				w.deleted(&event, path, e.PrevKv)
			}
		}
	}
	if len(event.Endpoints)+len(event.Removed)+len(event.Refused) > 0 {
		w.emit(event)
	}
}

// put adds what a key says.
func (w *watch) put(event *source.Event, path string, value []byte) {
	instance, err := w.instance(path)
	switch {
	case err != nil:
	case len(value) == 0:
		w.left[instance] = true
		if event.Kind == source.Change {
			event.Removed = append(event.Removed, source.Removal{Instance: instance, Reason: source.Deregistered})
		}
		return
	default:
		delete(w.left, instance)
		var e *resourcev1.Endpoint
		if e, err = source.Decode(w.key, instance, value); err == nil {
			event.Endpoints = append(event.Endpoints, e)
			return
		}
	}
	event.Refused = append(event.Refused, source.Refusal{Instance: instance, Err: err})
}

// deleted adds that a key is gone. One without a lease does not end by itself, so that somebody deleted it on purpose.
func (w *watch) deleted(event *source.Event, path string, before *mvccpb.KeyValue) {
	instance, _ := w.instance(path) // what was refused under an odd name is gone, too
	if w.left[instance] {
		delete(w.left, instance)
		return // that it left was told
	}
	why := source.Unknown
	if before != nil {
		why = source.Expired
		if before.Lease == 0 || len(before.Value) == 0 {
			why = source.Deregistered
		}
	}
	event.Removed = append(event.Removed, source.Removal{Instance: instance, Reason: why})
}

// instance reads a path. With the error comes the last segment, to name it by.
func (w *watch) instance(path string) (string, error) {
	key, instance, err := w.source.layout.Parse(path)
	if err == nil && (key != w.key || instance == "") {
		err = fmt.Errorf("key %q is not one of an instance of %v", path, w.key)
	}
	if err != nil {
		return strings.TrimPrefix(path, w.prefix), err
	}
	return instance, nil
}
