package etcd

import (
	"context"
	"log/slog"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// Election chooses one process of several by a key of etcd with a lease.
type Election struct {
	// Client stays the caller's.
	Client *clientv3.Client
	// Prefix of the key, such as "/octomesh/config/leader".
	Prefix string
	// Name is who this one is, for people who look into etcd.
	Name string
	// Lease is after how many seconds without a word another one is chosen. 0: 10.
	Lease int
	Log   *slog.Logger
}

// retry is how long a failed election waits before the next.
const retry = time.Second

// Lead waits until this process is chosen and calls lead, whose context ends when it is not any more; again and again, until
// ctx is done.
func (e *Election) Lead(ctx context.Context, lead func(context.Context)) {
	for ctx.Err() == nil {
		if err := e.once(ctx, lead); err != nil && ctx.Err() == nil {
			e.Log.Warn("no election by etcd", "key", e.Prefix, "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retry):
		}
	}
}

func (e *Election) once(ctx context.Context, lead func(context.Context)) error {
	lease := e.Lease
	if lease == 0 {
		lease = 10
	}
	session, err := concurrency.NewSession(e.Client, concurrency.WithTTL(lease), concurrency.WithContext(ctx))
	if err != nil {
		return err
	}
	defer session.Orphan() // its context may be done: what follows ends the lease
	defer func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), retry)
		defer cancel()
		_, _ = e.Client.Revoke(late, session.Lease())
	}()
	if err := concurrency.NewElection(session, e.Prefix).Campaign(ctx, e.Name); err != nil {
		return err
	}
	leading, cancel := context.WithCancel(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	watching.Go(func() {
		select {
		case <-session.Done():
			cancel()
		case <-leading.Done():
		}
	})
	lead(leading)
	return nil
}
