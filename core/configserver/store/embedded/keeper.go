package embedded

import (
	"context"
	"log/slog"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// enough is from what size on room is given back, in bytes; below it is not worth the pause.
	enough = 64 << 20
	// patience bounds each question; a defragmentation takes some seconds a GiB, during which nothing else is answered.
	patience = 2 * time.Minute
)

// keeper does what an etcd's operator would: it gives back the room that compaction leaves, and after the quota was
// reached it makes room and lifts the alarm.
type keeper struct {
	client   *clientv3.Client
	endpoint string
	quota    int64
	log      *slog.Logger
}

func (k *keeper) run(ctx context.Context, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := k.look(ctx); err != nil && ctx.Err() == nil {
			k.log.Warn("the embedded etcd was not looked after; it will be tried again", "error", err)
		}
	}
}

// look looks once.
func (k *keeper) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	status, err := k.client.Status(ctx, k.endpoint)
	if err != nil {
		return err
	}
	alarms, err := k.client.AlarmList(ctx)
	if err != nil {
		return err
	}
	full := false
	for _, a := range alarms.Alarms {
		full = full || a.Alarm == etcdserverpb.AlarmType_NOSPACE
		if a.Alarm == etcdserverpb.AlarmType_CORRUPT {
			k.log.Error("the embedded etcd finds its data damaged: restore the data directory from a copy")
		}
	}
	if full {
		k.log.Error("the embedded etcd is full and takes no writes: making room", "bytes", status.DbSize, "quota", k.quota)
		if _, err := k.client.Compact(ctx, status.Header.Revision, clientv3.WithCompactPhysical()); err != nil {
			k.log.Info("nothing to forget", "error", err) // it has been forgotten already
		}
	}
	if !full && (status.DbSize < enough || status.DbSizeInUse > status.DbSize/2) {
		return nil
	}
	if _, err := k.client.Defragment(ctx, k.endpoint); err != nil {
		return err
	}
	after, err := k.client.Status(ctx, k.endpoint)
	if err != nil {
		return err
	}
	k.log.Info("the embedded etcd has given room back", "before_bytes", status.DbSize, "after_bytes", after.DbSize)
	if !full {
		return nil
	}
	if after.DbSize > k.quota/10*9 {
		k.log.Error("the embedded etcd stays full: delete what is not needed", "bytes", after.DbSize, "quota", k.quota)
		return nil
	}
	_, err = k.client.AlarmDisarm(ctx, &clientv3.AlarmMember{})
	return err
}
