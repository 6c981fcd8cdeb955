package etcd

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/octomesh/octomesh/core/dispatcher/source"
)

const (
	// attendTTL is the lease of the key by which a process shows that it attends, in seconds.
	attendTTL = 10
	// DefaultAbandoned is how long what a process has registered stays after the process has ceased to attend.
	DefaultAbandoned = 5 * time.Minute
)

// attendance is whether this process attends, and what it has seen of others that do not.
type attendance struct {
	mu     sync.Mutex
	on     bool
	begun  bool
	change chan struct{} // holds one element after a change

	// Of the goroutine alone.
	lease  clientv3.LeaseID               // 0: none
	absent map[clientv3.LeaseID]time.Time // leases of processes that do not attend; since when we see that
}

func (s *Source) attending() string { return s.layout.Prefix + "~attending/" }

// Attend implements [source.Keeper].
func (s *Source) Attend(on bool) {
	a := &s.attendance
	a.mu.Lock()
	begun := a.begun
	a.on, a.begun = on, a.begun || on
	a.mu.Unlock()
	if !begun && on {
		s.group.Go(s.attend)
	}
	select {
	case a.change <- struct{}{}:
	default:
	}
}

// attend shows that this process attends, and ends the leases of those that do not.
func (s *Source) attend(ctx context.Context) {
	a := &s.attendance
	every := min(attendTTL*time.Second/3, s.abandoned/4)
	for {
		a.mu.Lock()
		on := a.on
		a.mu.Unlock()
		if on {
			s.show(ctx)
		} else {
			s.hide()
		}
		select {
		case <-ctx.Done():
			return
		case <-a.change:
		case <-time.After(every):
		}
	}
}

// show renews the sign, and looks who has none.
func (s *Source) show(ctx context.Context) {
	a := &s.attendance
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := s.sign(ctx)
	var lost []clientv3.LeaseID
	if err == nil {
		lost, err = s.unattended(ctx)
	}
	if err != nil {
		a.lease, a.absent = 0, nil // one that cannot hear etcd sees nothing: what it saw must be seen again for as long
		return
	}
	for _, id := range lost {
		s.log.Warn("what a process registered ends: it does not attend any more, and nobody has registered it again",
			"registry", s.Name(), "lease", strconv.FormatInt(int64(id), 16), "after", s.abandoned.String())
		s.revoke(id)
	}
}

// sign keeps our own sign alive, or makes one.
func (s *Source) sign(ctx context.Context) error {
	a := &s.attendance
	if a.lease != 0 {
		if _, err := s.client.KeepAliveOnce(ctx, a.lease); err == nil {
			return nil
		}
	}
	granted, err := s.client.Grant(ctx, attendTTL)
	if err != nil {
		return err
	}
	a.lease, a.absent = granted.ID, nil
	_, err = s.client.Put(ctx, s.attending()+s.leases.name, "", clientv3.WithLease(granted.ID))
	return err
}

func (s *Source) hide() {
	a := &s.attendance
	if a.lease != 0 {
		s.revoke(a.lease)
	}
	a.lease, a.absent = 0, nil
}

// unattended returns leases whose processes have not attended for as long as we look, and for long enough.
func (s *Source) unattended(ctx context.Context) (lost []clientv3.LeaseID, err error) {
	a := &s.attendance
	t, err := s.client.Txn(ctx).Then(
		clientv3.OpGet(s.attending(), clientv3.WithPrefix(), clientv3.WithKeysOnly()),
		clientv3.OpGet(s.leases.prefix(), clientv3.WithPrefix()),
	).Commit()
	if err != nil {
		return nil, err
	}
	attends := make(map[string]bool)
	for _, kv := range t.Responses[0].GetResponseRange().Kvs {
		attends[strings.TrimPrefix(string(kv.Key), s.attending())] = true
	}
	absent := make(map[clientv3.LeaseID]time.Time)
	for _, kv := range t.Responses[1].GetResponseRange().Kvs {
		id := clientv3.LeaseID(kv.Lease)
		if id == 0 || attends[string(kv.Value)] {
			continue
		}
		since, seen := a.absent[id]
		if !seen {
			since = time.Now()
		}
		if absent[id] = since; time.Since(since) >= s.abandoned {
			lost = append(lost, id)
		}
	}
	a.absent = absent
	return lost, nil
}

var _ source.Keeper = (*Source)(nil)
