package etcd

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// revokeTimeout bounds tidying up, which goes on after the caller's context ended.
const revokeTimeout = 5 * time.Second

// registration is an instance's key under a lease of its own. It is ours as long as the key has that lease.
type registration struct {
	source   *Source
	key      source.Key
	instance string
	path     string
	lease    clientv3.LeaseID
	stop     context.CancelFunc
	lost     chan struct{}

	mu   sync.Mutex
	left bool
}

// Register implements [source.Registrar]. Leases are of whole seconds, and of 2 s at least by etcd's own rule.
func (s *Source) Register(ctx context.Context, key source.Key, e *resourcev1.Endpoint, ttl time.Duration) (source.Registration, error) {
	value, err := source.Encode(key, e)
	if err != nil {
		return nil, err
	}
	lease, err := s.client.Grant(ctx, int64((ttl+time.Second-1)/time.Second))
	if err != nil {
		return nil, s.fail("register", key, err)
	}
	r := &registration{
		source: s, key: key, instance: e.GetInstance(), path: s.layout.Instance(key, e.GetInstance()), lease: lease.ID,
		lost: make(chan struct{}),
	}
	put, err := s.client.Put(ctx, r.path, string(value), clientv3.WithLease(lease.ID), clientv3.WithPrevKV())
	if err != nil {
		s.revoke(lease.ID)
		return nil, s.fail("register", key, err)
	}
	if before := put.PrevKv; before != nil && before.Lease != 0 {
		s.revokeEmpty(ctx, clientv3.LeaseID(before.Lease)) // who had the key learns by it that it is lost
	}
	var alive context.Context
	alive, r.stop = context.WithCancel(s.group.Context())
	beats, err := s.client.KeepAlive(alive, lease.ID)
	if err != nil {
		r.stop()
		s.revoke(lease.ID)
		return nil, s.fail("register", key, err)
	}
	s.group.Go(func(context.Context) { r.watch(alive, beats) })
	return r, nil
}

// revoke ends a lease and all that hangs on it.
func (s *Source) revoke(id clientv3.LeaseID) {
	ctx, cancel := context.WithTimeout(s.group.Context(), revokeTimeout)
	defer cancel()
	_, _ = s.client.Revoke(ctx, id) // if it fails the lease ends by itself
}

// revokeEmpty ends a lease on which nothing hangs any more.
func (s *Source) revokeEmpty(ctx context.Context, id clientv3.LeaseID) {
	if r, err := s.client.TimeToLive(ctx, id, clientv3.WithAttachedKeys()); err == nil && len(r.Keys) == 0 {
		s.revoke(id)
	}
}

// watch waits for the end of the lease.
func (r *registration) watch(ctx context.Context, beats <-chan *clientv3.LeaseKeepAliveResponse) {
	for range beats {
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Err() == nil && !r.left {
		close(r.lost)
	}
	r.left = true
}

// Lost implements [source.Registration].
func (r *registration) Lost() <-chan struct{} { return r.lost }

// ours is the condition under which we may touch the key.
func (r *registration) ours() clientv3.Cmp {
	return clientv3.Compare(clientv3.LeaseValue(r.path), "=", r.lease)
}

var errGone = errors.New("it is not registered any more: register again")

// Update implements [source.Registration].
func (r *registration) Update(ctx context.Context, e *resourcev1.Endpoint) error {
	value, err := source.Encode(r.key, e)
	if err != nil {
		return err
	}
	if e.GetInstance() != r.instance {
		return &source.Error{Kind: source.Invalid, Source: r.source.Name(), Op: "update", Key: r.key, Err: errors.New("its instance cannot change")}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	done := false
	if !r.left {
		t, err := r.source.client.Txn(ctx).If(r.ours()).Then(clientv3.OpPut(r.path, string(value), clientv3.WithLease(r.lease))).Commit()
		if err != nil {
			return r.source.fail("update", r.key, err)
		}
		done = t.Succeeded
	}
	if !done {
		return &source.Error{Kind: source.Lost, Source: r.source.Name(), Op: "update", Key: r.key, Err: errGone}
	}
	return nil
}

// Deregister implements [source.Registration]. That it leaves is told before its key goes.
func (r *registration) Deregister(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left {
		return nil
	}
	_, err := r.source.client.Txn(ctx).If(r.ours()).Then(clientv3.OpPut(r.path, "", clientv3.WithLease(r.lease))).Commit()
	if err == nil {
		_, err = r.source.client.Revoke(ctx, r.lease)
	}
	if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return r.source.fail("deregister", r.key, err)
	}
	r.left = true
	r.stop()
	return nil
}

// List implements [source.Lister]. It reads keys alone, and of a large target not all.
func (s *Source) List(ctx context.Context, environment string) ([]source.Key, error) {
	if err := (source.Key{Environment: environment, Target: "any"}).Check(); err != nil {
		return nil, err
	}
	prefix := s.layout.Environment(environment) + "/"
	end := clientv3.GetPrefixRangeEnd(prefix)
	var keys []source.Key
	for from := prefix; ; {
		r, err := s.client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(page), clientv3.WithKeysOnly())
		if err != nil {
			return nil, s.fail("list", source.Key{Environment: environment}, err)
		}
		for _, kv := range r.Kvs {
			path := string(kv.Key)
			from = path + "\x00"
			key, instance, err := s.layout.Parse(path)
			if err != nil || instance == "" {
				continue
			}
			if len(keys) == 0 || keys[len(keys)-1] != key {
				keys = append(keys, key)
			}
			from = clientv3.GetPrefixRangeEnd(s.layout.Target(key) + "/") // the rest of the target is of no interest
		}
		if !r.More {
			break
		}
	}
	slices.SortFunc(keys, func(a, b source.Key) int { return strings.Compare(a.Target, b.Target) })
	return slices.Compact(keys), nil
}
