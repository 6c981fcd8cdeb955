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
	lost     chan struct{}

	mu   sync.Mutex
	name string // of the node
	left bool
}

// Register implements [source.Registrar]. Its ttl is the session's, whatever is asked for.
func (s *Source) Register(ctx context.Context, key source.Key, e *resourcev1.Endpoint, _ time.Duration) (source.Registration, error) {
	value, err := source.Encode(key, e)
	if err != nil {
		return nil, err
	}
	r := &registration{source: s, key: key, instance: e.GetInstance(), target: s.layout.Target(key), lost: make(chan struct{})}
	session, err := s.ready(ctx)
	if err == nil {
		err = s.parents(r.target)
	}
	if err == nil {
		err = r.place(ctx, value, false)
	}
	if err != nil {
		return nil, s.fail("register", key, err)
	}
	var alive context.Context
	alive, r.stop = context.WithCancel(s.group.Context())
	s.group.Go(func(context.Context) { r.watch(alive, session) })
	return r, nil
}

// parents makes the nodes above.
func (s *Source) parents(path string) error {
	for i := 1; i <= len(path); i++ {
		if i == len(path) || path[i] == '/' {
			if _, err := s.conn.Create(path[:i], nil, 0, zk.WorldACL(zk.PermAll)); err != nil && !errors.Is(err, zk.ErrNodeExists) {
				return err
			}
		}
	}
	return nil
}

// place puts a node in the place of all that the instance has; mine: only if it has the one that we made.
func (r *registration) place(ctx context.Context, value []byte, mine bool) error {
	sum := sha256.Sum256(value)
	stem := strings.TrimPrefix(r.source.layout.Instance(r.key, r.instance), r.target+"/") + separator
	for range attempts {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		names, _, err := r.source.conn.Children(r.target)
		if err != nil {
			return err
		}
		names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, stem) })
		if mine && !slices.Contains(names, r.name) {
			return errGone
		}
		// The time makes a new name of the same endpoint too, of which the old session may still have the node.
		name := stem + hex.EncodeToString(sum[:6]) + "-" + time.Now().UTC().Format("20060102T150405.000000000")
		var ops []any
		for _, old := range names {
			ops = append(ops, &zk.DeleteRequest{Path: r.target + "/" + old, Version: -1})
		}
		ops = append(ops, &zk.CreateRequest{Path: r.target + "/" + name, Data: value, Acl: zk.WorldACL(zk.PermAll), Flags: zk.FlagEphemeral})
		results, err := r.source.conn.Multi(ops...)
		if err = first(results, err); err == nil {
			r.name = name
			return nil
		}
		if !errors.Is(err, zk.ErrNoNode) && !errors.Is(err, zk.ErrNodeExists) {
			return err
		}
	}
	return errors.New("others change the same instance all the time")
}

// first is what failed in a transaction.
func first(results []zk.MultiResponse, err error) error {
	for _, r := range results {
		if r.Error != nil && !errors.Is(r.Error, zk.ErrUnknown) { // of those beside the one that failed
			return r.Error
		}
	}
	return err
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
			there, _, events, err := r.source.conn.ExistsW(r.target + "/" + r.name)
			next, gone = events, err == nil && !there
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
		close(r.lost)
	}
	r.left = true
}

// Lost implements [source.Registration].
func (r *registration) Lost() <-chan struct{} { return r.lost }

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
		err = r.place(ctx, value, true)
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
	if err := r.source.conn.Delete(r.target+"/"+r.name, -1); err != nil && !errors.Is(err, zk.ErrNoNode) {
		return r.source.fail("deregister", r.key, err)
	}
	r.left = true
	r.stop()
	return nil
}

// List implements [source.Lister]. It asks for the children of each target.
func (s *Source) List(ctx context.Context, environment string) ([]source.Key, error) {
	if err := (source.Key{Environment: environment, Target: "any"}).Check(); err != nil {
		return nil, err
	}
	if _, err := s.ready(ctx); err != nil {
		return nil, s.fail("list", source.Key{Environment: environment}, err)
	}
	above := s.layout.Environment(environment)
	names, _, err := s.conn.Children(above)
	if errors.Is(err, zk.ErrNoNode) {
		return nil, nil
	}
	var keys []source.Key
	for _, name := range names {
		key, _, bad := s.layout.Parse(above + "/" + name)
		if bad != nil || err != nil || ctx.Err() != nil {
			continue
		}
		var there []string
		if there, _, err = s.conn.Children(above + "/" + name); len(there) > 0 {
			keys = append(keys, key)
		}
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, s.fail("list", source.Key{Environment: environment}, err)
	}
	slices.SortFunc(keys, func(a, b source.Key) int { return strings.Compare(a.Target, b.Target) })
	return keys, nil
}
