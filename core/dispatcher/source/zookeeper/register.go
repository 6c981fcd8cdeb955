package zookeeper

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"

	"github.com/octomesh/octomesh/core/dispatcher/source"
	resourcev1 "github.com/octomesh/octomesh/gen/go/octo/resource/v1"
)

// attempts bounds how often a transaction is tried that somebody else came between.
const attempts = 20

// registration is an ephemeral node of our session.
type registration struct {
	source   *Source
	key      source.Key
	instance string
	target   string
	stop     context.CancelFunc
	lost     func()

	mu   sync.Mutex
	name string // of the node
	left bool
}

// Register implements [source.Registrar]. Its ttl is the session's, whatever is asked for.
func (s *Source) Register(ctx context.Context, key source.Key, e *resourcev1.Endpoint, _ time.Duration, lost func()) (source.Registration, error) {
	return s.register(ctx, key, e, lost, false)
}

// Reclaim implements [source.Registrar].
func (s *Source) Reclaim(ctx context.Context, key source.Key, e *resourcev1.Endpoint, _ time.Duration, lost func()) (source.Registration, error) {
	return s.register(ctx, key, e, lost, true)
}

func (s *Source) register(ctx context.Context, key source.Key, e *resourcev1.Endpoint, lost func(), again bool) (source.Registration, error) {
	value, err := source.Encode(key, e)
	if err != nil {
		return nil, err
	}
	r := &registration{source: s, key: key, instance: e.GetInstance(), target: s.layout.Target(key), lost: lost}
	session, err := s.ready(ctx)
	if err == nil {
		s.mu.Lock()
		s.sessions[s.conn.SessionID()] = true
		s.mu.Unlock()
		err = s.parents(r.target)
	}
	if err == nil {
		err = r.place(ctx, value, func(names []string) error { return r.yield(ctx, names, e, again) })
	}
	if err != nil {
		return nil, s.fail("register", key, err)
	}
	var alive context.Context
	alive, r.stop = context.WithCancel(s.group.Context())
	s.start(func(context.Context) { r.watch(alive, session) })
	return r, nil
}

var errNewer = errors.New("somebody else has registered the instance, with a newer incarnation or later")

// yield tells whether what stands there gives way; nil: it does.
func (r *registration) yield(ctx context.Context, names []string, e *resourcev1.Endpoint, again bool) error {
	for _, name := range names {
		there, err := r.source.read(ctx, r.target+"/"+name)
		if errors.Is(err, zk.ErrNoNode) {
			continue
		}
		if err != nil {
			return err
		}
		r.source.mu.Lock()
		ours := r.source.sessions[there.stat.EphemeralOwner]
		r.source.mu.Unlock()
		endpoint, err := source.Decode(r.key, r.instance, there.data)
		if err == nil && !source.Yields(endpoint, e, again, ours) {
			return &source.Error{Kind: source.Superseded, Source: r.source.Name(), Op: "register", Key: r.key, Err: errNewer}
		}
	}
	return nil
}

// Remove implements [source.Registrar].
func (s *Source) Remove(ctx context.Context, key source.Key, e *resourcev1.Endpoint) error {
	if err := key.Check(); err != nil {
		return err
	}
	if _, err := s.ready(ctx); err != nil {
		return s.fail("remove", key, err)
	}
	target := s.layout.Target(key)
	stem := s.stem(key, e.GetInstance())
	names, err := s.children(ctx, target)
	for _, name := range names {
		if !strings.HasPrefix(name, stem) || err != nil {
			continue
		}
		var there content
		if there, err = s.read(ctx, target+"/"+name); err == nil {
			endpoint, bad := source.Decode(key, e.GetInstance(), there.data)
			if bad != nil || !source.Same(endpoint, e) {
				continue
			}
			err = s.remove(target + "/" + name)
		}
		if errors.Is(err, zk.ErrNoNode) {
			err = nil
		}
	}
	if err != nil && !errors.Is(err, zk.ErrNoNode) {
		return s.fail("remove", key, err)
	}
	return nil
}

// stem is what the names of all nodes of an instance begin with.
func (s *Source) stem(key source.Key, instance string) string {
	return strings.TrimPrefix(s.layout.Instance(key, instance), s.layout.Target(key)+"/") + separator
}

// parents makes the nodes above.
func (s *Source) parents(path string) error {
	for i := 1; i <= len(path); i++ {
		if i == len(path) || path[i] == '/' {
			if err := s.create(path[:i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// place puts a node in the place of all that the instance has, whose names may has to agree with.
func (r *registration) place(ctx context.Context, value []byte, may func(names []string) error) error {
	sum := sha256.Sum256(value)
	stem := r.source.stem(r.key, r.instance)
	for range attempts {
		names, err := r.source.children(ctx, r.target)
		if err != nil {
			return err
		}
		names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, stem) })
		if err := may(names); err != nil {
			return err
		}
		// The time makes a new name of the same endpoint too, of which the old session may still have the node.
		name := stem + hex.EncodeToString(sum[:6]) + "-" + time.Now().UTC().Format("20060102T150405.000000000")
		var ops []any
		for _, old := range names {
			ops = append(ops, &zk.DeleteRequest{Path: r.target + "/" + old, Version: -1})
		}
		ops = append(ops, &zk.CreateRequest{Path: r.target + "/" + name, Data: value, Acl: zk.WorldACL(zk.PermAll), Flags: zk.FlagEphemeral})
		if err = r.source.commit(ops); err == nil {
			r.name = name
			return nil
		}
		if !errors.Is(err, zk.ErrNoNode) && !errors.Is(err, zk.ErrNodeExists) {
			return err
		}
	}
	return errors.New("others change the same instance all the time")
}

// watch waits until the node is gone.
func (r *registration) watch(ctx context.Context, session int64) {
	for {
		now, change := r.source.get()
		if now.closed {
			return // by us, on purpose
		}
		var next <-chan zk.Event
		if gone := now.session != session; !gone && now.up {
			r.mu.Lock()
			w, err := r.source.watchExistence(ctx, r.target+"/"+r.name)
			next, gone = w.next, err == nil && !w.there
			r.mu.Unlock()
			if gone {
				r.lose(ctx)
				return
			}
		} else if gone {
			r.lose(ctx)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-change:
		case <-next:
		}
	}
}

func (r *registration) lose(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.left && ctx.Err() == nil {
		r.lost()
	}
	r.left = true
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
	err = errGone
	if !r.left {
		err = r.place(ctx, value, func(names []string) error {
			if !slices.Contains(names, r.name) {
				return errGone
			}
			return nil
		})
	}
	if errors.Is(err, errGone) {
		return &source.Error{Kind: source.Lost, Source: r.source.Name(), Op: "update", Key: r.key, Err: err}
	}
	if err != nil {
		return r.source.fail("update", r.key, err)
	}
	return nil
}

// Deregister implements [source.Registration].
func (r *registration) Deregister(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left {
		return nil
	}
	if err := r.source.remove(r.target + "/" + r.name); err != nil {
		return r.source.fail("deregister", r.key, err)
	}
	r.left = true
	r.stop()
	return nil
}

// Abandon implements [source.Registration]. ZooKeeper says of a node that is gone no reason.
func (r *registration) Abandon(ctx context.Context) error { return r.Deregister(ctx) }
