package etcd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/octomesh/octomesh/core/dispatcher/source"
)

const (
	// shared is how many registrations one lease has at most.
	shared = 1000
	// lookEvery is how often a lease is kept alive and compared with its keys, at least.
	lookEvery = time.Minute
	// soon is how long others wait who are to learn that one of their keys was taken: several may be.
	soon = 50 * time.Millisecond
	// callTimeout bounds what is asked without a caller.
	callTimeout = 5 * time.Second
)

// lease is one that many registrations share: etcd keeps a lease in memory, and each costs its heartbeats. Its record,
// <prefix>~leases/<id>, hangs on it and names the process that has it; it ends with the lease, and whoever takes a key of
// the lease touches it, so that one watch tells of all losses.
type lease struct {
	id   clientv3.LeaseID
	ttl  int64 // seconds
	wake chan struct{}

	// The leases' lock guards these.
	held     map[string]*registration // by path
	reserved int                      // with those that are being put
	ended    bool
}

// leases are a process'.
type leases struct {
	source *Source
	name   string        // of the process
	making chan struct{} // holds one element while somebody makes a lease

	mu      sync.Mutex
	begun   bool
	all     map[clientv3.LeaseID]*lease
	held    map[string]*registration // by path
	taken   map[clientv3.LeaseID]bool
	telling chan struct{} // holds one element while taken has some
}

func newLeases(s *Source) *leases {
	return &leases{
		source: s, name: rand.Text(), making: make(chan struct{}, 1), all: make(map[clientv3.LeaseID]*lease),
		held: make(map[string]*registration), taken: make(map[clientv3.LeaseID]bool), telling: make(chan struct{}, 1),
	}
}

func (l *leases) prefix() string { return l.source.layout.Prefix + "~leases/" }

func (l *leases) record(id clientv3.LeaseID) string {
	return l.prefix() + strconv.FormatInt(int64(id), 16)
}

// reserve returns a lease with room for one more.
func (l *leases) reserve(ctx context.Context, ttl int64) (*lease, error) {
	select {
	case l.making <- struct{}{}:
		defer func() { <-l.making }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	l.mu.Lock()
	var best *lease // the fullest that has room, so that others empty
	for _, c := range l.all {
		if c.ttl == ttl && !c.ended && c.reserved < shared && (best == nil || c.reserved > best.reserved) {
			best = c
		}
	}
	if best != nil {
		best.reserved++
	}
	l.begin()
	l.mu.Unlock()
	if best != nil {
		return best, nil
	}
	return l.make(ctx, ttl)
}

// begin has others heard, and told. The lock is held.
func (l *leases) begin() {
	if !l.begun {
		l.begun = true
		l.source.group.Go(l.watch)
		l.source.group.Go(l.tell)
	}
}

// make asks etcd for a new lease.
func (l *leases) make(ctx context.Context, ttl int64) (*lease, error) {
	granted, err := l.source.client.Grant(ctx, ttl)
	if err != nil {
		return nil, err
	}
	if _, err := l.source.client.Put(ctx, l.record(granted.ID), l.name, clientv3.WithLease(granted.ID)); err != nil {
		l.source.revoke(granted.ID)
		return nil, err
	}
	c := &lease{id: granted.ID, ttl: ttl, wake: make(chan struct{}, 1), held: make(map[string]*registration), reserved: 1}
	l.mu.Lock()
	l.all[c.id] = c
	l.mu.Unlock()
	l.source.group.Go(func(ctx context.Context) { l.keep(ctx, c) })
	return c, nil
}

// revoke ends a lease and all that hangs on it.
func (s *Source) revoke(id clientv3.LeaseID) {
	ctx, cancel := context.WithTimeout(s.group.Context(), callTimeout)
	defer cancel()
	_, _ = s.client.Revoke(ctx, id) // if it fails the lease ends by itself
}

func (l *leases) release(c *lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.reserved--
}

func (l *leases) has(id clientv3.LeaseID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all[id] != nil
}

// hold notes that a registration's key is there. False: its lease has ended meanwhile.
func (l *leases) hold(r *registration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.lease.ended {
		return false
	}
	l.held[r.path], r.lease.held[r.path] = r, r
	return true
}

func (l *leases) holds(r *registration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !r.left
}

// drop notes that a registration is over; false: it was before.
func (l *leases) drop(r *registration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.left {
		return false
	}
	r.left = true
	r.lease.reserved--
	delete(r.lease.held, r.path)
	if l.held[r.path] == r {
		delete(l.held, r.path)
	}
	return true
}

// replace ends our own registration of a path, before another takes its place.
func (l *leases) replace(path string) {
	l.mu.Lock()
	r := l.held[path]
	l.mu.Unlock()
	if r == nil {
		return
	}
	r.op.Lock() // nothing of it comes later
	defer r.op.Unlock()
	if l.drop(r) {
		r.lost()
	}
}

// over ends a lease that etcd does not have any more.
func (l *leases) over(c *lease) {
	l.mu.Lock()
	c.ended = true
	l.mu.Unlock()
	c.ring()
}

func (c *lease) ring() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// keep keeps a lease alive, and looks whether its keys are still there.
func (l *leases) keep(ctx context.Context, c *lease) {
	every := min(time.Duration(c.ttl)*time.Second/3, lookEvery)
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.wake:
		case <-time.After(every - mathrand.N(every/10)):
		}
		if !l.look(ctx, c) {
			return
		}
	}
}

// look does so once. False: the lease has ended, and what was held by it is lost.
func (l *leases) look(ctx context.Context, c *lease) bool {
	l.mu.Lock()
	held := make([]*registration, 0, len(c.held)) // those whose keys were there before we ask
	for _, r := range c.held {
		held = append(held, r)
	}
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err := l.source.client.KeepAliveOnce(ctx, c.id)
	there := make(map[string]bool)
	if err == nil {
		var r *clientv3.LeaseTimeToLiveResponse
		if r, err = l.source.client.TimeToLive(ctx, c.id, clientv3.WithAttachedKeys()); err == nil {
			for _, k := range r.Keys {
				there[string(k)] = true
			}
		}
	}
	ended := errors.Is(err, rpctypes.ErrLeaseNotFound)
	if err != nil && !ended {
		return true // it is tried again
	}
	if ended {
		l.mu.Lock()
		c.ended = true
		delete(l.all, c.id)
		held = held[:0]
		for _, r := range c.held {
			held = append(held, r)
		}
		l.mu.Unlock()
	}
	for _, r := range held {
		if !there[r.path] && l.drop(r) {
			r.lost()
		}
	}
	return !ended && !l.spare(c)
}

// spare gives back a lease that nobody needs, as long as there is another.
func (l *leases) spare(c *lease) bool {
	l.mu.Lock()
	other := false
	for _, o := range l.all {
		other = other || o != c && o.ttl == c.ttl && o.reserved < shared
	}
	unused := other && c.reserved == 0
	if unused {
		c.ended = true
		delete(l.all, c.id)
	}
	l.mu.Unlock()
	if unused {
		l.source.revoke(c.id)
	}
	return unused
}

// notify has the holder of a lease look at its keys.
func (l *leases) notify(id clientv3.LeaseID) {
	l.mu.Lock()
	l.begin()
	own := l.all[id]
	if own == nil {
		l.taken[id] = true
	}
	l.mu.Unlock()
	if own != nil {
		own.ring()
		return
	}
	select {
	case l.telling <- struct{}{}:
	default:
	}
}

// tell touches the records of leases of which we took keys.
func (l *leases) tell(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.telling:
		}
		select { // there may be more
		case <-ctx.Done():
			return
		case <-time.After(soon):
		}
		l.mu.Lock()
		taken := l.taken
		l.taken = make(map[clientv3.LeaseID]bool)
		l.mu.Unlock()
		for id := range taken {
			ctx, cancel := context.WithTimeout(ctx, callTimeout)
			// Its holder looks by itself in the end. One that has no record is not one of ours.
			_, _ = l.source.client.Put(ctx, l.record(id), "", clientv3.WithIgnoreValue(), clientv3.WithIgnoreLease())
			cancel()
		}
	}
}

// watch has leases looked at whose records were touched, or are gone, and all after it has missed something.
func (l *leases) watch(ctx context.Context) {
	for ctx.Err() == nil {
		watching, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
		opened := make(chan clientv3.WatchChan, 1)
		l.source.group.Go(func(context.Context) { // it may take as long as etcd is away
			opened <- l.source.client.Watch(watching, l.prefix(), clientv3.WithPrefix(), clientv3.WithCreatedNotify())
		})
		select {
		case events := <-opened:
			l.hear(events)
		case <-ctx.Done():
		}
		cancel()
		select {
		case <-ctx.Done():
		case <-time.After(time.Second/2 + mathrand.N(time.Second)):
		}
	}
}

func (l *leases) hear(events clientv3.WatchChan) {
	for r := range events {
		if r.Err() != nil {
			return
		}
		l.mu.Lock()
		if r.Created {
			for _, c := range l.all {
				c.ring()
			}
		}
		for _, e := range r.Events {
			id, err := strconv.ParseInt(strings.TrimPrefix(string(e.Kv.Key), l.prefix()), 16, 64)
			if c := l.all[clientv3.LeaseID(id)]; err == nil && c != nil && !e.IsCreate() {
				c.ring()
			}
		}
		l.mu.Unlock()
	}
}

// String describes the leases for logs.
func (l *leases) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return fmt.Sprintf("%d registrations on %d leases", len(l.held), len(l.all))
}

var _ source.Registrar = (*Source)(nil)
