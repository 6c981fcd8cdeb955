// Package rendezvous is how the roles of a control plane that runs in several processes find each other: each writes its
// address into etcd below a lease, and the others dial a role by its name, wherever it is.
package rendezvous

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/resolver"

	"github.com/octomesh/octomesh/core/configserver/store"
	"github.com/octomesh/octomesh/core/configserver/store/etcd"
)

const (
	// TTL is for how long an address stays after its process was last heard of.
	TTL = 10 * time.Second
	// Scheme of names that [Rendezvous.Resolver] resolves: "octo:///pilot".
	Scheme = "octo"

	firstPause = 100 * time.Millisecond
	maxPause   = 3 * time.Second
	folder     = "roles/"
)

// Member is one process that has a role.
type Member struct {
	// ID tells it from others of the same role.
	ID string `json:"id"`
	// Address is where it is reached: "host:port", or "unix:/path" on the same machine.
	Address string `json:"address"`
	Version string `json:"version,omitempty"`
}

// Rendezvous is where roles meet. Its methods are safe for concurrent use.
type Rendezvous struct {
	client *clientv3.Client
	store  *etcd.Store
	prefix string
	log    *slog.Logger
}

// New makes one below a prefix of etcd's keys, such as "/octomesh/". The client stays the caller's.
func New(client *clientv3.Client, prefix string, log *slog.Logger) *Rendezvous {
	return &Rendezvous{client, etcd.New(client, prefix), prefix, log}
}

// Announce keeps a member's address for a role, until ctx is done; then it takes it away. While etcd does not answer, it
// goes on trying, and the others go by what they know.
func (r *Rendezvous) Announce(ctx context.Context, role string, m Member) {
	pause := firstPause
	for ctx.Err() == nil {
		stood, err := r.announce(ctx, role, m)
		if ctx.Err() != nil {
			return
		}
		if stood {
			pause = firstPause
		}
		r.log.Warn("the address of a role is not in etcd; it will be written again", "role", role, "error", err, "pause", pause)
		sleep(ctx, pause)
		pause = min(2*pause, maxPause)
	}
}

// announce keeps the address as long as one lease lasts. stood tells whether it was there.
func (r *Rendezvous) announce(ctx context.Context, role string, m Member) (stood bool, err error) {
	value, err := json.Marshal(m)
	if err != nil {
		return false, err
	}
	begin, cancel := context.WithTimeout(ctx, TTL)
	defer cancel()
	lease, err := r.client.Grant(begin, int64(TTL/time.Second))
	if err != nil {
		return false, err
	}
	defer func() { // also after ctx: the others should not try what is gone
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_, _ = r.client.Revoke(end, lease.ID)
	}()
	alive, stop := context.WithCancel(ctx)
	defer stop()
	kept, err := r.client.KeepAlive(alive, lease.ID)
	if err != nil {
		return false, err
	}
	if _, err := r.client.Put(begin, r.prefix+folder+path.Join(role, m.ID), string(value), clientv3.WithLease(lease.ID)); err != nil {
		return false, err
	}
	for range kept {
	}
	return true, errors.New("the lease has ended: etcd did not answer in time")
}

// Members returns who has a role now.
func (r *Rendezvous) Members(ctx context.Context, role string) ([]Member, error) {
	entries, _, err := r.store.List(ctx, folder+role+"/")
	if err != nil {
		return nil, err
	}
	var all []Member
	for _, e := range entries {
		m, err := parse(e.Value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Key, err)
		}
		all = append(all, m)
	}
	return all, nil
}

func parse(value []byte) (m Member, err error) {
	if err = json.Unmarshal(value, &m); err == nil && (m.ID == "" || m.Address == "") {
		err = errors.New("it has no id or no address")
	}
	return m, err
}

// Follow calls yield with all who have a role, first and after each change, until ctx is done. What cannot be read is
// left out. An outage of etcd changes nothing of what was told.
func (r *Rendezvous) Follow(ctx context.Context, role string, yield func([]Member)) {
	pause := firstPause
	for ctx.Err() == nil {
		told, err := r.follow(ctx, role, yield)
		if ctx.Err() != nil {
			return
		}
		if told {
			pause = firstPause
		}
		r.log.Warn("etcd does not say who has a role; what is known stays", "role", role, "error", err, "pause", pause)
		sleep(ctx, pause)
		pause = min(2*pause, maxPause)
	}
}

func (r *Rendezvous) follow(ctx context.Context, role string, yield func([]Member)) (told bool, err error) {
	below := folder + role + "/"
	listing, cancel := context.WithTimeout(ctx, TTL)
	entries, revision, err := r.store.List(listing, below)
	cancel()
	if err != nil {
		return false, err
	}
	members := make(map[string]Member)
	take := func(e store.Entry, deleted bool) {
		delete(members, e.Key)
		if deleted {
			return
		}
		m, err := parse(e.Value)
		if err != nil {
			r.log.Error("an entry is passed over", "key", e.Key, "error", err)
			return
		}
		members[e.Key] = m
	}
	tell := func() {
		all := make([]Member, 0, len(members))
		for _, m := range members {
			all = append(all, m)
		}
		yield(all)
	}
	for _, e := range entries {
		take(e, false)
	}
	tell()
	return true, r.store.Watch(ctx, below, revision, func(b store.Batch) error {
		for _, e := range b.Events {
			take(e.Entry, e.Deleted)
		}
		tell()
		return nil
	})
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(time.Duration(float64(d) * (0.5 + rand.Float64()))):
	}
}

// Resolver makes gRPC dial roles by name: grpc.WithResolvers, and the address "octo:///pilot".
func (r *Rendezvous) Resolver() resolver.Builder { return builder{r} }
