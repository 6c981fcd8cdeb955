package etcd

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// attempts bounds how often a transaction is tried that somebody else came between.
const attempts = 20

// registration is an instance's key under a lease that it shares. It is ours as long as the key has that lease.
type registration struct {
	source   *Source
	key      source.Key
	instance string
	path     string
	lease    *lease
	lost     func()

	op   sync.Mutex // held while etcd is asked to change it
	left bool       // it is not held any more; the source's leases' lock guards it
}

var (
	errGone  = errors.New("it is not registered any more: register again")
	errNewer = errors.New("somebody else has registered the instance, with a newer incarnation or later")
	errRace  = errors.New("others change the same instance all the time")
)

// Register implements [source.Registrar]. Leases are of whole seconds, and of 2 s at least by etcd's own rule.
func (s *Source) Register(ctx context.Context, key source.Key, e *resourcev1.Endpoint, ttl time.Duration, lost func()) (source.Registration, error) {
	return s.register(ctx, key, e, ttl, lost, false)
}

// Reclaim implements [source.Registrar].
func (s *Source) Reclaim(ctx context.Context, key source.Key, e *resourcev1.Endpoint, ttl time.Duration, lost func()) (source.Registration, error) {
	return s.register(ctx, key, e, ttl, lost, true)
}

func (s *Source) register(ctx context.Context, key source.Key, e *resourcev1.Endpoint, ttl time.Duration, lost func(), again bool) (source.Registration, error) {
	value, err := source.Encode(key, e)
	if err != nil {
		return nil, err
	}
	r := &registration{source: s, key: key, instance: e.GetInstance(), path: s.layout.Instance(key, e.GetInstance()), lost: lost}
	s.leases.replace(r.path)
	for range attempts {
		if r.lease, err = s.leases.reserve(ctx, int64((ttl+time.Second-1)/time.Second)); err != nil {
			break
		}
		if err = s.place(ctx, r, e, string(value), again); err == nil && s.leases.hold(r) {
			return r, nil
		}
		s.leases.release(r.lease)
		if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			break
		}
		s.leases.over(r.lease) // and with another one
	}
	return nil, s.fail("register", key, err)
}

// place puts the key, whatever stands there, if that gives way.
func (s *Source) place(ctx context.Context, r *registration, e *resourcev1.Endpoint, value string, again bool) error {
	var there *mvccpb.KeyValue // nil: nothing, as far as we know
	for range attempts {
		unchanged := clientv3.Compare(clientv3.ModRevision(r.path), "=", there.GetModRevision())
		t, err := s.client.Txn(ctx).If(unchanged).Then(clientv3.OpPut(r.path, value, clientv3.WithLease(r.lease.id))).Else(clientv3.OpGet(r.path)).Commit()
		if err != nil {
			return err
		}
		if t.Succeeded {
			if there.GetLease() != 0 {
				s.leases.notify(clientv3.LeaseID(there.Lease)) // who had the key learns by it that it is lost
			}
			return nil
		}
		there = nil
		if kvs := t.Responses[0].GetResponseRange().GetKvs(); len(kvs) > 0 {
			there = kvs[0]
		}
		if there == nil || len(there.Value) == 0 {
			continue
		}
		other, err := source.Decode(r.key, r.instance, there.Value)
		if err == nil && !source.Yields(other, e, again, s.leases.has(clientv3.LeaseID(there.Lease))) {
			return &source.Error{Kind: source.Superseded, Source: s.Name(), Op: "register", Key: r.key, Err: errNewer}
		}
	}
	return errRace
}

// ours is the condition under which we may touch the key.
func (r *registration) ours() clientv3.Cmp {
	return clientv3.Compare(clientv3.LeaseValue(r.path), "=", r.lease.id)
}

// Update implements [source.Registration].
func (r *registration) Update(ctx context.Context, e *resourcev1.Endpoint) error {
	value, err := source.Encode(r.key, e)
	if err != nil {
		return err
	}
	if e.GetInstance() != r.instance {
		return &source.Error{Kind: source.Invalid, Source: r.source.Name(), Op: "update", Key: r.key, Err: errors.New("its instance cannot change")}
	}
	r.op.Lock()
	defer r.op.Unlock()
	done := false
	if r.source.leases.holds(r) {
		t, err := r.source.client.Txn(ctx).If(r.ours()).Then(clientv3.OpPut(r.path, string(value), clientv3.WithLease(r.lease.id))).Commit()
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
	return r.end(ctx, "deregister", func() error {
		t, err := r.source.client.Txn(ctx).If(r.ours()).Then(clientv3.OpPut(r.path, "", clientv3.WithLease(r.lease.id))).Commit()
		if err != nil || !t.Succeeded {
			return err
		}
		return r.source.bury(ctx, r.path)
	})
}

// Abandon implements [source.Registration]: the key goes as it does when a lease ends.
func (r *registration) Abandon(ctx context.Context) error {
	return r.end(ctx, "abandon", func() error {
		_, err := r.source.client.Txn(ctx).If(r.ours()).Then(clientv3.OpDelete(r.path)).Commit()
		return err
	})
}

func (r *registration) end(ctx context.Context, op string, remove func() error) error {
	r.op.Lock()
	defer r.op.Unlock()
	if !r.source.leases.holds(r) {
		return nil
	}
	if err := remove(); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return r.source.fail(op, r.key, err)
	}
	r.source.leases.drop(r)
	return nil
}

// bury removes a key that says that its instance has left.
func (s *Source) bury(ctx context.Context, path string) error {
	_, err := s.client.Txn(ctx).If(clientv3.Compare(clientv3.Value(path), "=", "")).Then(clientv3.OpDelete(path)).Commit()
	return err
}

// Remove implements [source.Registrar].
func (s *Source) Remove(ctx context.Context, key source.Key, e *resourcev1.Endpoint) error {
	if err := key.Check(); err != nil {
		return err
	}
	path := s.layout.Instance(key, e.GetInstance())
	for range attempts {
		r, err := s.client.Get(ctx, path)
		if err != nil {
			return s.fail("remove", key, err)
		}
		if len(r.Kvs) == 0 {
			return nil
		}
		there := r.Kvs[0]
		if len(there.Value) > 0 {
			if other, err := source.Decode(key, e.GetInstance(), there.Value); err != nil || !source.Same(other, e) {
				return nil // it is not who is meant
			}
			unchanged := clientv3.Compare(clientv3.ModRevision(path), "=", there.ModRevision)
			put := clientv3.OpPut(path, "", clientv3.WithLease(clientv3.LeaseID(there.Lease)))
			t, err := s.client.Txn(ctx).If(unchanged).Then(put).Commit()
			if err != nil {
				return s.fail("remove", key, err)
			}
			if !t.Succeeded {
				continue
			}
			if there.Lease != 0 {
				s.leases.notify(clientv3.LeaseID(there.Lease)) // who had the key learns by it that it is lost
			}
		}
		if err := s.bury(ctx, path); err != nil {
			return s.fail("remove", key, err)
		}
		return nil
	}
	return s.fail("remove", key, errRace)
}
